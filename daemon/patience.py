"""Drives that do not answer are left out at the start, instead of holding it up for ever.

`open_drives` looks at one drive after the other. Here each look has a deadline; one that passes it
counts as missing, and comes back as any drive that was away when it answers again.
Concurrency: blocking, for threads; a thread that hangs is abandoned.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import TypeVar

import outcome

from store.chunks.drive_io import DriveIO, Probe
from store.chunks.label import Label
from store.chunks.threads import NoMemory

T = TypeVar("T")

ANSWER_S = 30.0
"""A drive that has to spin up first takes up to 15 s, one that is busy as well some more."""


class PatientIO(DriveIO):
    """A drive whose label is waited for only so long."""

    def attach(self) -> Label | None:
        """As `DriveIO.attach`; raises TimeoutError too."""
        return within(ANSWER_S, super().attach)

    def probe(self) -> Probe:
        """As `DriveIO.probe`; raises TimeoutError too."""
        return within(ANSWER_S, super().probe)


def within(deadline_s: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises in a thread, if it does so in time.

    Raises TimeoutError, NoMemory.
    """
    found: list[outcome.Outcome[T]] = []
    # A daemon thread, so that it can't keep the process from ending.
    thread = threading.Thread(target=lambda: found.append(outcome.capture(work)), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # threading's words for a thread that can't be made
        raise NoMemory from None
    thread.join(deadline_s)
    if not found:
        raise TimeoutError(errno.ETIMEDOUT, "it does not answer")
    return found[0].unwrap()
