"""`twofold drive`, `heal` and `scrub` on a running daemon.

The drives are folders; what is taken out of the pool is taken away afterwards, to see that it was
not needed any more.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import DaemonHarness
from tests.faultrows import FaultRow

BUCKET = "bucket"
SIZES = (10, 300_000, 2_500_000)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with DaemonHarness(tmp_path, mount=False, settings={"heal.wait_s": 0}) as harness:
        harness.client().create_bucket(Bucket=BUCKET)
        yield harness


def _order(harness: DaemonHarness, *words: str) -> subprocess.CompletedProcess[str]:
    return harness.run(*words, "--config", str(harness.config_file))


def _fill(harness: DaemonHarness, first: int, count: int = 6) -> dict[str, bytes]:
    client = harness.client(retries={"max_attempts": 8, "mode": "standard"})
    kept = {f"k{n}": os.urandom(SIZES[n % 3]) for n in range(first, first + count)}
    for key, body in kept.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=body)
    return kept


def _check(harness: DaemonHarness, kept: dict[str, bytes]) -> None:
    client = harness.client(retries={"max_attempts": 8, "mode": "standard"})
    for key, body in kept.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body, key


def _paths(report: dict[str, Any]) -> list[str]:
    return [drive["path"] for drive in report["pool"]["drives"]] if report["pool"] else []


@pytest.mark.slow
def test_the_pool_grows_by_a_drive(harness: DaemonHarness) -> None:
    kept = _fill(harness, 0)
    more = harness.folder / "more"
    added = _order(harness, "drive", "add", str(more))
    assert (added.returncode, added.stderr) == (0, "")
    kept |= _fill(harness, 10)
    pool = harness.status()["pool"]
    assert (pool["k"], pool["m"]) == (3, 2)
    (report,) = (drive for drive in pool["drives"] if drive["path"] == str(more))
    assert (report["state"], report["segments"] > 0) == ("online", True)
    listed = _order(harness, "drive", "list").stdout
    assert len(listed.splitlines()) == 7
    assert harness.stop() == 0
    harness.start()  # The configuration doesn't name it.
    assert str(more) in _paths(harness.status())
    _check(harness, kept)
    harness.kill()
    for drive in harness.drives[:2]:
        drive.rename(drive.with_name(f"{drive.name}.away"))
    harness.start()
    _check(harness, kept)


@pytest.mark.slow
def test_the_drive_with_the_primary_is_replaced_while_it_is_well(
    harness: DaemonHarness, fault_row: FaultRow
) -> None:
    kept = _fill(harness, 0)
    more = harness.folder / "more"
    replaced = _order(harness, "drive", "replace", str(harness.drives[0]), str(more))
    assert (replaced.returncode, replaced.stderr) == (0, "")
    harness.wait_for(
        lambda report: bool(_paths(report)) and str(harness.drives[0]) not in _paths(report), 90
    )
    _check(harness, kept)
    kept |= _fill(harness, 20)
    assert harness.stop() == 0
    # Its folder is of no more use, though the configuration names it.
    harness.start()
    assert _paths(harness.status()) == [*map(str, harness.drives[1:]), str(more)]
    _check(harness, kept)
    assert "was taken out of the pool" in harness.log()
    # Two others may be lost.
    harness.kill()
    for drive in (harness.drives[1], more):
        drive.rename(drive.with_name(f"{drive.name}.away"))
    harness.start()
    _check(harness, kept)
    fault_row(
        "a drive that is well is replaced, the primary's",
        client="nothing beyond an SDK's own retries, while the store goes on on a copy",
        status="draining, and then it is gone",
    )


@pytest.mark.slow
def test_a_missing_drive_is_replaced_by_one_elsewhere(
    harness: DaemonHarness, fault_row: FaultRow
) -> None:
    kept = _fill(harness, 0)
    gone = harness.drives[2]
    gone.rename(harness.folder / "broken")
    harness.wait_for(
        lambda report: any(drive["state"] == "offline" for drive in report["pool"]["drives"])
    )
    kept |= _fill(harness, 10)
    new = harness.folder / "new"
    replaced = _order(harness, "drive", "replace", str(gone), str(new))
    assert (replaced.returncode, replaced.stderr) == (0, "")

    def healed(report: dict[str, Any]) -> bool:
        heal = report["pool"]["heal"]
        return heal["state"] == "idle" and len(heal["history"]) > 0

    report = harness.wait_for(healed, 60)
    assert str(gone) not in _paths(report)
    shown = _order(harness, "heal").stdout
    assert "nothing is left to be healed" in shown
    assert "a drive was replaced" in shown
    harness.kill()
    for drive in (harness.drives[0], harness.drives[1]):
        drive.rename(drive.with_name(f"{drive.name}.away"))
    harness.start()
    # What was written meanwhile has one parity, and one of its three drives is still here.
    _check(harness, {key: kept[key] for key in list(kept)[:6]})
    fault_row(
        "a drive that was replaced or drained is named by the configuration still",
        client="nothing",
        status="a warning in the log; it is not used",
    )


@pytest.mark.slow
def test_what_cannot_be_done_is_told_in_a_sentence(harness: DaemonHarness, tmp_path: Path) -> None:
    _fill(harness, 0)
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter").write_text("dear")
    cases = {
        ("drive", "drain", "/no/such"): "is no drive of the pool",
        ("drive", "add", str(full)): "is not empty, it holds 'letter'",
        ("drive", "add", str(harness.drives[0])): "formatted already",
        ("drive", "replace", "/no/such", str(tmp_path / "x")): "is no drive of the pool",
    }
    for words, sentence in cases.items():
        result = _order(harness, *words)
        assert result.returncode == 1, words
        assert sentence in result.stderr, words
        assert len(result.stderr.splitlines()) == 1
    assert _paths(harness.status()) == [str(drive) for drive in harness.drives]


@pytest.mark.slow
def test_scrub_starts_pauses_and_tells(harness: DaemonHarness) -> None:
    _fill(harness, 0)
    assert _order(harness, "scrub", "pause").returncode == 0
    assert _order(harness, "scrub", "status").stdout.startswith("paused")
    assert _order(harness, "scrub", "start").returncode == 0

    def done(report: dict[str, Any]) -> bool:
        last = report["pool"]["scrub"]["last"]
        return last is not None and last["fragments"] > 0

    last = harness.wait_for(done, 60)["pool"]["scrub"]["last"]
    assert (last["damaged"], last["lost_stripes"], last["violations"]) == (0, 0, 0)
    assert "0 damaged" in _order(harness, "scrub", "status").stdout
