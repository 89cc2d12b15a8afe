"""A thread that sees when the loop hangs, and ends a process that can't go on.

Nearly all I/O happens in threads, with deadlines. What SQLite writes for a transaction it writes
on the loop, into the kernel's memory as a rule; but a drive that stops answering can make that
wait, and with it everything. Nobody can end such a wait: neither exec(2) nor an exception gets past
a thread that sleeps in the kernel, and even SIGKILL leaves that one thread, with all that the
process has open. So this thread

    says after LATE_S in the log where the loop hangs, or is busy;
    at the deadline closes sockets, the mount and all locks, so that nobody is answered any more,
      programs on the mount get errors and the store can be opened by another process;
    keeps what was answered and is not on the copies yet (`metadb.journal`) in the state folder,
      for the next process;
    where systemd supervises, starts that process and tells systemd of it (MAINPID);
    ends this process by SIGKILL. Other supervisors start the next one.

The next start tries each drive before it trusts it (`daemon.patience`, `metadb.trial`).
Invariants:
  L1 only a thread that does not run at all counts as one that hangs: not one that computes, not a
     process that was stopped, not a machine that was asleep. So beats of this very thread are
     counted in which the loop's used no CPU time;
  L2 what was answered before the sockets were closed is in the journal that is handed over;
  L3 a journal is taken once, by the next process, in the same life of the machine.
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
from pathlib import Path
from typing import NoReturn

import trio

from daemon.notify import Notifier

log = logging.getLogger(__name__)

LATE_S = 5.0
_BEAT_S = 1.0
_RELEASE_S = 2.0
_KEEP_S = 10.0
# Less CPU time than this in a beat is none: being looked at takes some, too.
_RUNS_S = 100e-6
_FRAMES = 4
_ANSWERED = "answered"


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


def leave_to_another(notifier: Notifier, journal: Callable[[], bytes], folder: Path) -> NoReturn:
    """Give everything up and end this process; where systemd supervises, start the next one.

    journal: gives what was answered and is not on the copies yet. folder: the state folder.
    """
    try:
        _try_for(_RELEASE_S, _release)
        _try_for(_KEEP_S, lambda: _keep(folder / _ANSWERED, journal()))
        if notifier.supervised:
            notifier.main_process(_start_another())
    except OSError as error:
        log.critical("no other process could be started: %s", error)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # Not reached: the signal ends this thread, too.
    os._exit(1)


def inherited_journal(folder: Path) -> bytes:
    """What the process before this one kept in the state folder, once; empty as a rule."""
    path = folder / _ANSWERED
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    # Taken twice, after another start has done what is in it, it would be done twice.
    path.unlink()
    _sync(folder)
    return content


def _keep(path: Path, journal: bytes) -> None:
    with open(path, "wb") as file:
        file.write(journal)
        file.flush()
        os.fdatasync(file.fileno())
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_for(deadline_s: float, work: Callable[[], None]) -> None:
    """It may be this that hangs next: then what follows comes without it."""

    def run() -> None:
        try:
            work()
        except OSError as error:
            log.critical("giving up: %s", error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(deadline_s)


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


def _start_another() -> int:
    """The same command once more; its process id."""
    environment = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}
    return subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment).pid
