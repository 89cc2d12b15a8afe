"""Mounting, stopping, and what a dead process leaves."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fusefs.conftest import Mount, needs_fuse

pytestmark = [needs_fuse, pytest.mark.slow]


def options_of(mount: Mount) -> str:
    (line,) = (
        line for line in Path("/proc/mounts").read_text().splitlines() if f" {mount.path} " in line
    )
    return line


def test_it_is_mounted_as_twofold_for_all_users(own_mount: Mount) -> None:
    line = options_of(own_mount)
    assert line.startswith(f"twofold {own_mount.path} fuse.twofold ")
    assert "allow_other" in line
    assert "default_permissions" in line
    assert "max_read" not in line


def test_the_kernel_reads_far_ahead(own_mount: Mount) -> None:
    device = os.stat(own_mount.path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    assert int(Path(f"/sys/class/bdi/{name}/read_ahead_kb").read_text()) == 4096
    connection = Path(f"/sys/fs/fuse/connections/{os.minor(device)}")
    assert int((connection / "max_background").read_text()) == 64


def test_at_a_stop_it_is_unmounted(own_mount: Mount) -> None:
    assert own_mount.stop() == 0
    assert not own_mount.is_mounted


def test_at_sigterm_it_is_unmounted(own_mount: Mount) -> None:
    own_mount.process.send_signal(signal.SIGTERM)
    assert own_mount.process.wait(20) == 0
    assert not own_mount.is_mounted


def test_a_stop_publishes_what_a_busy_mount_has_open(own_mount: Mount) -> None:
    descriptor = os.open(own_mount.box / "open", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"not closed yet")
    assert own_mount.stop() == 0
    assert not own_mount.is_mounted
    with pytest.raises(OSError, match="not connected"):
        os.close(descriptor)
    own_mount.start()
    assert own_mount.get("open") == b"not closed yet"


def test_a_mount_whose_process_was_killed_is_replaced(own_mount: Mount) -> None:
    own_mount.process.kill()
    own_mount.process.wait()
    with pytest.raises(OSError, match="not connected"):
        os.stat(own_mount.path)
    own_mount.start()
    assert own_mount.is_mounted
    assert os.listdir(own_mount.path) == ["box"]


def test_a_second_daemon_on_a_living_mount_is_refused(own_mount: Mount, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="is mounted already"):
        Mount(tmp_path / "other", path=own_mount.path)
    assert os.listdir(own_mount.path) == ["box"]


def test_an_unmount_from_outside_ends_it(own_mount: Mount) -> None:
    subprocess.run(["umount", own_mount.path], check=True)
    assert own_mount.stop() == 0
