"""One pass finds every planted fault and repairs it, and leaves nothing that nobody names.

TWOFOLD_FULL=1: 10,000 flipped bits instead of a few hundred.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from metadb.statements import Tx
from store.chunks.types import RunId
from store.scrub import Scrubber, ScrubConfig
from tests.faultrows import FaultRow
from tests.store.bench import MIB, Bench, open_bench
from tests.store.conftest import until
from tests.store.test_heal import all_whole, fill, seal, without

FLIPS = 10_000 if os.environ.get("TWOFOLD_FULL") else 400


@asynccontextmanager
async def scrubbing(bench: Bench, pass_s: float = 30 * 86400.0) -> AsyncIterator[Scrubber]:
    """A scrubber beside the bench's heal."""
    readers = bench.state.readers
    config = ScrubConfig(pass_s=pass_s, first_after_s=0)
    scrubber = Scrubber(bench.engine, bench.chunks, readers, bench.healer, config)
    async with trio.open_nursery() as nursery:
        await nursery.start(scrubber.run)
        yield scrubber
        nursery.cancel_scope.cancel()


async def test_a_pass_over_sound_drives_finds_nothing(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        await fill(bench)
        await seal(bench)
        async with scrubbing(bench) as scrubber:
            record = await scrubber.finish()
        assert record.fragments == len(bench.fragments())
        assert (record.damaged, record.repaired, record.lost_stripes) == (0, 0, 0)
        assert record.segments == len(bench.rows())


@pytest.mark.slow
async def test_one_pass_repairs_every_flipped_bit(tmp_path: Path, fault_row: FaultRow) -> None:
    """At most m fragments of a stripe, in data and parity, headers and shards alike."""
    noise = random.Random(6)
    async with open_bench(tmp_path, 4, 2, stripe_bytes=128 << 10) as bench:
        for seed in range(FLIPS // 16):
            await bench.put(seed, noise.randrange(900_000, 1_200_000))
        await seal(bench)
        before = {path: path.read_bytes() for path in {path for path, _, _ in bench.fragments()}}
        stripes: dict[tuple[str, int], list[tuple[Path, int, int]]] = {}
        for path, offset, size in bench.fragments():
            stripes.setdefault((path.name, offset), []).append((path, offset, size))
        places = [each for four in stripes.values() for each in noise.sample(four, 2)]
        chosen = noise.sample(places, min(FLIPS // 2, len(places)))
        for path, offset, size in chosen:
            for _ in range(2):
                flip_bit(path, offset + noise.randrange(size), noise.randrange(8))
        assert any(path.read_bytes() != content for path, content in before.items())
        await bench.check()  # Reads in between are right, and repair some.
        async with scrubbing(bench) as scrubber:
            await scrubber.finish()
            await bench.heal()
            record = await scrubber.finish()
        assert (record.damaged, record.lost_stripes) == (0, 0)
        assert {path: path.read_bytes() for path in before} == before
    fault_row(
        "bits flip all over, at most m fragments of a stripe (10,000 with `TWOFOLD_FULL=1`)",
        client="right bytes",
        status="one pass of scrub: so many damaged, so many repaired; the next finds none",
    )


def flip_bit(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        (byte,) = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), offset)


async def test_what_no_row_names_is_given_back(tmp_path: Path, fault_row: FaultRow) -> None:
    async with open_bench(tmp_path) as bench:
        freed = await bench.put(1, 8 * MIB)
        kept = await bench.put(2, 2 * MIB)
        await seal(bench)
        # A crash of reclaim: the rows are gone, the bytes are not.
        await bench.forget(freed)

        def drop(tx: Tx) -> None:
            from metadb import content

            content.forget_freed(tx, [run.id for run in freed])

        bench.engine.transact(drop)
        members = bench.rig.members(kept[0])
        assert all(path.stat().st_blocks * 512 > 4 * MIB for path in members)
        async with scrubbing(bench) as scrubber:
            record = await scrubber.finish()
        assert record.leaks == 4
        assert all(path.stat().st_blocks * 512 < 2 * MIB for path in members)
        await bench.check()
    fault_row(
        "reclaim is killed between its rows and its holes",
        client="nothing",
        status="scrub: leaks, given back",
    )


async def test_files_of_no_segment_are_removed(tmp_path: Path, fault_row: FaultRow) -> None:
    async with open_bench(tmp_path) as bench:
        (run,) = await bench.put(1, MIB)
        member = bench.rig.members(run)[0]
        stray = member.parent / "0000bee01.seg"
        stray.write_bytes(b"left by something")
        async with scrubbing(bench) as scrubber:
            await scrubber.finish()
        assert not stray.exists()
        assert member.exists()
    fault_row(
        "files that belong to no segment",
        client="nothing",
        status="removed by the next survey or scrub",
        lost="-",
    )


async def test_a_missing_member_is_found_and_left_to_heal(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path) as bench:
        (run,) = await bench.put(1, 3 * MIB)
        await seal(bench)
        gone = bench.rig.members(run)[2]
        before = gone.read_bytes()
        gone.unlink()
        async with scrubbing(bench) as scrubber:
            with trio.fail_after(30):
                await scrubber.finish()
        assert gone.read_bytes() == before
    fault_row("a member file is deleted or cut", client="right bytes", status="healing")


async def test_sectors_that_cannot_be_read_are_written_anew(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path) as bench:
        (run,) = await bench.put(1, 3 * MIB)
        await seal(bench)
        number = [drive.id for drive in bench.chunks.pool.drives].index(
            bench.segment(run).members[1]
        )
        bench.rig.io(number).fail("read", errno.EIO, once=True)
        async with scrubbing(bench) as scrubber:
            record = await scrubber.finish()
        assert record.repaired == 1
        all_whole(bench)
        await bench.check()
    fault_row(
        "a sector can't be read",
        client="right bytes",
        status="a read error; the fragment is written anew",
    )


async def test_fragments_that_were_written_in_part_are_written_anew(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path) as bench:
        (run,) = await bench.put(1, 3 * MIB)
        await seal(bench)
        before = [path.read_bytes() for path in bench.rig.members(run)]
        torn = bench.fragments()[::5]
        for path, offset, size in torn:
            with path.open("r+b") as file:
                os.pwrite(file.fileno(), bytes(size // 2), offset + size - size // 2)
        await bench.check()
        async with scrubbing(bench) as scrubber:
            await scrubber.finish()
            record = await scrubber.finish()
        assert record.damaged == 0
        assert [path.read_bytes() for path in bench.rig.members(run)] == before
        assert sum(drive.damaged_fragments for drive in bench.chunks.pool.drives) == len(torn)
    fault_row(
        "fragments are written in part (torn writes)",
        client="right bytes",
        status="damaged fragments, and then that they were repaired",
    )


async def test_what_cannot_be_repaired_is_told_and_stays_as_it_is(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_bench(tmp_path) as bench:
        (run,) = await bench.put(1, 2 * MIB)
        await seal(bench)
        for path in bench.rig.members(run)[:3]:
            flip_bit(path, 4096 + 7, 3)
        before = [path.read_bytes() for path in bench.rig.members(run)]
        async with scrubbing(bench) as scrubber:
            record = await scrubber.finish()
            assert (record.lost_stripes, record.repaired) == (1, 0)
            (loss,) = bench.healer.losses.report(10)
            assert (loss.run, loss.stripe, loss.what) == (run.id, 0, "nameless")
            counted = [drive.damaged_fragments for drive in bench.chunks.pool.drives]
            assert sorted(counted) == [0, 1, 1, 1], "found by scrub, counted as found by a read"
            await scrubber.finish()
            assert sum(drive.damaged_fragments for drive in bench.chunks.pool.drives) == 3
        assert [path.read_bytes() for path in bench.rig.members(run)] == before
    fault_row(
        "more than m fragments of a stripe rot",
        client="an error for those bytes, never wrong ones",
        status="stripes lost",
        lost="that stripe",
    )


async def test_a_pass_goes_on_where_it_was_and_pauses(tmp_path: Path) -> None:
    contents: dict[RunId, tuple[int, int, int]] = {}
    async with open_bench(tmp_path, contents=contents) as bench:
        for seed in range(3):
            await bench.put(seed, MIB)
            await seal(bench)
        async with scrubbing(bench) as scrubber:
            scrubber.pause()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert scrubber.report().state == "paused"
            begun = scrubber.report().now.segments
            assert begun < 3
    async with (
        open_bench(tmp_path, fresh=False, contents=contents) as bench,
        scrubbing(bench) as scrubber,
    ):
        assert scrubber.report().state == "paused"
        record = await scrubber.finish()
        assert record.segments == 3
        await trio.testing.wait_all_tasks_blocked(0.05)
        report = scrubber.report()
        assert report.state == "resting"
        assert report.next_s is not None and report.next_s > 29 * 86400


@pytest.mark.slow
async def test_a_pass_is_spread_over_its_time(tmp_path: Path) -> None:
    async with open_bench(tmp_path, stripe_bytes=64 << 10) as bench:
        for seed in range(4):
            await bench.put(seed, 2 * MIB)
            await seal(bench)
        began_s = trio.current_time()
        async with scrubbing(bench, pass_s=3.0) as scrubber:
            await until(lambda: scrubber.report().last is not None, 60)
        # The last piece of each segment may be left out of its rest; a slow machine takes longer.
        assert trio.current_time() - began_s > 2.0


@pytest.mark.slow
@pytest.mark.parametrize(("drives", "parity"), [(1, 0), (2, 1), (3, 1), (16, 4), (5, 4)])
async def test_pools_of_other_sizes_are_scrubbed(tmp_path: Path, drives: int, parity: int) -> None:
    noise = random.Random(drives)
    async with open_bench(tmp_path, drives, parity, stripe_bytes=256 << 10) as bench:
        await fill(bench, 3, MIB)
        await seal(bench)
        stripes: dict[tuple[str, int], list[tuple[Path, int, int]]] = {}
        for path, offset, size in bench.fragments():
            stripes.setdefault((path.name, offset), []).append((path, offset, size))
        places = [each for some in stripes.values() for each in noise.sample(some, parity)]
        for path, offset, size in places:
            flip_bit(path, offset + noise.randrange(size), 0)
        async with scrubbing(bench) as scrubber:
            record = await scrubber.finish()
        # A flip in a header's unused bytes is damage, too: the whole header is summed.
        assert (record.damaged, record.repaired) == (len(places), len(places))
        contents = bench.contents
    await without(tmp_path, contents, drives, *noise.sample(range(drives), parity))
