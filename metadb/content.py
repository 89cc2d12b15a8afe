"""Rows that say where bytes are: `inline`, `extent`, `run`, `freed`, `segment`.

Invariants M2 to M5 (metadb.schema): these functions keep run.refs true, and move a run to `freed`
when its last extent goes. Concurrency: inside a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, delete, func, insert, literal_column, select, update

from metadb.records import ExtentRow, InodeId, SegmentRow
from metadb.schema import extent, freed, inline, run, segment
from metadb.statements import Statement, Tx, insert_row

_INLINE = Statement(select(inline.c.content).where(inline.c.inode == bindparam("inode")), "inode")
_SET_INLINE = insert_row(inline, replace=True)
_REMOVE_INLINE = Statement(delete(inline).where(inline.c.inode == bindparam("key")), "key")
_EXTENTS = Statement(
    select(
        extent.c.start,
        extent.c.size,
        extent.c.run,
        extent.c.run_start,
        run.c.size,
        run.c.missing,
    )
    .select_from(extent.join(run, run.c.id == extent.c.run))
    .where(extent.c.inode == bindparam("inode"))
    .order_by(extent.c.start),
    "inode",
)
_before = extent.alias("before")
_BETWEEN = Statement(
    select(
        extent.c.start,
        extent.c.size,
        extent.c.run,
        extent.c.run_start,
        run.c.size,
        run.c.missing,
    )
    .select_from(extent.join(run, run.c.id == extent.c.run))
    .where(
        extent.c.inode == bindparam("inode"),
        extent.c.start
        >= func.coalesce(
            select(func.max(_before.c.start))
            .where(_before.c.inode == bindparam("same"), _before.c.start <= bindparam("start"))
            .scalar_subquery(),
            literal_column("0"),
        ),
        extent.c.start < bindparam("stop"),
        extent.c.start + extent.c.size > bindparam("past"),
    )
    .order_by(extent.c.start),
    "inode",
    "same",
    "start",
    "stop",
    "past",
)
_INSERT_EXTENT = insert_row(extent)
_HERE = and_(extent.c.inode == bindparam("key"), extent.c.start == bindparam("at"))
_RESIZE_EXTENT = Statement(
    update(extent).where(_HERE).values(size=bindparam("size")), "size", "key", "at"
)
_REMOVE_EXTENT = Statement(delete(extent).where(_HERE), "key", "at")
_REMOVE_EXTENTS = Statement(delete(extent).where(extent.c.inode == bindparam("key")), "key")
_RUNS_OF = Statement(select(extent.c.run).where(extent.c.inode == bindparam("inode")), "inode")
_SHARE = Statement(
    insert(extent).from_select(
        ["inode", "start", "size", "run", "run_start"],
        select(
            bindparam("to", type_=extent.c.inode.type),
            extent.c.start + bindparam("shift"),
            extent.c.size,
            extent.c.run,
            extent.c.run_start,
        ).where(extent.c.inode == bindparam("source")),
    ),
    "to",
    "shift",
    "source",
)
_INSERT_RUN = insert_row(run)
_REF = Statement(
    update(run).where(run.c.id == bindparam("key")).values(refs=run.c.refs + bindparam("by")),
    "by",
    "key",
)
_REREF = Statement(
    update(run)
    .where(run.c.id == bindparam("key"))
    .values(refs=run.c.refs + bindparam("by"))
    .returning(run.c.refs, run.c.size),
    "by",
    "key",
)
_UNREF = Statement(
    update(run)
    .where(run.c.id == bindparam("key"))
    .values(refs=run.c.refs - literal_column("1"))
    .returning(run.c.refs, run.c.size),
    "key",
)
_REMOVE_RUN = Statement(delete(run).where(run.c.id == bindparam("key")), "key")
_UNNAMED = Statement(
    delete(run).where(run.c.id == bindparam("key"), run.c.refs == literal_column("0")), "key"
)
_RUN_SIZE = Statement(select(run.c.size).where(run.c.id == bindparam("key")), "key")
_FREE = insert_row(freed)
_FREED = Statement(
    select(freed.c.run, freed.c.size)
    .where(freed.c.run > bindparam("after"))
    .order_by(freed.c.run)
    .limit(bindparam("limit")),
    "after",
    "limit",
)
_FORGET_FREED = Statement(delete(freed).where(freed.c.run == bindparam("key")), "key")
_NOTE_SEGMENT = insert_row(segment, ignore=True)
_SEGMENTS = Statement(select(segment))
_REMOVE_SEGMENT = Statement(delete(segment).where(segment.c.id == bindparam("key")), "key")
_RUNS = Statement(
    select(run.c.id, run.c.size, run.c.missing)
    .where(run.c.id > bindparam("after"))
    .order_by(run.c.id)
    .limit(bindparam("limit")),
    "after",
    "limit",
)
_SEGMENT_USED = Statement(
    select(func.count()).where(run.c.id >= bindparam("start"), run.c.id < bindparam("stop")),
    "start",
    "stop",
)
_SEGMENT_FREED = Statement(
    select(func.count()).where(freed.c.run >= bindparam("start"), freed.c.run < bindparam("stop")),
    "start",
    "stop",
)
_STORED = Statement(select(func.coalesce(func.sum(run.c.size), literal_column("0"))))


def inline_of(tx: Tx, number: InodeId) -> bytes | None:
    """The inode's inline content, or None where it has extents (or nothing)."""
    row = tx.one(_INLINE, number)
    return None if row is None else row[0]


