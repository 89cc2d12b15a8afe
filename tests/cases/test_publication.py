"""When S3 sees what the mount writes, and what its ETag says then (rules R5, R6, R9, R10)."""

from __future__ import annotations

import mmap
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cases.doors import etag, get, keys, md5, noise, put, refused

CHUNK = 1 << 20


def test_a_file_is_no_key_before_it_is_closed(s3: Any, bucket: str, box: Path) -> None:
    with (box / "file").open("wb", buffering=0) as file:
        for _ in range(3):
            file.write(noise(CHUNK))
            assert keys(s3, bucket) == []
            with refused("NoSuchKey"):
                get(s3, bucket, "file")
    assert get(s3, bucket, "file") == noise(CHUNK) * 3


@pytest.mark.parametrize("sync", [os.fsync, os.fdatasync], ids=["fsync", "fdatasync"])
def test_fsync_shows_what_is_written_so_far(s3: Any, bucket: str, box: Path, sync: Any) -> None:
    with (box / "file").open("wb", buffering=0) as file:
        file.write(b"one")
        sync(file.fileno())
        assert get(s3, bucket, "file") == b"one"
        file.write(b" two")
        assert get(s3, bucket, "file") == b"one"
        assert (box / "file").read_bytes() == b"one two", "programs see it at once"
        sync(file.fileno())
        assert get(s3, bucket, "file") == b"one two"


def test_a_file_being_overwritten_is_the_old_one_to_s3(s3: Any, bucket: str, box: Path) -> None:
    old, new = noise(3 * CHUNK, 1), noise(4 * CHUNK, 2)
    (box / "checkpoint").write_bytes(old)
    with (box / "checkpoint").open("wb", buffering=0) as file:
        assert get(s3, bucket, "checkpoint") == old
        file.write(new[:CHUNK])
        answer = s3.get_object(Bucket=bucket, Key="checkpoint")
        assert answer["ContentLength"] == len(old)
        assert answer["ETag"] == f'"{md5(old)}"'
        assert answer["Body"].read() == old
        file.write(new[CHUNK:])
    assert get(s3, bucket, "checkpoint") == new
    assert etag(s3, bucket, "checkpoint") == md5(new)


@pytest.mark.parametrize("size", [8 * CHUNK, 12_000], ids=["in stripes", "inline"])
def test_a_get_under_way_goes_on_with_the_bytes_it_began_with(
    s3: Any, bucket: str, box: Path, size: int
) -> None:
    old = noise(size, 1)
    (box / "checkpoint").write_bytes(old)
    body = s3.get_object(Bucket=bucket, Key="checkpoint")["Body"]
    start = body.read(1000)
    (box / "checkpoint").write_bytes(noise(size, 2))
    with (box / "checkpoint").open("r+b") as file:
        file.write(b"edited in place")
    (box / "checkpoint").unlink()
    assert start + body.read() == old


def test_a_rename_publishes_what_is_open(s3: Any, bucket: str, box: Path) -> None:
    (box / "final").write_bytes(b"old")
    with (box / "temporary").open("wb", buffering=0) as file:
        file.write(b"new")
        os.rename(box / "temporary", box / "final")
        assert get(s3, bucket, "final") == b"new"
        assert keys(s3, bucket) == ["final"]


@pytest.mark.parametrize("size", [0, 5, 16_384, 16_385, CHUNK, 3 * CHUNK + 7])
def test_written_from_front_to_back_the_etag_is_the_md5(
    s3: Any, bucket: str, box: Path, size: int
) -> None:
    content = noise(size, size)
    with (box / "file").open("wb", buffering=0) as file:
        for start in range(0, size, 70_000):
            file.write(content[start : start + 70_000])
    assert etag(s3, bucket, "file") == md5(content)
    assert os.getxattr(box / "file", "user.s3.etag").decode().strip('"') == md5(content)


