"""mount(8) and umount(8) with twofold's programs, for tests that run as root.

mount(8) looks for the programs in /sbin alone, so they are linked there while anybody tests,
unless an installation has put some there. Several test runs may go on at once: a lock counts them,
and each has its own working tree run, which the environment names.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusefs.mounttable import Mounted, mounts
from tests.daemon.harness import HAS_FUSE, ROOT, DaemonHarness

CAN_MOUNT = HAS_FUSE and os.geteuid() == 0
ROOTS = "/run/twofold"
TYPES = ("fuse.twofold", "twofold")
LINKS = ("mount.twofold", "mount.fuse.twofold", "umount.twofold")
FOLDER = Path("/run/twofold-tests")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "TWOFOLD_TESTS_PYTHON": sys.executable,
}


@contextmanager
def linked_programs() -> Iterator[None]:
    """What mount -t and umount need in /sbin, from this working tree."""
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    using = os.open(FOLDER / "using", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with _alone():
            fcntl.flock(using, fcntl.LOCK_SH)
            _link()
        yield
    finally:
        with _alone():
            try:
                fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # Others still test.
            else:
                _unlink()
        os.close(using)


@contextmanager
def _alone() -> Iterator[None]:
    lock = os.open(FOLDER / "linking", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _link() -> None:
    for name in LINKS:
        program, link = FOLDER / name, Path("/sbin") / name
        verb = name.partition(".")[0]
        command = f'exec "$TWOFOLD_TESTS_PYTHON" -m daemon.mountprogram {verb} "$@"'
        if not program.exists():
            program.write_text(f"#!/bin/sh\n{command}\n")
            program.chmod(0o755)
        if not os.path.exists(link):
            link.unlink(missing_ok=True)
            link.symlink_to(program)


def _unlink() -> None:
    for name in LINKS:
        link = Path("/sbin") / name
        if link.is_symlink() and link.readlink() == FOLDER / name:
            link.unlink()


class Mounts:
    """Mounts of one harness's daemon, made below its folder."""

    def __init__(self, harness: DaemonHarness) -> None:
        self.harness = harness
        self.start_at = 0

    def folder(self) -> Path:
        """A new folder to mount at."""
        self.start_at += 1
        made = self.harness.folder / f"at{self.start_at}"
        made.mkdir()
        return made

    def mount(
        self, path: Path, options: str = "", kind: str = "fuse.twofold"
    ) -> subprocess.CompletedProcess[str]:
        """mount(8) to its end."""
        more = ["-o", options] if options else []
        return run("mount", "-t", kind, *more, str(self.harness.config_file), str(path))

    def made(self, options: str = "", kind: str = "fuse.twofold") -> Path:
        """A new mount; where it is."""
        path = self.folder()
        result = self.mount(path, options, kind)
        assert (result.returncode, result.stderr) == (0, ""), self.harness.log_tail()
        return path

    def seen(self) -> list[Mounted]:
        """All that is mounted of this harness, the session's own root among it."""
        source, below = str(self.harness.config_file), f"{self.harness.folder}/"
        return [each for each in mounts() if each.source == source or each.path.startswith(below)]

    def entry(self, path: Path) -> Mounted:
        """The one mount at `path`."""
        (found,) = (each for each in self.seen() if each.path == str(path))
        return found

    def clear(self) -> None:
        """Unmount all of it, whatever its state."""
        for each in reversed(self.seen()):
            subprocess.run(["umount", "-i", "-l", each.path], check=False)
            if each.path.startswith(f"{ROOTS}/"):
                os.rmdir(each.path)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def umount(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """umount(8) to its end."""
    return run("umount", *options, str(path))
