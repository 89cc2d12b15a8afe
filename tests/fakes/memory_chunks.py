"""An in-memory `ChunkStore` that keeps the protocol's promises and can break them on demand.

Used by the tests of `store`, which need no drives. Knobs:
  full, below_quorum   appends raise NoSpace / BelowWriteQuorum while set
  cold                 `read_nowait` answers None while set, as if nothing were in the page cache
  unreadable           ids of runs whose reads raise Unrecoverable
  run_bytes            a longer stream is cut into several runs
  segment_bytes        a segment is sealed when its members have grown beyond this
and `crash()` forgets every run that no `sync` covered, as a power cut would.

Invariants: C1 to C3 of `store.chunks.types`. Concurrency: one trio loop; every method that may
wait in the real store passes a checkpoint here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import trio

from store.chunks.errors import BelowWriteQuorum, NoSpace, Unrecoverable
from store.chunks.types import (
    ALIGN_BYTES,
    Appender,
    Buffer,
    ChunkStore,
    DriveId,
    DriveState,
    DriveStatus,
    Owner,
    Run,
    RunId,
    Segment,
    SegmentId,
    run_id,
    segment_of,
)

DRIVE = DriveId("0" * 32)
TOTAL_BYTES = 1 << 40


class MemoryChunks:
    """A `ChunkStore` on a dict."""

    def __init__(self, *, run_bytes: int = 64 << 20, segment_bytes: int = 1 << 30) -> None:
        self.full = False
        self.below_quorum = False
        self.cold = False
        self.unreadable: set[RunId] = set()
        self.run_bytes = run_bytes
        self.segment_bytes = segment_bytes
        self.segments: dict[SegmentId, Segment] = {}
        self.durable: set[RunId] = set()
        self.owners: dict[RunId, Owner] = {}
        self._stored: dict[RunId, bytes] = {}
        self._sealed: set[SegmentId] = set()
        self._segment_ids = itertools.count(1)
        self._open: SegmentId | None = None
        self._top = 0

    # -- what tests look at ------------------------------------------------------------

    @property
    def run_ids(self) -> set[RunId]:
        """The runs whose bytes are held."""
        return set(self._stored)

    @property
    def held_bytes(self) -> int:
        """Payload bytes held, for tests of reclaim."""
        return sum(map(len, self._stored.values()))

    def crash(self) -> None:
        """Forget what isn't durable; `adopt` must be called next, as after a start."""
        self._stored = {run: held for run, held in self._stored.items() if run in self.durable}
        self._sealed.update(self.segments)
        self._open = None

    # -- ChunkStore --------------------------------------------------------------------

    def appender(self, owner: Owner, size_hint: int | None = None) -> Appender:
        return _MemoryAppender(self, owner)

    async def sync(self, runs: Iterable[Run]) -> None:
        named = list(runs)
        await trio.lowlevel.checkpoint()
        if self.below_quorum:
            raise BelowWriteQuorum(0, 1)
        for run in named:
            assert run.id in self._stored, run
            self.durable.add(run.id)

    def read_nowait(self, run: Run, start: int, stop: int) -> list[Buffer] | None:
        if self.cold or run.id in self.unreadable:
            return None
        return self._slice(run, start, stop)

    async def read(self, run: Run, start: int, stop: int) -> list[Buffer]:
        await trio.lowlevel.checkpoint()
        return self._slice(run, start, stop)

    async def free(self, runs: Iterable[Run]) -> None:
        await trio.lowlevel.checkpoint()
        for run in runs:
            self._forget(run.id)

    def segment(self, segment: SegmentId) -> Segment:
        return self.segments[segment]

    async def drop_segments(self, segments: Iterable[SegmentId]) -> None:
        await trio.lowlevel.checkpoint()
        gone = {segment for segment in segments if segment in self._sealed}
        for run in [run for run in self._stored if segment_of(run) in gone]:
            self._forget(run)
        for segment in gone:
            self._sealed.remove(segment)
            del self.segments[segment]

    async def adopt(
        self, segments: Sequence[Segment], named: Mapping[SegmentId, Sequence[Run]]
    ) -> None:
        await trio.lowlevel.checkpoint()
        self.segments = {segment.id: segment for segment in segments}
        self._sealed = set(self.segments)
        self._open = None
        first_free = max(self.segments, default=0) + 1
        self._segment_ids = itertools.count(max(first_free, next(self._segment_ids)))
        kept = {run.id for runs in named.values() for run in runs}
        for run in [run for run in self._stored if run not in kept]:
            self._forget(run)

    def naming(self, run: Run) -> Run:
        return run

    def sealed(self, segment: SegmentId) -> bool:
        return segment in self._sealed

    def usable_bytes(self) -> tuple[int, int]:
        return TOTAL_BYTES, max(0, TOTAL_BYTES - self.held_bytes)

    def status(self) -> list[DriveStatus]:
        total, free = self.usable_bytes()
        return [
            DriveStatus(
                id=DRIVE,
                path="/memory",
                state=DriveState.FULL if self.full else DriveState.ONLINE,
                cause="",
                epoch=1,
                total_bytes=total,
                free_bytes=free,
                read_errors=0,
                write_errors=0,
                damaged_fragments=0,
            )
        ]

    # -- used by the appender ----------------------------------------------------------

    def check_writable(self) -> None:
        if self.full:
            raise NoSpace
        if self.below_quorum:
            raise BelowWriteQuorum(0, 1)

    def store_run(self, payload: bytes, owner: Owner) -> Run:
        """Put `payload` at the top of the open segment, opening a new one when it is full."""
        if self._open is None or self._top >= self.segment_bytes:
            if self._open is not None:
                self._sealed.add(self._open)
            self._open = SegmentId(next(self._segment_ids))
            self._top = 0
            self.segments[self._open] = Segment(
                id=self._open, nonce=self._open, k=1, m=0, stripe_size=1 << 20, members=(DRIVE,)
            )
        run = Run(id=run_id(self._open, self._top), size=len(payload))
        self._top += -(-len(payload) // ALIGN_BYTES) * ALIGN_BYTES
        self._stored[run.id] = payload
        self.owners[run.id] = owner
        return run

    def _slice(self, run: Run, start: int, stop: int) -> list[Buffer]:
        assert 0 <= start < stop <= run.size, (run, start, stop)
        held = self._stored.get(run.id)
        if held is None or run.id in self.unreadable:
            raise Unrecoverable(run.id, 0, 0, 1)
        assert len(held) == run.size, "a run record of another size"
        return [memoryview(held)[start:stop]]

    def _forget(self, run: RunId) -> None:
        self._stored.pop(run, None)
        self.owners.pop(run, None)
        self.durable.discard(run)


class _MemoryAppender:
    """Gathers pieces and cuts them into runs of `run_bytes`."""

    def __init__(self, chunks: MemoryChunks, owner: Owner) -> None:
        self._chunks = chunks
        self._owner = owner
        self._pending = bytearray()
        self._runs: list[Run] = []
        self._written = 0
        self._spent = False

    async def append(self, piece: Buffer) -> None:
        assert not self._spent, "the appender is spent"
        await trio.lowlevel.checkpoint()
        self._chunks.check_writable()
        self._pending += piece
        while len(self._pending) >= self._chunks.run_bytes:
            self._cut(self._chunks.run_bytes)

    async def finish(self, *, durable: bool) -> tuple[Run, ...]:
        assert not self._spent, "the appender is spent"
        await trio.lowlevel.checkpoint()
        if self._pending:
            self._chunks.check_writable()
            self._cut(len(self._pending))
        self._spent = True
        if durable:
            await self._chunks.sync(self._runs)
        return tuple(self._runs)

    async def abandon(self) -> None:
        self._spent = True
        self._pending.clear()
        await self._chunks.free(self._runs)
        self._runs = []

    def _cut(self, size: int) -> None:
        owner = Owner(inode=self._owner.inode, offset=self._owner.offset + self._written)
        self._runs.append(self._chunks.store_run(bytes(self._pending[:size]), owner))
        self._written += size
        del self._pending[:size]


def _conforms() -> ChunkStore:
    """Lets mypy check that the fake is one."""
    return MemoryChunks()