def test_an_edit_changes_the_etag_and_a_look_does_not(s3: Any, bucket: str, box: Path) -> None:
    content = noise(2 * CHUNK, 3)
    first = put(s3, bucket, "file", content)
    (box / "file").read_bytes()
    os.utime(box / "file", (1, 1))
    (box / "file").chmod(0o600)
    with (box / "file").open("r+b"):
        pass
    assert etag(s3, bucket, "file") == first
    seen = {first}
    for edit in (b"x", b"x", b"y"):
        with (box / "file").open("r+b") as file:
            file.seek(100)
            file.write(edit)
        now = etag(s3, bucket, "file")
        assert now.endswith("-1")
        assert now not in seen, "an ETag came back though the file was written again"
        seen.add(now)
    os.truncate(box / "file", CHUNK)
    assert etag(s3, bucket, "file") not in seen
    assert get(s3, bucket, "file") == content[:100] + b"y" + content[101:CHUNK]


def test_an_append_changes_the_etag(s3: Any, bucket: str, box: Path) -> None:
    first = put(s3, bucket, "log", b"line\n")
    with (box / "log").open("ab") as file:
        file.write(b"line\n")
    assert get(s3, bucket, "log") == b"line\nline\n"
    assert etag(s3, bucket, "log") != first


def test_if_match_holds_across_both_doors(s3: Any, bucket: str, box: Path) -> None:
    first = put(s3, bucket, "file", b"first")
    with (box / "file").open("r+b") as file:
        file.write(b"F")
    with refused("PreconditionFailed"):
        put(s3, bucket, "file", b"lost update", IfMatch=first)
    with refused("PreconditionFailed"):
        get(s3, bucket, "file", IfMatch=first)
    second = etag(s3, bucket, "file")
    assert get(s3, bucket, "file", IfMatch=second) == b"First"
    put(s3, bucket, "file", b"third", IfMatch=second)
    assert (box / "file").read_bytes() == b"third"


def test_an_edit_drops_the_checksums_an_s3_client_gave(s3: Any, bucket: str, box: Path) -> None:
    put(s3, bucket, "file", b"first", ChecksumAlgorithm="SHA256")
    head = s3.head_object(Bucket=bucket, Key="file", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"]
    with (box / "file").open("r+b") as file:
        file.write(b"F")
    head = s3.head_object(Bucket=bucket, Key="file", ChecksumMode="ENABLED")
    assert not [name for name in head if name.startswith("Checksum")]
    assert get(s3, bucket, "file", ChecksumMode="ENABLED") == b"First"


def test_last_modified_is_when_it_was_stored_not_what_utime_says(
    s3: Any, bucket: str, box: Path
) -> None:
    (box / "file").write_bytes(b"x")
    os.utime(box / "file", (1_000_000_000, 1_000_000_000))
    assert (box / "file").stat().st_mtime == 1_000_000_000
    modified = s3.head_object(Bucket=bucket, Key="file")["LastModified"]
    assert abs(datetime.now(UTC) - modified) < timedelta(minutes=1)


def test_a_shared_mapping_is_published_at_msync(s3: Any, bucket: str, box: Path) -> None:
    (box / "file").write_bytes(bytes(8192))
    with (box / "file").open("r+b") as file, mmap.mmap(file.fileno(), 8192) as mapped:
        mapped[4090:4102] = b"across pages"
        mapped.flush()
        os.fsync(file.fileno())
        assert get(s3, bucket, "file")[4090:4102] == b"across pages"
        mapped[0:5] = b"again"
    assert get(s3, bucket, "file")[:5] == b"again"


def test_a_checkpoint_that_is_renamed_into_place_is_read_by_s3_at_once(
    s3: Any, bucket: str, box: Path
) -> None:
    for step in range(5):
        state = noise(2 * CHUNK + step, step)
        with (box / "model.pt.tmp").open("wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        os.replace(box / "model.pt.tmp", box / "model.pt")
        assert get(s3, bucket, "model.pt") == state
        assert etag(s3, bucket, "model.pt") == md5(state)
        assert keys(s3, bucket) == ["model.pt"]
