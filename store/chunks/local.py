"""`ChunkStore` on local drives: puts the parts together.

    appender -> append.py -> writer.py -> stripe.py -> drive_io.py        bytes in
    read     -> read.py   -> fragment.py, codec.py  -> drive_io.py        bytes out
    sync     -> segment.py (one flush at a time and segment)
    free     -> reclaim.py

Concurrency: one trio loop. `run` must be running while anything is appended or synced: its
nursery owns the tasks that write, flush, probe and reclaim.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import trio

from store.chunks.append import LocalAppender
from store.chunks.config import ChunkConfig
from store.chunks.drive import Drive
from store.chunks.errors import BelowWriteQuorum
from store.chunks.events import ChunkEvent, DriveChanged
from store.chunks.geometry import member_range, write_quorum
from store.chunks.members import Members
from store.chunks.placement import Placement
from store.chunks.pool import Pool
from store.chunks.read import Reader
from store.chunks.reclaim import Reclaimer
from store.chunks.types import (
    Appender,
    ChunkStore,
    DriveId,
    DriveState,
    DriveStatus,
    Owner,
    Run,
    Segment,
    SegmentId,
    segment_of,
)
from store.chunks.writer import Writer

log = logging.getLogger(__name__)


class LocalChunks:
    """See `types.ChunkStore`. on_event is called on the loop and must not block."""

    def __init__(
        self,
        pool: Pool,
        config: ChunkConfig | None = None,
        on_event: Callable[[ChunkEvent], None] = lambda event: None,
    ) -> None:
        self.pool = pool
        self._config = config or ChunkConfig()
        self._listeners = [on_event]
        pool.use(self._config)
        store = bytes.fromhex(pool.store)
        self._placement = Placement(pool, self._config)
        self._reclaimer = Reclaimer(pool, self._config)
        self._writer = Writer(store, self._placement, self._reclaimer, self._config)
        self._reader = Reader(store, pool, self._placement.segments, self._config, self._tell)
        self.members = Members(store, pool, self._placement, self._config)
        self.naming = self.members.naming
        self.read_nowait = self._reader.read_nowait
        self.read = self._reader.read
        self.forget_damage = self._reader.forget_damage
        self.count_damage = self._reader.count_damage
        self.tidy = self._reclaimer.tidy
        self.geometry = self._placement.geometry
        self.rooms = self._placement.rooms
        self.payload_of = self._placement.payload_of
        self.allows_single_copy = self._config.allow_single_copy
        for drive in pool.drives:
            drive.on_change = self._drive_changed

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The service: probes drives and owns background work, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._writer.nursery = self._reader.nursery = nursery
                for drive in self.pool.drives:
                    nursery.start_soon(drive.watch, self._epoch)
                task_status.started()
        finally:
            self._writer.nursery = self._reader.nursery = None

    # -- writing -----------------------------------------------------------------------

    def appender(self, owner: Owner, size_hint: int | None = None) -> Appender:
        lane = self._placement.lane(size_hint)
        return LocalAppender(self._writer, self._reader, lane, owner, size_hint)

    def copier(self, owner: Owner, size: int) -> Appender:
        """An appender for `size` bytes that stand elsewhere and that nobody waits for."""
        lane = self._placement.lane(size)
        return LocalAppender(self._writer, self._reader, lane, owner, size, counted=False)

    async def sync(self, runs: Iterable[Run]) -> None:
        by_segment: dict[SegmentId, int] = {}
        for run in runs:
            segment = segment_of(run.id)
            by_segment[segment] = by_segment.get(segment, 0) | run.missing
        for segment, missing in by_segment.items():
            found = self._placement.open.get(segment)
            if found is not None:
                await self._writer.flush(found)
                lost = found.lost
            else:
                lost = self._placement.lost.get(segment, 0)
            record = self._placement.segments[segment]
            held = len(record.members) - (missing | lost).bit_count()
            if held < write_quorum(record.k, record.m):
                raise BelowWriteQuorum(held, write_quorum(record.k, record.m))

    # -- reclaiming --------------------------------------------------------------------

    async def free(self, runs: Iterable[Run]) -> None:
        segments = self._placement.segments
        ranges = [
            (segment, *member_range(segment, run))
            for run in runs
            if (segment := segments.get(segment_of(run.id))) is not None
        ]
        await self._reclaimer.punch(ranges)

    async def drop_segments(self, segments: Iterable[SegmentId]) -> None:
        known = self._placement.segments
        dropped = [
            known.pop(segment)
            for segment in segments
            if segment in known
            and self._placement.sealed(segment)
            and segment not in self._placement.open
        ]
        await self._reclaimer.unlink(dropped)

    async def adopt(
        self, segments: Sequence[Segment], named: Mapping[SegmentId, Sequence[Run]]
    ) -> None:
        if self._placement.open:
            raise RuntimeError("adopt comes before the first append")
        known = {segment.id: segment for segment in segments}
        self._placement.adopt(known)
        self.members.marked = {
            segment for segment, runs in named.items() if any(run.missing for run in runs)
        }
        await self._reclaimer.sweep(known, named)

    # -- looking -----------------------------------------------------------------------

    def segment(self, segment: SegmentId) -> Segment:
        return self._placement.segments[segment]

    def sealed(self, segment: SegmentId) -> bool:
        return self._placement.sealed(segment)

    def usable_bytes(self) -> tuple[int, int]:
        return self._placement.usable_bytes()

    def status(self) -> list[DriveStatus]:
        return [drive.status() for drive in self.pool.drives]

    # -- drives ------------------------------------------------------------------------

    async def replace_drive(self, missing: DriveId, path: Path) -> Drive:
        """Let the empty folder at `path` take the place of a missing drive, for heal to fill.

        Raises LabelError, OSError, TimeoutError, BelowWriteQuorum.
        """
        drive = await self.pool.adopt_replacement(missing, path)
        self._welcome(drive)
        return drive

    async def add_drive(self, path: Path) -> Drive:
        """Make the empty folder at `path` one more drive; new segments may stand on it at once.

        Raises LabelError, OSError, TimeoutError, BelowWriteQuorum.
        """
        drive = await self.pool.add(path)
        self._welcome(drive)
        return drive

    def drain(self, drive: Drive) -> None:
        """Put nothing new on a drive; heal moves what it holds to others."""
        drive.draining = True
        self._placement.drive_drains(drive)

    def keep(self, drive: Drive) -> None:
        """Drain it no more: new segments may stand on it again."""
        drive.draining = False
        self._placement.drive_came()

    def holds_members(self, drive: Drive) -> bool:
        """Whether any segment has a member on the drive."""
        return any(drive.id in segment.members for segment in self._placement.segments.values())

    def _welcome(self, drive: Drive) -> None:
        """A drive came into the pool while it is in use."""
        drive.on_change = self._drive_changed
        self._writer.service().start_soon(drive.watch, self._epoch)
        self._drive_changed(drive, DriveState.OFFLINE)

    def _epoch(self) -> int:
        return self.pool.epoch

    def _drive_changed(self, drive: Drive, before: DriveState) -> None:
        if drive.state is DriveState.ONLINE:
            self._placement.drive_came()
        else:
            self._placement.drive_left(drive)
        nursery = self._writer.nursery
        lost = drive.state in (DriveState.FENCED, DriveState.OFFLINE)
        if lost and nursery is not None:
            nursery.start_soon(self._raise_epoch, drive.id)
        self._tell(
            DriveChanged(
                drive=drive.id,
                path=str(drive.io.path),
                before=before,
                after=drive.state,
                cause=drive.cause,
            )
        )

    @property
    def stripe_count(self) -> int:
        """How many stripes were written on somebody's behalf so far."""
        return self._writer.stripe_count

    def listen(self, listener: Callable[[ChunkEvent], None]) -> None:
        """Have `listener` told of every event, too. On the loop; it must not block."""
        self._listeners.append(listener)

    def _tell(self, event: ChunkEvent) -> None:
        for listener in self._listeners:
            listener(event)

    async def _raise_epoch(self, lost: DriveId) -> None:
        """Tell the other drives that one was lost, so that it is stale when it returns."""
        try:
            await self.pool.raise_epoch(leave_out=lost)
        except BelowWriteQuorum:
            log.error("no drive is left to be told of the new epoch")


def _conforms(chunks: LocalChunks) -> ChunkStore:
    """Lets mypy check that `LocalChunks` is one."""
    return chunks
