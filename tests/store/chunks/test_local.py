"""The service around the drives: probing by itself, room, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from store.chunks.buffers import tune_allocator
from store.chunks.label import format_drives
from store.chunks.local import LocalChunks
from store.chunks.pool import open_drives
from store.chunks.types import DriveState, Owner
from tests.store.chunks.rig import OpenRig, get, pattern, put

MIB = 1 << 20


async def test_a_vanished_drive_is_noticed_without_being_used(rig: OpenRig) -> None:
    async with rig(probe_interval_s=0.01) as opened:
        opened.paths[2].rename(opened.paths[2].with_suffix(".away"))
        with trio.fail_after(20):
            while opened.chunks.status()[2].state is not DriveState.OFFLINE:  # noqa: ASYNC110
                await trio.sleep(0.002)


async def test_drives_on_one_file_system_share_its_room(rig: OpenRig) -> None:
    async with rig(reserve_bytes=0) as opened:
        await opened.probe()
        device = opened.chunks.status()[0]
        total, free = opened.chunks.usable_bytes()
        # Four folders, 2+2: half of the room they share.
        assert total <= device.total_bytes // 2
        assert device.free_bytes // 2 - 64 * MIB < free <= device.free_bytes // 2 + 64 * MIB


async def test_streams_at_once_fill_a_segment_before_they_take_the_next(rig: OpenRig) -> None:
    body, count = pattern(3 * MIB), 40
    async with rig(segment_bytes=16 * MIB, stripe_bytes=MIB // 4) as opened:
        runs = []

        async def stream() -> None:
            runs.append(await put(opened.chunks, body, hint=len(body)))

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(stream)
        # 120 MiB as 2+2 are 60 MiB a member, and a bit more for headers.
        assert len(list(opened.paths[0].rglob("*.seg"))) <= 5, "reserved and not written to"
        assert [await get(opened.chunks, each) for each in runs] == [body] * count


async def test_nothing_is_appended_without_the_service(tmp_path: Path) -> None:
    paths = [tmp_path / "drive"]
    format_drives(paths)
    pool = open_drives(paths)
    appender = LocalChunks(pool).appender(Owner())
    await appender.append(b"x")
    with pytest.raises(RuntimeError, match="not running"):
        await appender.finish(durable=True)
    pool.close()


async def test_adopt_comes_before_the_first_append(rig: OpenRig) -> None:
    async with rig() as opened:
        await put(opened.chunks, pattern(10))
        with pytest.raises(RuntimeError, match="before the first append"):
            await opened.chunks.adopt([], {})


async def test_a_spent_appender_is_refused(rig: OpenRig) -> None:
    async with rig() as opened:
        appender = opened.chunks.appender(Owner())
        await appender.append(b"x")
        await appender.finish(durable=False)
        with pytest.raises(RuntimeError, match="spent"):
            await appender.append(b"y")
        with pytest.raises(RuntimeError, match="spent"):
            await appender.finish(durable=False)
        await appender.abandon()


def test_the_allocator_takes_its_settings() -> None:
    assert tune_allocator()
