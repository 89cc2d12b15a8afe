"""Which segments are open for appending, and on which drives the next one goes.

There are two lanes, one for streams known to be short and one for all others, so that a small
write's flush needn't wait for the pages of a large one. Each has one open segment at a time.

Invariants:
  A1 a new segment is complete: its k + m members exist, durably, on drives that are ONLINE;
  A2 a segment with a drive that left ONLINE is sealed before anything else happens;
  A3 nothing new is put into a segment opened for fewer drives than are ONLINE now.
Concurrency: the loop. Members are created in threads, one segment per lane at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial

import outcome
import trio

from store.chunks.config import ChunkConfig
from store.chunks.drive import Drive
from store.chunks.drive_io import Handle
from store.chunks.errors import BelowWriteQuorum, NoSpace
from store.chunks.geometry import choose_shards, stripe_size
from store.chunks.pool import Pool
from store.chunks.segment import OpenSegment, growth_step
from store.chunks.threads import Hung, NoMemory, fan_out
from store.chunks.types import DriveState, Segment, SegmentId

_SMALLEST_SEGMENT_BYTES = 4 << 20


class Lane:
    """A kind of stream, and the segment it is appended to at present."""

    def __init__(self) -> None:
        self.open: OpenSegment | None = None
        self.lock = trio.Lock()


class Placement:
    """The known segments and those that are open."""

    def __init__(self, pool: Pool, config: ChunkConfig) -> None:
        self.segments: dict[SegmentId, Segment] = {}
        self.open: dict[SegmentId, OpenSegment] = {}
        self.lost: dict[SegmentId, int] = {}
        """Shards of segments closed since the start that no flush covered."""
        self.on_sealed: Callable[[OpenSegment], None] = lambda found: None
        self._pool = pool
        self._config = config
        self._small = Lane()
        self._large = Lane()
        self._handed_out: dict[SegmentId, float] = {}
        self._drafted: set[SegmentId] = set()
        self._turn = 0
        self._highest_id = 0

    def lane(self, size_hint: int | None) -> Lane:
        """The lane for a stream of `size_hint` bytes."""
        short = size_hint is not None and size_hint <= self._config.stripe_bytes
        return self._small if short else self._large

    def adopt(self, segments: dict[SegmentId, Segment]) -> None:
        """Know `segments`, all sealed. Ids given out later are higher than theirs."""
        self.segments.update(segments)
        self._highest_id = max(segments, default=self._highest_id)

    def sealed(self, segment: SegmentId) -> bool:
        """Whether nothing will be appended and no run was handed out too lately to be named."""
        handed_out = self._handed_out.get(segment)
        if handed_out is not None:
            if trio.current_time() - handed_out < self._config.naming_grace_s:
                return False
            del self._handed_out[segment]
        found = self.open.get(segment)
        return found is None or (found.ended and not found.users)

    def hand_out(self, segment: SegmentId) -> None:
        """A run of this segment goes to a caller who has yet to remember it."""
        self._handed_out[segment] = trio.current_time()

    def drive_left(self, drive: Drive) -> None:
        """Seal the open segments of a drive that isn't ONLINE any more (A2)."""
        for found in list(self.open.values()):
            if drive in found.drives:
                if drive.state is DriveState.FULL:
                    found.sealed = True
                else:
                    found.lose(found.drives.index(drive))
                self.on_sealed(found)

    def lacking(self, segment: SegmentId) -> int:
        """Shards of a segment that may not be on their drives, as far as flushes told."""
        found = self.open.get(segment)
        return self.lost.get(segment, 0) if found is None else found.lost

    def drive_drains(self, drive: Drive) -> None:
        """Nothing more is appended where a drive that is to be drained has a member."""
        for found in list(self.open.values()):
            if drive in found.drives:
                found.sealed = True
                self.on_sealed(found)

    def drive_came(self) -> None:
        """One more drive takes members: seal what was opened for fewer than there are now (A3)."""
        for found in list(self.open.values()):
            if (found.segment.k, found.segment.m) != self.geometry():
                found.sealed = True
                self.on_sealed(found)

    def geometry(self) -> tuple[int, int]:
        """(k, m) of a segment that is opened now; (0, 0) where none can be."""
        count = sum(drive.placeable for drive in self._pool.drives)
        return choose_shards(count, self._pool.parity) if count else (0, 0)

    def is_drafted(self, segment: SegmentId) -> bool:
        """Whether members of it are being created just now."""
        return segment in self._drafted

    # -- opening -----------------------------------------------------------------------

    async def open_in(self, lane: Lane) -> OpenSegment:
        """The lane's segment with room for a record, opening a new one where needed.

        Raises NoSpace, BelowWriteQuorum.
        """
        async with lane.lock:
            current = lane.open
            if current is not None:
                if not current.sealed and current.limit - current.top >= current.record:
                    return current
                # Those who have a place in it keep it: if they all left it for the next segment,
                # they would fill that one with reservations too, and so on.
                current.full = True
                self.on_sealed(current)
            lane.open = await self._open_new()
            return lane.open

    async def _open_new(self) -> OpenSegment:
        while True:
            drives = self._choose()
            segment = await self._draft(drives)
            self._drafted.add(segment.id)
            scarcest = min(drive.free_bytes for drive in drives)
            limit = max(_SMALLEST_SEGMENT_BYTES, min(self._config.segment_bytes, scarcest // 4))
            step = min(growth_step(drives), limit)
            outcomes = await fan_out(
                [partial(drive.io.create_segment, segment.id, step) for drive in drives],
                self._config.io_deadline_s,
            )
            handles: list[Handle] = []
            for drive, result in zip(drives, outcomes, strict=True):
                if isinstance(result, outcome.Value):
                    handles.append(result.value)
                elif isinstance(result, Hung):
                    drive.note_hung("create")
                else:
                    drive.note_write_error(result.error)
            self._drafted.discard(segment.id)
            if len(handles) == len(drives) and all(drive.writable for drive in drives):
                return self._register(segment, drives, tuple(handles), limit, step)
            # The drives that failed aren't ONLINE any more, so this ends. Members left behind
            # are removed at the next start.
            if all(drive.writable for drive in drives):
                errors = [o.error for o in outcomes if isinstance(o, outcome.Error)]
                raise NoMemory if any(isinstance(e, NoMemory) for e in errors) else NoSpace

    def _register(
        self,
        segment: Segment,
        drives: tuple[Drive, ...],
        handles: tuple[Handle, ...],
        limit: int,
        allocated: int,
    ) -> OpenSegment:
        found = OpenSegment(
            segment,
            drives,
            handles,
            limit=limit,
            allocated=allocated,
            flush_deadline_s=self._config.flush_deadline_s,
        )
        for drive, handle in zip(drives, handles, strict=True):
            drive.keep_handle(segment.id, handle)
        self.segments[segment.id] = segment
        self.open[segment.id] = found
        if any(drive.draining for drive in drives):  # since it was chosen
            found.sealed = True
            self.on_sealed(found)
        return found

    async def _draft(self, drives: tuple[Drive, ...]) -> Segment:
        """A new segment's record. The shard order moves on by one drive each time."""
        k, m = choose_shards(len(drives), self._pool.parity)
        return Segment(
            id=await self._pool.take_segment_id(above=self._highest_id),
            nonce=secrets.randbits(63),
            k=k,
            m=m,
            stripe_size=stripe_size(k, self._config.stripe_bytes),
            members=tuple(drive.id for drive in drives),
        )

    def _choose(self) -> tuple[Drive, ...]:
        """The drives of the next segment, in shard order. Raises NoSpace, BelowWriteQuorum."""
        drives = self._pool.drives
        writable = [drive for drive in drives if drive.placeable]
        staying = sum(not drive.draining for drive in drives)
        needed = 1 if staying == 1 or self._config.allow_single_copy else 2
        if len(writable) < needed:
            full = sum(drive.state is DriveState.FULL for drive in drives)
            if len(writable) + full >= needed:
                raise NoSpace
            raise BelowWriteQuorum(len(writable), needed)
        k, m = choose_shards(len(writable), self._pool.parity)
        writable.sort(key=lambda drive: -drive.free_bytes)
        chosen = sorted(writable[: k + m], key=drives.index)
        self._turn = (self._turn + 1) % len(chosen)
        return tuple(chosen[self._turn :] + chosen[: self._turn])

    # -- room --------------------------------------------------------------------------

    def usable_bytes(self) -> tuple[int, int]:
        """(total, free) payload bytes, without drives that are drained."""
        drives = [drive for drive in self._pool.drives if not drive.draining]
        sharing = self._pool.sharing()
        total = [drive.total_bytes // sharing[drive.device] for drive in drives if drive.readable]
        free = [room for drive, room in self.rooms().items() if drive.writable]
        return self.payload_of(total), self.payload_of(free)

    def rooms(self) -> dict[Drive, int]:
        """Bytes that each drive which is not drained has beyond its reserve.

        Drives on one file system share its room.
        """
        sharing = self._pool.sharing()
        return {
            drive: max(0, drive.free_bytes - drive.reserve_bytes) // sharing[drive.device]
            for drive in self._pool.drives
            if not drive.draining
        }

    def payload_of(self, rooms: Sequence[int]) -> int:
        """How much payload fits into drives with so much room each."""
        if not rooms:
            return 0
        k, m = choose_shards(len(rooms), self._pool.parity)
        if len(rooms) == k + m:
            return k * min(rooms)
        return sum(rooms) * k // (k + m)
