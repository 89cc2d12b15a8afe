"""Drives lost, emptied, returned and rotten: heal makes every segment whole again by itself."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from store.chunks.geometry import default_parity
from store.chunks.types import DriveState, RunId, segment_of
from tests.faultrows import FaultRow
from tests.store.bench import MIB, Bench, away, open_bench
from tests.store.conftest import until

Contents = dict[RunId, tuple[int, int, int]]


async def fill(bench: Bench, count: int = 4, size: int = 2 * MIB + 4321) -> None:
    for seed in range(count):
        await bench.put(seed, size + seed * 70_000)


async def without(folder: Path, contents: Contents, drives: int, *numbers: int) -> None:
    """Every byte reads in a new life without these drives, and nothing heals meanwhile."""
    paths = [folder / f"drive{number}" for number in numbers]
    for path in paths:
        path.rename(away(path))
    async with open_bench(
        folder, drives, fresh=False, heals=False, allow_missing=drives - 1, contents=contents
    ) as bench:
        await bench.check()
    for path in paths:
        away(path).rename(path)


def flip(path: Path, offset: int) -> None:
    """Invert one byte of a file."""
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 0xFF]), offset)


def use_only(bench: Bench, count: int) -> None:
    """New segments stand on the first `count` drives."""
    for number, drive in enumerate(bench.chunks.pool.drives):
        drive.draining = number >= count


def all_whole(bench: Bench) -> None:
    """No row lacks anything, and rows and memory agree on where members are."""
    assert all(run.missing == 0 for run in bench.named())
    for segment, members in bench.rows().items():
        assert bench.chunks.segment(segment).members == members
    for path, offset, size in bench.fragments():
        assert path.stat().st_size >= offset + size, path


async def test_a_member_file_that_is_gone_is_written_anew(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path) as bench:
        (run,) = await bench.put(1, 5 * MIB)
        gone = bench.rig.members(run)[1]
        await seal(bench)
        before = gone.read_bytes()
        gone.unlink()
        await bench.heal()
        assert gone.read_bytes() == before
        await bench.check()
        (record,) = bench.healer.report().history
        assert record.fragments == 5
        assert record.lost_stripes == 0
    fault_row("a member file is deleted or cut", client="right bytes", status="healing")


async def seal(bench: Bench) -> None:
    """Have nothing more appended to the segments there are."""
    for drive in bench.chunks.pool.drives:
        bench.chunks._placement.drive_left(drive)
    await trio.testing.wait_all_tasks_blocked(0.05)


@pytest.mark.parametrize("lost", [(0,), (1, 3)])
async def test_drives_lost_for_good_are_built_on_others(
    tmp_path: Path, lost: tuple[int, ...], fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path, 6, 2) as bench:
        use_only(bench, 4)
        await fill(bench)
        use_only(bench, 6)
        bench.take_away(*lost)
        await bench.probe()
        await bench.heal()
        there = {d.id for i, d in enumerate(bench.chunks.pool.drives) if i not in lost}
        assert all(there >= set(members) for members in bench.rows().values())
        all_whole(bench)
        await bench.check()
        contents = bench.contents
    # Two others may go now.
    others = [number for number in range(4) if number not in lost][:2]
    await without(tmp_path, contents, 6, *others)
    fault_row(
        "a drive is lost for good, another has room",
        client="nothing",
        status="healing, how much is left",
    )


async def test_a_drive_that_is_away_for_a_moment_is_not_given_up(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path, 6, 2, wait_s=3600) as bench:
        use_only(bench, 4)
        await fill(bench)
        rows = bench.rows()
        use_only(bench, 6)
        bench.take_away(1)
        await bench.probe()
        await bench.heal()
        assert bench.rows() == rows
        report = bench.healer.report()
        assert report.heals_in_s is not None and 3500 < report.heals_in_s <= 3600
        bench.bring_back(1)
        await bench.probe()
        await bench.heal()
        assert bench.healer.report().heals_in_s is None
        await bench.check()
    fault_row(
        "a drive is taken away for a moment",
        client="nothing",
        status="the drive is offline, and when it will be given up",
    )


async def test_without_a_drive_to_build_on_heal_waits_for_one(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path, 4, 2) as bench:
        await fill(bench)
        bench.take_away(2)
        await bench.probe()
        await bench.heal()
        report = bench.healer.report()
        assert (report.state, report.waiting_segments) == ("waiting", len(bench.rows()))
        assert report.history == []
    fault_row(
        "a drive is lost for good, every other is in the segment already",
        client="nothing",
        status="segments wait for a drive to be healed on",
    )


@pytest.mark.parametrize("gone", ["member", "tail", "middle"])
async def test_a_drive_that_missed_writes_gets_them_when_it_is_back(
    tmp_path: Path, gone: str
) -> None:
    async with open_bench(tmp_path, 4, 2, wait_s=3600) as bench:
        await fill(bench)
        (run,) = await bench.put(9, 3 * MIB)
        bench.take_away(1)
        await bench.probe()
        await bench.put(10, 3 * MIB)  # on three drives
        shard = bench.segment(run).members.index(bench.chunks.pool.drives[1].id)
        member = away(bench.rig.paths[1]) / bench.rig.members(run)[shard].relative_to(
            bench.rig.paths[1]
        )
        # As if it had never had them, though no row knows.
        if gone == "member":
            member.unlink()
        elif gone == "tail":
            os.truncate(member, 8192)
        else:
            with member.open("r+b") as file:
                file.seek(1 << 20)
                file.write(bytes(1 << 20))
        bench.bring_back(1)
        await bench.probe()
        assert bench.chunks.pool.drives[1].state is DriveState.ONLINE
        await bench.heal()
        all_whole(bench)
        contents = bench.contents
        (record,) = bench.healer.report().history
        assert record.fragments > 0
    await without(tmp_path, contents, 4, 0, 2)


async def test_suspicion_outlives_a_crash(tmp_path: Path) -> None:
    async with open_bench(tmp_path, 4, 2, wait_s=3600) as bench:
        (run,) = await bench.put(1, 3 * MIB)
        await bench.healer.suspect([bench.chunks.pool.drives[2].id])
        contents = bench.contents
    member = bench.rig.members(run)[0]
    os.truncate(member, 4096)
    drive = bench.segment(run).members[0]
    async with open_bench(tmp_path, 4, fresh=False, heals=False, contents=contents) as bench:
        await bench.healer.suspect([drive])
    async with open_bench(tmp_path, 4, fresh=False, contents=contents) as bench:
        await bench.heal()
        all_whole(bench)
        assert bench.healer.report().suspects == []


async def test_runs_named_while_heal_is_at_work_are_healed_too(tmp_path: Path) -> None:
    async with open_bench(tmp_path, 6, 2, naming_grace_s=300.0) as bench:
        use_only(bench, 4)
        await fill(bench, 2)
        late = await bench.put(50, 2 * MIB, named=False)
        later = await bench.put(51, 2 * MIB, named=False)
        use_only(bench, 6)
        bench.take_away(0)
        await bench.probe()
        # Once in the middle of it, once when it is done.
        bench.healer.wake()
        await trio.sleep(0.01)
        await bench.name(50, 2 * MIB, late)
        await bench.heal()
        assert not any(bench.chunks.pool.drives[0].id in row for row in bench.rows().values())
        await bench.name(51, 2 * MIB, later)
        assert any(run.missing for run in bench.named())
        await bench.heal()
        all_whole(bench)
        await bench.check()
        contents = bench.contents
    await without(tmp_path, contents, 6, 1, 2)


async def test_runs_freed_while_heal_is_at_work_leave_nothing_behind(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path, 6, 2) as bench:
        use_only(bench, 4)
        freed = await bench.put(1, 8 * MIB)
        kept = await bench.put(2, 2 * MIB)
        use_only(bench, 6)
        bench.healer.limit(4 * MIB)
        bench.take_away(0)
        await bench.probe()
        await until(lambda: bench.healer.report().segments_left > 0)
        await bench.forget(freed)
        await bench.reclaim()
        bench.healer.limit(0)
        await bench.heal()
        await bench.check()
        for path in bench.rig.members(kept[0]):
            if path.exists():
                assert path.stat().st_blocks * 512 < 2 * MIB
    fault_row("writes, deletes and heal at once", client="nothing", status="healing")


async def test_damage_found_by_a_read_is_repaired_right_after_it(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path) as bench:
        runs = await bench.put(1, 4 * MIB)
        whole = [path.read_bytes() for path in bench.rig.members(runs[0])]
        data = bench.rig.members(runs[0])[0]
        flip(data, 4096 + 5)
        flip(data, (4096 + (512 << 10)) + 17)  # the header of the second stripe
        await bench.check()
        await until(lambda: bench.healer.report().mended_fragments == 2)
        assert [path.read_bytes() for path in bench.rig.members(runs[0])] == whole
        # Damage in the same place is found and repaired again.
        flip(data, 4096 + 5)
        await bench.check()
        await until(lambda: bench.healer.report().mended_fragments == 3)
        assert (
            bench.chunks.status()[0].damaged_fragments
            + sum(each.damaged_fragments for each in bench.chunks.status()[1:])
            == 3
        )
    fault_row(
        "a bit flips in a fragment, data or parity, header or shard",
        client="right bytes",
        status="a damaged fragment, and then that it was repaired",
    )


async def test_what_cannot_be_had_is_left_where_it_may_still_be(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path, 6, 2) as bench:
        use_only(bench, 4)
        (run,) = await bench.put(1, 3 * MIB)
        use_only(bench, 6)
        rows = bench.rows()
        # One stripe is damaged on two of the others: with a drive away it can't be had.
        first = {drive.id: number for number, drive in enumerate(bench.chunks.pool.drives)}
        numbers = [first[member] for member in bench.segment(run).members]
        for shard in (1, 2):
            flip(bench.rig.members(run)[shard], 4096 + 3)
        bench.take_away(numbers[0])
        await bench.probe()
        await bench.heal()
        assert bench.rows() == rows, "the drive that is away has the only copy"
        assert bench.healer.report().given_up_segments == 1
        bench.bring_back(numbers[0])
        await bench.probe()
        await bench.heal()
        await bench.check()
        assert bench.healer.report().given_up_segments == 0
    fault_row(
        "a drive is lost and the others are damaged in the same stripe",
        client="an error for those bytes",
        status="segments have stripes that can't be had; healed when the drive is back",
        lost="nothing, if it comes back",
    )


@pytest.mark.slow
@pytest.mark.parametrize("drives", [1, 2, 4, 16])
@pytest.mark.parametrize("parity", [0, 1, 2, 3, 4])
async def test_pools_of_every_size_and_parity_heal_what_parity_allows(
    tmp_path: Path, drives: int, parity: int
) -> None:
    if parity >= drives:
        pytest.skip("more parity than drives")
    noise = random.Random(drives * 10 + parity)
    async with open_bench(tmp_path, drives, parity, stripe_bytes=1 << 18) as bench:
        await fill(bench, 3, MIB)
        await seal(bench)
        firsts = {segment_of(run.id): run for run in bench.named()}
        for run in firsts.values():
            for path in noise.sample(bench.rig.members(run), parity):
                if path.exists():
                    os.truncate(path, 0)
        await bench.healer.suspect([drive.id for drive in bench.chunks.pool.drives])
        await bench.heal()
        all_whole(bench)
        await bench.check()
        contents = bench.contents
        lost = noise.sample(range(drives), parity)
    await without(tmp_path, contents, drives, *lost)


def test_default_parities_are_what_the_cases_cover() -> None:
    assert {default_parity(drives) for drives in range(1, 17)} <= set(range(5))


async def test_a_drained_drive_is_left_by_every_member(tmp_path: Path) -> None:
    async with open_bench(tmp_path, 6, 2) as bench:
        use_only(bench, 4)
        await fill(bench)
        use_only(bench, 6)
        drained = bench.chunks.pool.drives[1]
        assert bench.chunks.holds_members(drained)
        # A bad fragment is not carried along, and an intact one needs no others.
        (run, *_) = bench.named()
        shard = bench.segment(run).members.index(drained.id)
        flip(bench.rig.members(run)[shard], 4096 + 9)
        await bench.healer.drain(drained)
        await bench.heal()
        assert not bench.chunks.holds_members(drained)
        assert not list(bench.rig.paths[1].rglob("*.seg"))
        all_whole(bench)
        await bench.check()
        contents = bench.contents
    await without(tmp_path, contents, 6, 1, 2, 3)


async def test_a_drive_without_parity_is_drained_too(tmp_path: Path) -> None:
    async with open_bench(tmp_path, 2, 0) as bench:
        use_only(bench, 1)
        await fill(bench)
        use_only(bench, 2)
        await bench.healer.drain(bench.chunks.pool.drives[0])
        await bench.heal()
        assert not bench.chunks.holds_members(bench.chunks.pool.drives[0])
        await bench.check()
        contents = bench.contents
    await without(tmp_path, contents, 2, 0)


async def test_draining_outlives_a_restart(tmp_path: Path) -> None:
    async with open_bench(tmp_path, 6, 2, heals=False) as bench:
        use_only(bench, 4)
        await fill(bench)
        use_only(bench, 6)
        await bench.healer.drain(bench.chunks.pool.drives[2])
        contents = bench.contents
    async with open_bench(tmp_path, 6, fresh=False, contents=contents) as bench:
        assert bench.chunks.pool.drives[2].draining
        await bench.heal()
        assert not bench.chunks.holds_members(bench.chunks.pool.drives[2])
        await bench.check()


async def test_a_member_file_that_goes_while_it_is_appended_to_is_written_anew(
    tmp_path: Path,
) -> None:
    async with open_bench(tmp_path) as bench:
        (run,) = await bench.put(1, 3 * MIB)
        gone = bench.rig.members(run)[1]
        gone.unlink()
        await bench.heal()
        assert gone.exists()
        await bench.put(2, 3 * MIB)  # elsewhere, or not on that member
        await bench.heal()
        await bench.check()
        all_whole(bench)
        contents = bench.contents
    await without(tmp_path, contents, 4, 0, 2)


async def test_a_drive_that_was_replaced_is_neither_suspected_nor_waited_for(
    tmp_path: Path,
) -> None:
    async with open_bench(tmp_path, 4, 2, wait_s=3600) as bench:
        await fill(bench)
        gone, path = bench.chunks.pool.drives[1], bench.rig.paths[1]
        await bench.healer.suspect([gone.id])
        bench.take_away(1)
        await bench.probe()
        await bench.heal()
        path.mkdir()
        await bench.chunks.replace_drive(gone.id, path)
        bench.healer.wake()
        await bench.heal()
        report = bench.healer.report()
        assert (report.suspects, report.heals_in_s) == ([], None)
        all_whole(bench)


async def test_a_run_named_after_its_member_was_written_anew_gets_its_fragments_too(
    tmp_path: Path,
) -> None:
    async with open_bench(tmp_path, 4, 2, naming_grace_s=300.0) as bench:
        late = await bench.put(50, 2 * MIB, named=False)
        await bench.put(51, 2 * MIB)
        await seal(bench)
        bench.rig.members(late[0])[1].unlink()
        await bench.heal()
        await bench.name(50, 2 * MIB, late)
        await bench.heal()
        all_whole(bench)
        contents = bench.contents
        lost = [drive.id for drive in bench.chunks.pool.drives]
        members = bench.segment(late[0]).members
    # The other data shard's drive and a parity's may go now.
    await without(tmp_path, contents, 4, lost.index(members[0]), lost.index(members[2]))
