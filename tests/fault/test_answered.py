"""The primary's drive fails in a storm of calls on the mount: nothing that was answered is lost.

None of the programs syncs anything: what a call was told is durable within a second, and here
the drive goes before. Each program knows what it was told; of the one call that the failure answers
with an error, either outcome will do.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import HAS_FUSE, DaemonHarness
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.loops import LoopDrive
from tests.fault.watching import primary_drive, wait_ready, wait_until
from tests.faultrows import FaultRow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_FUSE, reason="there is no /dev/fuse to mount with"),
]
MiB = 1 << 20
BUCKET = "bucket"
_PROGRAMS = 3
_SIZES = (10, 3_000, 0, 40_000, 500)
_GAP_S = 5.0


class Program:
    """Makes, replaces, renames and removes files in a directory of its own, until a call fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.calls = 0
        self.error: OSError | None = None
        # Where the call that failed may have come: what is here either way is not looked at.
        self.doubtful: set[str] = set()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.folder.mkdir()
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"{self.folder}: a call hangs"

    def _run(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            name = f"f{number % 40}"
            try:
                if name in self.files and number % 3 == 0:
                    self._rename(name, f"{name}-{number}")
                elif name in self.files and number % 7 == 0:
                    self._unlink(name)
                else:
                    self._write(name, number)
            except OSError as error:
                self.error = error
                return
            self.calls += 1

    def _write(self, name: str, number: int) -> None:
        body = bytes([number % 251]) * _SIZES[number % len(_SIZES)]
        self.doubtful = {name}
        (self.folder / name).write_bytes(body)
        self.files[name] = body

    def _rename(self, name: str, new: str) -> None:
        self.doubtful = {name, new}
        os.rename(self.folder / name, self.folder / new)
        self.files[new] = self.files.pop(name)

    def _unlink(self, name: str) -> None:
        self.doubtful = {name}
        os.unlink(self.folder / name)
        del self.files[name]

    def differences(self) -> list[str]:
        """What is not as it was told. After the mount is there again."""
        doubtful = self.doubtful if self.error is not None else set()
        found = {name: (self.folder / name).read_bytes() for name in os.listdir(self.folder)}
        return [
            f"{name}: {len(body)} bytes, found {None if name not in found else len(found[name])}"
            for name, body in self.files.items()
            if name not in doubtful and found.get(name) != body
        ] + [f"{name}: removed" for name in found.keys() - self.files.keys() - doubtful]


class Putter(Program):
    """Puts small objects without retries."""

    def __init__(self, folder: Path, client: Any) -> None:
        super().__init__(folder)
        self._client = client

    def _run(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            name, body = f"o{number}", bytes([number % 251]) * 700
            self.doubtful.add(name)
            try:
                self._client.put_object(Bucket=BUCKET, Key=f"{self.folder.name}/{name}", Body=body)
            except Exception:
                continue
            self.doubtful.discard(name)
            self.files[name] = body
            self.calls += 1

    def differences(self) -> list[str]:
        self.error = OSError("some were refused")
        return super().differences()


def unplug(drive: LoopDrive) -> None:
    """Every write fails, and every read that goes to the drive."""
    drive.unplug()


def turn_read_only(drive: LoopDrive) -> None:
    """The file system finds an error in itself."""
    drive.fail()


@pytest.mark.parametrize(
    "fail", [unplug, *([turn_read_only] if "TWOFOLD_FULL" in os.environ else [])]
)
def test_what_the_mount_answered_is_there_when_the_primary_fails_under_load(
    loops: MakeLoops,
    daemon: StartDaemon,
    fail: Callable[[LoopDrive], None],
    fault_row: FaultRow,
) -> None:
    drives = loops(4, 256 * MiB)
    # Nothing would have been flushed by the timer.
    harness = daemon(settings={"metadata.flush_interval_s": 30.0})
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    box = harness.mount / BUCKET
    programs = [Program(box / f"p{number}") for number in range(_PROGRAMS)]
    putter = Putter(box / "puts", harness.client())
    lost = primary_drive(harness)
    for each in programs:
        each.start()
    # Puts would make durable what programs did: this one comes late, and alone at first.
    wait_calls(programs, 300)
    putter.start()
    wait_calls(programs, 330)
    fail(drives[lost])
    wait_until(lambda: harness.status()["restarts"] == 1, "another copy is primary", harness)
    wait_ready(harness)
    for each in [*programs, putter]:
        each.end()
    assert [each.differences() for each in [*programs, putter]] == [[]] * (_PROGRAMS + 1)
    assert primary_drive(harness) != lost
    assert gap_s(harness) < _GAP_S
    # And it is on the copies now: without the power none of it goes.
    (box / "last").write_bytes(b"x")
    descriptor = os.open(box / "last", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    restarts = harness.status()["restarts"]
    harness.kill()
    harness.start()
    lost_changes = [line for each in [*programs, putter] for line in each.differences()]
    assert lost_changes == []
    fault_row(
        "the primary's drive fails every call, or turns read-only, in a storm of calls on a mount",
        client="errors for the calls under way, then service within 5 s; S3 clients wait",
        status=f"restarts: {restarts}; another drive's copy is the primary",
        lost=lost_changes,
    )


def gap_s(harness: DaemonHarness) -> float:
    """From the loss of the primary to being ready again, by the log's own stamps."""
    stamps = {
        what: datetime.fromisoformat(line.split(" ", 1)[0])
        for line in harness.log().splitlines()
        for what in ("copy of the metadata is lost", "ready: ")
        if what in line and re.match(r"\d{4}-", line)
    }
    return (stamps["ready: "] - stamps["copy of the metadata is lost"]).total_seconds()


def wait_calls(programs: list[Program], count: int) -> None:
    done = threading.Event()
    for _ in range(1200):
        if all(each.calls >= count for each in programs):
            return
        assert all(each.error is None for each in programs), [each.error for each in programs]
        done.wait(0.05)
    raise AssertionError([each.calls for each in programs])
