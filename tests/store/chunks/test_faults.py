"""Drives that go away, refuse, fill up, lie about flushes or hang, while bytes flow."""

from __future__ import annotations

import errno
import shutil

import pytest
import trio
import trio.testing

from store.chunks.drive import Drive
from store.chunks.errors import BelowWriteQuorum, NoSpace
from store.chunks.events import DriveChanged
from store.chunks.label import peek_label
from store.chunks.types import DriveState, Owner, Run, segment_of
from tests.store.chunks.rig import EIO, ENOSPC, EROFS, OpenRig, Rig, get, pattern, put

MIB = 1 << 20


def states(rig: Rig) -> list[str]:
    return [drive.state.value for drive in rig.chunks.pool.drives]


def geometry(rig: Rig, run: Run) -> tuple[int, int]:
    segment = rig.chunks.segment(segment_of(run.id))
    return segment.k, segment.m


async def quiet() -> None:
    """Let background tasks come to rest."""
    await trio.testing.wait_all_tasks_blocked(0.02)


# -- gone ------------------------------------------------------------------------------


async def test_a_drive_moved_away_during_an_append_and_a_read(rig: OpenRig) -> None:
    body = pattern(6 * MIB)
    async with rig() as opened:
        appender = opened.chunks.appender(Owner())
        half = len(body) // 2
        await appender.append(body[:half])
        opened.paths[1].rename(opened.paths[1].with_suffix(".away"))
        await opened.probe()
        assert states(opened) == ["online", "offline", "online", "online"]
        await appender.append(body[half:])
        runs = await appender.finish(durable=True)
        assert await get(opened.chunks, runs) == body
        assert geometry(opened, runs[-1]) == (1, 2)
        opened.paths[2].rename(opened.paths[2].with_suffix(".away"))
        await opened.probe()
        assert await get(opened.chunks, runs) == body
        more = await put(opened.chunks, body)
        assert geometry(opened, more[0]) == (1, 1)
        assert await get(opened.chunks, more) == body


async def test_the_last_of_several_drives_takes_no_writes_unless_allowed(rig: OpenRig) -> None:
    for allowed in (False, True):
        async with rig(fresh=not allowed, allow_single_copy=allowed) as opened:
            for path in opened.paths[:3]:
                path.rename(path.with_suffix(".away"))
            await opened.probe()
            if allowed:
                (run,) = await put(opened.chunks, b"alone")
                assert geometry(opened, run) == (1, 0)
                assert await get(opened.chunks, [run]) == b"alone"
            else:
                with pytest.raises(BelowWriteQuorum):
                    await put(opened.chunks, b"alone")
            for path in opened.paths[:3]:
                path.with_suffix(".away").rename(path)


async def test_an_emptied_drive_is_never_written_to(rig: OpenRig) -> None:
    body = pattern(2 * MIB)
    async with rig() as opened:
        runs = await put(opened.chunks, body)
        shutil.rmtree(opened.paths[0])
        opened.paths[0].mkdir()
        await opened.probe()
        assert states(opened)[0] == "offline"
        assert await get(opened.chunks, runs) == body
        runs = await put(opened.chunks, body)
        assert await get(opened.chunks, runs) == body
        assert list(opened.paths[0].iterdir()) == []


async def test_a_drive_that_another_replaced_is_offline(rig: OpenRig) -> None:
    async with rig() as opened:
        first, second = opened.paths[:2]
        first.rename(first.with_suffix(".away"))
        second.rename(first)
        await opened.probe()
        assert states(opened) == ["offline", "offline", "online", "online"]
        assert opened.chunks.status()[0].cause == "another drive stands here"


async def test_a_drive_that_comes_back_is_used_again(rig: OpenRig) -> None:
    body = pattern(MIB)
    async with rig() as opened:
        away = opened.paths[3].with_suffix(".away")
        runs = await put(opened.chunks, body)
        opened.paths[3].rename(away)
        await opened.probe()
        for _ in range(1000):
            if opened.chunks.pool.epoch > 1:  # The others know that it was away.
                break
            await trio.sleep(0.01)
        away.rename(opened.paths[3])
        await opened.probe()
        # It may have missed something: it is only read until somebody has looked.
        assert states(opened) == ["online", "online", "online", "read-only"]
        await opened.chunks.pool.rejoin(opened.chunks.pool.drives[3])
        assert states(opened) == ["online"] * 4
        (run,) = await put(opened.chunks, body)
        assert geometry(opened, run) == (2, 2)
        assert await get(opened.chunks, [*runs, run]) == body + body
        changes = [event for event in opened.events if isinstance(event, DriveChanged)]
        assert [event.after for event in changes] == [
            DriveState.OFFLINE,
            DriveState.READ_ONLY,
            DriveState.ONLINE,
        ]


