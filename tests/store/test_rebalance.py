"""Drives come and go, and what stands on the others follows, without ever less redundancy."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio

from store import rewrite
from store.chunks.types import offset_of, segment_of
from store.drainplan import plan_drain
from store.evening import Shelf, plan, spread
from store.rewrite import NoRoom
from store.types import ObjectMeta, PartClaim
from tests.faultrows import FaultRow
from tests.store.conftest import until
from tests.store.posix import CALLER, box, read_back
from tests.store.test_uploads import Md5Digester
from tests.store.wholestore import KIB, MIB, WholeStore, open_whole


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there is something between the beginning and the end."""
    monkeypatch.setattr(rewrite, "_BATCH_COPIES", 2)
    monkeypatch.setattr(rewrite, "_PAGE_ROWS", 5)


@pytest.mark.parametrize(
    ("drives", "parity", "before", "after"),
    [
        (4, None, (2, 2), (1, 2)),
        (3, 1, (2, 1), (1, 1)),
        (2, 0, (2, 0), (1, 0)),
        (5, 1, (4, 1), (3, 1)),
    ],
)
async def test_a_drive_that_every_segment_spans_is_drained(
    tmp_path: Path,
    drives: int,
    parity: int | None,
    before: tuple[int, int],
    after: tuple[int, int],
) -> None:
    async with open_whole(tmp_path, drives, parity) as store:
        await store.fill()
        assert store.geometries() == {before}
        drive = store.drives[1]
        async with store.watched():
            await store.drain(1)
            await store.left(drive)
        assert store.geometries() == {after}
        await until(lambda: not list(drive.io.path.rglob("*.seg")))
        await store.settled()
        await store.check()
        await store.scrub()
        (record,) = store.rebalancer.report().history
        assert record.rewritten_bytes == sum(map(len, store.objects.values()))


@pytest.mark.slow
async def test_four_drives_become_two(tmp_path: Path, fault_row: FaultRow) -> None:
    async with open_whole(tmp_path, 4) as store:
        await store.fill(4)
        gone = store.drives[:2]
        for drive in gone:
            await store.drain(store.drives.index(drive))
            await store.left(drive)
            await store.chunks.pool.remove(drive.id)
            drive.io.path.rename(drive.io.path.with_name(f"{drive.id}.gone"))
        assert store.geometries() == {(1, 1)}
        await store.settled()
        store.assert_whole()
        await store.check()
        await store.scrub()
    fault_row(
        "a drive that every segment spans is drained, from 4 to 3 to 2 drives and from 16 "
        "to 15, under load, and the daemon is killed meanwhile",
        client="refused connections, then service",
        status="rewriting, how much is left",
    )


@pytest.mark.slow
async def test_sixteen_drives_become_fifteen(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 16) as store:
        await store.fill()
        async with store.watched():
            await store.drain(7)
            await store.left(store.drives[7])
        assert store.geometries() == {(11, 4)}
        await store.check()
        await store.scrub()


async def test_members_that_have_a_place_are_moved_and_the_others_rewritten(
    tmp_path: Path,
) -> None:
    async with open_whole(tmp_path, 5, 2) as store:
        store.drives[4].draining = True
        await store.fill(3)
        store.chunks.keep(store.drives[4])
        await store.put("wide", 900_000)
        assert store.geometries() == {(2, 2), (3, 2)}
        async with store.watched():
            await store.drain(0)
            await store.left(store.drives[0])
        assert store.geometries() == {(2, 2)}
        assert store.rebalancer.report().rewritten_bytes == 900_000
        await store.check()


@pytest.mark.slow
async def test_writes_deletes_and_rewriting_at_once(tmp_path: Path) -> None:
    noise = random.Random(4)
    async with open_whole(tmp_path, 4) as store:
        await store.fill(10, 200_000)
        store.rebalancer.limit(8 * MIB)
        await store.drain(2)
        async with store.watched():
            for number in range(40):
                key = f"k{noise.randrange(10)}"
                if number % 3 == 2 and key in store.objects:
                    await store.namespace.objects.delete("box", key)
                    del store.objects[key]
                else:
                    await store.put(key, noise.randrange(20_000, 400_000))
                await trio.sleep(0.01)
            store.rebalancer.limit(0)
            await store.left(store.drives[2])
        await store.check()
        await store.scrub()


