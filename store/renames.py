"""rename(2) inside a transaction: one row moves, whatever hangs below it (rule R15).

A directory takes the leaf of its own name along, since the mount shows it as the directory's
`%tf.data` (rule R1). A plain leaf may go to another bucket; a directory may not, for every inode
below names its bucket.
Where versions are kept (rule R14) a leaf leaves its content behind as a version under a delete
marker and starts a new version under its new key; a directory takes the whole history of the keys
below along, since to note a version of each would make its rename as slow as a copy.
Concurrency: inside one transaction, so S3 sees the old names or the new ones.
Source: rename(2), renameat2(2).
"""

from __future__ import annotations

import stat

from metadb import dentries, inodes
from metadb import versions as version_rows
from metadb.records import ROOT, DentryRow, InodeId, InodeRow
from metadb.statements import Tx
from store import locks, tree, versions
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
    NoSuchKey,
    NotDirectory,
    NotRegular,
)
from store.names import alias_of, check_length, split_key
from store.preconditions import check
from store.resolve import is_object, visible
from store.rules import OFF, bounded, check_grown, rules_of
from store.state import State, now_ns
from store.told import Told
from store.types import STORE, Maker, Precondition, decode_meta, encode_meta

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
) -> list[tuple[InodeId, InodeId]]:
    """Returns the leaves that moved, each with the bucket it is in now.

    Raises what `Files.rename` raises.
    """
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
        return []  # Two names of one inode: POSIX has both stay.
    if row.bucket != new_directory.bucket:
        _check_may_leave(row)
    for affected in (row, replaced):
        if affected is not None:
            _check_free(tx, state, affected, now)
    before = bounded(tx, state, row.bucket, new_directory.bucket)
    if stat.S_ISDIR(row.mode):
        _check_not_below(tx, row.id, new_parent)
    moved = [(row.id, new_directory.bucket)]
    if flags == RENAME_EXCHANGE:
        assert replaced is not None
        moved.append((replaced.id, row.bucket))
        _exchange(tx, state, source, row, target, replaced, now)
    elif stat.S_ISDIR(row.mode):
        _move_directory(tx, state, source, row, target, replaced, now)
    else:
        _move_leaf(tx, state, source, row, target, replaced, now)
    for directory in (old_directory, new_directory):
        settle(tx, directory)
    check_grown(tx, state, before)
    return moved


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


def _check_free(tx: Tx, state: State, row: InodeRow, now: int) -> None:
    """Raises Locked for a file that must stay, CrossBucket for a directory that might hold one.

    After EXDEV programs copy and delete file by file, and each is asked about by itself.
    """
    rules = rules_of(tx, state, row.bucket)
    if rules.lock is not None and stat.S_ISDIR(row.mode):
        if dentries.first_children(tx, row.id, 1):
            raise CrossBucket(row.id)
    else:
        locks.check_free(rules, row, row.id, now)


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
    directory = inodes.get(tx, target.parent)
    assert directory is not None
    leave(tx, state, row, source.place, now)
    dentries.remove(tx, source.parent, source.component)
    inodes.touch(tx, source.parent, now)
    if replaced is None:
        _insert(tx, target.parent, target.component, row.id)
    else:
        dentries.repoint(tx, target.parent, target.component, row.id)
    inodes.touch(tx, target.parent, now)
    version_id = arrive(tx, state, row, directory.bucket, target.place, replaced, now)
    _moved(tx, row, target, version_id, now)


def leave(
    tx: Tx, state: State, row: InodeRow, place: tree.Place, now: int, *, marker: bool = True
) -> None:
    """An inode is about to lose a key to another key: what it was stays behind (rule R14).

    marker: False where another object comes in its place.
    """
    rules = rules_of(tx, state, row.bucket)
    if rules.versioning == OFF:
        return
    key = versions.key_of(tx, rules, row.bucket, place)
    if is_object(row):
        versions.keep_before_change(tx, state, rules, row)
    if marker:
        versions.bury(tx, state, rules, row.bucket, key, None, row, now)


def arrive(
    tx: Tx,
    state: State,
    row: InodeRow,
    bucket: InodeId,
    place: tree.Place,
    replaced: InodeRow | None,
    now: int,
) -> str | None:
    """The inode has got the name at `place`, maybe from `replaced`: a new version of that key.

    Returns its version id.
    """
    rules = rules_of(tx, state, bucket)
    key = versions.key_of(tx, rules, bucket, place)
    if replaced is not None:
        versions.retire(tx, state, rules, bucket, key, replaced, now)
    if not is_object(row):
        return None
    versions.make_room(tx, state, rules, bucket, key)
    version_id = versions.new_id(rules, now)
    if version_id != row.version_id:
        inodes.set_version(tx, row.id, version_id)
    if row.meta is not None or rules.lock is not None:
        old = decode_meta(row.meta)
        meta = locks.retained(rules, locks.without_lock(old), now)
        if meta != old:
            inodes.set_meta(tx, row.id, encode_meta(meta), now)
    return version_id


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
    twin = dentries.stat(tx, source.parent, source.component)
    rules = rules_of(tx, state, row.bucket)
    if rules.versioning != OFF:
        old, new = _path(tx, row.bucket, source), _path(tx, row.bucket, target)
        versions.check_may_move(tx, rules, row.bucket, old, new)
        version_rows.move_below(tx, row.bucket, old, new)
        if twin is not None:
            locks.check_free(rules, twin, source.component, now)
            leave(tx, state, twin, source.place, now)
    names = _take(tx, source)
    _put(tx, target, names, now)
    if twin is not None:
        arrive(tx, state, twin, row.bucket, target.place, None, now)
    inodes.add_nlink(tx, source.parent, -1, now)
    inodes.add_nlink(tx, target.parent, 1, now)
    settle(tx, row)
    _moved(tx, row, target, None, now)


