"""Whether the drives answer at all, found out before anything waits for one of them.

A drive may answer reads from memory and let writes hang for ever. Opening the metadata writes on
the loop, and to each copy, so the daemon has every drive tried in a thread of its own first. What
hangs beyond the deadline is left out; what fails at once is not: opening finds out, and says how.
Concurrency: the loop. A thread that hangs is abandoned.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import trio

from metadb.recovery import CopyPlace

_TRIAL = "trial"


async def hanging(places: Sequence[CopyPlace], deadline_s: float) -> list[CopyPlace]:
    """Those places whose drive does not take a small file within the deadline."""
    answered: set[str] = set()
    limiter = trio.CapacityLimiter(max(1, len(places)))

    async def ask(place: CopyPlace) -> None:
        await trio.to_thread.run_sync(
            write_trial, place.path, abandon_on_cancel=True, limiter=limiter
        )
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
