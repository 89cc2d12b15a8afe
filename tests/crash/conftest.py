"""What the tests of crashes share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.harness import DaemonHarness


@pytest.fixture
def harness() -> Iterator[DaemonHarness]:
    """A daemon on four drives, on a real file system: /tmp may be memory, and small."""
    with (
        tempfile.TemporaryDirectory(prefix="twofold-crash-", dir="/var/tmp") as folder,
        DaemonHarness(Path(folder)) as running,
    ):
        yield running
