"""kill -9 at any moment: nothing acknowledged is lost, nothing is half there, nothing is left.

TWOFOLD_TEST_KILLS (50) and TWOFOLD_TEST_SEED (1) change the loop; `scripts/soak` runs it for hours.
"""

from __future__ import annotations

import contextlib
import os
import random
import time

import pytest

from tests.crash.checker import Checker
from tests.crash.conftest import StartDaemon
from tests.crash.inspection import database_faults, named_bytes, stored_bytes
from tests.crash.workers import MiB
from tests.daemon.harness import HAS_FUSE, DaemonHarness

KILLS = int(os.environ.get("TWOFOLD_TEST_KILLS", "50"))
SEED = int(os.environ.get("TWOFOLD_TEST_SEED", "1"))
_EVERYTHING_EVERY = 10
_COPIES = 3
_SLACK_BYTES = 2 * MiB
_RECLAIMED_WITHIN_S = 30.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_acknowledged_operation_survives_kills_under_mixed_load(
    harness: DaemonHarness,
) -> None:
    checker = Checker(harness, seed=SEED)
    moments = random.Random(SEED)
    for number in range(1, KILLS + 1):
        checker.load(moments.uniform(0.1, 0.9))
        harness.start()
        checker.verify(everything=number % _EVERYTHING_EVERY == 0 or number == KILLS)
    assert checker.acknowledged_count > KILLS, "the load did next to nothing"

    assert harness.stop() == 0
    assert database_faults(harness.drives, harness.folder, copies=_COPIES) == []
    _no_unnamed_bytes(harness)

    harness.start()
    checker.verify(everything=True)
    checker.delete_everything()
    _wait_reclaimed(harness)
    assert harness.stop() == 0
    assert database_faults(harness.drives, harness.folder, copies=_COPIES) == []
    assert not harness.is_mounted()


@pytest.mark.slow
@pytest.mark.parametrize(("drives", "parity"), [(1, 0), (16, 4)])
def test_pools_of_every_size_survive_kills_too(
    daemon: StartDaemon, drives: int, parity: int
) -> None:
    harness = daemon(drives=drives, parity=parity)
    checker = Checker(harness, seed=SEED + 2)
    for everything in (False, True):
        checker.load(0.5)
        harness.start()
        checker.verify(everything=everything)
    assert checker.acknowledged_count, "the load did next to nothing"
    assert harness.stop() == 0
    copies = min(drives, max(2, parity + 1))
    assert database_faults(harness.drives, harness.folder, copies=copies) == []


def test_a_crash_while_idle_loses_nothing_that_was_acknowledged(harness: DaemonHarness) -> None:
    checker = Checker(harness, seed=SEED + 1)
    checker.load(0.5, kill=False)
    checker.verify()
    harness.kill()
    harness.start()
    checker.verify(everything=True)


@pytest.mark.skipif(not HAS_FUSE, reason="needs /dev/fuse")
def test_a_dead_mount_is_cleared_while_programs_still_hold_it_and_the_kernel_its_attributes(
    harness: DaemonHarness,
) -> None:
    harness.client().create_bucket(Bucket="bucket")
    file = harness.mount / "bucket" / "file"
    held = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        os.write(held, b"before the crash")
        os.fsync(held)
        os.stat(harness.mount)
        harness.kill()
        harness.start()
        assert file.read_bytes() == b"before the crash"
        with pytest.raises(OSError, match="not connected"):
            os.fsync(held)
    finally:
        with contextlib.suppress(OSError):  # its server is gone
            os.close(held)


def _no_unnamed_bytes(harness: DaemonHarness) -> None:
    named = named_bytes(harness.drives[0] / "twofold" / "meta", harness.folder)
    for drive in harness.drives:
        assert stored_bytes(drive) <= named + _SLACK_BYTES, drive


def _wait_reclaimed(harness: DaemonHarness) -> None:
    """A running daemon gives everything back that was deleted."""
    deadline = time.monotonic() + _RECLAIMED_WITHIN_S
    while (stored := max(map(stored_bytes, harness.drives))) > _SLACK_BYTES:
        assert time.monotonic() < deadline, f"{stored} bytes are left of deleted objects"
        time.sleep(0.1)