async def test_a_drive_that_comes_back_stale_is_read_and_not_written(rig: OpenRig) -> None:
    body = pattern(MIB)
    async with rig() as opened:
        (before,) = await put(opened.chunks, body)
        away = opened.paths[3].with_suffix(".away")
        opened.paths[3].rename(away)
        await opened.probe()
        await opened.chunks.pool.raise_epoch()
        away.rename(opened.paths[3])
        await opened.probe()
        drive = opened.chunks.pool.drives[3]
        assert drive.stale
        assert drive.state is DriveState.READ_ONLY
        (run,) = await put(opened.chunks, body)
        assert drive.id not in opened.chunks.segment(segment_of(run.id)).members
        # All others but one are gone: the old run needs the stale drive.
        for index in (0, 1):
            opened.paths[index].rename(opened.paths[index].with_suffix(".away"))
        await opened.probe()
        assert await get(opened.chunks, [before]) == body
        await opened.chunks.pool.rejoin(drive)
        assert drive.writable


# -- refusing --------------------------------------------------------------------------


async def test_a_read_only_drive_is_left_out_and_read(rig: OpenRig) -> None:
    body = pattern(3 * MIB)
    async with rig() as opened:
        before = await put(opened.chunks, body)
        opened.io(2).fail("write", EROFS)
        opened.io(2).fail("try_write", EROFS)
        runs = await put(opened.chunks, body)
        # A file system that gave up on itself doesn't say that it is read-only.
        await opened.probe()
        assert states(opened) == ["online", "online", "read-only", "online"]
        assert runs[0].missing
        assert await get(opened.chunks, [*before, *runs]) == body + body
        (run,) = await put(opened.chunks, b"small")
        assert geometry(opened, run) == (1, 2)
        opened.io(2).faults.clear()
        await opened.probe()
        assert states(opened) == ["online"] * 4
        # What is written from now on stands on all four, not in the segment for three.
        (run,) = await put(opened.chunks, b"small")
        assert geometry(opened, run) == (2, 2)


async def test_a_full_drive_takes_no_segments_until_it_has_room(rig: OpenRig) -> None:
    body = pattern(3 * MIB)
    async with rig() as opened:
        before = await put(opened.chunks, body)
        opened.io(0).fail("write", ENOSPC)
        runs = await put(opened.chunks, body)
        assert states(opened)[0] == "full"
        assert await get(opened.chunks, [*before, *runs]) == body + body
        opened.io(0).faults.clear()
        await opened.probe()
        assert states(opened)[0] == "online"


async def test_full_drives_are_no_space_and_reads_and_frees_go_on(rig: OpenRig) -> None:
    body = pattern(MIB)
    async with rig() as opened:
        runs = await put(opened.chunks, body)
        for index in range(4):
            opened.io(index).fail("write", ENOSPC)
        appender = opened.chunks.appender(Owner())
        await appender.append(body[:-1])
        with pytest.raises(NoSpace):
            await appender.finish(durable=True)
        await appender.abandon()
        assert states(opened) == ["full"] * 4
        assert await get(opened.chunks, runs) == body
        await opened.chunks.free(runs)
        assert sum(opened.io(index).calls["punch"] for index in range(4)) >= 4


async def test_too_little_room_by_reserve_is_no_space(rig: OpenRig) -> None:
    async with rig(reserve_bytes=1 << 60) as opened:
        await opened.probe()
        assert states(opened) == ["full"] * 4
        with pytest.raises(NoSpace):
            await put(opened.chunks, b"x")
        assert opened.chunks.usable_bytes()[1] == 0


async def test_one_write_error_costs_a_drive_but_no_bytes(rig: OpenRig) -> None:
    body = pattern(5 * MIB)
    async with rig() as opened:
        opened.io(1).fail("write", EIO, once=True)
        runs = await put(opened.chunks, body)
        assert await get(opened.chunks, runs) == body
        assert states(opened) == ["online", "fenced", "online", "online"]
        assert opened.chunks.status()[1].write_errors == 1
        await quiet()
        label = peek_label(opened.paths[0])
        assert label is not None
        assert label.epoch == 2


async def test_two_write_errors_redrive_the_stripe(rig: OpenRig) -> None:
    body = pattern(5 * MIB)
    async with rig() as opened:
        appender = opened.chunks.appender(Owner())
        await appender.append(body[: 2 * MIB])
        opened.io(1).fail("write", EIO)
        opened.io(3).fail("write", EIO)
        await appender.append(body[2 * MIB :])
        runs = await appender.finish(durable=True)
        assert await get(opened.chunks, runs) == body
        assert geometry(opened, runs[-1]) == (1, 1)
        assert runs[-1].missing == 0


async def test_an_error_while_a_segment_is_made_costs_that_drive_alone(rig: OpenRig) -> None:
    async with rig() as opened:
        opened.io(0).fail("create", EIO)
        (run,) = await put(opened.chunks, b"x")
        assert geometry(opened, run) == (1, 2)
        assert states(opened) == ["fenced", "online", "online", "online"]


