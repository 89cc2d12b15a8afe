"""Repairs of the tables that take nothing away: counts, names, and runs that were freed too soon.

Each takes violations as `metadb.check` found them and looks again inside its transaction, so it
may come late: what is right by then is left as it is. What only a person can decide (which of two
contents is the right one) has no repair here.

Concurrency: inside a transaction. Those in `WHILE_SERVING` touch nothing that a daemon keeps in
memory, or its kernel in a cache; the others are for a stopped store.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable

from sqlalchemy import bindparam, func, select, update

from metadb import buckets, content, dentries, inodes
from metadb.check import (
    COUNTED_LINKS,
    COUNTED_REFERENCES,
    COUNTED_SUBDIRECTORIES,
    COUNTED_USAGE,
    NAMED_INODES,
    NAMES_OF_INODES,
    RUNS_OF_EXTENTS,
)
from metadb.records import ROOT, DentryRow, InodeId, InodeRow
from metadb.schema import dentry, extent, freed, inode, run, usage
from metadb.statements import Row, Statement, Tx

LOST_AND_FOUND = b"lost+found"
_DIRECTORY_BITS = stat.S_IFDIR

_NAME_COUNT = Statement(
    select(func.count()).select_from(dentry).where(dentry.c.inode == bindparam("number")),
    "number",
)
_child = inode.alias("child")
_SUBDIRECTORY_COUNT = Statement(
    select(func.count())
    .select_from(dentry.join(_child, _child.c.id == dentry.c.inode))
    .where(dentry.c.parent == bindparam("number"), _child.c.parent == bindparam("same_number")),
    "number",
    "same_number",
)
_EXTENT_COUNT = Statement(
    select(func.count()).select_from(extent).where(extent.c.run == bindparam("number")),
    "number",
)
_SET_REFS = Statement(
    update(run).where(run.c.id == bindparam("key")).values(refs=bindparam("refs")),
    "refs",
    "key",
)
_FREED_SIZE = Statement(select(freed.c.size).where(freed.c.run == bindparam("number")), "number")
_BUCKET_SUMS = Statement(
    select(func.sum(inode.c.size), func.count()).where(inode.c.bucket == bindparam("number")),
    "number",
)
_SET_USAGE = Statement(
    update(usage)
    .where(usage.c.bucket == bindparam("key"))
    .values(size=bindparam("size"), inodes=bindparam("inodes")),
    "size",
    "inodes",
    "key",
)


def recount_links(tx: Tx, row: Row) -> bool:
    """A file's nlink is the number of its names."""
    found = inodes.get(tx, InodeId(row[0]))
    names = tx.one(_NAME_COUNT, row[0])
    assert names is not None
    if found is not None and found.nlink != names[0]:
        inodes.set_nlink(tx, found.id, names[0], time.time_ns())
    return True


def recount_subdirectories(tx: Tx, row: Row) -> bool:
    """A directory's nlink is 2 and its child directories; 0 of one without a name."""
    found = inodes.get(tx, InodeId(row[0]))
    names = tx.one(_NAME_COUNT, row[0])
    children = tx.one(_SUBDIRECTORY_COUNT, row[0], row[0])
    assert names is not None
    assert children is not None
    if found is not None:
        nlink = 2 + children[0] if names[0] or found.id == ROOT else 0
        inodes.set_nlink(tx, found.id, nlink, time.time_ns())
    return True


def recount_references(tx: Tx, row: Row) -> bool:
    """A run's refs are the extents that name it; one without any goes to reclaim."""
    extents = tx.one(_EXTENT_COUNT, row[0])
    assert extents is not None
    tx.run(_SET_REFS, extents[0], row[0])
    if not extents[0]:
        content.free_unnamed(tx, [row[0]])
    return True


def recount_usage(tx: Tx, row: Row) -> bool:
    """A bucket's usage is the sum over its inodes."""
    sums = tx.one(_BUCKET_SUMS, row[0])
    assert sums is not None
    tx.run(_SET_USAGE, sums[0] or 0, sums[1], row[0])
    return True


