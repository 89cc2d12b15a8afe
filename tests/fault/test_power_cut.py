"""A power cut: what was not synced is gone from all drives at once. Acknowledged is synced."""

from __future__ import annotations

import json
import random
import uuid

import pytest

from tests.crash.checker import Checker
from tests.crash.inspection import database_faults
from tests.daemon.harness import DaemonHarness
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.loops import LoopDrive

MiB = 1 << 20
_CUTS = 6
_COPIES = 3
_SEED = 3


@pytest.mark.slow
def test_every_acknowledged_operation_survives_power_cuts_under_mixed_load(
    loops: MakeLoops, daemon: StartDaemon
) -> None:
    drives = loops(4, 1024 * MiB)
    # Nothing is synced but what somebody waits for.
    harness = daemon(settings={"metadata.flush_interval_s": 60})
    checker = Checker(harness, seed=_SEED)
    moments = random.Random(_SEED)
    for _ in range(_CUTS):
        checker.load(moments.uniform(0.3, 1.5), end=lambda: _cut_power(harness, drives))
        harness.start()
        checker.verify(everything=True)
    assert harness.stop() == 0
    assert database_faults(harness.drives, harness.folder, copies=_COPIES) == []


def _cut_power(harness: DaemonHarness, drives: list[LoopDrive]) -> None:
    harness.kill()
    for drive in drives:
        drive.cut_power()
        # Machines tell their starts apart by this; ours goes on running.
        state = drive.path / "twofold" / "meta" / "state"
        if state.exists():
            fields = json.loads(state.read_text())
            fields["boot"] = str(uuid.uuid4())
            state.write_text(json.dumps(fields))
