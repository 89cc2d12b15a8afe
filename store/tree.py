"""The dentry tree inside transactions: finding keys, making and pruning directories, links.

Invariants: M1 (link counts; metadb.schema). A directory's dentry name ends in '/', a leaf's
does not (metadb.dentries). Implicit directories (flag IMPLICIT) exist only while something is
below them (rule R4).
Concurrency: all functions run inside one transaction and touch nothing but it and `State`'s
registries. Source: rules R1, R2, R4, R12, R15 of SEMANTICS.md.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NamedTuple

from metadb import changes, content, dentries, inodes
from metadb.records import IMPLICIT, ROOT, DentryRow, InodeId, InodeRow
from metadb.statements import Tx
from store import inheritance
from store.errors import NoSuchBucket, NoSuchEntry, TooManyLinks
from store.names import alias_of, name_of
from store.state import State
from store.types import STORE, Maker

LINKS_MAX = 65_000


class Place(NamedTuple):
    """Where a leaf stands: its directory and the leaf's component."""

    parent: InodeId
    name: bytes


def bucket_id(tx: Tx, name: str) -> InodeId:
    """The inode of a bucket's directory. Raises NoSuchBucket."""
    number = dentries.directory_of(tx, ROOT, name.encode(errors="surrogateescape") + b"/")
    if number is None:
        raise NoSuchBucket(name)
    return number


def find(tx: Tx, bucket: InodeId, components: list[bytes]) -> Place | None:
    """Where the key would stand, or None if a directory on the way is missing."""
    parent = bucket
    for component in components[:-1]:
        below = dentries.directory_of(tx, parent, component + b"/")
        if below is None:
            return None
        parent = below
    return Place(parent, components[-1])


def make_place(
    tx: Tx,
    state: State,
    bucket: InodeId,
    components: list[bytes],
    now: int,
    maker: Maker = STORE,
) -> tuple[Place, Place | None]:
    """Where the key stands, its directories made as far as they are missing.

    Returns the place, and the topmost directory that was made (parent, component), if any: the
    mount may have cached its absence.
    """
    parent = bucket
    made: Place | None = None
    for component in components[:-1]:
        below = dentries.directory_of(tx, parent, component + b"/")
        if below is None:
            below = make_directory(
                tx, state, parent, component, bucket, now, flags=IMPLICIT, maker=maker
            ).id
            made = made or Place(parent, component)
        parent = below
    return Place(parent, components[-1]), made


def make_directory(
    tx: Tx,
    state: State,
    parent: InodeId,
    component: bytes,
    bucket: InodeId,
    now: int,
    *,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    umask: int = 0,
    flags: int = 0,
    maker: Maker = STORE,
) -> InodeRow:
    """A new, empty directory under a component that has none yet. Owner: the store's default.

    mode: as a program asks for it, None where S3 makes the directory for `maker`.
    """
    config = state.config
    number = state.numbers.take(tx)
    row = new_inode(
        state,
        number,
        bucket or number,
        now,
        stat.S_IFDIR | (config.directory_mode if mode is None else mode),
    )._replace(
        uid=config.uid if uid is None else uid,
        gid=config.gid if gid is None else gid,
        nlink=2,
        parent=parent,
        flags=flags,
    )
    if mode is None:
        row = inheritance.born_by_s3(tx, state, parent, made_by(row, maker))
    else:
        row = inheritance.born(tx, state, parent, row, umask)
    inodes.insert(tx, row)
    dentries.insert(tx, DentryRow(parent, component + b"/", number, alias_of(component)))
    inodes.add_nlink(tx, parent, 1, now)
    state.inode_count += 1
    return row


def new_inode(state: State, number: InodeId, bucket: InodeId, now: int, mode: int) -> InodeRow:
    """The row (not yet inserted) of a new inode with one link, owned by default."""
    return InodeRow(
        id=number,
        bucket=bucket,
        mode=mode,
        uid=state.config.uid,
        gid=state.config.gid,
        nlink=1,
        size=0,
        rdev=0,
        atime_ns=now,
        mtime_ns=now,
        ctime_ns=now,
        stored_ns=now,
        content_version=0,
        etag=None,
        version_id=None,
        meta=None,
        target=None,
        parent=None,
        flags=0,
    )


def made_by(row: InodeRow, maker: Maker) -> InodeRow:
    """The row of what S3 makes, with the owner and mode that its maker is known under."""
    if maker is STORE:
        return row
    mode = row.mode
    if maker.umask is not None:
        every = 0o777 if stat.S_ISDIR(mode) else 0o666
        mode = stat.S_IFMT(mode) | (every & ~maker.umask)
    return row._replace(
        mode=mode,
        uid=row.uid if maker.uid is None else maker.uid,
        gid=row.gid if maker.gid is None else maker.gid,
    )


def add_leaf(tx: Tx, state: State, place: Place, row: InodeRow, now: int) -> None:
    """Insert a new inode under a leaf name that is free."""
    inodes.insert(tx, row)
    add_name(tx, place, row.id, now)
    state.inode_count += 1


