"""A real daemon as a subprocess, on drive folders and ports of its own, for whole-daemon tests.

    with DaemonHarness(tmp_path) as harness:      # formats four drives, starts, waits for ready
        harness.client().create_bucket(Bucket="b")
        (harness.mount / "b" / "k").write_bytes(b"x")
        harness.kill()                            # SIGKILL, as a power cut would
        harness.start()                           # same drives, same ports
        assert harness.stop() == 0                # SIGTERM, waits for the end

On leaving the block the daemon is killed if it still runs, and a mount that it left is cleared.
Nothing here is shared between harnesses, so tests may run side by side.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
import botocore.config
import msgspec

from daemon.control import NoDaemon, ask_status

ROOT = Path(__file__).resolve().parents[2]
ACCESS_KEY = "TESTROOTKEY"
SECRET_KEY = "a-secret-for-the-tests-only"
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 40.0
HAS_FUSE = os.path.exists("/dev/fuse") and os.access("/dev/fuse", os.R_OK | os.W_OK)


class DaemonDied(AssertionError):
    """The daemon ended, or did not become ready. The text has the end of its log."""


class DaemonHarness:
    """One store and the daemon on it.

    folder: an empty folder to work in. drives: how many drive folders. settings: further
    settings by full name, as {"log.level": "debug"}. mount: whether to mount (needs /dev/fuse).
    Attributes: drives (paths), mount (path), s3_port, console_port, endpoint, process, log_file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        drives: int = 4,
        parity: int | None = None,
        mount: bool = HAS_FUSE,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.drives = [folder / f"d{number}" for number in range(1, drives + 1)]
        self.parity = parity
        self.mount = folder / "mnt"
        self.s3_port, self.console_port = free_ports(2)
        self.endpoint = f"http://127.0.0.1:{self.s3_port}"
        self.config_file = folder / "twofold.toml"
        self.log_file = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if "TWOFOLD" not in name},
            "TWOFOLD_ROOT_USER": ACCESS_KEY,
            "TWOFOLD_ROOT_PASSWORD": SECRET_KEY,
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }
        self._settings = {
            "pool.drives": [str(drive) for drive in self.drives],
            "s3.listen": [f"127.0.0.1:{self.s3_port}"],
            "console.listen": [f"127.0.0.1:{self.console_port}"],
            "mount.path": str(self.mount) if mount else "",
            "state.folder": str(folder / "state"),
            "stop.deadline_s": 5.0,
            **(settings or {}),
        }

    def __enter__(self) -> DaemonHarness:
        self.format()
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- life --------------------------------------------------------------------------

    def format(self) -> None:
        """`twofold init` on the drive folders."""
        self.mount.mkdir(exist_ok=True)
        parity = [] if self.parity is None else ["--parity", str(self.parity)]
        result = self.run("init", *map(str, self.drives), *parity)
        assert result.returncode == 0, result.stderr

    def start(self, *, wait: bool = True) -> None:
        """Start the daemon; with `wait`, return when it is ready. Raises DaemonDied."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.config_file.touch(mode=0o600)  # Users' secrets may stand in it.
        self.config_file.write_text(_toml(self._settings))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "serve", "--config", str(self.config_file)],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_ready()

    def change(self, settings: Mapping[str, object]) -> None:
        """Have these settings hold from the next start on."""
        self._settings.update(settings)

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until /health/ready says so. Raises DaemonDied."""
        assert self.process is not None
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise DaemonDied(f"exit code {self.process.returncode}\n{self.log_tail()}")
            if self.http_status("/health/ready") == 200:
                return
            time.sleep(0.02)
        raise DaemonDied(f"not ready within {within_s} s\n{self.log_tail()}")

    def stop(self, within_s: float = STOP_WITHIN_S) -> int:
        """SIGTERM and wait; the exit code. Raises subprocess.TimeoutExpired."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Leave nothing behind: no process, no mount."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self.is_mounted():
            subprocess.run(["umount", "-l", str(self.mount)], check=False)

    # -- looking at it -----------------------------------------------------------------

    def client(
        self,
        *,
        ca_file: Path | None = None,
        key: tuple[str, str] = (ACCESS_KEY, SECRET_KEY),
        **options: Any,
    ) -> Any:
        """A boto3 S3 client; `options` go to `botocore.config.Config`.

        ca_file: what to verify the server with, for https. key: the root key, or a user's.
        """
        config: dict[str, Any] = {
            "retries": {"max_attempts": 1},
            "s3": {"addressing_style": "path"},
            "signature_version": "s3v4",
            "max_pool_connections": 64,
            **options,
        }
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            region_name="us-east-1",
            verify=None if ca_file is None else str(ca_file),
            config=botocore.config.Config(**config),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A `twofold` command to its end, with this harness's environment."""
        return subprocess.run(
            [sys.executable, "-m", "daemon", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """What `twofold status --json` shows, straight from the socket. Raises DaemonDied."""
        try:
            report = ask_status(self.folder / "state" / "control.sock")
        except NoDaemon as error:
            raise DaemonDied(f"{error}\n{self.log_tail()}") from error
        status: dict[str, Any] = msgspec.to_builtins(report)
        return status

    def wait_for(
        self, condition: Callable[[dict[str, Any]], bool], within_s: float = READY_WITHIN_S
    ) -> dict[str, Any]:
        """Ask for the status until `condition` holds of it; that status. Raises DaemonDied."""
        deadline = time.monotonic() + within_s
        while True:
            report = self.status()
            if condition(report):
                return report
            if time.monotonic() > deadline:
                raise DaemonDied(f"not within {within_s} s: {report}\n{self.log_tail()}")

    def http_status(self, path: str, port: int | None = None) -> int:
        """Status code of GET `path` on the console's port; 0 when nobody answers."""
        return self.http_get(path, port)[0]

    def http_get(self, path: str, port: int | None = None) -> tuple[int, str]:
        """Status code and body of GET `path` on the console's port; (0, "") if none answers."""
        try:
            with socket.create_connection(
                ("127.0.0.1", port or self.console_port), timeout=5
            ) as peer:
                head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                peer.sendall(head.encode())
                with peer.makefile("rb") as file:
                    answer = file.read()
        except OSError:
            return 0, ""
        top, _, body = answer.partition(b"\r\n\r\n")
        words = top.split(b" ", 2)
        return (int(words[1]), body.decode()) if len(words) > 1 else (0, "")

    def is_mounted(self) -> bool:
        """Whether a file system stands at the mount path, alive or stale. Never touches it."""
        wanted = str(self.mount).encode()
        with open("/proc/self/mountinfo", "rb") as table:
            return any(line.split(b" ")[4] == wanted for line in table)

    def log(self) -> str:
        """All the daemon has written so far, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the log."""
        return "\n".join(self.log().splitlines()[-lines:])


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _toml(settings: Mapping[str, object]) -> str:
    """The settings as a TOML file."""
    return "".join(f"{name} = {_value(value)}\n" for name, value in settings.items())


def _value(value: object) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's; tables are written otherwise."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_value(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
