"""Reclaim: give back what nothing names, at start and all the time.

The outbox and the memory of completed uploads are cut here too.

A freed run's space is punched only when (1) no reader that began before is left, and (2) the
transaction that freed it is durable: a crash that brought the old row back would else find a hole
where its bytes were. Sealed segments that hold nothing are removed whole.
Concurrency: one task, owned by `Namespace.run`; safe to cancel anywhere, since `freed` rows are
forgotten only after their space was given back, and giving it back twice is harmless.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection

import trio

from metadb import changes, content, inodes, uploads
from metadb.errors import MetadataFull
from metadb.statements import Tx
from store import tree
from store.chunks.errors import ChunkError
from store.chunks.types import DriveId as DriveId
from store.chunks.types import (
    Run,
    RunId,
    Segment,
    SegmentId,
    offset_of,
    run_id,
    segment_of,
)
from store.state import State, now_ns

_BATCH = 500
_CHANGES_KEPT = 100_000
_CHANGES_TRIMMED_AT = 1000  # rows over the limit that make a round worth its transaction
_COMPLETED_KEPT_NS = 24 * 3600 * 10**9
_log = logging.getLogger(__name__)
_READERS_POLL_S = 0.1


async def adopt(state: State) -> None:
    """At start: tell the chunk store what is named; all other bytes are reclaimed by it."""
    segments = [
        Segment(
            id=SegmentId(row.id),
            nonce=int.from_bytes(row.nonce, "little"),
            k=row.k,
            m=row.m,
            stripe_size=row.stripe_size,
            members=tuple(DriveId(drive) for drive in row.members.split()),
        )
        for row in state.engine.read(content.segments)
    ]
    named: dict[SegmentId, list[Run]] = defaultdict(list)
    after = 0
    while rows := state.engine.read(content.runs_page, after, 5000):
        for number, size, missing in rows:
            run = Run(id=RunId(number), size=size, missing=missing)
            named[segment_of(run.id)].append(run)
        after = rows[-1][0]
        await trio.lowlevel.checkpoint()
    known = {segment.id for segment in segments}
    empty = [segment.id for segment in segments if segment.id not in named]
    assert known.issuperset(named), "a run's segment is unknown (M3)"
    state.engine.transact(_forget_all_freed, empty)
    await state.engine.barrier()
    await state.chunks.adopt([s for s in segments if s.id in named], named)


def _forget_all_freed(tx: Tx, empty: list[SegmentId]) -> None:
    """No reader is left from before the start, and `adopt` punches whatever isn't named."""
    while rows := content.freed_runs(tx, 0, 5000):
        content.forget_freed(tx, [number for number, _ in rows])
    for segment in empty:
        content.remove_segment(tx, segment)


def erase_orphans(tx: Tx, state: State) -> int:
    """At start nothing is open: unlinked inodes go. Returns how many of a batch went."""
    numbers = inodes.orphans(tx)
    for number in numbers:
        tree.erase_orphan(tx, state, number)
    return len(numbers)


async def run(state: State) -> None:
    """Give space back for ever."""
    while True:
        try:
            freed = await _one_round(state)
            _cut_memory(state)
        except (ChunkError, MetadataFull) as exc:
            # Too few drives just now, or no room to note it: nothing is lost by waiting.
            _log.warning("reclaim waits: %s", exc)
            freed = 0
        if not freed:
            await trio.sleep(state.config.reclaim_interval_s)


def _cut_memory(state: State) -> None:
    """Forget old rows of the outbox and of completed uploads."""
    first, last = state.engine.read(changes.first), state.engine.read(changes.last)
    if last - first > _CHANGES_KEPT + _CHANGES_TRIMMED_AT:
        state.engine.transact(changes.trim, min(first + 2 * _BATCH, last - _CHANGES_KEPT))
    before = now_ns() - _COMPLETED_KEPT_NS
    if state.engine.read(uploads.any_completed, before):
        state.engine.transact(uploads.forget_completed, before)


async def _one_round(state: State) -> int:
    rows = state.engine.read(content.freed_runs, 0, _BATCH)
    if not rows:
        return 0
    mark = state.readers.mark()
    await state.engine.barrier()
    while not state.readers.passed(mark):  # noqa: ASYNC110 (a poll costs less than waking)
        await trio.sleep(_READERS_POLL_S)
    runs = [Run(id=RunId(number), size=size) for number, size in rows]
    await state.chunks.free(runs)
    state.engine.transact(content.forget_freed, [number for number, _ in rows])
    await drop_empty(state, {segment_of(run.id) for run in runs})
    return len(rows)


async def drop_empty(state: State, segments: Collection[SegmentId]) -> None:
    """Remove those of `segments` that take nothing more and hold nothing any more."""
    empty = [
        segment
        for segment in segments
        if state.chunks.sealed(segment)
        and not state.engine.read(content.segment_in_use, *_run_range(segment))
    ]
    if not empty:
        return

    def forget(tx: Tx) -> None:
        for segment in empty:
            content.remove_segment(tx, segment)

    state.engine.transact(forget)
    await state.engine.barrier()
    await state.chunks.drop_segments(empty)


def _run_range(segment: SegmentId) -> tuple[int, int]:
    """The ids of all runs that can stand in a segment: [first, past)."""
    first = run_id(segment, 0)
    assert offset_of(first) == 0
    return first, run_id(SegmentId(segment + 1), 0)
