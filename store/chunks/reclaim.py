"""Gives space back: punched holes, cut tails, unlinked members.

Nothing here may touch a place that a run named by anyone stands at. It is sure not to, since
places are never used twice (C1): what is unnamed once stays unnamed.

Concurrency: the loop, one thread per drive for the system calls. Drives that can't be written
are passed over: what they keep is reclaimed by `adopt` at a later start. Errors are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import outcome
import trio

from store.chunks.config import ChunkConfig
from store.chunks.drive import Drive
from store.chunks.drive_io import StoredMember
from store.chunks.geometry import member_range, member_size
from store.chunks.pool import Pool
from store.chunks.segment import OpenSegment
from store.chunks.threads import Hung, fan_out
from store.chunks.types import DriveState, Run, Segment, SegmentId

T = TypeVar("T")
Range = tuple[int, int]
_HOLES_AT_ONCE = 256
_UNLINKS_AT_ONCE = 16
"""What one call does on a drive must be quick against its deadline."""
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


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of up to `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What of each member of a segment the named runs take: bytes in all, and where they end."""

    used: int
    end: int


def usage_of(segment: Segment, named: Sequence[Run]) -> Usage:
    """What the `named` runs take."""
    last = max(named, key=lambda run: run.id, default=None)
    return Usage(
        used=sum(member_size(segment, run.size) for run in named),
        end=0 if last is None else member_range(segment, last)[1],
    )


def is_leaking(stored: StoredMember, usage: Usage) -> bool:
    """Whether a member takes more of its drive than the named runs can explain."""
    return stored.allocated_bytes > usage.used + usage.used // 256 + _SLACK_BYTES


def _sweep_member(
    drive: Drive, segment: Segment, stored: StoredMember, named: Sequence[Run], usage: Usage
) -> None:
    """Cut and punch one member so that it holds the `named` runs alone. In a thread."""
    if stored.size_bytes > usage.end:
        drive.io.truncate(drive.handle(segment.id), usage.end)
    if is_leaking(stored, usage):
        kept = coalesce(member_range(segment, run) for run in named)
        for start, stop in gaps(kept, usage.end):
            drive.io.punch(drive.handle(segment.id), start, stop - start)


class Reclaimer:
    """See the module's text. One piece of work at a time, so that threads stay few."""

    def __init__(self, pool: Pool, config: ChunkConfig) -> None:
        self._pool = pool
        self._config = config
        self._lock = trio.Lock()

    async def punch(self, ranges: Iterable[tuple[Segment, int, int]]) -> None:
        """Give back [start, stop) of all members of these segments."""
        by_segment: dict[SegmentId, list[Range]] = {}
        segments: dict[SegmentId, Segment] = {}
        for segment, start, stop in ranges:
            segments[segment.id] = segment
            by_segment.setdefault(segment.id, []).append((start, stop))
        holes = [
            (segments[segment], hole)
            for segment, found in by_segment.items()
            for hole in coalesce(found)
        ]

        def punch_one(drive: Drive, hole: tuple[Segment, Range]) -> None:
            segment, (start, stop) = hole
            drive.io.punch(drive.handle(segment.id), start, stop - start)

        for batch in batched(holes, _HOLES_AT_ONCE):
            await self._on_members(batch, lambda hole: hole[0], punch_one)

    async def cut(self, found: OpenSegment) -> None:
        """Cut a sealed segment's members to their used size."""

        def cut_one(drive: Drive, segment: Segment) -> None:
            drive.io.truncate(drive.handle(segment.id), found.top)

        await self._on_members([found.segment], lambda segment: segment, cut_one)

    async def unlink(self, segments: Sequence[Segment]) -> None:
        """Remove all members of these segments."""

        def unlink_one(drive: Drive, segment: Segment) -> None:
            drive.forget_handle(segment.id)
            drive.io.unlink_segment(segment.id)

        for batch in batched(segments, _UNLINKS_AT_ONCE):
            await self._on_members(batch, lambda segment: segment, unlink_one)

    async def sweep(
        self, segments: Mapping[SegmentId, Segment], named: Mapping[SegmentId, Sequence[Run]]
    ) -> None:
        """Reclaim all that isn't `named`. Before anything is appended."""
        drives = [drive for drive in self._pool.drives if self._may_write(drive)]
        usages: dict[SegmentId, Usage] = {}
        folders: set[str] = set()

        def list_folders(drive: Drive) -> None:
            folders.update(drive.io.list_folders())

        def sweep_folder(drive: Drive, folder: str) -> None:
            for stored in drive.io.list_segments(folder):
                segment = segments.get(stored.segment)
                if segment is None or drive.id not in segment.members or stored.draft:
                    drive.io.unlink_segment(stored.segment, draft=stored.draft)
                    continue
                runs = named.get(segment.id, ())
                if (usage := usages.get(segment.id)) is None:
                    usage = usages[segment.id] = usage_of(segment, runs)
                _sweep_member(drive, segment, stored, runs, usage)

        await self._on_drives({drive: partial(list_folders, drive) for drive in drives})
        for folder in sorted(folders):
            await self._on_drives({drive: partial(sweep_folder, drive, folder) for drive in drives})

    async def tidy(
        self,
        segment: Segment,
        stored: Mapping[Drive, StoredMember],
        named: Sequence[Run],
    ) -> int:
        """Give back what the members of a settled segment take beyond `named`; how many did."""
        usage = usage_of(segment, named)
        leaking = {
            drive: partial(_sweep_member, drive, segment, member, named, usage)
            for drive, member in stored.items()
            if self._may_write(drive) and is_leaking(member, usage)
        }
        if leaking:
            await self._on_drives(leaking)
        return len(leaking)

    # -- inside ------------------------------------------------------------------------

    def _may_write(self, drive: Drive) -> bool:
        """Whether removing things is allowed: stale drives too have what nobody names."""
        return drive.state in (DriveState.ONLINE, DriveState.FULL) or (
            drive.stale and drive.readable
        )

    async def _on_members(
        self,
        batch: Sequence[T],
        segment_of: Callable[[T], Segment],
        work: Callable[[Drive, T], None],
    ) -> None:
        """Do `work` for every item of the batch on every drive with a member of its segment."""
        items: dict[Drive, list[T]] = {}
        for item in batch:
            for member in segment_of(item).members:
                drive = self._pool.by_id.get(member)
                if drive is not None and self._may_write(drive):
                    items.setdefault(drive, []).append(item)

        def work_through(drive: Drive, mine: list[T]) -> None:
            for item in mine:
                try:
                    work(drive, item)
                except OSError:
                    drive.write_errors += 1

        await self._on_drives(
            {drive: partial(work_through, drive, mine) for drive, mine in items.items()}
        )

    async def _on_drives(self, work: Mapping[Drive, Callable[[], None]]) -> None:
        """Do each drive's work in a thread; count what fails, and go on."""
        async with self._lock:
            outcomes = await fan_out(list(work.values()), self._config.flush_deadline_s)
        for drive, result in zip(work, outcomes, strict=True):
            if isinstance(result, Hung):
                drive.note_hung("reclaim")
            elif isinstance(result, outcome.Error):
                if not isinstance(result.error, OSError):
                    raise result.error
                drive.write_errors += 1
