"""Names of the mount inside transactions: finding them, making them, taking them away.

A POSIX name is a component of keys (rule R2). The directory `component/` stands in front of the
leaf `component`, which the mount then shows inside that directory as `%tf.data` (rule R1). The
leaf with the empty component is the key `dir/`: while it has no content it goes along with its
directory and is not listed (rule R3).
Invariants: an entry made or removed here leaves its directory explicit (rule R4); a key that goes
leaves a version and a delete marker where its bucket keeps them (rule R14).
Concurrency: inside one transaction. Source: link(2), mkdir(2), mknod(2), rmdir(2), unlink(2).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import NamedTuple

from metadb import dentries, inodes
from metadb import versions as version_rows
from metadb.records import IMPLICIT, ROOT, InodeId, InodeRow
from metadb.statements import Tx
from store import inheritance, locks, tree, versions
from store.buckets import create_bucket, delete_bucket
from store.digests import EMPTY_MD5
from store.errors import (
    CrossBucket,
    Denied,
    DirectoryNotEmpty,
    EntryExists,
    InvalidBucketName,
    InvalidName,
    IsDirectory,
    NoSuchEntry,
    NotDirectory,
)
from store.names import BODY, component_of
from store.rules import OFF, check_quota, rules_of, unsaid
from store.state import State
from store.tree import Place
from store.types import DEFAULT_META, encode_meta

PERMISSION_BITS = 0o7777


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a new inode. umask: bits that count only where no default ACL is inherited."""

    uid: int
    gid: int
    umask: int = 0


class Spot(NamedTuple):
    """What a name on the mount means. body: the leaf alone, shown inside its namesake (R1)."""

    parent: InodeId
    component: bytes
    body: bool

    @property
    def place(self) -> Place:
        return Place(self.parent, self.component)


def spot_of(tx: Tx, parent: InodeId, name: bytes) -> Spot:
    """Raises NameTooLong, and InvalidName for a name that stands for nothing."""
    if name == BODY:
        entries = dentries.of_inode(tx, parent)
        if not entries or entries[0].parent == ROOT:
            raise InvalidName(name)
        return Spot(entries[0].parent, entries[0].name[:-1], True)
    component = component_of(name)
    if component is None:
        entry = dentries.by_alias(tx, parent, name)
        if entry is None:
            raise InvalidName(name)
        component = entry.name.removesuffix(b"/")
    return Spot(parent, component, False)


def at(tx: Tx, spot: Spot) -> InodeRow | None:
    """The inode the mount shows at a spot, or None."""
    if spot.body:
        return dentries.stat(tx, spot.parent, spot.component)
    return dentries.stat_either(tx, spot.parent, spot.component)


def find(tx: Tx, parent: InodeId, name: bytes) -> tuple[Spot, InodeRow]:
    """Raises NoSuchEntry, NotDirectory, NameTooLong."""
    try:
        spot = spot_of(tx, parent, name)
    except InvalidName:
        raise NoSuchEntry(name) from None
    row = at(tx, spot)
    if row is None:
        directory_row(tx, parent)
        raise NoSuchEntry(name)
    return spot, row


def directory_row(tx: Tx, number: InodeId) -> InodeRow:
    """Raises NoSuchEntry, NotDirectory."""
    row = inodes.get(tx, number)
    if row is None:
        raise NoSuchEntry(number)
    if not stat.S_ISDIR(row.mode):
        raise NotDirectory(number)
    return row


def settle(tx: Tx, directory: InodeRow) -> None:
    """The mount took notice of a directory: it is no longer implicit (rule R4)."""
    if directory.flags & IMPLICIT:
        inodes.set_flags(tx, directory.id, directory.flags & ~IMPLICIT)


def leaf_spot(tx: Tx, directory: InodeRow, name: bytes) -> Spot:
    """Where a leaf of this name may stand. Raises Denied, InvalidName, NameTooLong."""
    if directory.id == ROOT:
        raise Denied(name, "only buckets stand in the root")
    spot = spot_of(tx, directory.id, name)
    if spot.component == b"" and spot.parent == directory.bucket:
        raise InvalidName(name)  # It would be the empty key.
    return spot


