"""What the tests of crashes share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon.harness import DaemonHarness

StartDaemon = Callable[..., DaemonHarness]


@pytest.fixture
def daemon() -> Iterator[StartDaemon]:
    """Starts `daemon(**options of DaemonHarness)` on a real file system: /tmp may be memory."""
    with ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="twofold-crash-", dir="/var/tmp")
        path = Path(stack.enter_context(folder))

        def start(**options: object) -> DaemonHarness:
            return stack.enter_context(DaemonHarness(path, **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def harness(daemon: StartDaemon) -> DaemonHarness:
    """A daemon on four drives."""
    return daemon()
