"""The whole daemon as its users meet it: a process, real sockets and mount, unmodified programs.

One daemon serves the tests of a module; each test gets a bucket of its own. Cases that the issue
asks for at full size run reduced by default; TWOFOLD_FULL=1 in the environment runs them whole.
Clients are shared, since they are dear to make.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import ACCESS_KEY, HAS_FUSE, SECRET_KEY, DaemonHarness

FULL = os.environ.get("TWOFOLD_FULL") == "1"
DOMAIN = "s3.localtest.example"
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these are slow, and those that see the mount need one."""
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        item.add_marker(pytest.mark.slow)
        if not HAS_FUSE and "mount" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="no /dev/fuse here"))


@pytest.fixture(scope="module")
def harness() -> Iterator[DaemonHarness]:
    """The module's daemon, on a real file system: /tmp may be memory, and small."""
    with tempfile.TemporaryDirectory(prefix="twofold-cases-", dir="/var/tmp") as folder:
        with DaemonHarness(Path(folder), settings={"s3.domains": [DOMAIN]}) as running:
            yield running
            log = running.log()
            assert running.stop() == 0, running.log_tail()
        assert not running.is_mounted(), "the mount was left behind"
        assert "Traceback" not in log, log[-20_000:]
        assert " error " not in log, log[-20_000:]


@pytest.fixture(scope="module")
def s3(harness: DaemonHarness) -> Any:
    """A boto3 client, as its makers configured it but for the path style."""
    return harness.client()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A fresh bucket."""
    name = f"bucket-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def mount(harness: DaemonHarness) -> Path:
    """The root of the mount."""
    return harness.mount


@pytest.fixture
def box(mount: Path, bucket: str) -> Path:
    """The bucket on the mount."""
    return mount / bucket


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder outside the store, on a real file system, for large files."""
    with tempfile.TemporaryDirectory(prefix="twofold-work-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def environment(harness: DaemonHarness) -> dict[str, str]:
    """What a program needs to find the endpoint and the key, and nobody's own configuration."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "HOME": str(harness.folder),
        "AWS_ENDPOINT_URL": harness.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
    }  # fmt: skip


class Shell:
    """Runs programs to their end, and fails with what they said."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(
        self, *command: str | Path, cwd: Path | None = None, fails: bool = False, **env: str
    ) -> str:
        """The program's output. fails: it is expected to."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env={**self.environment, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=250,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        assert (done.returncode != 0) is fails, f"{command}: {done.returncode}\n{output}"
        return output


@pytest.fixture
def shell(environment: dict[str, str]) -> Shell:
    return Shell(environment)