def free_spot(tx: Tx, directory: InodeRow, name: bytes) -> Spot:
    """Where a new leaf is to stand. Raises EntryExists, and like `leaf_spot`."""
    spot = leaf_spot(tx, directory, name)
    if at(tx, spot) is not None:
        raise EntryExists(name)
    return spot


def new_leaf(
    tx: Tx,
    state: State,
    directory: InodeRow,
    spot: Spot,
    row: InodeRow,
    what: str,
) -> None:
    """Add a new inode under a free spot."""
    now = row.ctime_ns
    tree.add_leaf(tx, state, spot.place, row, now)
    settle(tx, directory)
    tree.note(tx, what, directory.bucket, spot.place, row.id, now)


def new_row(
    tx: Tx, state: State, directory: InodeRow, now: int, mode: int, caller: Caller
) -> InodeRow:
    """The row of a new leaf inode; a directory hands down its default ACL, and, if it has the
    set-group-id bit, its group. mode: as asked for."""
    row = tree.new_inode(state, state.numbers.take(tx), directory.bucket, now, mode)
    group = directory.gid if directory.mode & stat.S_ISGID else caller.gid
    row = row._replace(uid=caller.uid, gid=group)
    if stat.S_ISLNK(mode):
        return row
    return inheritance.born(tx, state, directory.id, row, caller.umask)


def make_node(
    tx: Tx,
    state: State,
    parent: InodeId,
    name: bytes,
    now: int,
    mode: int,
    caller: Caller,
    rdev: int = 0,
    target: bytes | None = None,
) -> InodeRow:
    """mknod(2) and symlink(2). A regular file is published at once: nobody will close it."""
    directory = directory_row(tx, parent)
    spot = free_spot(tx, directory, name)
    row = new_row(tx, state, directory, now, mode, caller)._replace(rdev=rdev)
    what = "create"
    if target is not None:
        row = row._replace(target=target, size=len(target))
        what = "symlink"
    elif stat.S_ISREG(mode):
        row = _empty_object(tx, state, spot.place, row, now)
    new_leaf(tx, state, directory, spot, row, what)
    return row


def _empty_object(tx: Tx, state: State, place: Place, row: InodeRow, now: int) -> InodeRow:
    rules = rules_of(tx, state, row.bucket)
    key = versions.key_of(tx, rules, row.bucket, place)
    versions.make_room(tx, state, rules, row.bucket, key)
    return row._replace(
        etag=EMPTY_MD5,
        content_version=1,
        version_id=versions.new_id(rules, now),
        meta=encode_meta(locks.retained(rules, DEFAULT_META, now)),
    )


def make_directory(
    tx: Tx, state: State, parent: InodeId, name: bytes, now: int, mode: int, caller: Caller
) -> InodeRow:
    """mkdir(2); in the root a bucket."""
    directory = directory_row(tx, parent)
    uid, gid, umask = caller.uid, caller.gid, caller.umask
    if directory.mode & stat.S_ISGID:
        mode |= stat.S_ISGID
        gid = directory.gid
    if parent == ROOT:
        try:
            bucket_name = name.decode("ascii")
        except UnicodeDecodeError:
            raise InvalidBucketName(name) from None
        bucket = create_bucket(
            tx, state, bucket_name, "", now, mode=mode, uid=uid, gid=gid, umask=umask
        )
        return directory_row(tx, bucket.id)
    spot = spot_of(tx, parent, name)
    if spot.body:
        raise InvalidName(name)
    if at(tx, spot) is not None:
        raise EntryExists(name)
    row = tree.make_directory(
        tx,
        state,
        parent,
        spot.component,
        directory.bucket,
        now,
        mode=mode,
        uid=uid,
        gid=gid,
        umask=umask,
    )
    settle(tx, directory)
    tree.note(tx, "mkdir", directory.bucket, spot.place, row.id, now)
    return row


