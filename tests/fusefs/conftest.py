"""A real mount, served by another process: a process that serves itself would wait for itself."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HAS_FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)
END_S = 30.0
needs_fuse = pytest.mark.skipif(not HAS_FUSE, reason="there is no /dev/fuse to mount with")


class RemoteError(Exception):
    """The store refused; `args` are the kind and the text of its error."""


class Mount:
    """A mounted namespace with the bucket `box`, and its S3 side by remote control.

    path: the mount; box: the bucket's directory; log: what the server wrote.
    """

    def __init__(self, folder: Path, path: Path | None = None, **settings: object) -> None:
        self.folder = folder
        self.path = path or folder / "mnt"
        self.box = self.path / "box"
        self.log = folder / "log"
        self._settings = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        folder.mkdir(exist_ok=True)
        if path is None:
            self.path.mkdir()
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.fusefs.server"),
                    *(str(self.folder / "meta"), str(self.path), *self._settings),
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        answer = json.loads(line)
        if "error" in answer:
            raise RemoteError(answer["error"], answer["text"])
        return answer["result"]

    def do(self, command: str, /, **arguments: object) -> Any:
        """Have the S3 side do something, and wait for its answer."""
        self.begin(command, **arguments)
        return self._answer()

    def begin(self, command: str, /, **arguments: object) -> None:
        """Have the S3 side do something; `finish` waits for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        self.process.stdin.flush()

    finish = _answer

    def put(self, key: str, body: bytes, **user: str) -> None:
        self.do("put", key=key, body=base64.b64encode(body).decode(), user=user)

    def get(self, key: str) -> bytes:
        return base64.b64decode(self.do("get", key=key))

    def keys(self, prefix: str = "") -> list[str]:
        found: list[str] = self.do("keys", prefix=prefix)
        return found

    @property
    def is_mounted(self) -> bool:
        return f" {self.path} fuse.twofold " in Path("/proc/mounts").read_text()

    def stop(self) -> int:
        """Let the server end in order; its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(END_S)

    def close(self) -> None:
        """End it, whatever its state, and leave nothing mounted."""
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
        self.process.kill()
        self.process.wait()
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.path], check=False)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@pytest.fixture(scope="session")
def mount() -> Iterator[Mount]:
    """One mount for all tests that do not stop it, where other users can reach it."""
    with tempfile.TemporaryDirectory(prefix="twofold-") as folder:
        os.chmod(folder, 0o755)
        mounted = Mount(Path(folder))
        yield mounted
        mounted.close()


@pytest.fixture
def folder(mount: Mount, request: pytest.FixtureRequest) -> Path:
    """A fresh directory of the bucket, named after the test."""
    made = mount.box / re.sub(r"\W", "_", request.node.name, flags=re.ASCII)[:200]
    made.mkdir()
    return made


@pytest.fixture
def own_mount(tmp_path: Path) -> Iterator[Mount]:
    """A mount that the test may stop or kill."""
    mounted = Mount(tmp_path)
    yield mounted
    mounted.close()
