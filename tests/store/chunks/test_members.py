"""Members that are looked at, mended and moved: what is a stray, what a late run is told."""

from __future__ import annotations

import errno
import os

from store.chunks.geometry import Window, windows
from store.chunks.mend import Look, Seat
from store.chunks.types import Run, segment_of
from tests.store.chunks.rig import OpenRig, Rig, get, pattern, put

MIB = 1 << 20


def seats(rig: Rig, run: Run, **looks: Look) -> dict[int, Seat]:
    """Every member of the run's segment, to be read when it is needed; shard1=Look.WHOLE."""
    segment = rig.chunks.segment(segment_of(run.id))
    return {
        shard: Seat(
            drive=rig.chunks.pool.by_id[member], look=looks.get(f"shard{shard}", Look.SPARE)
        )
        for shard, member in enumerate(segment.members)
    }


def stripes(rig: Rig, run: Run) -> list[tuple[Run, Window]]:
    segment = rig.chunks.segment(segment_of(run.id))
    return [(run, window) for window in windows(segment, run, 0, run.size)]


async def test_a_header_is_enough_where_that_is_asked_for(rig: OpenRig) -> None:
    async with rig() as opened:
        (run,) = await put(opened.chunks, pattern(2 * MIB), hint=2 * MIB)
        member = opened.members(run)[1]
        with member.open("r+b") as file:
            os.pwrite(file.fileno(), b"rot", 4096 + 50)
        segment = opened.chunks.segment(segment_of(run.id))
        look = seats(opened, run, shard1=Look.HEADER)
        found = await opened.chunks.members.mend(segment, stripes(opened, run), look)
        assert found is not None
        assert (found.fragment_count, found.written) == (2, [])
        look = seats(opened, run, shard1=Look.WHOLE)
        found = await opened.chunks.members.mend(segment, stripes(opened, run), look, direct=True)
        assert found is not None
        assert found.written == found.damaged == [(run.id, 0, 1)]
        assert await get(opened.chunks, [run]) == pattern(2 * MIB)


async def test_a_write_that_fails_is_told_and_the_fragment_stays_bad(rig: OpenRig) -> None:
    async with rig() as opened:
        (run,) = await put(opened.chunks, pattern(MIB), hint=MIB)
        member = opened.members(run)[2]
        with member.open("r+b") as file:
            os.pwrite(file.fileno(), bytes(8), 0)
        segment = opened.chunks.segment(segment_of(run.id))
        number = [drive.id for drive in opened.chunks.pool.drives].index(segment.members[2])
        opened.io(number).fail("write", errno.EIO)
        look = seats(opened, run, shard2=Look.WHOLE)
        found = await opened.chunks.members.mend(segment, stripes(opened, run), look)
        assert found is not None
        assert found.unwritten == [(run.id, 0, 2)]
        assert not opened.chunks.pool.drives[number].writable


async def test_spare_members_are_read_only_when_needed_and_never_written(rig: OpenRig) -> None:
    async with rig() as opened:
        (run,) = await put(opened.chunks, pattern(MIB), hint=MIB)
        for shard in (0, 1):
            with opened.members(run)[shard].open("r+b") as file:
                os.pwrite(file.fileno(), bytes(8), 4096)
        segment = opened.chunks.segment(segment_of(run.id))
        look = seats(opened, run, shard0=Look.WHOLE)
        found = await opened.chunks.members.mend(segment, stripes(opened, run), look)
        assert found is not None
        assert found.written == [(run.id, 0, 0)]
        assert found.unwritten == [(run.id, 0, 1)], "met on the way, for whoever mends that one"


async def test_files_being_made_or_left_by_a_move_are_no_strays(rig: OpenRig) -> None:
    async with rig() as opened:
        (run,) = await put(opened.chunks, pattern(MIB), hint=MIB)
        members, pool = opened.chunks.members, opened.chunks.pool
        segment = opened.chunks.segment(segment_of(run.id))
        old = pool.by_id[segment.members[0]]
        stored = await members.stored(old)
        assert stored is not None
        assert members.strays(old, stored) == []
        after = segment.moved_to({0: type(old.id)("f" * 32)})
        members.reseat(segment, after)
        assert members.strays(old, stored) == []
        members.let_go(segment.id, old.id)
        assert members.strays(old, stored) == [segment.id]
        assert await members.draft(segment.id, old) is not None
        stored = await members.stored(old)
        assert stored is not None
        assert list(stored) == [segment.id], "a draft is nobody's member"


async def test_a_run_named_after_a_move_lacks_what_was_moved(rig: OpenRig) -> None:
    async with rig(naming_grace_s=300.0) as opened:
        (run,) = await put(opened.chunks, pattern(MIB), hint=MIB)
        members = opened.chunks.members
        segment = opened.chunks.segment(segment_of(run.id))
        told: list[int] = []
        members.on_missing = told.append
        assert opened.chunks.naming(run) == run
        building = members.begin(segment.id)
        assert opened.chunks.naming(run) == run
        assert building.late == [run]
        after = segment.moved_to({2: type(segment.members[2])("f" * 32)})
        members.reseat(segment, after)
        members.end(segment.id)
        assert told == []
        assert opened.chunks.naming(run).missing == 1 << 2
        assert told == [segment.id]