def add_link(
    tx: Tx, state: State, number: InodeId, parent: InodeId, name: bytes, now: int
) -> InodeRow:
    """link(2)."""
    row = inodes.get(tx, number)
    if row is None or row.nlink == 0:
        raise NoSuchEntry(number)
    if stat.S_ISDIR(row.mode):
        raise Denied(number, "a directory has one name")
    directory = directory_row(tx, parent)
    if parent != ROOT and directory.bucket != row.bucket:
        raise CrossBucket(name)
    spot = free_spot(tx, directory, name)
    row = tree.add_link(tx, _with_free_id(tx, state, row, spot.place, now), spot.place, now)
    settle(tx, directory)
    tree.note(tx, "link", directory.bucket, spot.place, number, now)
    return row


def _with_free_id(tx: Tx, state: State, row: InodeRow, place: Place, now: int) -> InodeRow:
    """The inode with a version id that the key it is about to get hasn't seen yet (M6)."""
    rules = rules_of(tx, state, row.bucket)
    if rules.versioning == OFF or row.etag is None:
        return row
    key = versions.key_of(tx, rules, row.bucket, place)
    if version_rows.find(tx, row.bucket, key, row.version_id) is None:
        return row
    versions.keep_before_change(tx, state, rules, row)
    versions.make_room(tx, state, rules, row.bucket, key)
    version_id = versions.new_id(rules, now)
    inodes.set_version(tx, row.id, version_id)
    check_quota(tx, state, row.bucket, rules)
    return row._replace(version_id=version_id)


def unlink(tx: Tx, state: State, parent: InodeId, name: bytes, now: int) -> None:
    """unlink(2)."""
    spot, row = find(tx, parent, name)
    if stat.S_ISDIR(row.mode):
        raise IsDirectory(name)
    remove_leaf(tx, state, spot.place, row, now)
    tree.settle(tx, parent)


def remove_leaf(tx: Tx, state: State, place: Place, row: InodeRow, now: int) -> None:
    """Take a leaf's name away. Raises Locked."""
    rules = rules_of(tx, state, row.bucket)
    locks.check_free(rules, row, place.name, now)
    key = versions.key_of(tx, rules, row.bucket, place)
    done = versions.bury(tx, state, rules, row.bucket, key, place, row, now)
    tree.note(tx, "delete", row.bucket, place, row.id, now, unsaid(done.version_id))


def remove_directory(tx: Tx, state: State, parent: InodeId, name: bytes, now: int) -> None:
    """rmdir(2); in the root a bucket goes."""
    spot, row = find(tx, parent, name)
    if not stat.S_ISDIR(row.mode):
        raise NotDirectory(name)
    if parent == ROOT:
        delete_bucket(tx, state, spot.component.decode(), now, keep_directories=True)
        return
    clear_directory(tx, state, spot.place, row, now)
    tree.remove_directory(tx, state, row, spot.component, now)
    tree.settle(tx, parent)
    tree.note(tx, "rmdir", row.bucket, spot.place, row.id, now)


def clear_directory(tx: Tx, state: State, place: Place, row: InodeRow, now: int) -> None:
    """Make sure that a directory about to go is empty; an empty marker goes here (rule R3).

    Raises DirectoryNotEmpty, also when its namesake leaf is shown inside it (rule R1).
    """
    names = dentries.first_children(tx, row.id, 2)
    if names and names != [b""]:
        raise DirectoryNotEmpty(place.name)
    if dentries.inode_of(tx, place.parent, place.name) is not None:
        raise DirectoryNotEmpty(place.name)
    if names:
        marker = dentries.stat(tx, row.id, b"")
        assert marker is not None
        if marker.size or marker.id in state.pins:
            raise DirectoryNotEmpty(place.name)
        remove_leaf(tx, state, Place(row.id, b""), marker, now)
