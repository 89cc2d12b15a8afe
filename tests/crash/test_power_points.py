"""A power cut at every write, sync, punch and rename: what was promised is there afterwards.

A workload runs once, recorded call by call (`power/recorder.c`). Then the drives are built as a cut
at each call could have left them, un-synced writes lost, kept or torn (`power/cuts.py`), and the
store is opened on them by its own recovery, looked at, written to, stopped and given to fsck
(`power/verify.py`). In CI states are taken at even distances; TWOFOLD_FULL=1 takes all of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.power.campaign import Recording, make_base, run, text
from tests.crash.power.cuts import states
from tests.crash.power.workloads import FRESH

_FULL = os.environ.get("TWOFOLD_FULL") == "1"
_STATES = None if _FULL else 7
_SMALL = ("objects", "versions", "uploads", "files", "unsynced", "checkpoints", "crowd", "segments")
_FEW = {
    ("objects", 2),
    ("files", 4),
    ("unsynced", 1),
    ("checkpoints", 2),
    ("crowd", 2),
    ("heal", 4),
    ("eject", 4),
    ("first_start", 2),
}
_MANY = {
    *((name, drives) for name in (*_SMALL, "labels", "first_start") for drives in (1, 2, 4)),
    *(("heal", drives) for drives in (2, 4)),
    ("eject", 4),
}
_LAPSES = [
    ("log_unsynced", "objects", 1),
    ("folders_unsynced", "objects", 2),
    ("members_unsynced", "objects", 2),
    ("copies_unsynced", "objects", 2),
    ("published_early", "objects", 1),
    ("reclaimed_early", "unsynced", 1),
]
_WIDE = ("objects", "checkpoints", "eject")
_WIDE_STATES = 150

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600 if _FULL else 300),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]
MakeBase = Callable[[int], Path]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In memory where there is room: nothing here depends on a drive."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 1 << 30
    path = Path(tempfile.mkdtemp(prefix="twofold-power-", dir=memory if roomy else "/var/tmp"))
    yield path
    if not any((path / each / "bad").exists() for each in os.listdir(path)):
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def base(folder: Path) -> MakeBase:
    """Drives that workloads begin with, made once for each number of them."""

    def make(drives: int) -> Path:
        path = folder / f"base{drives}"
        return path if path.exists() else make_base(path, drives)

    return make


def _recorded(folder: Path, base: MakeBase, name: str, drives: int, *lapse: str) -> Recording:
    begins = None if name in FRESH else base(drives)
    return Recording.make(
        folder / "-".join([name, str(drives), *lapse]), name, drives, lapse, begins
    )


@pytest.mark.parametrize(("name", "drives"), sorted(_MANY if _FULL else _FEW))
def test_what_was_acknowledged_survives_a_power_cut_at_any_call(
    folder: Path, base: MakeBase, name: str, drives: int
) -> None:
    recording = _recorded(folder, base, name, drives)
    outcome = run(recording, count=_STATES)
    assert outcome.states >= 5
    _judge(recording, text(recording, outcome) if outcome.faults else "")


@pytest.mark.skipif(not _FULL, reason="takes minutes")
@pytest.mark.parametrize("name", _WIDE)
def test_sixteen_drives_survive_power_cuts(folder: Path, base: MakeBase, name: str) -> None:
    recording = _recorded(folder, base, name, 16)
    outcome = run(recording, count=_WIDE_STATES)
    _judge(recording, text(recording, outcome) if outcome.faults else "")


@pytest.mark.parametrize(
    ("name", "drives"), [("checkpoints", 2), ("files", 4)][: 2 if _FULL else 1]
)
def test_a_second_power_cut_while_the_first_is_recovered_from_is_survived(
    folder: Path, base: MakeBase, name: str, drives: int
) -> None:
    first = _recorded(folder / "first", base, name, drives)
    promises = first.promises()
    every = states(first.replay(), first.calls, 1)
    times = 12 if _FULL else 1
    for number in range(times):
        state = every[(2 * number + 1) * len(every) // (2 * times)]
        again = first.recovery(state, folder / f"again-{name}-{drives}-{number}")
        outcome = run(again, count=60 if _FULL else 12, after=(promises, state.call))
        found = f"behind {first.tell(state)}:\n{text(again, outcome)}" if outcome.faults else ""
        _judge(again, found)


@pytest.mark.parametrize(("lapse", "name", "drives"), _LAPSES if _FULL else _LAPSES[:3])
def test_a_sync_that_is_left_out_is_noticed(
    folder: Path, base: MakeBase, lapse: str, name: str, drives: int
) -> None:
    recording = _recorded(folder, base, name, drives, lapse)
    outcome = run(recording, stride=11, faults_max=1)
    assert outcome.faults, f"{outcome.states} states, and none was bad"


def _judge(recording: Recording, found: str) -> None:
    """Fail with what was found, and leave the recording; else remove it."""
    if found:
        (recording.folder / "bad").touch()
        pytest.fail(found, pytrace=False)
    shutil.rmtree(recording.folder)
