"""The lock that pyfuse3's tasks take turns behind."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fusefs.readlock import ReadLock


@pytest.fixture
def lock() -> ReadLock:
    return ReadLock()


@pytest.fixture(autouse=True)
async def instrumented(lock: ReadLock) -> None:
    trio.lowlevel.add_instrument(lock)


async def test_who_lets_go_without_waiting_takes_it_again(
    lock: ReadLock, nursery: trio.Nursery
) -> None:
    turns: list[str] = []

    async def read(name: str) -> None:
        async with lock:
            turns.append(name)

    async with lock:
        nursery.start_soon(read, "other")
        await trio.testing.wait_all_tasks_blocked()
    async with lock:
        turns.append("same")
    await trio.testing.wait_all_tasks_blocked()
    assert turns == ["same", "other"]


async def test_who_waits_for_something_else_hands_it_on(
    lock: ReadLock, nursery: trio.Nursery
) -> None:
    reading, slow = trio.Event(), trio.Event()

    async def work() -> None:
        async with lock:
            await trio.lowlevel.checkpoint()
        await slow.wait()

    async def read() -> None:
        async with lock:
            reading.set()
            await trio.sleep_forever()

    nursery.start_soon(work)
    await trio.lowlevel.checkpoint()
    nursery.start_soon(read)
    with trio.fail_after(2):
        await reading.wait()
    nursery.cancel_scope.cancel()


async def test_who_ends_hands_it_on_to_one_after_the_other(lock: ReadLock) -> None:
    ended: list[int] = []

    async def read(number: int) -> None:
        async with lock:
            ended.append(number)

    with trio.fail_after(2):
        async with trio.open_nursery() as nursery, lock:
            for number in range(5):
                nursery.start_soon(read, number)
            await trio.testing.wait_all_tasks_blocked()
    assert sorted(ended) == [0, 1, 2, 3, 4]


async def test_it_is_held_by_one_at_a_time(lock: ReadLock) -> None:
    inside = 0

    async def read() -> None:
        nonlocal inside
        for turn in range(20):
            async with lock:
                inside += 1
                assert inside == 1
                await trio.lowlevel.checkpoint()
                inside -= 1
            if turn % 3 == 0:
                await trio.lowlevel.checkpoint()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(read)


async def test_a_cancelled_waiter_is_passed_over(lock: ReadLock, nursery: trio.Nursery) -> None:
    got = trio.Event()

    async def read() -> None:
        async with lock:
            got.set()

    scope = trio.CancelScope()

    async def read_until_cancelled() -> None:
        with scope:
            await read()

    async with lock:
        nursery.start_soon(read_until_cancelled)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert not got.is_set()
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(2):
        await got.wait()
