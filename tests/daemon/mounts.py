"""mount(8) and umount(8) with twofold's programs, for tests that run as root.

mount(8) looks for the programs in /sbin alone, so they are linked there while a test module runs,
unless an installation has put some there.
"""

from __future__ import annotations

import os
import shlex
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


@contextmanager
def linked_programs(folder: Path) -> Iterator[None]:
    """What mount -t and umount need in /sbin, from this working tree."""
    made: list[Path] = []
    try:
        for verb in ("mount", "umount"):
            program = folder / verb
            command = shlex.join([sys.executable, "-m", "daemon.mountprogram", verb])
            program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {command} "$@"\n')
            program.chmod(0o755)
            for kind in TYPES if verb == "mount" else ("twofold",):
                link = Path("/sbin") / f"{verb}.{kind}"
                if not os.path.lexists(link):
                    link.symlink_to(program)
                    made.append(link)
        yield
    finally:
        for link in made:
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
        if os.path.isdir(ROOTS):
            for each_root in os.scandir(ROOTS):
                try:
                    os.rmdir(each_root.path)
                except OSError:
                    continue  # Another's, and in use.


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def umount(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """umount(8) to its end."""
    return run("umount", *options, str(path))
