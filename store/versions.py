"""Versions of a key: keeping what is replaced, delete markers, and going back (rule R14).

The current object is a dentry's inode, as in every bucket; all older versions, and delete
markers, are rows of `version` under the key. Nothing moves a byte: a version takes over the inode
that lost its name, or shares its runs where a handle or another name still has it.

Invariants
  V1 the bytes of a version id never change (but see `publication`: within one open session ids
     of fsyncs come and go);
  V2 the inode of a `version` row has no dentry and no handle that could write to it;
  V3 a key without a current object has a delete marker as its newest version, or none at all.
Concurrency: inside one transaction.
Source: Amazon S3 user guide, "How S3 Versioning works", "Adding objects to versioning-suspended
buckets".
"""

from __future__ import annotations

import secrets

from metadb import content, dentries, inodes, versions
from metadb.records import InodeId, InodeRow, VersionEntryRow, VersionRow
from metadb.statements import Tx
from store import tree
from store.errors import (
    CrossBucket,
    KeyDeleted,
    NoSuchKey,
    NoSuchVersion,
    StoreError,
    VersionIsMarker,
)
from store.names import check_length, split_key
from store.resolve import is_object, visible
from store.rules import ENABLED, NULL_VERSION, OFF, SUSPENDED, said, unsaid
from store.state import Rules, State
from store.told import Told
from store.tree import Place
from store.types import Deletion

# Versions left at a directory's new path that its rename compares with its own.
_MERGED_MAX = 1000
_SEARCHED_MAX = 1000
_SEQUENCE_PAST = 1 << 62


def new_id(rules: Rules, now: int) -> str | None:
    """The version id that content recorded `now` goes by; None: the null version."""
    return f"{now:016x}{secrets.token_hex(8)}" if rules.versioning == ENABLED else None


def find(tx: Tx, rules: Rules, bucket: InodeId, key: str, version: str | None) -> InodeRow:
    """The inode of a key's version. version: None for the current one, "null", or an id.

    Raises NoSuchKey, KeyDeleted, NoSuchVersion, VersionIsMarker, InvalidKey, KeyTooLong.
    """
    row = visible(tx, bucket, split_key(key))
    if version is None:
        if row is None:
            check_length(key)
            raise _missing(tx, rules, bucket, key)
        return row
    wanted = unsaid(version)
    if row is not None and row.version_id == wanted:
        return row
    kept = versions.find(tx, bucket, key.encode(), wanted)
    if kept is None:
        raise NoSuchVersion(key, version)
    if kept.inode is None:
        raise VersionIsMarker(key, version, kept.stored_ns)
    return _inode(tx, kept)


def find_etag(tx: Tx, bucket: InodeId, key: str, etag: str) -> InodeRow | None:
    """The newest version of a key with this ETag, among the last 1,000."""
    row = visible(tx, bucket, split_key(key))
    if row is not None and row.etag == etag:
        return row
    for kept in versions.older(tx, bucket, key.encode(), _SEQUENCE_PAST, _SEARCHED_MAX):
        if kept.inode is not None and kept.etag == etag:
            return inodes.get(tx, kept.inode)
    return None


def _missing(tx: Tx, rules: Rules, bucket: InodeId, key: str) -> StoreError:
    if rules.versioning != OFF:
        newest = versions.newest(tx, bucket, key.encode(errors="surrogateescape"))
        if newest is not None and newest.inode is None:
            return KeyDeleted(key, newest.version_id or NULL_VERSION)
    return NoSuchKey(key)


def _inode(tx: Tx, kept: VersionRow) -> InodeRow:
    assert kept.inode is not None, kept
    row = inodes.get(tx, kept.inode)
    assert row is not None, kept
    return row


def retire(
    tx: Tx, state: State, rules: Rules, bucket: InodeId, key: bytes, old: InodeRow, now: int
) -> None:
    """`old` has just lost the name `key`: its content becomes a version where rules ask for it."""
    if not is_object(old) or not _is_kept(rules, old):
        tree.drop_link(tx, state, old, now)
    elif old.nlink == 1 and not state.is_held(old.id):
        inodes.set_nlink(tx, old.id, 0, now)
        versions.append(tx, bucket, key, old.version_id, old.id, old.stored_ns)
    else:
        keep_copy(tx, state, bucket, key, old)
        tree.drop_link(tx, state, old, now)


def _is_kept(rules: Rules, old: InodeRow) -> bool:
    """Whether content that is about to go stays as a version: not what a null one replaces."""
    return rules.versioning == ENABLED or (
        rules.versioning == SUSPENDED and old.version_id is not None
    )


def is_own(rules: Rules, row: InodeRow, transient: str | None) -> bool:
    """Whether what `row` holds is what an open session published itself, under the same rules.

    transient: the version id that the session published last, "" for none.
    """
    return (
        rules.lock is None
        and row.version_id == transient
        and (rules.versioning == ENABLED) == (row.version_id is not None)
    )


def growth(rules: Rules, row: InodeRow, transient: str | None, size: int) -> int:
    """How much more the bucket holds once the session has published `size` bytes."""
    kept = is_object(row) and _is_kept(rules, row) and not is_own(rules, row, transient)
    return size - row.size + (row.nlink * row.size if kept else 0)


