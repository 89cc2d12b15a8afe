"""Rows of a rewrite: extents in order of their inodes, and their switch to other runs.

Invariant: `switch` changes an extent only if it is exactly as it was read; run.refs stays true, and
a run that lost its last reference moves to `freed` in the same transaction (M2).
Concurrency: inside a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, func, literal_column, select, tuple_

from metadb import content
from metadb.records import InodeId
from metadb.schema import extent, run
from metadb.statements import Statement, Tx

_PAGE = Statement(
    select(
        extent.c.inode,
        extent.c.start,
        extent.c.size,
        extent.c.run,
        extent.c.run_start,
        run.c.size,
        run.c.missing,
        run.c.refs,
    )
    .select_from(extent.join(run, run.c.id == extent.c.run))
    .where(tuple_(extent.c.inode, extent.c.start) > tuple_(bindparam("inode"), bindparam("start")))
    .order_by(extent.c.inode, extent.c.start)
    .limit(bindparam("limit")),
    "inode",
    "start",
    "limit",
)
_ANY = Statement(
    select(run.c.id)
    .where(run.c.id > bindparam("after"), run.c.id < bindparam("past"))
    .limit(literal_column("1")),
    "after",
    "past",
)
_AMOUNT = Statement(
    select(func.coalesce(func.sum(run.c.size), literal_column("0"))).where(
        run.c.id > bindparam("after"), run.c.id < bindparam("past")
    ),
    "after",
    "past",
)


class Holding(NamedTuple):
    """An extent with its run; refs: how many extents name that run."""

    inode: InodeId
    start: int
    size: int
    run: int
    run_start: int
    run_size: int
    run_missing: int
    refs: int


def holdings(tx: Tx, inode: int, start: int, limit: int) -> list[Holding]:
    """Up to `limit` extents behind the one of `inode` at `start`, in order."""
    return [Holding._make(row) for row in tx.all(_PAGE, inode, start, limit)]


def any_between(tx: Tx, after: int, past: int) -> bool:
    """Whether there is a run with after < id < past."""
    return tx.one(_ANY, after, past) is not None


def bytes_between(tx: Tx, after: int, past: int) -> int:
    """The bytes of all runs with after < id < past."""
    row = tx.one(_AMOUNT, after, past)
    assert row is not None
    return int(row[0])


def switch(tx: Tx, held: Holding, extents: Sequence[tuple[int, int, int, int]]) -> bool:
    """Put `extents` (start, size, run, run_start) in the place of one that is still as it was read.

    They cover the same bytes of the inode. False, and nothing done, where it changed.
    """
    stop = held.start + held.size
    now = content.extents_between(tx, held.inode, held.start, stop)
    if [row[:4] for row in now] != [(held.start, held.size, held.run, held.run_start)]:
        return False
    content.replace_ranges(tx, held.inode, [(held.start, stop)], extents)
    return True