def restore_run(tx: Tx, row: Row) -> bool:
    """A run that was freed while an extent names it is a run again."""
    number = row[2]
    size = tx.one(_FREED_SIZE, number)
    extents = tx.one(_EXTENT_COUNT, number)
    assert extents is not None
    if size is None:
        return False
    content.forget_freed(tx, [number])
    content.add_runs(tx, [(number, size[0], 0)])
    tx.run(_SET_REFS, extents[0], number)
    return True


def settle_name(tx: Tx, row: Row) -> bool:
    """A directory whose inode is gone is made anew under its number; a file's name goes."""
    parent, name, number = InodeId(row[0]), bytes(row[1]), InodeId(row[2])
    if inodes.get(tx, number) is not None:
        return True
    if not name.endswith(b"/"):
        dentries.remove(tx, parent, name)
        return True
    above = inodes.get(tx, parent)
    if above is None:
        return False
    bucket = above.bucket or number
    inodes.insert(tx, _directory(number, InodeId(bucket), parent))
    return True


def name_lost_inode(tx: Tx, row: Row) -> bool:
    """An inode that nothing names gets the name lost+found/<number> in its bucket."""
    number = InodeId(row[0])
    found = inodes.get(tx, number)
    if found is None:
        return True
    if buckets.by_id(tx, found.bucket) is None:
        return False
    folder = dentries.directory_of(tx, found.bucket, LOST_AND_FOUND + b"/")
    if folder is None:
        folder = _new_number(tx)
        inodes.insert(tx, _directory(folder, found.bucket, found.bucket))
        entry = DentryRow(found.bucket, LOST_AND_FOUND + b"/", folder, None)
        dentries.insert(tx, entry)
        inodes.add_nlink(tx, found.bucket, 1, time.time_ns())
    is_directory = stat.S_ISDIR(found.mode)
    name = str(number).encode() + (b"/" if is_directory else b"")
    dentries.insert(tx, DentryRow(folder, name, number, None))
    if is_directory:
        inodes.set_parent(tx, number, folder, time.time_ns())
        inodes.add_nlink(tx, folder, 1, time.time_ns())
        recount_subdirectories(tx, row)
    else:
        recount_links(tx, row)
    return True


REPAIRS: dict[str, Callable[[Tx, Row], bool]] = {
    NAMES_OF_INODES: settle_name,
    COUNTED_LINKS: recount_links,
    COUNTED_SUBDIRECTORIES: recount_subdirectories,
    RUNS_OF_EXTENTS: restore_run,
    COUNTED_REFERENCES: recount_references,
    COUNTED_USAGE: recount_usage,
    NAMED_INODES: name_lost_inode,
}
"""By the invariant's name: each repairs one violation, or returns False where it can't."""

WHILE_SERVING = frozenset({COUNTED_LINKS, COUNTED_SUBDIRECTORIES, COUNTED_USAGE})


def _new_number(tx: Tx) -> InodeId:
    """Above every inode number that was ever given out. On a stopped store only."""
    kept = int(buckets.setting_of(tx, "inode_ceiling") or 0)
    number = max(kept, inodes.highest(tx) + 1)
    buckets.set_setting(tx, "inode_ceiling", str(number + 1))
    return InodeId(number)


def _directory(number: InodeId, bucket: InodeId, parent: InodeId) -> InodeRow:
    now_ns = time.time_ns()
    return InodeRow(
        id=number,
        bucket=bucket,
        mode=_DIRECTORY_BITS | 0o755,
        uid=0,
        gid=0,
        nlink=2,
        size=0,
        rdev=0,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        stored_ns=now_ns,
        content_version=0,
        etag=None,
        version_id=None,
        meta=None,
        target=None,
        parent=parent,
        flags=0,
    )
