"""Blocking calls in threads, with a deadline that a hung drive can't outlast.

`fan_out` starts one thread per call and wakes the loop once, when the last is done: a task and
a wake-up for each would cost more than most of the calls. It can't be cancelled from outside,
since a thread can't be stopped; it ends when all calls have ended or at its deadline, whichever
is sooner. A thread that hangs beyond the deadline is abandoned: what it works on must not be
used for anything else afterwards.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import outcome
import trio

T = TypeVar("T")


class Hung(Generic[T]):
    """The outcome of a call that did not end in time."""

    def unwrap(self) -> T:
        raise TimeoutError("no answer within the deadline")


class NoMemory(OSError, MemoryError):
    """There was no memory for a call, or for a thread to run it in. No drive is to blame."""

    def __init__(self) -> None:
        super().__init__(errno.ENOMEM, "no memory is left to the daemon")


Outcome = outcome.Value[T] | outcome.Error | Hung[T]


async def fan_out(calls: Sequence[Callable[[], T]], deadline_s: float) -> list[Outcome[T]]:
    """Run all `calls` in threads at once; their outcomes in order, `Hung` for those not done."""
    if not calls:
        return []
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()
    outcomes: list[Outcome[T]] = [Hung()] * len(calls)
    ended: list[int] = []

    def deliver(index: int, result: outcome.Outcome[T]) -> None:
        # Runs in the worker thread. Two threads may both see the full count: setting twice is
        # harmless, and list.append needs no lock.
        assert isinstance(result, outcome.Value | outcome.Error)
        if isinstance(result, outcome.Error) and isinstance(result.error, MemoryError):
            result = outcome.Error(NoMemory())
        outcomes[index] = result
        ended.append(index)
        if len(ended) == len(calls):
            try:
                token.run_sync_soon(done.set)
            except trio.RunFinishedError:
                return  # The loop ended before a thread that it had given up.

    for index, call in enumerate(calls):
        try:
            trio.lowlevel.start_thread_soon(call, partial(deliver, index))
        except (RuntimeError, MemoryError):  # threading's words for a thread that can't be made
            deliver(index, outcome.Error(NoMemory()))
    with trio.CancelScope(shield=True, deadline=trio.current_time() + deadline_s):
        await done.wait()
    return list(outcomes)


async def in_thread(call: Callable[[], T], deadline_s: float) -> T:
    """One call in a thread. Raises what it raises, TimeoutError when it hangs."""
    (result,) = await fan_out([call], deadline_s)
    return result.unwrap()