async def test_what_shares_bytes_goes_on_sharing_them(tmp_path: Path, fault_row: FaultRow) -> None:
    async with open_whole(tmp_path, 4) as store:
        objects, uploads = store.namespace.objects, store.namespace.uploads
        await store.namespace.buckets.set_versioning("box", "enabled")
        await store.put("a", 600_000)
        stats = [objects.stat("box", "a")]
        for key in ("b", "c", "d/e"):
            await objects.copy(("box", "a"), ("box", key), None, source_etag=stats[0].etag)
            store.objects[key] = store.objects["a"]
        # An older version, a part of an upload, and parts that were put together.
        old = store.objects["b"]
        first = objects.stat("box", "b")
        await store.put("b", 300_000)
        upload = await uploads.create("box", "big", ObjectMeta())
        parts = []
        for number, (start, stop) in enumerate([(0, 5), (100_000, 600_000)], 1):
            parts.append(
                await uploads.copy_part(
                    "box",
                    "big",
                    upload,
                    number,
                    ("box", "a"),
                    start,
                    stop,
                    source_etag=stats[0].etag,
                    digester=Md5Digester(),
                )
            )
        before = {key: objects.stat("box", key) for key in store.objects}
        shared = sorted(store.sharing().values())
        size = sum(run.size for run in store.named())
        async with store.watched():
            await store.drain(3)
            await store.left(store.drives[3])
        assert sorted(store.sharing().values()) == shared
        assert sum(run.size for run in store.named()) == size
        assert {key: objects.stat("box", key) for key in store.objects} == before
        assert await store.get("b", first.version_id) == old
        claims = [PartClaim(number=2, etag=parts[1].etag, checksums={})]
        await uploads.complete("box", "big", upload, claims)
        store.objects["big"] = store.objects["a"][100_000:]
        await store.check()
        await store.scrub()
    fault_row(
        "segments are rewritten under copies, versions, parts of uploads, open and unlinked files",
        client="nothing",
        status="rewriting",
    )


async def test_only_what_is_named_of_a_run_is_rewritten(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 4) as store:
        files = store.namespace.files
        body = bytearray(random.Random(1).randbytes(900_000))
        handle, _ = files.create(box(files), b"f", os.O_RDWR, 0o644, CALLER)
        await handle.write(0, bytes(body))
        await handle.flush()
        body[300_000:500_000] = bytes(200_000)
        body[300_000:500_000] = random.Random(2).randbytes(200_000)
        await handle.write(300_000, bytes(body[300_000:500_000]))
        await handle.flush()
        assert sum(run.size for run in store.named()) == 1_100_000
        etag = store.namespace.objects.stat("box", "f").etag
        await store.drain(0)
        await store.left(store.drives[0])
        assert sum(run.size for run in store.named()) == 900_000
        assert await read_back(handle, 900_000) == bytes(body)
        await handle.release()
        store.objects["f"] = bytes(body)
        assert store.namespace.objects.stat("box", "f").etag == etag
        await store.check()


@pytest.mark.slow
async def test_what_open_files_hold_is_rewritten_under_them(tmp_path: Path) -> None:
    """Written and not published, published and written over, unlinked: none is in the way."""
    async with open_whole(tmp_path, 4) as store:
        files = store.namespace.files
        first, second = random.Random(1).randbytes(5 * MIB), random.Random(2).randbytes(MIB)
        fresh, _ = files.create(box(files), b"fresh", os.O_RDWR, 0o644, CALLER)
        for at in range(0, len(first), 128 * KIB):
            await fresh.write(at, first[at : at + 128 * KIB])
        gone, _ = files.create(box(files), b"gone", os.O_RDWR, 0o644, CALLER)
        await gone.write(0, second)
        await gone.flush()
        files.unlink(box(files), b"gone")
        reader = store.namespace.objects
        await store.put("read", 700_000)
        opened = reader.open("box", "read")
        async with store.watched():
            await store.drain(1)
            await until(lambda: store.geometries() == {(1, 2)}, 30)
        assert await read_back(gone, MIB) == second
        assert await read_back(fresh, len(first)) == first
        await fresh.flush()
        store.objects["fresh"] = first
        # A reader of the old place reads on, since nothing is given back before it is through.
        parts = [b"".join(map(bytes, each)) async for each in opened.stream(0, 700_000)]
        assert b"".join(parts) == store.objects["read"]
        assert store.chunks.holds_members(store.drives[1])
        opened.close()
        await store.left(store.drives[1], 30)
        await fresh.release()
        await gone.release()
        await store.check()
        await store.settled()


async def test_a_pool_that_grew_is_rewritten_on_demand(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 3, 1) as store:
        await store.fill()
        drive = await store.chunks.add_drive(tmp_path / "more")
        await store.settled()
        assert store.geometries() == {(2, 1)}
        assert store.rebalancer.report().old_segments > 0
        async with store.watched():
            store.rebalancer.order("geometry")
            await store.settled()
        assert store.geometries() == {(3, 1)}
        assert store.rebalancer.report().want == ""
        await until(lambda: store.rebalancer.report().old_segments == 0)
        assert store.chunks.holds_members(drive)
        await store.check()
        await store.scrub()