async def test_too_few_handles_are_not_the_drives_fault(rig: OpenRig) -> None:
    async with rig() as opened:
        opened.io(0).fail("create", errno.EMFILE, once=True)
        with pytest.raises(NoSpace):
            await put(opened.chunks, b"x")
        assert states(opened) == ["online"] * 4
        await put(opened.chunks, b"x")


async def test_a_read_error_is_mended_counted_and_forgiven(rig: OpenRig) -> None:
    body = pattern(MIB)
    async with rig() as opened:
        runs = await put(opened.chunks, body)
        opened.io(0).fail("read", EIO)
        opened.io(1).fail("read", EIO)
        assert await get(opened.chunks, runs) == body
        assert states(opened) == ["online"] * 4
        assert sum(status.read_errors for status in opened.chunks.status()) >= 1


# -- lying flushes ---------------------------------------------------------------------


async def test_a_failed_flush_fences_although_the_next_would_succeed(rig: OpenRig) -> None:
    body = pattern(MIB)
    async with rig() as opened:
        opened.io(2).fail("flush", EIO, once=True)
        (run,) = await put(opened.chunks, body)
        assert states(opened) == ["online", "online", "fenced", "online"]
        shard = opened.chunks.segment(segment_of(run.id)).members.index(
            opened.chunks.pool.drives[2].id
        )
        assert run.missing == 1 << shard
        await opened.probe()
        assert states(opened)[2] == "fenced"
        assert await get(opened.chunks, [run]) == body
        await opened.chunks.sync([run])


@pytest.mark.parametrize(("drives", "failing"), [(2, [1]), (3, [0]), (4, [0, 2])])
async def test_runs_that_too_few_members_hold_are_written_again(
    rig: OpenRig, drives: int, failing: list[int]
) -> None:
    body = pattern(3 * MIB + 99)
    async with rig(drives, allow_single_copy=True) as opened:
        appender = opened.chunks.appender(Owner())
        await appender.append(body)
        for index in failing:
            opened.io(index).fail("flush", EIO)
        runs = await appender.finish(durable=True)
        members = opened.chunks.segment(segment_of(runs[0].id)).members
        assert not set(members) & {opened.chunks.pool.drives[index].id for index in failing}
        assert all(run.missing == 0 for run in runs)
        assert await get(opened.chunks, runs) == body


async def test_a_later_sync_below_the_quorum_is_refused(rig: OpenRig) -> None:
    async with rig() as opened:
        runs = await put(opened.chunks, pattern(MIB), durable=False)
        for index in (0, 1):
            opened.io(index).fail("flush", EIO)
        for _ in range(2):
            with pytest.raises(BelowWriteQuorum) as caught:
                await opened.chunks.sync(runs)
            assert (caught.value.alive, caught.value.needed) == (2, 3)
            await quiet()


async def test_syncs_at_once_share_a_flush(rig: OpenRig) -> None:
    async with rig() as opened:
        runs = [
            run
            for i in range(20)
            for run in await put(opened.chunks, pattern(5000, i), durable=False, hint=5000)
        ]
        async with trio.open_nursery() as nursery:
            for run in runs:
                nursery.start_soon(opened.chunks.sync, [run])
        assert all(opened.io(index).calls["flush"] <= 2 for index in range(4))
        before = [opened.io(index).calls["flush"] for index in range(4)]
        await opened.chunks.sync(runs)
        assert [opened.io(index).calls["flush"] for index in range(4)] == before


# -- hanging ---------------------------------------------------------------------------

HASTY = {"io_deadline_s": 1.0, "flush_deadline_s": 1.0}
"""Long enough for a loaded machine, so these tests are slow."""


@pytest.mark.slow
async def test_a_hung_write_fences_and_goes_on(rig: OpenRig) -> None:
    body = pattern(3 * MIB)
    async with rig(**HASTY) as opened:
        appender = opened.chunks.appender(Owner())
        opened.io(1).hanging.add("write")
        await appender.append(body)
        runs = await appender.finish(durable=True)
        assert states(opened)[1] == "fenced"
        assert opened.chunks.status()[1].cause == "write hung"
        assert await get(opened.chunks, runs) == body


@pytest.mark.slow
async def test_a_hung_read_is_answered_from_parity(rig: OpenRig) -> None:
    body = pattern(2 * MIB)
    async with rig(**HASTY) as opened:
        runs = await put(opened.chunks, body)
        segment = opened.chunks.segment(segment_of(runs[0].id))
        index = [drive.id for drive in opened.chunks.pool.drives].index(segment.members[0])
        opened.io(index).hanging.add("read")
        assert await get(opened.chunks, runs) == body
        assert states(opened)[index] == "fenced"
        assert await get(opened.chunks, runs) == body
        assert opened.io(index).calls["read"] == 1