def _exchange(
    tx: Tx, state: State, one: Spot, row: InodeRow, other: Spot, its_row: InodeRow, now: int
) -> None:
    if stat.S_ISDIR(its_row.mode):
        _check_not_below(tx, its_row.id, one.parent)
        if one.body:
            raise InvalidName(one.component)
    if row.bucket != its_row.bucket:
        _check_may_leave(its_row)
    ids = _exchange_history(tx, state, one, row, other, its_row, now)
    names, its_names = _take(tx, one), _take(tx, other)
    _put(tx, other, names, now)
    _put(tx, one, its_names, now)
    # Child directories moved from one parent to the other count there from now on.
    difference = stat.S_ISDIR(its_row.mode) - stat.S_ISDIR(row.mode)
    inodes.add_nlink(tx, one.parent, difference, now)
    inodes.add_nlink(tx, other.parent, -difference, now)
    _moved(tx, row, other, ids[0], now)
    _moved(tx, its_row, one, ids[1], now)


def _exchange_history(
    tx: Tx, state: State, one: Spot, row: InodeRow, other: Spot, its_row: InodeRow, now: int
) -> list[str | None]:
    """What versions are told of an exchange, before it is done. Returns the new version ids.

    Raises CrossBucket where a directory's history would have to go along: programs then do without.
    """
    for spot, moved, to in ((one, row, its_row), (other, its_row, row)):
        if rules_of(tx, state, moved.bucket).versioning == OFF:
            continue
        if stat.S_ISDIR(moved.mode):
            raise CrossBucket(moved.id)
        leave(tx, state, moved, spot.place, now, marker=not is_object(to))
    return [
        arrive(tx, state, row, its_row.bucket, other.place, None, now),
        arrive(tx, state, its_row, row.bucket, one.place, None, now),
    ]


def _path(tx: Tx, bucket: InodeId, spot: Spot) -> bytes:
    """What the keys below a directory at `spot` start with; it ends in '/'."""
    return tree.key_of(tx, bucket, spot.place).encode() + b"/"


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


def _moved(tx: Tx, row: InodeRow, target: Spot, version_id: str | None, now: int) -> None:
    """The inode's own share: its change time, and its bucket if it came from another."""
    directory = inodes.get(tx, target.parent)
    assert directory is not None
    if row.bucket != directory.bucket:
        inodes.set_bucket(tx, row.id, directory.bucket, now)
    else:
        inodes.set_ctime(tx, row.id, now)
    tree.note(tx, "rename", directory.bucket, target.place, row.id, now, version_id)


def rename_object(
    tx: Tx,
    state: State,
    bucket: str,
    source: tuple[str, Precondition],
    target: tuple[str, Precondition],
    told: Told,
    maker: Maker = STORE,
) -> None:
    """RenameObject: the leaf at one key goes to another, its preconditions checked.

    Raises what `Objects.rename` raises.
    """
    now = now_ns()
    number = tree.bucket_id(tx, bucket)
    components, wanted = split_key(source[0]), split_key(target[0])
    check_length(target[0])
    place = tree.find(tx, number, components)
    row = None if place is None else dentries.stat(tx, place.parent, place.name)
    if place is None or row is None or not is_object(row):
        raise NoSuchKey(source[0])
    check(source[1], source[0], row)
    check(target[1], target[0], visible(tx, number, wanted))
    if components == wanted:
        return
    _check_free(tx, state, row, now)
    to, made = tree.make_place(tx, state, number, wanted, now, maker)
    replaced = dentries.stat(tx, to.parent, to.name)
    if replaced is not None and not (stat.S_ISREG(replaced.mode) or stat.S_ISLNK(replaced.mode)):
        raise NotRegular(target[0])
    if replaced is not None:
        _check_free(tx, state, replaced, now)
        if replaced.id == row.id:
            return
    told.leaf(tx, state, place, row)
    told.leaf(tx, state, to, replaced)
    if made is not None:
        told.directory(made)
    before = bounded(tx, state, number)
    _move_leaf(tx, state, Spot(*place, False), row, Spot(*to, False), replaced, now)
    check_grown(tx, state, before)
    for gone in tree.prune(tx, state, place.parent, now):
        told.directory(gone)
