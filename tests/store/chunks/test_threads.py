"""Threads are waited for all together, and given up at the deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import outcome
import pytest
import trio

from store.chunks.threads import Hung, fan_out, in_thread


def refuse() -> int:
    raise OSError(5, "no")


async def test_results_and_errors_come_in_order() -> None:
    calls: list[Callable[[], int]] = [partial(int, "1"), refuse, partial(int, "3")]
    first, second, third = await fan_out(calls, 20)
    assert first.unwrap() == 1
    assert isinstance(second, outcome.Error)
    assert third.unwrap() == 3


async def test_no_calls_need_no_wait() -> None:
    assert await fan_out([], 20) == []


async def test_a_hung_call_is_given_up_and_the_others_count() -> None:
    let_go = threading.Event()
    try:
        calls: list[Callable[[], bool]] = [let_go.wait, partial(bool, 1)]
        hung, done = await fan_out(calls, 0.05)
        assert isinstance(hung, Hung)
        assert done.unwrap() is True
        with pytest.raises(TimeoutError):
            await in_thread(let_go.wait, 0.01)
    finally:
        let_go.set()


async def test_a_cancelled_task_still_waits_for_its_thread() -> None:
    done: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await in_thread(partial(done.append, 1), 20)
    assert done == [1]
