"""What it takes to drain a drive: what is moved, what is rewritten, and whether there is room.

Concurrency: any task; it reads rows of one segment after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from metadb import relocation
from metadb.engine import Engine
from store.chunks.drive import Drive
from store.chunks.geometry import choose_shards, full_record_size
from store.chunks.local import LocalChunks
from store.rebuild import runs_of

_OVERHEAD_SHIFT = 6
"""Short runs are padded, and space that is given back is late by a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPlan:
    """k, m: of the segments that are rewritten, and of new ones. lost_before: drives that may be
    lost now. moved_bytes: of members that go to other drives as they are. rewritten_bytes: payload
    of segments that are laid out anew; room_bytes: payload that there is room for, -1 where the
    members have none. staying: drives.
    """

    k: int
    m: int
    lost_before: int
    moved_bytes: int
    rewritten_bytes: int
    room_bytes: int
    staying: int

    @property
    def fits(self) -> bool:
        """Whether the drives that stay have room for all of it."""
        needed = self.rewritten_bytes + (self.rewritten_bytes >> _OVERHEAD_SHIFT)
        return needed <= self.room_bytes


async def plan_drain(engine: Engine, chunks: LocalChunks, drive: Drive) -> DrainPlan:
    """Look at all that stands on the drive."""
    staying = [d for d in chunks.pool.drives if d is not drive and not d.draining]
    there = {d.id for d in staying if d.readable}
    rooms = {d.id: room for d, room in chunks.rooms().items() if d.id in there}
    moved_bytes = rewritten_bytes = 0
    lost_before = chunks.geometry()[1]
    for segment in chunks.members.segments():
        if drive.id not in segment.members:
            continue
        payload = engine.read(relocation.bytes_between, *runs_of(segment.id))
        share = payload * full_record_size(segment) // segment.stripe_size
        lost_before = max(lost_before, segment.m)
        if free := there.difference(segment.members):
            moved_bytes += share
            rooms[max(free, key=lambda each: rooms[each])] -= share
        else:
            rewritten_bytes += payload
            for member in there.intersection(segment.members):
                rooms[member] += share
        await trio.lowlevel.checkpoint()
    is_short = not rooms or min(rooms.values()) < 0
    k, m = choose_shards(len(rooms), chunks.pool.parity) if rooms else (0, 0)
    return DrainPlan(
        k=k,
        m=m,
        lost_before=lost_before,
        moved_bytes=moved_bytes,
        rewritten_bytes=rewritten_bytes,
        room_bytes=chunks.payload_of(list(rooms.values())) if not is_short else -1,
        staying=len(staying),
    )
