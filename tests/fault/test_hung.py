"""The primary's drive hangs: the loop sleeps in a write that no signal wakes."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.daemon.harness import DaemonDied, DaemonHarness
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.test_answered import BUCKET, Program, wait_calls
from tests.fault.watching import drive_status, primary_drive, wait_until

pytestmark = pytest.mark.slow
MiB = 1 << 20


def test_another_process_goes_on_with_all_that_was_answered(
    loops: MakeLoops, daemon: StartDaemon, folder: Path
) -> None:
    drives = loops(4, 256 * MiB)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(60)
        harness = daemon(
            settings={"metadata.flush_interval_s": 30.0, "pool.io_deadline_s": 10.0},
            environment={"NOTIFY_SOCKET": str(folder / "notify")},
        )
        client = harness.client()
        client.create_bucket(Bucket=BUCKET)
        box = harness.mount / BUCKET
        programs = [Program(box / f"p{number}") for number in range(2)]
        if harness.is_mounted():
            for each in programs:
                each.start()
            wait_calls(programs, 200)
        lost, before = primary_drive(harness), harness.status()["pid"]
        drives[lost].freeze()
        pid = 0
        try:
            wait_until(lambda: _pid_of(harness) not in (0, before), "another process", harness)
            pid = _pid_of(harness)
            harness.wait_for(lambda report: report["phase"] == "ready")
            assert _told(manager, b"MAINPID=") == str(pid).encode()
            assert primary_drive(harness) != lost
            assert "the loop hangs" in harness.log()
            if harness.is_mounted():
                for each in programs:
                    each.end()
                assert [each.differences() for each in programs] == [[], []]
            client.put_object(Bucket=BUCKET, Key="after", Body=b"after")
        finally:
            drives[lost].thaw()
            if pid:
                harness.process.wait(60)  # type: ignore[union-attr]
        wait_until(
            lambda: drive_status(harness, lost)["state"] != "online", "it is noticed", harness
        )
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _pid_of(harness) == 0, "it is gone", harness)
    harness.start()
    assert client.get_object(Bucket=BUCKET, Key="after")["Body"].read() == b"after"
    if harness.is_mounted():
        assert [each.differences() for each in programs] == [[], []]


def _pid_of(harness: DaemonHarness) -> int:
    """The daemon's process id, 0 while none answers."""
    try:
        return int(harness.status()["pid"])
    except (DaemonDied, OSError):
        return 0


def _told(manager: socket.socket, what: bytes) -> bytes:
    """What follows `what` in the first message that begins like it."""
    while True:
        message = manager.recv(4096)
        if message.startswith(what):
            return message[len(what) :]