def set_inline(tx: Tx, number: InodeId, content: bytes) -> None:
    """Store `content` inline. The inode has no extents (M4)."""
    tx.run(_SET_INLINE, number, content)


def remove_inline(tx: Tx, number: InodeId) -> None:
    """The content grew past the bound, or went: it isn't inline any more."""
    tx.run(_REMOVE_INLINE, number)


def extents_of(tx: Tx, number: InodeId) -> list[ExtentRow]:
    """All extents with their runs, in order of `start`."""
    return [ExtentRow._make(row) for row in tx.all(_EXTENTS, number)]


def extents_between(tx: Tx, number: InodeId, start: int, stop: int) -> list[ExtentRow]:
    """Extents that hold bytes of [start, stop), in order."""
    rows = tx.all(_BETWEEN, number, number, start, stop, start)
    return [ExtentRow._make(row) for row in rows]


def replace_ranges(
    tx: Tx,
    number: InodeId,
    cleared: Sequence[tuple[int, int]],
    extents: Sequence[tuple[int, int, int, int]],
) -> list[int]:
    """Make holes of the ranges [start, stop) in `cleared`, then put `extents` there.

    Only extents that overlap a range are touched: they are trimmed or split. extents: rows
    (start, size, run, run_start), each inside a cleared range or a hole. Returns the runs that
    lost their last reference, which moved to `freed`.
    """
    by: dict[int, int] = {}
    for start, stop in cleared:
        for row in extents_between(tx, number, start, stop):
            end = row.start + row.size
            if row.start < start:
                tx.run(_RESIZE_EXTENT, start - row.start, number, row.start)
            else:
                tx.run(_REMOVE_EXTENT, number, row.start)
                by[row.run] = by.get(row.run, 0) - 1
            if end > stop:
                moved = row.run_start + stop - row.start
                tx.run(_INSERT_EXTENT, number, stop, end - stop, row.run, moved)
                by[row.run] = by.get(row.run, 0) + 1
    for extent_row in extents:
        tx.run(_INSERT_EXTENT, number, *extent_row)
        by[extent_row[2]] = by.get(extent_row[2], 0) + 1
    return _change_refs(tx, by)


def _change_refs(tx: Tx, by: dict[int, int]) -> list[int]:
    gone: list[int] = []
    for number, difference in by.items():
        if not difference:
            continue
        row = tx.one(_REREF, difference, number)
        assert row is not None, number
        assert row[0] >= 0, (number, row)
        if row[0] == 0:
            tx.run(_REMOVE_RUN, number)
            tx.run(_FREE, number, row[1])
            gone.append(number)
    return gone


