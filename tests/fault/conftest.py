"""Folders on a real file system, and small file systems that can break, for whole-daemon tests.

Everything made here goes away with its test, by name: mounts, loop devices, images.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon.harness import DaemonHarness
from tests.fault.loops import LoopDrive, why_no_loops

StartDaemon = Callable[..., DaemonHarness]
MakeLoops = Callable[[int, int], list[LoopDrive]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that is not in memory, as /tmp may be."""
    with tempfile.TemporaryDirectory(prefix="twofold-fault-", dir="/var/tmp") as path:
        yield Path(path)


@pytest.fixture
def harness(daemon: StartDaemon) -> DaemonHarness:
    """A daemon on four drives."""
    return daemon()


@pytest.fixture
def loops(folder: Path) -> Iterator[MakeLoops]:
    """Makes `loops(count, size_bytes)`: ext4 on loop devices, mounted where drives are expected."""
    reason = why_no_loops()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:

        def make(count: int, size_bytes: int) -> list[LoopDrive]:
            return [
                stack.enter_context(LoopDrive(folder / f"d{number}", size_bytes))
                for number in range(1, count + 1)
            ]

        yield make


@pytest.fixture
def daemon(folder: Path, request: pytest.FixtureRequest) -> Iterator[StartDaemon]:
    """Starts `daemon(**options of DaemonHarness)` in the folder, on loops made before or not."""
    if "loops" in request.fixturenames:
        request.getfixturevalue("loops")  # its mounts are to outlive the daemon
    with ExitStack() as stack:

        def start(**options: object) -> DaemonHarness:
            harness = DaemonHarness(folder, **options)  # type: ignore[arg-type]
            return stack.enter_context(harness)

        yield start
    mounted = subprocess.run(["findmnt", "-nro", "TARGET"], capture_output=True, text=True)
    assert f"{folder}/mnt" not in mounted.stdout.split(), "the mount was left behind"
