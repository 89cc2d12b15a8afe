"""Wait for what a daemon says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.daemon.harness import DaemonHarness

_WITHIN_S = 60.0


def drive_status(harness: DaemonHarness, number: int) -> dict[str, Any]:
    """The report on drive `number`, counted from 0."""
    path = str(harness.drives[number])
    while (pool := harness.status()["pool"]) is None:
        time.sleep(0.05)  # It restarts on a copy.
    status: dict[str, Any] = next(each for each in pool["drives"] if each["path"] == path)
    return status


def wait_until(
    holds: Callable[[], bool], what: str, harness: DaemonHarness, within_s: float = _WITHIN_S
) -> None:
    """Raises AssertionError, with the end of the log, when it doesn't come to hold."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}\n{harness.log_tail()}"
        time.sleep(0.1)


def wait_drive(harness: DaemonHarness, number: int, *states: str) -> None:
    """Wait until drive `number` is in one of these states."""
    wait_until(
        lambda: drive_status(harness, number)["state"] in states,
        f"drive {number} is {' or '.join(states)}",
        harness,
    )


def wait_ready(harness: DaemonHarness) -> None:
    """Wait until requests are served again."""
    wait_until(lambda: harness.http_status("/health/ready") == 200, "ready", harness)


def away(path: Path) -> Path:
    """Where a drive's folder is moved to."""
    return path.with_name(path.name + ".away")


def move_away(harness: DaemonHarness, number: int) -> None:
    """Take a drive's folder from its path."""
    path = harness.drives[number]
    path.rename(away(path))


def move_back(harness: DaemonHarness, number: int) -> None:
    """Put it back."""
    path = harness.drives[number]
    away(path).rename(path)


def primary_drive(harness: DaemonHarness) -> int:
    """Which drive holds the primary copy of the metadata."""
    copies = harness.status()["pool"]["copies"]
    (path,) = (copy["path"] for copy in copies if copy["role"] == "primary")
    (number,) = (n for n, drive in enumerate(harness.drives) if Path(path).is_relative_to(drive))
    return number
