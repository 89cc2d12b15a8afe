"""Stripes that gather while others are being written go out together, and come back together."""

from __future__ import annotations

import trio

from store.chunks.types import Owner
from tests.store.chunks.rig import EIO, FaultyIO, OpenRig, Rig, get, pattern

MIB = 1 << 20


def hold_writes(rig: Rig) -> list[FaultyIO]:
    """Have the writes of all drives wait."""
    ios = [rig.io(index) for index in range(4)]
    for io in ios:
        io.hanging.add("write")
    return ios


def let_writes_go(ios: list[FaultyIO]) -> None:
    for io in ios:
        io.hanging.clear()
        io.let_go.set()


async def test_stripes_that_gather_are_one_write_a_member(rig: OpenRig) -> None:
    body = pattern(5 * MIB + 1000)
    async with rig() as opened:
        ios = hold_writes(opened)
        appender = opened.chunks.appender(Owner())
        for start in range(0, len(body), MIB):
            await appender.append(body[start : start + MIB])
        let_writes_go(ios)
        runs = await appender.finish(durable=True)
        assert await get(opened.chunks, runs) == body
        # The first stripe alone, the four that gathered meanwhile, and the rest.
        assert [io.calls["write"] for io in ios] == [3, 3, 3, 3]
        assert opened.chunks.stripe_count == 6


async def test_a_batch_that_too_few_members_took_is_written_again_whole(rig: OpenRig) -> None:
    body = pattern(7 * MIB)
    async with rig() as opened:
        ios = hold_writes(opened)
        appender = opened.chunks.appender(Owner())
        for start in range(0, 5 * MIB, MIB):
            await appender.append(body[start : start + MIB])
        for io in ios[:2]:
            io.fail("write", EIO)
        let_writes_go(ios)
        with trio.fail_after(60):
            for start in range(5 * MIB, len(body), MIB):
                await appender.append(body[start : start + MIB])
            runs = await appender.finish(durable=True)
        assert sum(run.size for run in runs) == len(body)
        assert await get(opened.chunks, runs) == body
