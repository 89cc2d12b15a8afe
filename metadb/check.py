"""Whether the tables keep their invariants: M1 to M8 of `metadb.schema`, each as queries.

For tests and for an operator's check: every query reads whole tables, so they run on the scan
lane. A query's rows are violations; a sound database has none.

Concurrency: safe beside anything; each query sees a snapshot of its own.
"""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import (
    Select,
    and_,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from metadb.schema import (
    dentry,
    extent,
    inline,
    inode,
    orphan,
    part,
    run,
    segment,
    usage,
    version,
)
from metadb.statements import Row, Statement, Tx

ROOT_INODE = 1
_SEGMENT_SHIFT = 28
_TYPE_BITS = 0o170000

NAMES_OF_INODES = "M1 a dentry names an inode that exists"
COUNTED_LINKS = "M1 nlink of a file counts its dentries"
COUNTED_SUBDIRECTORIES = "M1 nlink of a directory is 2 and its child directories"
RUNS_OF_EXTENTS = "M2 an extent lies within a run that exists"
COUNTED_REFERENCES = "M2 refs of a run counts its extents"
SEGMENTS_OF_RUNS = "M3 a run's segment exists"
ONE_CONTENT = "M4 an inode is inline or has extents"
APART_EXTENTS = "M5 extents of an inode don't overlap"
INODES_OF_VERSIONS = "M6 a version's inode exists, has no name and no other version"
ONE_VERSION = "M6 an inode is one version"
OWN_VERSION_IDS = "M6 version ids of a key differ"
COUNTED_USAGE = "M7 usage is the sum over a bucket's inodes"
NAMED_INODES = "M8 an inode has a dentry, or is a version, a part or an orphan"


_HOLDERS = Statement(
    select(extent.c.inode)
    .distinct()
    .where(extent.c.run == bindparam("number"))
    .limit(literal_column("3")),
    "number",
)
_ENTRY = Statement(
    select(dentry.c.parent, dentry.c.name).where(dentry.c.inode == bindparam("number")), "number"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One row that breaks `invariant`. row: what the query of that name selects."""

    invariant: str
    row: tuple[Any, ...]


class Scanning(Protocol):
    """What asks a database: an `Engine`, or a copy of a stopped store."""

    def scan(self, statement: Select[Any], page_rows: int = 500) -> AsyncIterator[list[Row]]:
        """See `Engine.scan`."""
        ...


async def find_violations(database: Scanning, limit: int = 100) -> list[Violation]:
    """The first violations, at most `limit` of each query's."""
    found = []
    for invariant, statement in QUERIES:
        async with aclosing(database.scan(statement.limit(limit))) as pages:  # type: ignore[type-var]
            async for page in pages:
                found += [Violation(invariant=invariant, row=row) for row in page]
    return found


def files_of_run(tx: Tx, number: int) -> list[str]:
    """A few of the files that name the run, as bucket/key; `inode N` of those without a name."""
    found = []
    for (holder,) in tx.all(_HOLDERS, number):
        components: list[bytes] = []
        at = holder
        while at != ROOT_INODE and (entry := tx.one(_ENTRY, at)) is not None:
            components.append(entry[1].rstrip(b"/"))
            at = entry[0]
        path = b"/".join(reversed(components)).decode(errors="backslashreplace")
        found.append(path if at == ROOT_INODE else f"inode {holder}")
    return found


def _links() -> tuple[Select[Any], Select[Any]]:
    """Inodes whose nlink is wrong: (id, nlink, what it should be); files, then directories."""
    is_directory = inode.c.mode.op("&")(_TYPE_BITS) == stat.S_IFDIR
    names = (
        select(func.count()).where(dentry.c.inode == inode.c.id).correlate(inode).scalar_subquery()
    )
    files = select(inode.c.id, inode.c.nlink, names).where(~is_directory, inode.c.nlink != names)
    child = inode.alias("child")
    children = (
        select(func.count())
        .select_from(dentry.join(child, child.c.id == dentry.c.inode))
        .where(
            dentry.c.parent == inode.c.id,
            child.c.mode.op("&")(_TYPE_BITS) == stat.S_IFDIR,
        )
        .correlate(inode)
        .scalar_subquery()
    )
    named = or_(inode.c.id == ROOT_INODE, exists().where(dentry.c.inode == inode.c.id))
    directories = select(inode.c.id, inode.c.nlink, children + 2).where(
        is_directory,
        or_(and_(named, inode.c.nlink != children + 2), and_(~named, inode.c.nlink != 0)),
    )
    return files, directories


def _overlaps() -> Select[Any]:
    """Extents that begin before the one before them ends: (inode, start)."""
    before = (
        func.lag(extent.c.start + extent.c.size)
        .over(partition_by=extent.c.inode, order_by=extent.c.start)
        .label("before")
    )
    ordered = select(extent.c.inode, extent.c.start, before).subquery()
    return select(ordered.c.inode, ordered.c.start).where(ordered.c.start < ordered.c.before)


def _references() -> Select[Any]:
    """Runs whose refs are wrong, or that nothing names: (run, refs, extents that name it)."""
    counted = select(extent.c.run, func.count().label("extents")).group_by(extent.c.run).subquery()
    extents = func.coalesce(counted.c.extents, literal(0))
    return (
        select(run.c.id, run.c.refs, extents)
        .select_from(run.outerjoin(counted, counted.c.run == run.c.id))
        .where(or_(run.c.refs != extents, run.c.refs == 0))
    )


def _usage() -> Select[Any]:
    """Buckets whose usage is wrong: (bucket, size, what it should be, inodes, likewise)."""
    size = func.coalesce(func.sum(inode.c.size), literal(0))
    return (
        select(usage.c.bucket, usage.c.size, size, usage.c.inodes, func.count(inode.c.id))
        .select_from(usage.outerjoin(inode, inode.c.bucket == usage.c.bucket))
        .group_by(usage.c.bucket)
        .having(or_(usage.c.size != size, usage.c.inodes != func.count(inode.c.id)))
    )


def _unnamed() -> Select[Any]:
    """Inodes that nothing names, and nothing will erase: (id, bucket)."""
    namers = (dentry, version, part, orphan)
    return select(inode.c.id, inode.c.bucket).where(
        inode.c.id != ROOT_INODE, *(~exists().where(t.c.inode == inode.c.id) for t in namers)
    )


QUERIES: tuple[tuple[str, Select[Any]], ...] = (
    (
        NAMES_OF_INODES,
        select(dentry.c.parent, dentry.c.name, dentry.c.inode).where(
            ~exists().where(inode.c.id == dentry.c.inode)
        ),
    ),
    (COUNTED_LINKS, _links()[0]),
    (COUNTED_SUBDIRECTORIES, _links()[1]),
    (
        RUNS_OF_EXTENTS,
        select(extent.c.inode, extent.c.start, extent.c.run)
        .select_from(extent.outerjoin(run, run.c.id == extent.c.run))
        .where(or_(run.c.id.is_(None), extent.c.run_start + extent.c.size > run.c.size)),
    ),
    (COUNTED_REFERENCES, _references()),
    (
        SEGMENTS_OF_RUNS,
        select(run.c.id).where(~exists().where(segment.c.id == run.c.id.op(">>")(_SEGMENT_SHIFT))),
    ),
    (
        ONE_CONTENT,
        select(inline.c.inode).where(exists().where(extent.c.inode == inline.c.inode)),
    ),
    (APART_EXTENTS, _overlaps()),
    (
        INODES_OF_VERSIONS,
        select(version.c.sequence, version.c.inode)
        .select_from(version.outerjoin(inode, inode.c.id == version.c.inode))
        .where(version.c.inode.is_not(None), or_(inode.c.id.is_(None), inode.c.nlink != 0)),
    ),
    (
        ONE_VERSION,
        select(version.c.inode, func.count())
        .where(version.c.inode.is_not(None))
        .group_by(version.c.inode)
        .having(func.count() > 1),
    ),
    (
        OWN_VERSION_IDS,
        select(version.c.bucket, version.c.key, version.c.version_id)
        .group_by(version.c.bucket, version.c.key, version.c.version_id)
        .having(func.count() > 1),
    ),
    (COUNTED_USAGE, _usage()),
    (NAMED_INODES, _unnamed()),
)
