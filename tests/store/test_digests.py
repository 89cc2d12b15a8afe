"""A lane hashes everything in order, and tells how far behind it is."""

from __future__ import annotations

import gc
import hashlib
import threading

import pytest
import trio

from store.chunks.threads import NoMemory
from store.digests import DigestLane, DigestThreads, RunningMd5

PIECE = bytes(range(256)) * 4096


async def test_a_lane_hashes_all_pieces_in_order() -> None:
    md5, expected = hashlib.md5(), hashlib.md5()
    lane = DigestLane(md5.update, DigestThreads(1))
    for index in range(20):
        piece = PIECE[index:]
        expected.update(piece)
        lane.feed(piece)
        await lane.room(2 << 20)
        assert lane.behind_bytes <= 2 << 20
    await lane.room(0)
    assert md5.digest() == expected.digest()
    assert lane.behind_bytes == 0


async def test_lanes_take_turns_when_there_are_fewer_threads() -> None:
    threads = DigestThreads(1)
    digests = [hashlib.md5() for _ in range(3)]
    lanes = [DigestLane(digest.update, threads) for digest in digests]

    async def feed(lane: DigestLane) -> None:
        for _ in range(12):
            lane.feed(PIECE)
            await lane.room(threads.ahead_bytes)
        await lane.room(0)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(feed, lane)
    assert {digest.digest() for digest in digests} == {hashlib.md5(PIECE * 12).digest()}


async def test_room_waits_while_the_thread_is_behind() -> None:
    gate = threading.Event()
    lane = DigestLane(lambda piece: gate.wait(10), DigestThreads(1))
    lane.feed(PIECE)
    lane.feed(PIECE)
    await lane.room(2 * len(PIECE))
    with trio.move_on_after(0.05) as waited:
        await lane.room(len(PIECE))
    assert waited.cancelled_caught
    assert lane.behind_bytes == 2 * len(PIECE)
    gate.set()
    with trio.fail_after(10):
        await lane.room(0)


async def test_what_goes_wrong_in_the_thread_is_told_to_who_waits() -> None:
    def fail(piece: object) -> None:
        raise MemoryError

    lane = DigestLane(fail, DigestThreads(1))
    lane.feed(PIECE)
    with pytest.raises(MemoryError):
        await lane.room(0)


def test_the_more_lanes_the_less_each_runs_ahead() -> None:
    threads = DigestThreads(1, least=1 << 20, most=4 << 20, total=8 << 20)
    lanes = [DigestLane(hashlib.md5().update, threads)]
    assert threads.ahead_bytes == 4 << 20
    lanes += [DigestLane(hashlib.md5().update, threads) for _ in range(3)]
    assert threads.ahead_bytes == 2 << 20
    lanes += [DigestLane(hashlib.md5().update, threads) for _ in range(60)]
    assert threads.ahead_bytes == 1 << 20
    lanes.clear()
    gc.collect()
    assert threads.ahead_bytes == 4 << 20


@pytest.mark.parametrize("size", [100, 100_000])
async def test_running_md5_is_that_of_all_pieces(size: int) -> None:
    md5, whole = RunningMd5(), b""
    for index in range(8):
        piece = bytes([index]) * (size >> (index % 3))
        whole += piece
        md5.feed(piece)
    assert md5.position == len(whole)
    await md5.settle()
    assert md5.settled
    assert md5.hexdigest() == hashlib.md5(whole).hexdigest()


async def test_a_thread_that_cannot_be_made_is_told_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    threads = DigestThreads(1)
    lane = DigestLane(hashlib.md5().update, threads)
    with monkeypatch.context() as short, trio.fail_after(10):
        short.setattr(trio.lowlevel, "start_thread_soon", refuse)
        lane.feed(PIECE)
        with pytest.raises(NoMemory):
            await lane.room(0)
    other = hashlib.md5()
    lane = DigestLane(other.update, threads)
    with trio.fail_after(10):
        lane.feed(PIECE)
        await lane.room(0)
    assert other.digest() == hashlib.md5(PIECE).digest()