def keep_before_change(tx: Tx, state: State, rules: Rules, row: InodeRow) -> None:
    """What `row` holds, or the version id it goes by, is about to change under all its names."""
    kept = is_object(row) and _is_kept(rules, row)
    if not kept and rules.versioning != SUSPENDED:
        return
    for entry in dentries.of_inode(tx, row.id, row.nlink):
        key = tree.key_of(tx, row.bucket, Place(entry.parent, entry.name)).encode()
        if kept:
            keep_copy(tx, state, row.bucket, key, row)
        make_room(tx, state, rules, row.bucket, key)


def keep_copy(tx: Tx, state: State, bucket: InodeId, key: bytes, old: InodeRow) -> None:
    """A version of its own that shares the runs of `old`."""
    number = state.numbers.take(tx)
    inodes.insert(tx, old._replace(id=number, nlink=0, bucket=bucket))
    state.inode_count += 1
    inline = content.inline_of(tx, old.id)
    if inline is not None:
        content.set_inline(tx, number, inline)
    else:
        content.share_extents(tx, old.id, number, 0)
    for name, value in inodes.xattrs(tx, old.id):
        inodes.set_xattr(tx, number, name, value)
    versions.append(tx, bucket, key, old.version_id, number, old.stored_ns)


def make_room(tx: Tx, state: State, rules: Rules, bucket: InodeId, key: bytes) -> None:
    """A null version is about to be recorded: there is only ever one of a key."""
    if rules.versioning == SUSPENDED:
        kept = versions.find(tx, bucket, key, None)
        if kept is not None:
            drop(tx, state, kept)


def drop(tx: Tx, state: State, kept: VersionRow) -> None:
    """Remove a version that is not current, for good."""
    versions.remove(tx, kept.sequence)
    if kept.inode is not None:
        tree.erase(tx, state, kept.inode)


def bury(
    tx: Tx,
    state: State,
    rules: Rules,
    bucket: InodeId,
    key: bytes,
    place: Place | None,
    row: InodeRow | None,
    now: int,
) -> Deletion:
    """Delete a key: its leaf `row` at `place`, if there is one, goes, and a marker comes.

    A leaf that is no object (a link, a file not yet published) leaves a marker only where older
    versions would show up again (V3).
    """
    if place is not None and row is not None:
        dentries.remove(tx, place.parent, place.name)
        inodes.touch(tx, place.parent, now)
        retire(tx, state, rules, bucket, key, row, now)
    if rules.versioning == OFF:
        return Deletion(version_id=None, marker=False)
    if row is not None and not is_object(row):
        newest = versions.newest(tx, bucket, key)
        if newest is None or newest.inode is None:
            return Deletion(version_id=None, marker=False)
    make_room(tx, state, rules, bucket, key)
    marker = new_id(rules, now)
    versions.append(tx, bucket, key, marker, None, now)
    return Deletion(version_id=said(rules, marker), marker=True)


def restore_newest(tx: Tx, state: State, bucket: InodeId, key: bytes, now: int, told: Told) -> None:
    """The current version, or the marker above all others, was removed: the next one is current."""
    newest = versions.newest(tx, bucket, key)
    if newest is None or newest.inode is None:
        return
    place, made = tree.make_place(tx, state, bucket, key.split(b"/"), now)
    if dentries.inode_of(tx, place.parent, place.name) is not None:
        return  # A link, or a file not yet published, stands there: it hides the history.
    row = _inode(tx, newest)
    versions.remove(tx, newest.sequence)
    inodes.set_nlink(tx, row.id, 1, now)
    tree.add_name(tx, place, row.id, now)
    told.leaf(tx, state, place, None)
    if made is not None:
        told.directory(made)


def check_may_move(tx: Tx, rules: Rules, bucket: InodeId, old: bytes, new: bytes) -> None:
    """Raises CrossBucket where the history below a directory can't go along to its new path.

    It can't where object lock keeps versions under their keys, nor where a version id would then
    occur twice under a key: history may have been left at the new path. After EXDEV programs copy
    and delete file by file. old, new: what the keys below start with.
    """
    if rules.lock is not None and _below(tx, bucket, old, 1):
        raise CrossBucket(old)
    there = _below(tx, bucket, new, _MERGED_MAX + 1)
    if len(there) > _MERGED_MAX:
        raise CrossBucket(new)
    for row in there:
        key = old + row.key[len(new) :]
        place = tree.find(tx, bucket, key.split(b"/"))
        leaf = None if place is None else dentries.stat(tx, place.parent, place.name)
        if leaf is not None and is_object(leaf) and leaf.version_id == row.version_id:
            raise CrossBucket(new)
        if versions.find(tx, bucket, key, row.version_id) is not None:
            raise CrossBucket(new)


def _below(tx: Tx, bucket: InodeId, prefix: bytes, limit: int) -> list[VersionEntryRow]:
    return [row for row in versions.page(tx, bucket, prefix, limit) if row.key.startswith(prefix)]


def key_of(tx: Tx, rules: Rules, bucket: InodeId, place: Place) -> bytes:
    """The key of a leaf as versions hang on it; b"" where versioning is off and nobody asks."""
    return b"" if rules.versioning == OFF else tree.key_of(tx, bucket, place).encode()
