"""When to stop, and who may run: signals and the lock of the state folder.

Concurrency: `StopRequest` is set by its own task; anybody may wait for it.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

log = logging.getLogger(__name__)

# A terminal that closes (SIGHUP) should leave no mount behind, so it stops us like the others.
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StartError(Exception):
    """The daemon can't start, go on, or stop in order. The text is one sentence for people."""


class StopRequest:
    """requested: set by the first signal. hurry: set by the second: wait for nobody any more."""

    def __init__(self) -> None:
        self.requested = trio.Event()
        self.hurry = trio.Event()

    async def listen(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Turn signals into events; for ever."""
        with trio.open_signal_receiver(*_STOP_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                if self.requested.is_set():
                    log.warning("%s again: stopping in a hurry", signal.Signals(number).name)
                    self.hurry.set()
                else:
                    log.info("%s: stopping", signal.Signals(number).name)
                    self.requested.set()


def prepare_process() -> None:
    """Before anything is opened: as many open files as we may have, and no file for others."""
    # What was imported stays for good. Looked through for garbage again and again, its hundred
    # thousand objects held the loop for 80 ms and more, once every some ten thousand requests.
    gc.freeze()
    os.umask(0o077)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make the state folder if it isn't there, and be its only user. Raises StartError.

    The lock is the kernel's (flock(2)): it is gone when the process is, however it ended.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"{folder} can't be used for state: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"another daemon uses {folder} already") from None
        yield
    finally:
        os.close(lock)
