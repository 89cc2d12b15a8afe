"""rename(2) inside a transaction: one row moves, whatever hangs below it (rule R15).

A directory takes the leaf of its own name along, since the mount shows it as the directory's
`%tf.data` (rule R1). A plain leaf may go to another bucket; a directory may not, for every inode
below names its bucket.
Concurrency: inside one transaction, so S3 sees the old names or the new ones.
Source: rename(2), renameat2(2).
"""

from __future__ import annotations

import stat

from metadb import dentries, inodes
from metadb.records import ROOT, DentryRow, InodeId, InodeRow
from metadb.statements import Tx
from store import tree
from store.entries import Spot, at, clear_directory, directory_row, find, leaf_spot, settle, spot_of
from store.errors import (
    CrossBucket,
    Denied,
    EntryExists,
    InvalidArgument,
    InvalidName,
    IsDirectory,
    LinkLoop,
    NoSuchEntry,
    NotDirectory,
)
from store.names import alias_of
from store.state import State

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


def rename(
    tx: Tx,
    state: State,
    parent: InodeId,
    name: bytes,
    new_parent: InodeId,
    new_name: bytes,
    flags: int,
    now: int,
) -> None:
    """Raises what `Files.rename` raises."""
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        raise InvalidArgument(flags, "flags")
    if ROOT in (parent, new_parent):
        raise Denied(name, "buckets keep their names")
    old_directory = directory_row(tx, parent)
    new_directory = directory_row(tx, new_parent)
    source, row = find(tx, parent, name)
    target = _target_spot(tx, row, new_directory, new_name)
    replaced = at(tx, target)
    if flags == RENAME_NOREPLACE and replaced is not None:
        raise EntryExists(new_name)
    if flags == RENAME_EXCHANGE and replaced is None:
        raise NoSuchEntry(new_name)
    if replaced is not None and replaced.id == row.id:
        return  # Two names of one inode: POSIX has both stay.
    if row.bucket != new_directory.bucket:
        _check_may_leave(row)
    if stat.S_ISDIR(row.mode):
        _check_not_below(tx, row.id, new_parent)
    if flags == RENAME_EXCHANGE:
        assert replaced is not None
        _exchange(tx, state, source, row, target, replaced, now)
    elif stat.S_ISDIR(row.mode):
        _move_directory(tx, state, source, row, target, replaced, now)
    else:
        _move_leaf(tx, state, source, row, target, replaced, now)
    for directory in (old_directory, new_directory):
        settle(tx, directory)


def _target_spot(tx: Tx, row: InodeRow, directory: InodeRow, name: bytes) -> Spot:
    if not stat.S_ISDIR(row.mode):
        return leaf_spot(tx, directory, name)
    spot = spot_of(tx, directory.id, name)
    if spot.body:
        if at(tx, spot) is None:
            raise InvalidName(name)
        raise NotDirectory(name)
    return spot


def _check_may_leave(row: InodeRow) -> None:
    """Raises CrossBucket unless the inode alone names its bucket."""
    if stat.S_ISDIR(row.mode) or row.nlink > 1:
        raise CrossBucket(row.id)


def _check_not_below(tx: Tx, directory: InodeId, place: InodeId | None) -> None:
    """Raises LinkLoop if `place` is the directory or stands below it."""
    while place is not None and place != ROOT:
        if place == directory:
            raise LinkLoop(directory)
        row = inodes.get(tx, place)
        place = row.parent if row is not None else None


def _move_leaf(
    tx: Tx,
    state: State,
    source: Spot,
    row: InodeRow,
    target: Spot,
    replaced: InodeRow | None,
    now: int,
) -> None:
    if replaced is not None and stat.S_ISDIR(replaced.mode):
        raise IsDirectory(target.component)
    dentries.remove(tx, source.parent, source.component)
    if replaced is None:
        _insert(tx, target.parent, target.component, row.id)
    else:
        dentries.repoint(tx, target.parent, target.component, row.id)
        tree.drop_link(tx, state, replaced, now)
    inodes.touch(tx, source.parent, now)
    inodes.touch(tx, target.parent, now)
    _moved(tx, row, target, now)


def _move_directory(
    tx: Tx,
    state: State,
    source: Spot,
    row: InodeRow,
    target: Spot,
    replaced: InodeRow | None,
    now: int,
) -> None:
    if replaced is not None:
        if not stat.S_ISDIR(replaced.mode):
            raise NotDirectory(target.component)
        clear_directory(tx, state, target.place, replaced, now)
        tree.remove_directory(tx, state, replaced, target.component, now)
    names = _take(tx, source)
    _put(tx, target, names, now)
    inodes.add_nlink(tx, source.parent, -1, now)
    inodes.add_nlink(tx, target.parent, 1, now)
    settle(tx, row)
    _moved(tx, row, target, now)


def _exchange(
    tx: Tx, state: State, one: Spot, row: InodeRow, other: Spot, its_row: InodeRow, now: int
) -> None:
    if stat.S_ISDIR(its_row.mode):
        _check_not_below(tx, its_row.id, one.parent)
        if one.body:
            raise InvalidName(one.component)
    if row.bucket != its_row.bucket:
        _check_may_leave(its_row)
    names, its_names = _take(tx, one), _take(tx, other)
    _put(tx, other, names, now)
    _put(tx, one, its_names, now)
    # Child directories moved from one parent to the other count there from now on.
    difference = stat.S_ISDIR(its_row.mode) - stat.S_ISDIR(row.mode)
    inodes.add_nlink(tx, one.parent, difference, now)
    inodes.add_nlink(tx, other.parent, -difference, now)
    _moved(tx, row, other, now)
    _moved(tx, its_row, one, now)


def _take(tx: Tx, spot: Spot) -> list[tuple[bytes, InodeId]]:
    """Remove the names that make up a spot; (suffix, inode) of each: "/" and "" (rule R1)."""
    names = []
    for suffix in (b"",) if spot.body else (b"/", b""):
        number = dentries.inode_of(tx, spot.parent, spot.component + suffix)
        if number is not None:
            dentries.remove(tx, spot.parent, spot.component + suffix)
            names.append((suffix, number))
    return names


def _put(tx: Tx, spot: Spot, names: list[tuple[bytes, InodeId]], now: int) -> None:
    for suffix, number in names:
        _insert(tx, spot.parent, spot.component, number, suffix)
        if suffix:
            inodes.set_parent(tx, number, spot.parent, now)


def _insert(
    tx: Tx, parent: InodeId, component: bytes, number: InodeId, suffix: bytes = b""
) -> None:
    dentries.insert(tx, DentryRow(parent, component + suffix, number, alias_of(component)))


def _moved(tx: Tx, row: InodeRow, target: Spot, now: int) -> None:
    """The inode's own share: its change time, and its bucket if it came from another."""
    directory = inodes.get(tx, target.parent)
    assert directory is not None
    if row.bucket != directory.bucket:
        inodes.set_bucket(tx, row.id, directory.bucket, now)
    else:
        inodes.set_ctime(tx, row.id, now)
    tree.note(tx, "rename", directory.bucket, target.place, row.id, now)
