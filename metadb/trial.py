"""Whether the drives answer at all, found out before anything waits for one of them.

And what another process, or another life of this one, wrote to them is made durable here, where
nobody knows any more which files that was.

A drive may answer reads from memory and let writes hang for ever. Opening the metadata writes on
the loop, and to each copy, so the daemon has every drive tried in a thread of its own first. What
hangs beyond the deadline is left out; what fails at once is not: opening finds out, and says how.
Concurrency: the loop. A thread that hangs is abandoned.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from metadb.recovery import CopyPlace

_TRIAL = "trial"
_LIBC = ctypes.CDLL(None, use_errno=True)


async def hanging(places: Sequence[CopyPlace], deadline_s: float) -> list[CopyPlace]:
    """Those places whose drive does not take a small file within the deadline."""
    return await _ask(places, write_trial, deadline_s)


async def sync_whole(places: Sequence[CopyPlace], deadline_s: float) -> list[CopyPlace]:
    """Make all durable that was written to these drives; those where that hangs or fails."""
    return await _ask(places, sync_drive, deadline_s)


async def _ask(
    places: Sequence[CopyPlace], work: Callable[[Path], object], deadline_s: float
) -> list[CopyPlace]:
    """Have each drive do something, all at once; those that did not, within the deadline."""
    answered: set[str] = set()
    limiter = trio.CapacityLimiter(max(1, len(places)))

    async def ask(place: CopyPlace) -> None:
        with contextlib.suppress(OSError):
            await trio.to_thread.run_sync(work, place.path, abandon_on_cancel=True, limiter=limiter)
            answered.add(place.drive)

    with trio.move_on_after(deadline_s):
        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(ask, place)
    return [place for place in places if place.drive not in answered]


def write_trial(folder: Path) -> None:
    """Make a small file durable in a folder, and remove it. What fails is none of our business."""
    path = folder / _TRIAL
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"x")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink()


def sync_drive(folder: Path) -> None:
    """All of the file system that a folder is on. Raises OSError. See syncfs(2)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor):
            raise OSError(ctypes.get_errno(), f"{folder} can't be synced")
    finally:
        os.close(descriptor)
