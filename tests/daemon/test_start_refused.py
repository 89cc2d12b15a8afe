"""What a daemon that can't start says: one sentence, exit code 1, nothing left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.daemon.harness import HAS_FUSE, DaemonHarness

pytestmark = pytest.mark.slow


def refused(harness: DaemonHarness) -> str:
    """The last line of a start that has to fail."""
    harness.start(wait=False)
    assert harness.process is not None
    assert harness.process.wait(30) == 1, harness.log()
    log = harness.log()
    assert "Traceback" not in log
    assert "this is a bug" not in log
    assert not harness.is_mounted()
    line = log.splitlines()[-1]
    assert line.startswith("twofold: ")
    return line


def make(tmp_path: Path, *, mount: bool = False) -> DaemonHarness:
    harness = DaemonHarness(tmp_path, mount=mount)
    harness.format()
    return harness


def test_too_many_missing_drives_are_named(tmp_path: Path) -> None:
    harness = make(tmp_path)
    for drive in harness.drives[:3]:
        drive.rename(drive.with_suffix(".away"))
    line = refused(harness)
    for drive in harness.drives[:3]:
        assert str(drive) in line


def test_a_drive_of_another_store_is_told(tmp_path: Path) -> None:
    harness = make(tmp_path)
    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other")
    shutil.rmtree(harness.drives[0])
    other.drives[0].rename(harness.drives[0])
    assert "several stores" in refused(harness)


def test_metadata_that_is_gone_from_all_drives_is_never_made_anew(tmp_path: Path) -> None:
    with DaemonHarness(tmp_path, mount=False) as harness:
        harness.client().create_bucket(Bucket="bucket")
        assert harness.stop() == 0
        for drive in harness.drives:
            shutil.rmtree(drive / "twofold" / "meta")
            (drive / "twofold" / "meta").mkdir()
        assert "the metadata can't be opened" in refused(harness)


@pytest.mark.skipif(not HAS_FUSE, reason="no /dev/fuse here")
def test_a_mount_folder_that_is_missing_or_taken_is_told(tmp_path: Path) -> None:
    harness = make(tmp_path, mount=True)
    harness.mount.rmdir()
    assert f"{harness.mount} is no directory" in refused(harness)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to be kept from reading it by us")
def test_a_root_key_that_others_can_read_is_told(tmp_path: Path) -> None:
    harness = make(tmp_path)
    for name in ("TWOFOLD_ROOT_USER", "TWOFOLD_ROOT_PASSWORD"):
        del harness.environment[name]
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "root.key").write_text("x")
    (tmp_path / "state" / "root.key").chmod(0o644)
    assert "chmod 600" in refused(harness)
