"""`twofold meta backup` and `restore` with real daemons."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from metadb.archive import Archive
from tests.daemon.harness import DaemonHarness
from tests.faultrows import FaultRow

BUCKET = "bucket"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with DaemonHarness(tmp_path, mount=False) as harness:
        harness.client().create_bucket(Bucket=BUCKET)
        yield harness


def _meta(harness: DaemonHarness, *words: str, fails: str | None = None) -> str:
    """The output of a command that works, or fails with this in its message."""
    result = harness.run("meta", *words)
    if fails is None:
        assert result.returncode == 0, result.stderr
        return result.stdout
    assert result.returncode == 1
    assert fails in result.stderr
    return result.stderr


def _put(harness: DaemonHarness, key: str, body: bytes) -> None:
    harness.client().put_object(Bucket=BUCKET, Key=key, Body=body)


def _get(client: Any, key: str) -> bytes | None:
    try:
        return bytes(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return None


def _lose_metadata(harness: DaemonHarness) -> None:
    for drive in harness.drives:
        shutil.rmtree(drive / "twofold" / "meta")


@pytest.mark.slow
def test_all_copies_of_the_metadata_are_lost_and_come_back_from_a_backup(
    harness: DaemonHarness, tmp_path: Path, fault_row: FaultRow
) -> None:
    kept = {"small": b"s", "large": os.urandom(700_000)}
    for key, body in kept.items():
        _put(harness, key, body)
    file, config = str(tmp_path / "backup"), str(harness.config_file)
    told = _meta(harness, "backup", file, config)
    assert "changes up to 3" in told
    _put(harness, "later", b"x")
    _meta(harness, "restore", file, config, fails="is in use by another daemon")
    assert harness.stop() == 0
    _lose_metadata(harness)
    told = _meta(harness, "restore", file, config)
    assert "how much that is can't be told" in told
    assert "3 drives hold it" in told
    harness.start()
    client = harness.client()
    assert {key: _get(client, key) for key in [*kept, "later"]} == {**kept, "later": None}
    _put(harness, "more", b"y")
    assert _get(client, "more") == b"y"
    fault_row(
        "all copies of the metadata are deleted",
        client="the daemon does not start, and says why",
        status="`twofold fsck` ends with 8 and names restore and salvage",
        lost="changes since the last backup",
    )


@pytest.mark.slow
def test_a_backup_while_many_write_holds_all_that_was_acknowledged_before(
    harness: DaemonHarness, tmp_path: Path
) -> None:
    done = threading.Event()
    acknowledged: list[str] = []

    def write() -> None:
        client = harness.client()
        for number in range(100_000):
            if done.is_set():
                return
            body = os.urandom(20_000 if number % 5 == 0 else 100)
            client.put_object(Bucket=BUCKET, Key=f"k{number}", Body=body)
            acknowledged.append(f"k{number}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(acknowledged) < 50:
            done.wait(0.01)
        before = list(acknowledged)
        _meta(harness, "backup", str(tmp_path / "b"), str(harness.config_file))
        checked = harness.run("fsck", str(harness.config_file))
        assert checked.returncode == 0, checked.stdout
    finally:
        done.set()
        writer.join()
    assert harness.stop() == 0
    drives = [str(drive) for drive in harness.drives]
    lost = len(acknowledged) + 1 - Archive(tmp_path / "b").manifest.sequence
    _meta(harness, "restore", str(tmp_path / "b"), *drives, fails=f"with {lost} changes that")
    told = _meta(harness, "restore", "--replace", str(tmp_path / "b"), *drives)
    assert f"{lost} changes made afterwards are lost" in told
    harness.start()
    listed = harness.client().list_objects_v2(Bucket=BUCKET)
    assert {each["Key"] for each in listed["Contents"]} >= set(before)


@pytest.mark.slow
def test_an_old_copy_on_a_drive_that_was_away_never_wins(
    harness: DaemonHarness, tmp_path: Path
) -> None:
    _put(harness, "first", b"1")
    assert harness.stop() == 0
    file, config = str(tmp_path / "backup"), str(harness.config_file)
    _meta(harness, "backup", file, config)
    harness.start()
    _put(harness, "second", b"2")
    assert harness.stop() == 0
    away = harness.drives[0].rename(tmp_path / "away")
    _meta(harness, "restore", "--replace", file, config)
    away.rename(harness.drives[0])
    harness.start()
    client = harness.client()
    assert (_get(client, "first"), _get(client, "second")) == (b"1", None)


@pytest.mark.slow
def test_what_is_no_backup_of_this_store_is_refused(harness: DaemonHarness, tmp_path: Path) -> None:
    file, config = tmp_path / "backup", str(harness.config_file)
    _meta(harness, "backup", str(file), config)
    assert harness.stop() == 0
    whole = file.read_bytes()
    for wrong, told in (
        (whole[:-1], "not written to its end"),
        (whole[:500] + b"!" + whole[501:], "it is damaged"),
        (b"something else", "is no backup"),
    ):
        file.write_bytes(wrong)
        _meta(harness, "restore", "--replace", str(file), config, fails=told)
    file.write_bytes(whole)
    (tmp_path / "others").mkdir()
    others = DaemonHarness(tmp_path / "others", mount=False, drives=1)
    others.format()
    _meta(harness, "restore", str(file), str(others.drives[0]), fails="the backup is of store")
    harness.start()


@pytest.mark.slow
def test_bytes_that_were_reclaimed_before_a_restore_are_told_by_fsck(
    harness: DaemonHarness, tmp_path: Path
) -> None:
    kept = os.urandom(400_000)
    _put(harness, "gone", os.urandom(400_000))
    _put(harness, "kept", kept)
    file, config = str(tmp_path / "backup"), str(harness.config_file)
    _meta(harness, "backup", file, config)
    harness.client().delete_object(Bucket=BUCKET, Key="gone")
    assert harness.stop() == 0
    harness.start()  # Now at the latest its place is given back.
    assert harness.stop() == 0
    _meta(harness, "restore", "--replace", file, config)
    told = harness.run("fsck", config)
    assert told.returncode == 4
    assert "bucket/gone" in told.stdout
    assert "bucket/kept" not in told.stdout
    harness.start()
    assert _get(harness.client(), "kept") == kept


@pytest.mark.slow
def test_rows_of_a_backup_follow_members_that_were_moved_since(
    harness: DaemonHarness, tmp_path: Path
) -> None:
    body = os.urandom(400_000)
    _put(harness, "k", body)
    file, config = str(tmp_path / "backup"), str(harness.config_file)
    _meta(harness, "backup", file, config)
    new = tmp_path / "new"
    moved = harness.run("drive", "replace", "--config", config, str(harness.drives[0]), str(new))
    assert moved.stderr == ""
    harness.wait_for(lambda report: report["pool"] and str(new) in _without(harness, report), 90)
    assert harness.stop() == 0
    told = _meta(harness, "restore", "--replace", file, config)
    assert "1 segments had members on other drives by now" in told
    assert harness.run("fsck", config).returncode == 0
    harness.start()
    assert _get(harness.client(), "k") == body


def _without(harness: DaemonHarness, report: dict[str, Any]) -> list[str]:
    """The drives' paths once the first is out of the pool, before that none."""
    paths = [drive["path"] for drive in report["pool"]["drives"]]
    return [] if str(harness.drives[0]) in paths else paths