@pytest.mark.slow
async def test_members_go_to_the_emptier_drive_until_all_are_filled_alike(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_whole(tmp_path, 4, 1, segment_bytes=4 * MIB) as store:
        await store.chunks.add_drive(tmp_path / "more")
        store.drives[4].draining = True
        for number in range(24):
            await store.put(f"k{number}", 3 * MIB + 1000 * number)
        store.chunks.keep(store.drives[4])
        assert not store.chunks.holds_members(store.drives[4])
        await store.settled()
        async with store.watched():
            store.rebalancer.order("even")
            await store.settled()
        levels = await held(store)
        assert max(levels) - min(levels) <= 3 * 4 * MIB, levels
        report = store.rebalancer.report()
        assert report.history[-1].moved_members > 3
        assert report.history[-1].rewritten_bytes == 0
        await store.check()
        await store.scrub()
    fault_row(
        "drives of other sizes are added, and members moved, under load, and the daemon "
        "is killed meanwhile",
        client="refused connections, then service",
        status="evening, how much is left",
    )


async def held(store: WholeStore) -> list[int]:
    """Bytes of members on each drive."""
    found = []
    for drive in store.drives:
        stored = await store.chunks.members.stored(drive)
        assert stored is not None
        found.append(sum(member.allocated_bytes for member in stored.values()))
    return found


@pytest.mark.slow
async def test_a_great_difference_is_evened_out_without_being_asked(tmp_path: Path) -> None:
    config = {"segment_bytes": 4 * MIB, "reserve_bytes": 0}
    async with open_whole(tmp_path, 3, 1, balances=False, **config) as store:
        await store.chunks.add_drive(tmp_path / "more")
        store.drives[3].draining = True
        for number in range(16):
            await store.put(f"k{number}", 3 * MIB)
        store.drives[3].draining = False
        for drive in store.drives:
            drive.free_bytes = 4 * 60 * MIB  # They share a file system.
        async with trio.open_nursery() as nursery:
            await nursery.start(store.rebalancer.run)
            await until(lambda: bool(store.rebalancer.report().history), 30)
            nursery.cancel_scope.cancel()
        assert 0 < store.rebalancer.report().spread_points < 10
        store.assert_whole()


@pytest.mark.slow
async def test_what_was_ordered_outlives_a_crash_and_can_be_given_up(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 4) as store:
        await store.fill(4)
        await store.chunks.add_drive(tmp_path / "drive4")
        await store.settled()
        store.rebalancer.limit(MIB)
        store.rebalancer.order("geometry")
        await until(lambda: (3, 2) in store.geometries(), 30)
        assert store.rebalancer.report().state == "rewriting"
        assert store.rebalancer.report().bytes_left > 0
        kept = dict(store.objects)
        await store.engine.barrier()
    async with open_whole(tmp_path, 5, fresh=False) as store:
        store.objects = kept
        async with store.watched():
            await store.settled()
        assert store.geometries() == {(3, 2)}
        await store.check()
        await store.scrub()
        # A pause holds until the next order.
        await store.chunks.add_drive(tmp_path / "drive5")
        store.rebalancer.pause()
        await store.settled()
        assert store.rebalancer.report().state == "paused"
        store.rebalancer.order("")
        await store.settled()
        assert store.geometries() == {(3, 2)}


async def test_without_room_it_waits_and_goes_on_when_there_is_some(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 4) as store:
        await store.fill(4)
        room = [True]
        before = store.rebalancer._rewriter._has_room

        def has_room(size: int) -> bool:
            return room[0] and before(size)

        store.rebalancer._rewriter._has_room = has_room
        room[0] = False
        await store.drain(0)
        await until(lambda: "no room" in store.rebalancer.report().cause, 30)
        assert store.rebalancer.report().state == "waiting"
        assert store.geometries() == {(2, 2)}
        room[0] = True
        store.rebalancer.wake()
        await store.left(store.drives[0])
        await store.check()
        assert issubclass(NoRoom, Exception)


@pytest.mark.slow
async def test_a_drive_that_fails_meanwhile_costs_no_redundancy(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_whole(tmp_path, 5, 2) as store:
        await store.fill(8)
        store.rebalancer.limit(4 * MIB)
        await store.drain(0)
        await until(lambda: (2, 2) in store.geometries(), 30)
        gone = store.rig.paths[4]
        gone.rename(gone.with_name("gone"))
        await store.rig.probe()
        store.rebalancer.limit(0)
        await until(lambda: store.rebalancer.report().state == "waiting", 30)
        assert "offline" in store.rebalancer.report().cause
        await store.check()
        gone.with_name("gone").rename(gone)
        await store.rig.probe()
        await store.chunks.pool.rejoin(store.drives[4])
        await store.healer.suspect([store.drives[4].id])
        await store.left(store.drives[0])
        await store.settled()
        store.assert_whole()
        await store.check()
    fault_row(
        "a drive goes away while segments are rewritten",
        client="nothing",
        status="waiting, for which drive",
    )


async def test_the_plan_of_a_drain_says_what_it_takes(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 4) as store:
        await store.fill(4)
        size = sum(map(len, store.objects.values()))
        found = await plan_drain(store.engine, store.chunks, store.drives[0])
        assert (found.k, found.m, found.lost_before, found.staying) == (1, 2, 2, 3)
        assert (found.rewritten_bytes, found.moved_bytes, found.fits) == (size, 0, True)
        for drive in store.drives:
            drive.free_bytes = drive.reserve_bytes
        assert not (await plan_drain(store.engine, store.chunks, store.drives[0])).fits


def test_moves_lessen_the_difference_and_end() -> None:
    noise = random.Random(3)
    drives = [object() for _ in range(6)]
    for _ in range(50):
        shelves = []
        for drive in drives:
            members = {n: noise.randrange(1, 100) for n in noise.sample(range(40), 12)}
            shelves.append(
                Shelf(
                    drive=drive,  # type: ignore[arg-type]
                    held_bytes=sum(members.values()),
                    free_bytes=noise.randrange(100, 2000),
                    members=members,  # type: ignore[arg-type]
                    shut=set(members),  # type: ignore[arg-type]
                )
            )
        before = spread(shelves)
        moves = plan(shelves, 1000)
        assert len(moves) < 1000
        assert spread(shelves) <= before
        for shelf in shelves:
            assert shelf.free_bytes >= 0
        assert plan(shelves, 1) == [] or len(moves) == 0


async def test_a_drive_that_is_missing_is_drained_too(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 4) as store:
        await store.fill(4)
        missing = store.drives[2]
        missing.io.path.rename(tmp_path / "gone")
        await store.rig.probe()
        await store.put("later", 500_000)
        assert store.geometries() == {(2, 2), (1, 2)}
        await store.drain(2)
        await store.left(missing)
        await store.chunks.pool.remove(missing.id)
        assert store.geometries() == {(1, 2)}
        await store.settled()
        store.assert_whole()
        await store.check()


async def test_what_cannot_be_read_is_left_and_told(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 3, 1) as store:
        await store.fill(3)
        rotten = store.named()[0]
        for path in store.rig.members(rotten)[:2]:
            with path.open("r+b") as file:
                file.seek(offset_of(rotten.id) + 5000)
                file.write(bytes(64))
        await store.drain(0)
        await until(lambda: "1 runs can't be read" in store.rebalancer.report().cause, 30)
        assert rotten.id in {run.id for run in store.named()}
        assert store.chunks.holds_members(store.drives[0])
        del store.objects["k0"]
        await store.namespace.objects.delete("box", "k0")
        store.rebalancer.wake()
        await store.left(store.drives[0])
        await store.check()


async def test_a_drive_that_is_kept_after_all_takes_new_segments_again(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 4) as store:
        await store.fill(6)
        drive = store.drives[1]
        store.rebalancer.limit(2 * MIB)
        await store.drain(1)
        await until(lambda: len(store.geometries()) == 2, 30)
        store.chunks.keep(drive)
        await store.healer.drain(drive, draining=False)
        store.rebalancer.limit(0)
        await store.settled()
        assert store.geometries() == {(2, 2), (1, 2)}
        await store.put("new", 500_000)
        (run,) = [run for run in store.named() if run.size == 500_000]
        assert drive.id in store.chunks.segment(segment_of(run.id)).members
        store.assert_whole()
        await store.check()


async def test_an_order_waits_for_a_drive_that_is_away(tmp_path: Path) -> None:
    async with open_whole(tmp_path, 3, 1) as store:
        await store.fill(3)
        await store.chunks.add_drive(tmp_path / "more")
        more = store.drives[3]
        (tmp_path / "more").rename(tmp_path / "gone")
        await more.check(store.chunks.pool.epoch)
        store.rebalancer.order("geometry")
        await until(lambda: "offline" in store.rebalancer.report().cause, 30)
        assert store.rebalancer.report().want == "geometry"
        (tmp_path / "gone").rename(tmp_path / "more")
        await more.check(store.chunks.pool.epoch)
        await store.chunks.pool.rejoin(more)
        await store.settled()
        assert store.geometries() == {(3, 1)}
        await store.check()
