"""Gives space back: punched holes, cut tails, unlinked members.

Nothing here may touch a place that a run named by anyone stands at. It is sure not to, since
places are never used twice (C1): what is unnamed once stays unnamed.

Concurrency: the loop, one thread per drive for the system calls. Drives that can't be written
are passed over: what they keep is reclaimed by `adopt` at a later start. Errors are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import outcome

from store.chunks.config import ChunkConfig
from store.chunks.drive import Drive
from store.chunks.geometry import member_range
from store.chunks.pool import Pool
from store.chunks.segment import OpenSegment
from store.chunks.threads import Hung, fan_out
from store.chunks.types import DriveState, Run, Segment, SegmentId

Range = tuple[int, int]
_SLACK_BYTES = 64 << 10
"""A file system may count some blocks of its own to a file: that much is no leak."""


def coalesce(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, with neighbours and overlaps joined."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def gaps(kept: Sequence[Range], size: int) -> list[Range]:
    """What of [0, size) is not in `kept` (coalesced)."""
    edges = [0, *(edge for each in kept for edge in each), size]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, stop) for start, stop in pairs if start < stop]


class Reclaimer:
    """See the module's text."""

    def __init__(self, pool: Pool, config: ChunkConfig) -> None:
        self._pool = pool
        self._config = config

    async def punch(self, ranges: Iterable[tuple[Segment, int, int]]) -> None:
        """Give back [start, stop) of all members of these segments."""
        by_segment: dict[SegmentId, list[Range]] = {}
        segments: dict[SegmentId, Segment] = {}
        for segment, start, stop in ranges:
            segments[segment.id] = segment
            by_segment.setdefault(segment.id, []).append((start, stop))
        holes = {segment: coalesce(found) for segment, found in by_segment.items()}
        work: dict[Drive, list[SegmentId]] = {}
        for segment in segments.values():
            for drive in self._writable_members(segment):
                work.setdefault(drive, []).append(segment.id)

        def punch_all(drive: Drive, ids: list[SegmentId]) -> None:
            for segment in ids:
                handle = drive.handle(segment)
                for start, stop in holes[segment]:
                    drive.io.punch(handle, start, stop - start)

        await self._on_drives(
            {drive: partial(punch_all, drive, ids) for drive, ids in work.items()}
        )

    async def cut(self, found: OpenSegment) -> None:
        """Cut a sealed segment's members to their used size."""
        size = found.top

        def cut_one(drive: Drive) -> None:
            drive.io.truncate(drive.handle(found.segment.id), size)

        drives = self._writable_members(found.segment)
        await self._on_drives({drive: partial(cut_one, drive) for drive in drives})

    async def unlink(self, segments: Sequence[Segment]) -> None:
        """Remove all members of these segments."""
        work: dict[Drive, list[SegmentId]] = {}
        for segment in segments:
            for drive in self._writable_members(segment):
                drive.forget_handle(segment.id)
                work.setdefault(drive, []).append(segment.id)

        def unlink_all(drive: Drive, ids: list[SegmentId]) -> None:
            for segment in ids:
                drive.io.unlink_segment(segment)

        await self._on_drives(
            {drive: partial(unlink_all, drive, ids) for drive, ids in work.items()}
        )

    async def sweep(
        self, segments: Mapping[SegmentId, Segment], named: Mapping[SegmentId, Sequence[Run]]
    ) -> None:
        """Reclaim all that isn't `named`. Before anything is appended."""
        kept = {
            segment.id: coalesce(member_range(segment, run) for run in named.get(segment.id, ()))
            for segment in segments.values()
        }

        def sweep_one(drive: Drive) -> None:
            for stored in drive.io.list_segments():
                segment = segments.get(stored.segment)
                if segment is None or drive.id not in segment.members:
                    drive.io.unlink_segment(stored.segment)
                    continue
                ranges = kept[stored.segment]
                end = ranges[-1][1] if ranges else 0
                used = sum(stop - start for start, stop in ranges)
                if stored.size_bytes > end:
                    drive.io.truncate(drive.handle(stored.segment), end)
                if stored.allocated_bytes > used + used // 256 + _SLACK_BYTES:
                    for start, stop in gaps(ranges, end):
                        drive.io.punch(drive.handle(stored.segment), start, stop - start)

        drives = [drive for drive in self._pool.drives if self._may_write(drive)]
        await self._on_drives({drive: partial(sweep_one, drive) for drive in drives})

    # -- inside ------------------------------------------------------------------------

    def _may_write(self, drive: Drive) -> bool:
        """Whether removing things is allowed: stale drives too have what nobody names."""
        return drive.state in (DriveState.ONLINE, DriveState.FULL) or (
            drive.stale and drive.readable
        )

    def _writable_members(self, segment: Segment) -> list[Drive]:
        drives = map(self._pool.by_id.get, segment.members)
        return [drive for drive in drives if drive is not None and self._may_write(drive)]

    async def _on_drives(self, work: Mapping[Drive, Callable[[], None]]) -> None:
        """Do each drive's work in a thread; count what fails, and go on."""
        outcomes = await fan_out(list(work.values()), self._config.flush_deadline_s)
        for drive, result in zip(work, outcomes, strict=True):
            if isinstance(result, Hung):
                drive.note_hung("reclaim")
            elif isinstance(result, outcome.Error):
                if not isinstance(result.error, OSError):
                    raise result.error
                drive.write_errors += 1