def add_name(tx: Tx, place: Place, number: InodeId, now: int) -> None:
    """Give a leaf inode a name that is free; its link count is the caller's."""
    dentries.insert(tx, DentryRow(place.parent, place.name, number, alias_of(place.name)))
    inodes.touch(tx, place.parent, now)


def replace_leaf(tx: Tx, state: State, place: Place, row: InodeRow, now: int) -> None:
    """Insert a new inode and make a name that is taken mean it (rule R0).

    What becomes of the old one is the caller's (versions.retire).
    """
    inodes.insert(tx, row)
    dentries.repoint(tx, place.parent, place.name, row.id)
    inodes.touch(tx, place.parent, now)
    state.inode_count += 1


def drop_link(tx: Tx, state: State, row: InodeRow, now: int) -> None:
    """One name less; the last takes the inode along unless somebody holds it."""
    if row.nlink > 1:
        inodes.set_nlink(tx, row.id, row.nlink - 1, now)
    elif state.is_held(row.id):
        inodes.set_nlink(tx, row.id, 0, now)
        # Of no bucket from now on: what nobody can name again doesn't count for its quota.
        inodes.set_bucket(tx, row.id, InodeId(0), now)
        inodes.add_orphan(tx, row.id)
        state.nameless.add(row.id)
    else:
        erase(tx, state, row.id)


def erase(tx: Tx, state: State, number: InodeId) -> None:
    """Remove an inode that nothing names, with its content."""
    content.remove_content(tx, number)
    inodes.remove_xattrs(tx, number)
    inodes.remove(tx, number)
    state.inode_count -= 1


def erase_orphan(tx: Tx, state: State, number: InodeId) -> None:
    """Nobody holds an inode without a name any more."""
    inodes.remove_orphan(tx, number)
    erase(tx, state, number)


def erase_nameless(tx: Tx, state: State, numbers: Sequence[InodeId]) -> None:
    """Erase those of the inodes that have no name and that nobody holds."""
    for number in numbers:
        if state.is_held(number):
            continue
        row = inodes.get(tx, number)
        # The inode of a version has no name either, but a bucket.
        if row is not None and row.nlink == 0 and not row.bucket:
            erase_orphan(tx, state, number)


def add_link(tx: Tx, row: InodeRow, place: Place, now: int) -> InodeRow:
    """Another name for a leaf inode. Raises TooManyLinks."""
    if row.nlink >= LINKS_MAX:
        raise TooManyLinks(row.id)
    dentries.insert(tx, DentryRow(place.parent, place.name, row.id, alias_of(place.name)))
    inodes.set_nlink(tx, row.id, row.nlink + 1, now)
    inodes.touch(tx, place.parent, now)
    if row.nlink == 0:
        inodes.remove_orphan(tx, row.id)
    return row._replace(nlink=row.nlink + 1, ctime_ns=now)


def remove_directory(tx: Tx, state: State, row: InodeRow, name: bytes, now: int) -> None:
    """Take an empty directory away. name: its component."""
    assert row.parent is not None
    dentries.remove(tx, row.parent, name + b"/")
    inodes.add_nlink(tx, row.parent, -1, now)
    inodes.remove_xattrs(tx, row.id)
    inodes.remove(tx, row.id)
    state.inode_count -= 1


def prune(tx: Tx, state: State, directory: InodeId, now: int) -> list[Place]:
    """Remove `directory` and its ancestors while they are implicit and empty (rule R4).

    Returns the places of those removed, as (parent, component).
    """
    gone: list[Place] = []
    while True:
        if dentries.first_children(tx, directory, 1):
            return gone
        row = inodes.get(tx, directory)
        if row is None or not row.flags & IMPLICIT or row.parent is None:
            return gone
        (entry,) = dentries.of_inode(tx, directory)
        place = Place(entry.parent, entry.name[:-1])
        remove_directory(tx, state, row, place.name, now)
        gone.append(place)
        directory = place.parent


def settle(tx: Tx, directory: InodeId) -> None:
    """A program of the mount took notice of the directory: it is no longer implicit (R4)."""
    row = inodes.get(tx, directory)
    if row is not None and row.flags & IMPLICIT:
        inodes.set_flags(tx, directory, row.flags & ~IMPLICIT)


def note(
    tx: Tx,
    what: str,
    bucket: InodeId,
    place: Place,
    number: InodeId,
    now: int,
    version_id: str | None = None,
) -> None:
    """Add a row to the outbox."""
    changes.append(tx, what, bucket, place.parent, place.name, number, now, version_id)


def key_of(tx: Tx, bucket: InodeId, place: Place) -> str:
    """The whole key of a leaf. Raises NoSuchEntry when it hangs nowhere."""
    components = [place.name]
    directory = place.parent
    while directory != bucket:
        if directory == ROOT:
            raise NoSuchEntry(place.name)
        entries = dentries.of_inode(tx, directory)
        if not entries:
            raise NoSuchEntry(place.name)
        components.append(entries[0].name[:-1])
        directory = entries[0].parent
    return b"/".join(reversed(components)).decode()


def posix_entry(tx: Tx, place: Place) -> tuple[InodeId, bytes]:
    """(directory, name) under which the mount shows a leaf: rules R1 and R2."""
    return place.parent, name_of(place.name)
