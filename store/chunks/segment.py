"""A segment that is being appended to.

Invariants:
  S1 `top` only grows, but for a tail that was reserved and never written (C1);
  S2 a shard in `lost` may not be on its drive: its write or flush failed, or the drive went
     away before a flush. It counts for no quorum from then on, and the segment is sealed;
     A sealed segment takes nothing more; a full one has no place left to reserve, and who has a
     place in it writes there;
  S3 `flushed` counts the stripes that every member not lost holds on stable storage.
Concurrency: the loop, except for the handles. No await between looking at a place and taking it.
"""

from __future__ import annotations

from functools import partial

import outcome
import trio

from store.chunks.drive import Drive
from store.chunks.drive_io import Handle
from store.chunks.geometry import full_record_size, write_quorum
from store.chunks.threads import Hung, fan_out
from store.chunks.types import DriveState, Segment

_MIN_STEP_BYTES = 1 << 20
_MAX_STEP_BYTES = 64 << 20


def growth_step(drives: tuple[Drive, ...]) -> int:
    """By how much members grow at once: 64 MiB, less where room is scarce."""
    scarcest = min(drive.free_bytes for drive in drives)
    step = scarcest // 64 // _MIN_STEP_BYTES * _MIN_STEP_BYTES
    return max(_MIN_STEP_BYTES, min(step, _MAX_STEP_BYTES))


class OpenSegment:
    """A segment with its drives and handles, in shard order."""

    def __init__(
        self,
        segment: Segment,
        drives: tuple[Drive, ...],
        handles: tuple[Handle, ...],
        *,
        limit: int,
        allocated: int,
        flush_deadline_s: float,
    ) -> None:
        self.segment = segment
        self.drives = drives
        self.handles = handles
        self.record = full_record_size(segment)
        self.limit = limit
        self.allocated = allocated
        self.top = 0
        self.users = 0
        self.lost = 0
        self.sealed = False
        self.full = False
        self.closing = False
        self.written = 0
        self.flushed = 0
        self.wasted_bytes = 0
        self._waste: list[tuple[int, int]] = []
        self._flight: trio.Event | None = None
        self._flush_deadline_s = flush_deadline_s

    # -- places ------------------------------------------------------------------------

    def reserve(self, needed: int, wanted: int) -> tuple[int, int] | None:
        """[start, stop) in each member: `wanted` bytes or what is left, but >= `needed`."""
        size = min(wanted, self.limit - self.top)
        if self.sealed or size < needed:
            return None
        start = self.top
        self.top += size
        return start, self.top

    def extend(self, stop: int, wanted: int) -> int:
        """Lengthen the reservation that ends at `stop` if it is the last; its new end."""
        if self.sealed or stop != self.top:
            return stop
        self.top = max(self.top, min(stop + wanted, self.limit))
        return self.top

    def give_back(self, start: int, stop: int) -> bool:
        """Take back the never written [start, stop) if it is the last; else it must be punched."""
        if stop != self.top:
            return False
        self.top = start
        return True

    def waste(self, start: int, stop: int) -> None:
        """No run will ever name [start, stop): to be punched some day."""
        if start < stop:
            self._waste.append((start, stop))
            self.wasted_bytes += stop - start

    def take_waste(self) -> list[tuple[int, int]]:
        """The wasted ranges, for punching."""
        taken, self._waste = self._waste, []
        self.wasted_bytes = 0
        return taken

    def grow(self, stop: int) -> tuple[int, int] | None:
        """The (offset, size) to allocate before writing up to `stop`, if any."""
        if stop <= self.allocated:
            return None
        before = self.allocated
        self.allocated = max(stop, min(before + growth_step(self.drives), self.limit))
        size = self.allocated - before
        for drive in self.drives:
            drive.took(size)
        return before, size

    # -- members -----------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether nobody new may come to it."""
        return self.sealed or self.full

    @property
    def quorum(self) -> int:
        return write_quorum(self.segment.k, self.segment.m)

    def held_by(self, missing: int = 0) -> int:
        """How many members hold a run that `missing` shards were not written of."""
        return len(self.drives) - (self.lost | missing).bit_count()

    def lose(self, shard: int) -> None:
        """The member of `shard` can't be relied on (S2)."""
        self.lost |= 1 << shard
        self.sealed = True

    def live_members(self) -> list[int]:
        """Shards whose members can be written."""
        return [
            shard
            for shard, drive in enumerate(self.drives)
            if not self.lost >> shard & 1 and drive.state in (DriveState.ONLINE, DriveState.FULL)
        ]

    # -- flushing ----------------------------------------------------------------------

    async def flush(self, nursery: trio.Nursery) -> None:
        """Return when all stripes written before the call are flushed on all but lost members.

        One flush is under way at a time; the next covers all who wait.
        """
        target = self.written
        while self.flushed < target:
            if self._flight is None:
                self._flight = trio.Event()
                nursery.start_soon(self._fly, self._flight)
            await self._flight.wait()

    async def _fly(self, landed: trio.Event) -> None:
        covered = self.written
        live = self.live_members()
        for shard in range(len(self.drives)):
            if shard not in live:
                self.lose(shard)
        outcomes = await fan_out(
            [partial(self.drives[shard].io.flush, self.handles[shard]) for shard in live],
            self._flush_deadline_s,
        )
        for shard, result in zip(live, outcomes, strict=True):
            if isinstance(result, outcome.Value):
                continue
            self.lose(shard)
            if isinstance(result, Hung):
                self.drives[shard].note_hung("flush")
            else:
                self.drives[shard].note_flush_error(result.error)
        self.flushed = covered
        self._flight = None
        landed.set()