def add_runs(tx: Tx, runs: Sequence[tuple[int, int, int]]) -> None:
    """New runs (id, size, missing), as yet without references."""
    for number, size, missing in runs:
        tx.run(_INSERT_RUN, number, size, 0, missing)


def add_extents(tx: Tx, number: InodeId, extents: Sequence[tuple[int, int, int, int]]) -> None:
    """Add (start, size, run, run_start) rows, each of them a reference to its run."""
    for start, size, run_number, run_start in extents:
        tx.run(_INSERT_EXTENT, number, start, size, run_number, run_start)
        tx.run(_REF, 1, run_number)


def share_extents(tx: Tx, source: InodeId, target: InodeId, shift: int) -> None:
    """Give `target` all extents of `source`, moved by `shift` bytes: copy by reference."""
    for (run_number,) in tx.all(_RUNS_OF, source):
        tx.run(_REF, 1, run_number)
    tx.run(_SHARE, target, shift, source)


def remove_content(tx: Tx, number: InodeId) -> list[int]:
    """Take an inode's content away; runs nobody names move to `freed` and are returned."""
    tx.run(_REMOVE_INLINE, number)
    runs = tx.all(_RUNS_OF, number)
    if not runs:
        return []
    tx.run(_REMOVE_EXTENTS, number)
    return unref_runs(tx, [row[0] for row in runs])


def unref_runs(tx: Tx, runs: Sequence[int]) -> list[int]:
    """Take one reference from each of `runs` (a run may occur more than once)."""
    gone: list[int] = []
    for number in runs:
        row = tx.one(_UNREF, number)
        assert row is not None, number
        assert row[0] >= 0, (number, row)
        if row[0] == 0:
            tx.run(_REMOVE_RUN, number)
            tx.run(_FREE, number, row[1])
            gone.append(number)
    return gone


def free_unnamed(tx: Tx, runs: Sequence[int]) -> list[int]:
    """Move those of `runs` that have no reference at all to `freed`."""
    gone = []
    for number in runs:
        row = tx.one(_RUN_SIZE, number)
        if row is not None and tx.run(_UNNAMED, number):
            tx.run(_FREE, number, row[0])
            gone.append(number)
    return gone


def freed_runs(tx: Tx, after: int, limit: int) -> list[tuple[int, int]]:
    """Up to `limit` (run, size) of `freed` with run > after, in order."""
    return [(row[0], row[1]) for row in tx.all(_FREED, after, limit)]


def forget_freed(tx: Tx, runs: Sequence[int]) -> None:
    """Their space has been given back."""
    for number in runs:
        tx.run(_FORGET_FREED, number)


def note_segment(tx: Tx, row: SegmentRow) -> None:
    """Remember a segment unless it is known."""
    tx.run(_NOTE_SEGMENT, *row)


def segments(tx: Tx) -> list[SegmentRow]:
    """All segments (at start)."""
    return [SegmentRow._make(row) for row in tx.all(_SEGMENTS)]


def segment_in_use(tx: Tx, first_run: int, past_run: int) -> bool:
    """Whether a run or a freed run is left with first_run <= id < past_run."""
    used = tx.one(_SEGMENT_USED, first_run, past_run)
    waiting = tx.one(_SEGMENT_FREED, first_run, past_run)
    assert used is not None
    assert waiting is not None
    return bool(used[0] or waiting[0])


def remove_segment(tx: Tx, number: int) -> None:
    """Forget a segment that nothing is left of."""
    tx.run(_REMOVE_SEGMENT, number)


def runs_page(tx: Tx, after: int, limit: int) -> list[tuple[int, int, int]]:
    """Up to `limit` (id, size, missing) of runs with id > after, in order."""
    return [(row[0], row[1], row[2]) for row in tx.all(_RUNS, after, limit)]


def stored_bytes(tx: Tx) -> int:
    """Payload bytes in all runs (walks the table: at start only)."""
    row = tx.one(_STORED)
    return int(row[0]) if row else 0
