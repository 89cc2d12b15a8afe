"""The primary's drive hangs: the loop sleeps in a write that no signal wakes."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.daemon.harness import DaemonDied, DaemonHarness
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.test_answered import BUCKET, Program, wait_calls
from tests.fault.watching import drive_status, primary_drive, wait_until
from tests.faultrows import FaultRow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("TWOFOLD_FULL" not in os.environ, reason="half a minute of waiting"),
]
MiB = 1 << 20


@pytest.mark.parametrize("systemd", [True, False])
def test_another_process_goes_on_with_all_that_was_answered(
    loops: MakeLoops, daemon: StartDaemon, folder: Path, fault_row: FaultRow, systemd: bool
) -> None:
    drives = loops(4, 256 * MiB)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(60)
        harness = daemon(
            settings={"metadata.flush_interval_s": 30.0, "pool.io_deadline_s": 10.0},
            environment={"NOTIFY_SOCKET": str(folder / "notify")} if systemd else {},
        )
        client = harness.client()
        client.create_bucket(Bucket=BUCKET)
        box = harness.mount / BUCKET
        programs = [Program(box / f"p{number}") for number in range(2)]
        if harness.is_mounted():
            for each in programs:
                each.start()
            wait_calls(programs, 200)
        lost, before = primary_drive(harness), _pid_of(harness)
        hanging = harness.process
        assert hanging is not None
        drives[lost].freeze()
        try:
            if not systemd:
                _wait_given_up(harness)
                harness.process = None  # It can't be waited for; a supervisor starts the next.
                harness.start(wait=False)
            wait_until(lambda: _pid_of(harness) not in (0, before), "another process", harness)
            harness.wait_for(lambda report: report["phase"] == "ready")
            pid = _pid_of(harness)
            if systemd:
                assert _told(manager, b"MAINPID=") == str(pid).encode()
            assert hanging.poll() is None, "it was not even the kernel's to end"
            assert primary_drive(harness) != lost
            status = drive_status(harness, lost)
            for each in programs if harness.is_mounted() else []:
                each.end()
                assert each.differences() == []
            client.put_object(Bucket=BUCKET, Key="after", Body=b"after")
        finally:
            drives[lost].thaw()
            hanging.wait(60)
        os.kill(pid, signal.SIGKILL)
        if not systemd:
            harness.kill()
        wait_until(lambda: _pid_of(harness) == 0, "it is gone", harness)
    harness.start()
    assert client.get_object(Bucket=BUCKET, Key="after")["Body"].read() == b"after"
    if harness.is_mounted():
        assert [each.differences() for each in programs] == [[], []]
    fault_row(
        "the primary's drive hangs, and with it the loop, in a sleep that no signal ends",
        client="no answer until `pool.io_deadline_s` is over, refused connections, then service",
        status=f"another process; {status['state']}: {status['cause']}",
    )


def _wait_given_up(harness: DaemonHarness) -> None:
    """Until the process has let everything go, as far as it can."""
    wait_until(lambda: "giving up" in harness.log(), "it gives up", harness)
    wait_until(lambda: (harness.folder / "state" / "answered").exists(), "it kept all", harness)
    time.sleep(1)  # The signal is on its way.


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
