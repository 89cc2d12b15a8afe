"""What the store and the mount remember by inode or by name goes with it: no registry grows."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.fusefs.conftest import Mount, needs_fuse

pytestmark = [needs_fuse, pytest.mark.slow]

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
ROUNDS = 300
END_S = 20.0


def drop_caches() -> None:
    """Have the kernel give back all inodes that nobody uses."""
    if not os.access(DROP_CACHES, os.W_OK):
        pytest.skip("the kernel's caches can't be dropped here")
    DROP_CACHES.write_text("2")


def churn(box: Path, round_: int) -> None:
    """Each operation once that makes an inode, a name or a handle; nothing is left of it."""
    folder = box / f"d{round_}"
    folder.mkdir()
    file = folder / "file"
    file.write_bytes(b"x" * (20_000 if round_ % 10 == 0 else 10))
    os.link(file, folder / "linked")
    (folder / "symlink").symlink_to("file")
    os.mkfifo(folder / "fifo")
    (folder / "absent").exists()
    os.rename(file, folder / "renamed")
    (folder / "other").write_bytes(b"y")
    os.replace(folder / "other", folder / "renamed")
    os.setxattr(folder / "renamed", "user.name", b"value")
    opened = os.open(folder / "linked", os.O_RDWR)
    os.unlink(folder / "linked")
    os.write(opened, b"nameless")
    os.close(opened)
    for name in os.listdir(folder):
        os.unlink(folder / name)
    moved = box / f"moved{round_}"
    folder.rename(moved)
    moved.rmdir()


def test_nothing_is_kept_of_what_came_and_went(own_mount: Mount) -> None:
    churn(own_mount.box, -1)
    drop_caches()
    before = own_mount.do("kept")
    for round_ in range(ROUNDS):
        churn(own_mount.box, round_)
        own_mount.put(f"s3/{round_}/key", b"z")
        (own_mount.box / "s3" / f"{round_}" / "key").read_bytes()
        own_mount.do("delete", key=f"s3/{round_}/key")
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        drop_caches()
        after = own_mount.do("kept")
        grown = {name: (before[name], count) for name, count in after.items()}
        grown = {name: pair for name, pair in grown.items() if pair[1] > pair[0] + 20}
        # Names in the bucket's directory are noted until it is forgotten itself, or there are too
        # many of them: that is bounded, and by far (fusefs.kernelcache).
        if not {name for name in grown if not name.startswith("kernel names")}:
            break
        time.sleep(0.1)
    assert set(grown) <= {"kernel names", "kernel names used up"}, grown
    assert after["kernel names"] == after["kernel names used up"]
    assert after["kernel names"] <= before["kernel names"] + 5 * ROUNDS