async def test_a_slow_drive_is_passed_over_and_not_fenced(rig: OpenRig) -> None:
    body = pattern(2 * MIB)
    async with rig(read_patience_s=0.2) as opened:
        runs = await put(opened.chunks, body)
        segment = opened.chunks.segment(segment_of(runs[0].id))
        drive = opened.chunks.pool.by_id[segment.members[0]]
        io = opened.io(opened.chunks.pool.drives.index(drive))
        io.hanging.add("read")
        assert await get(opened.chunks, runs) == body
        assert await get(opened.chunks, runs) == body
        assert io.calls["read"] == 1
        assert drive.readable
        assert not drive.prompt
        io.hanging.clear()
        io.let_go.set()
        with trio.fail_after(20):
            while not drive.prompt:
                await quiet()
        assert states(opened) == ["online"] * 4


@pytest.mark.slow
async def test_a_slow_drive_that_never_answers_is_fenced(rig: OpenRig) -> None:
    body = pattern(MIB)
    async with rig(read_patience_s=0.1, io_deadline_s=1.0) as opened:
        runs = await put(opened.chunks, body)
        segment = opened.chunks.segment(segment_of(runs[0].id))
        drive = opened.chunks.pool.by_id[segment.members[0]]
        opened.io(opened.chunks.pool.drives.index(drive)).hanging.add("read")
        assert await get(opened.chunks, runs) == body
        with trio.fail_after(20):
            while drive.readable:
                await quiet()
        assert drive.cause == "read hung"


async def test_the_only_drive_may_be_slow(rig: OpenRig) -> None:
    async with rig(1, read_patience_s=0.02) as opened:
        runs = await put(opened.chunks, b"slow")
        opened.io(0).hanging.add("read")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, opened.chunks, runs)
            with trio.fail_after(20):
                while opened.chunks.pool.drives[0].prompt:
                    await quiet()
            opened.io(0).let_go.set()
        assert states(opened) == ["online"]


@pytest.mark.slow
async def test_a_hung_flush_fences_and_goes_on(rig: OpenRig) -> None:
    async with rig(**HASTY) as opened:
        opened.io(3).hanging.add("flush")
        runs = await put(opened.chunks, pattern(MIB))
        assert states(opened)[3] == "fenced"
        assert await get(opened.chunks, runs) == pattern(MIB)


@pytest.mark.slow
async def test_a_hung_probe_fences(rig: OpenRig) -> None:
    async with rig(**HASTY) as opened:
        opened.io(0).hanging.add("probe")
        await opened.probe()
        assert states(opened)[0] == "fenced"


@pytest.mark.slow
async def test_a_hung_label_write_fences_and_ids_go_on(rig: OpenRig) -> None:
    async with rig(**HASTY) as opened:
        opened.io(0).hanging.add("write_label")
        runs = await put(opened.chunks, b"x")
        assert states(opened)[0] == "fenced"
        assert await get(opened.chunks, runs) == b"x"


# -- cancelled -------------------------------------------------------------------------


async def test_a_cancelled_append_can_be_abandoned(rig: OpenRig) -> None:
    async with rig(stripes_in_flight=1) as opened:
        drive: Drive = opened.chunks.pool.drives[0]
        assert drive.writable
        appender = opened.chunks.appender(Owner())
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await appender.append(pattern(5 * MIB))
            finally:
                await appender.abandon()
        body = pattern(2 * MIB)
        assert await get(opened.chunks, await put(opened.chunks, body)) == body


async def test_an_append_cancelled_while_it_waits_loses_no_bytes(rig: OpenRig) -> None:
    body = pattern(3 * MIB)
    async with rig(stripes_in_flight=1) as opened:
        opened.io(0).hanging.add("write")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, opened.chunks, pattern(MIB, 2))
            await quiet()
            appender = opened.chunks.appender(Owner())
            with trio.move_on_after(0.02) as scope:
                await appender.append(body[: 2 * MIB])
            assert scope.cancelled_caught
            opened.io(0).hanging.clear()
            opened.io(0).let_go.set()
        await appender.append(body[2 * MIB :])
        assert await get(opened.chunks, await appender.finish(durable=True)) == body


async def test_stripes_under_way_are_limited(rig: OpenRig) -> None:
    async with rig(stripes_in_flight=2) as opened:
        opened.io(0).hanging.add("write")
        opened.io(0).calls["write"] = 0
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(put, opened.chunks, pattern(2 * MIB))
            with trio.fail_after(20):
                while opened.io(0).calls["write"] < 2:
                    await quiet()
            await quiet()
            assert opened.io(0).calls["write"] == 2
            opened.io(0).hanging.clear()
            opened.io(0).let_go.set()
