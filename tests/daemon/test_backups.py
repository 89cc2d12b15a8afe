"""Backups of the metadata in folders and buckets, single ones and series, with real daemons."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.targets import Access, TargetError, target_of
from metadb.series import points_of
from tests.daemon.harness import ACCESS_KEY, SECRET_KEY, DaemonHarness

MIB = 1 << 20
BUCKET = "bucket"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DaemonHarness]:
    """An S3 server to keep backups on: twofold itself."""
    (tmp_path / "server").mkdir()
    with DaemonHarness(tmp_path / "server", drives=2, mount=False) as server:
        server.client().create_bucket(Bucket="backups")
        yield server


@pytest.fixture
def credentials(tmp_path: Path) -> str:
    file = tmp_path / "credentials"
    file.write_text(
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    return str(file)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[DaemonHarness]:
    """A store that keeps a series of backups in `tmp_path`/series, a point each second."""
    (tmp_path / "series").mkdir()
    settings = {"backup.target": str(tmp_path / "series"), "backup.interval_s": 1.0}
    (tmp_path / "store").mkdir()
    with DaemonHarness(tmp_path / "store", mount=False, settings=settings) as harness:
        harness.client().create_bucket(Bucket=BUCKET)
        yield harness


def _meta(harness: DaemonHarness, *words: str, fails: str = "") -> str:
    result = harness.run("meta", *words)
    if not fails:
        assert result.returncode == 0, result.stderr
        return result.stdout
    assert result.returncode == 1, result.stdout
    assert fails in result.stderr
    assert SECRET_KEY not in result.stderr
    return result.stderr


def _keys(client: Any) -> set[str]:
    return {row["Key"] for row in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


def _next_point(harness: DaemonHarness, after: int) -> int:
    """Wait for a point with more changes than so many; how many are in it."""
    status = harness.wait_for(
        lambda report: (
            report["pool"] is not None
            and report["pool"]["backup"]["sequence"] > after
            and not report["pool"]["backup"]["fault"]
        )
    )
    return int(status["pool"]["backup"]["sequence"])


@pytest.mark.slow
def test_a_store_goes_back_to_any_point_of_its_series(kept: DaemonHarness, tmp_path: Path) -> None:
    series, client = str(tmp_path / "series"), kept.client()
    sequences = [_next_point(kept, 0)]
    for number in range(3):
        client.put_object(Bucket=BUCKET, Key=f"key{number}", Body=b"x" * (10 + 50_000 * number))
        sequences.append(_next_point(kept, sequences[-1]))
    client.delete_object(Bucket=BUCKET, Key="key0")
    last = _next_point(kept, sequences[-1])
    assert sequences == sorted(set(sequences)) and sequences[-1] < last
    assert kept.stop() == 0
    points = points_of(path.name for path in Path(series).iterdir())
    assert [point.number for point in points] == list(range(len(points)))
    wholes = [path.stat().st_size for path in Path(series).iterdir() if ".000000." in path.name]
    parts = [path.stat().st_size for path in Path(series).iterdir() if ".000000." not in path.name]
    assert len(wholes) == 1 and max(parts) < wholes[0]
    listed = _meta(kept, "points", series)
    assert "whole" in listed and str(last) in listed

    store = str(kept.config_file)
    refused = _meta(kept, "restore", series, store, fails="--replace")
    assert "0 changes that the backup lacks" in refused
    # Between two points it goes to the one before, and says which that is.
    told = _meta(kept, "restore", series, store, "--replace", "--at-change", str(sequences[3] - 1))
    assert f"changes up to {sequences[2]}" in told
    kept._settings["backup.target"] = ""
    kept.start()
    assert _keys(client) == {"key0", "key1"}
    assert client.get_object(Bucket=BUCKET, Key="key1")["Body"].read() == b"x" * 50_010
    assert kept.stop() == 0

    told = _meta(kept, "restore", series, store, "--replace")
    assert f"changes up to {last}" in told
    _meta(kept, "restore", series, store, "--at", "2001-01-01T00:00:00", fails="that old")


@pytest.mark.slow
def test_a_backup_goes_to_a_bucket_and_back(
    server: DaemonHarness, tmp_path: Path, credentials: str
) -> None:
    (tmp_path / "store").mkdir()
    at = ("--endpoint", server.endpoint, "--credentials", credentials)
    with DaemonHarness(tmp_path / "store", mount=False) as harness:
        client = harness.client()
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="key", Body=b"x" * 100_000)
        config = str(harness.config_file)
        place = "s3://backups/some/where.2fmeta"
        assert "changes up to" in _meta(harness, "backup", place, config, *at)
        client.delete_object(Bucket=BUCKET, Key="key")
        client.put_object(Bucket=BUCKET, Key="later", Body=b"y")
        _meta(harness, "restore", place, config, *at, "--replace", fails="in use")
        assert harness.stop() == 0
        _meta(harness, "restore", "s3://backups/none", config, *at, fails="s3://backups/none")
        wrong = tmp_path / "wrong"
        wrong.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
        options = ("--endpoint", server.endpoint, "--credentials", str(wrong))
        _meta(harness, "restore", place, config, *options, fails="s3://backups/")
        assert "changes made afterwards are lost" in _meta(
            harness, "restore", place, config, *at, "--replace"
        )
        harness.start()
        assert _keys(client) == {"key"}


@pytest.mark.slow
def test_a_series_is_kept_in_a_bucket_and_its_faults_are_told(
    server: DaemonHarness, tmp_path: Path, credentials: str
) -> None:
    settings = {
        "backup.target": "s3://backups/series",
        "backup.endpoint": server.endpoint,
        "backup.credentials_file": credentials,
        "backup.interval_s": 1.0,
        "backup.keep_days": 0.0,
        "backup.whole_hours": 0.01,
    }
    (tmp_path / "store").mkdir()
    with DaemonHarness(tmp_path / "store", mount=False, settings=settings) as harness:
        harness.client().create_bucket(Bucket=BUCKET)
        first = _next_point(harness, 0)
        server.kill()
        harness.client().put_object(Bucket=BUCKET, Key="meanwhile", Body=b"x")
        harness.wait_for(lambda report: bool(report["pool"]["backup"]["fault"]))
        shown = harness.run("status", "--config", str(harness.config_file)).stdout
        assert "Backup       failed: s3://backups/series/" in shown
        server.start()
        harness.client().put_object(Bucket=BUCKET, Key="again", Body=b"x")
        _next_point(harness, first + 1)
        # Since the last one is whole, nothing before it is needed to go back to now.
        target = target_of(
            "s3://backups/series/", Access(endpoint=server.endpoint, credentials=credentials)
        )
        points = points_of(target.names())
        assert len({point.chain for point in points}) == 1
        listed = _meta(
            harness,
            "points",
            "s3://backups/series/",
            "--endpoint",
            server.endpoint,
            "--credentials",
            credentials,
        )
        assert "whole" in listed


@pytest.mark.slow
def test_large_files_go_in_parts_and_are_read_back(
    server: DaemonHarness, tmp_path: Path, credentials: str
) -> None:
    access = Access(endpoint=server.endpoint, credentials=credentials)
    target = target_of("s3://backups/prefix/", access)
    file, back = tmp_path / "file", tmp_path / "back"
    file.write_bytes(random.Random(1).randbytes(40 * MIB + 17))
    target.put("a large one", file)
    assert target.names() == ["a large one"]
    etag = server.client().head_object(Bucket="backups", Key="prefix/a large one")["ETag"]
    assert etag.strip('"').endswith("-3")
    target.get("a large one", back)
    assert back.read_bytes() == file.read_bytes()
    target.remove("a large one")
    assert target.names() == []
    with pytest.raises(TargetError, match="s3://backups/prefix/gone"):
        target.get("gone", back)


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    target = target_of(str(tmp_path / "not mounted"), Access())
    with pytest.raises(TargetError, match="No such file"):
        target.put("name", tmp_path / "file")
    with pytest.raises(TargetError, match="can't be read"):
        target_of("s3://bucket/", Access(credentials=str(tmp_path / "none")))
