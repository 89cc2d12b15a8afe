"""A thread that sees when the loop hangs, and ends a process that can't go on.

Nearly all I/O happens in threads, with deadlines. What SQLite writes for a transaction it writes
on the loop, into the kernel's memory as a rule; but a drive that stops answering can make that
wait, and with it everything. Nobody can end such a wait: neither exec(2) nor an exception gets past
a thread that sleeps in the kernel, and even SIGKILL leaves that one thread, with all that the
process has open. So this thread

    says after LATE_S in the log where the loop hangs, or is busy;
    at the deadline closes sockets, the mount and all locks, so that nobody is answered any more,
      programs on the mount get errors and the store can be opened by another process;
    where systemd supervises, starts that process and tells systemd of it (MAINPID), handing it what
      was answered and is not on the copies yet (`metadb.journal`);
    ends this process by SIGKILL. Other supervisors start the next one.

The next start tries each drive before it trusts it (`daemon.patience`, `metadb.trial`).
Invariants:
  L1 only a thread that does not run at all counts as one that hangs: not one that computes, not a
     process that was stopped, not a machine that was asleep. So beats of this very thread are
     counted in which the loop's used no CPU time;
  L2 what was answered before the sockets were closed is in the journal that is handed over.
Concurrency: a thread of its own; it needs the GIL, which SQLite and `os` give back while they wait.
Source: sd_notify(3); proc_pid_fd(5); pthread_getcpuclockid(3).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import trio

from daemon.notify import Notifier

log = logging.getLogger(__name__)

LATE_S = 5.0
_BEAT_S = 1.0
_RELEASE_S = 2.0
# Less CPU time than this in a beat is none: being looked at takes some, too.
_RUNS_S = 100e-6
_FRAMES = 4
JOURNAL_FD = "TWOFOLD_JOURNAL_FD"


class LoopWatch:
    """See the module. give_up is called once, in the watching thread, when the deadline is over."""

    def __init__(
        self, deadline_s: float, give_up: Callable[[], None], *, beat_s: float = _BEAT_S
    ) -> None:
        self._deadline_s = deadline_s
        self._give_up = give_up
        self._beat_s = beat_s
        self._beaten = True
        self._ended = threading.Event()
        self._loop_thread = 0
        self._cpu_clock = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Say that the loop turns, for ever, and have a thread listen."""
        self._loop_thread = threading.get_ident()
        self._cpu_clock = time.pthread_getcpuclockid(self._loop_thread)
        threading.Thread(target=self._listen, name="loop watch", daemon=True).start()
        try:
            task_status.started()
            while True:
                self._beaten = True
                await trio.sleep(self._beat_s / 2)
        finally:
            self._ended.set()

    def _listen(self) -> None:
        late_s, still_s, ran_s, told = 0.0, 0.0, 0.0, False
        while not self._ended.wait(self._beat_s):
            if self._beaten:
                if told:
                    log.warning("the loop goes on, after %.0f s", late_s)
                self._beaten, late_s, still_s, told = False, 0.0, 0.0, False
                continue
            late_s += self._beat_s
            now_s = time.clock_gettime(self._cpu_clock)
            still_s = still_s + self._beat_s if now_s - ran_s < _RUNS_S else 0.0
            ran_s = now_s
            if late_s >= LATE_S and not told:
                told = True
                state = "hangs" if still_s else "is busy"
                log.error("the loop %s for %.0f s %s", state, late_s, self._where())
            if still_s >= self._deadline_s:
                log.critical("the loop hangs for %.0f s: giving up %s", late_s, self._where())
                self._give_up()
                return

    def _where(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None:
            return "(nowhere to be found)"
        places = traceback.extract_stack(frame)[-_FRAMES:]
        return "in " + " < ".join(
            f"{place.name} ({os.path.basename(place.filename)}:{place.lineno})"
            for place in reversed(places)
        )


def leave_to_another(notifier: Notifier, journal: Callable[[], bytes]) -> NoReturn:
    """Give everything up and end this process; where systemd supervises, start the next one.

    journal: gives what was answered and is not on the copies yet.
    """
    releasing = threading.Thread(target=_release, daemon=True)
    releasing.start()
    releasing.join(_RELEASE_S)
    try:
        if notifier.supervised:
            notifier.main_process(_start_another(journal()))
    except OSError as error:
        log.critical("no other process could be started: %s", error)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # Not reached: the signal ends this thread, too.
    os._exit(1)


def _release() -> None:
    """Close sockets, the mount and locks. In this order: first nobody is answered any more."""
    targets: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            targets[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    for matches in (_is_socket, _is_mount, _is_lock):
        for descriptor, target in targets.items():
            if descriptor > 2 and matches(target):
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _is_socket(target: str) -> bool:
    return target.startswith("socket:")


def _is_mount(target: str) -> bool:
    return target == "/dev/fuse"


def _is_lock(target: str) -> bool:
    return target.endswith("/lock")


def _start_another(journal: bytes) -> int:
    """The same command once more; its process id."""
    descriptor = os.memfd_create("journal", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(journal)
    environment = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}
    environment[JOURNAL_FD] = str(descriptor)
    command = [sys.executable, *sys.orig_argv[1:]]
    return subprocess.Popen(command, env=environment, pass_fds=[descriptor]).pid


def inherited_journal() -> bytes:
    """What the process before this one handed over; empty as a rule."""
    given = os.environ.pop(JOURNAL_FD, "")
    if not given.isdigit():
        return b""
    try:
        with open(int(given), "rb") as file:
            file.seek(0)
            return file.read()
    except OSError as error:
        log.error("what the process before this one handed over can't be read: %s", error)
        return b""
