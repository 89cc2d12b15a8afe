"""Whose turn it is to read the next request: pyfuse3's lock, at one wake-up a request.

pyfuse3's tasks take turns behind a lock, and trio's lock is fair: after each request it wakes the
next task, which then waits for the kernel, so that every request costs three rounds of the loop.
Here a task that answered without waiting goes on reading, and the others sleep.
Invariant: at the end of a task's step the lock is held, or nobody waits for it. A task that let
go of it and then waits for drives, or ends, so hands it on, whatever it waits for.
Concurrency: one trio loop. The task that holds the lock waits for the kernel in the loop's own
way, so that all other tasks get their turns between two requests.
Source: pyfuse3's internal.pxi, _wait_fuse_readable; its seam is the module's `trio`, by which
pyfuse3 itself exchanges trio for asyncio; trio's instrument API.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pyfuse3
import trio


class ReadLock(trio.abc.Instrument):
    """A lock for `async with`, unfair to those who wait. See the module's header."""

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        if self._held:
            await self._waiting.park()  # Who wakes us has left it held, for us.
        else:
            self._held = True

    async def __aexit__(self, *_: object) -> None:
        self._held = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio after every step of every task."""
        if not self._held and self._waiting:
            self._held = True
            self._waiting.unpark()


@contextmanager
def one_wakeup_a_request() -> Iterator[None]:
    """Have `pyfuse3.main` take turns behind a `ReadLock` while this is entered."""
    lock = ReadLock()
    usual = pyfuse3.trio  # type: ignore[attr-defined]
    pyfuse3.trio = SimpleNamespace(  # type: ignore[attr-defined]
        Lock=lambda: lock,
        lowlevel=trio.lowlevel,
        open_nursery=trio.open_nursery,
        ClosedResourceError=trio.ClosedResourceError,
    )
    trio.lowlevel.add_instrument(lock)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(lock)
        pyfuse3.trio = usual  # type: ignore[attr-defined]
