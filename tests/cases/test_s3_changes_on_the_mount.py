"""What S3 answered is what the very next system call on the mount sees (rules R0 and R8)."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cases.doors import fails, get, noise, put


@pytest.fixture
def disturbed(box: Path) -> Iterator[None]:
    """Another client that makes, lists and removes names in the same directory all the while."""
    stopped = threading.Event()

    def disturb() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            path = box / f"noise-{number % 20}"
            path.write_bytes(b"noise")
            os.listdir(box)
            path.unlink()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(disturb)
        yield
        stopped.set()
        running.result()


@pytest.mark.usefixtures("disturbed")
def test_every_replacement_is_what_the_next_open_reads(s3: Any, bucket: str, box: Path) -> None:
    put(s3, bucket, "key", b"first")
    for number in range(300):
        (box / "key").stat()
        body = b"%d" % number * (1 + number % 3)
        put(s3, bucket, "key", body)
        assert (box / "key").read_bytes() == body
        assert (box / "key").stat().st_size == len(body)


@pytest.mark.usefixtures("disturbed")
def test_every_deletion_and_return_is_what_the_next_open_finds(
    s3: Any, bucket: str, box: Path
) -> None:
    for number in range(100):
        assert not (box / "key").exists()
        put(s3, bucket, "key", b"%d" % number)
        assert (box / "key").read_bytes() == b"%d" % number
        s3.delete_object(Bucket=bucket, Key="key")
        with fails(errno.ENOENT):
            os.open(box / "key", os.O_RDONLY)


@pytest.mark.parametrize("door", ["s3", "mount"])
def test_a_name_that_always_exists_always_opens(s3: Any, bucket: str, box: Path, door: str) -> None:
    # What open(2) found a moment ago may have lost its name by the time the daemon is asked for it.
    versions = {noise(size, seed) for seed, size in enumerate((3_000, 20_000, 70_000))}
    put(s3, bucket, "key", next(iter(versions)))
    ended = threading.Event()

    def read() -> int:
        count = 0
        while not ended.is_set():
            assert (box / "key").read_bytes() in versions
            count += 1
        return count

    def replace(writer: int) -> None:
        for _ in range(30):
            for body in versions:
                if door == "s3":
                    put(s3, bucket, "key", body)
                else:
                    (box / f"new-{writer}").write_bytes(body)
                    os.replace(box / f"new-{writer}", box / "key")

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            list(pool.map(replace, range(5)))
        finally:
            ended.set()
        assert sum(reader.result() for reader in readers) > 30
    assert os.listdir(box) == ["key"]


def test_a_large_replacement_is_read_whole_by_the_next_open(
    s3: Any, bucket: str, box: Path
) -> None:
    for seed in range(6):
        body = noise(3_000_000 + seed, seed)
        put(s3, bucket, "key", body)
        assert (box / "key").read_bytes() == body


@pytest.mark.parametrize("size", [5_000, 5_000_000], ids=["inline", "in stripes"])
def test_who_holds_the_old_file_open_reads_the_old_bytes_to_the_end(
    s3: Any, bucket: str, box: Path, size: int
) -> None:
    old = noise(size, 1)
    put(s3, bucket, "key", old)
    with (box / "key").open("rb") as file, (box / "key").open("rb") as untouched:
        start = file.read(1000)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            put(s3, bucket, "key", b"new")
            assert (box / "key").read_bytes() == b"new"
            s3.delete_object(Bucket=bucket, Key="key")
            assert start + file.read() == old
            assert mapped[:] == old
            assert untouched.read() == old, "nothing of it was in the page cache"
            assert os.fstat(file.fileno()).st_size == size
            assert os.fstat(file.fileno()).st_nlink == 0
    with fails(errno.ENOENT):
        (box / "key").read_bytes()


def test_keys_below_a_name_that_was_cached_absent_appear(s3: Any, bucket: str, box: Path) -> None:
    assert not (box / "a").exists()
    assert not (box / "a" / "b").exists()
    put(s3, bucket, "a/b", b"below")
    assert (box / "a" / "b").read_bytes() == b"below"
    assert not (box / "a" / "c" / "d").exists()
    put(s3, bucket, "a/c/d", b"deeper")
    assert (box / "a" / "c" / "d").read_bytes() == b"deeper"
    assert sorted(os.listdir(box / "a")) == ["b", "c"]
    s3.delete_object(Bucket=bucket, Key="a/c/d")
    assert not (box / "a" / "c").exists()
    assert os.listdir(box / "a") == ["b"]


def test_a_leaf_that_gains_keys_below_it_turns_into_a_directory(
    s3: Any, bucket: str, box: Path
) -> None:
    put(s3, bucket, "a", b"leaf")
    assert (box / "a").read_bytes() == b"leaf"
    put(s3, bucket, "a/b", b"below")
    assert (box / "a").is_dir()
    assert (box / "a" / "b").read_bytes() == b"below"
    assert (box / "a" / "%tf.data").read_bytes() == b"leaf"
    s3.delete_object(Bucket=bucket, Key="a/b")
    assert (box / "a").read_bytes() == b"leaf"


def test_a_copy_is_seen_by_the_next_open(s3: Any, bucket: str, box: Path) -> None:
    put(s3, bucket, "source", b"copied")
    put(s3, bucket, "target", b"old")
    assert (box / "target").read_bytes() == b"old"
    assert not (box / "absent").exists()
    for target in ("target", "absent"):
        s3.copy_object(Bucket=bucket, Key=target, CopySource={"Bucket": bucket, "Key": "source"})
        assert (box / target).read_bytes() == b"copied"


def test_a_completed_multipart_upload_is_seen_by_the_next_open(
    s3: Any, bucket: str, box: Path
) -> None:
    parts = [noise(5 << 20, 1), noise(1_000_000, 2)]
    put(s3, bucket, "key", b"old")
    assert (box / "key").read_bytes() == b"old"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    claims = []
    for number, part in enumerate(parts, 1):
        where = {"Bucket": bucket, "Key": "key", "UploadId": upload, "PartNumber": number}
        claims.append({"PartNumber": number, "ETag": s3.upload_part(Body=part, **where)["ETag"]})
        assert (box / "key").read_bytes() == b"old"
        assert os.listdir(box) == ["key"], "an upload under way shows on the mount"
    s3.complete_multipart_upload(
        Bucket=bucket, Key="key", UploadId=upload, MultipartUpload={"Parts": claims}
    )
    assert (box / "key").read_bytes() == b"".join(parts)
    assert get(s3, bucket, "key", Range="bytes=5242878-5242881") == parts[0][-2:] + parts[1][:2]


def test_keys_deleted_together_are_gone_for_the_next_open(s3: Any, bucket: str, box: Path) -> None:
    names = [f"{letter}/{number}" for letter in "abc" for number in range(40)]
    for name in names:
        put(s3, bucket, name, name.encode())
    assert [(box / name).read_bytes() for name in names] == [name.encode() for name in names]
    gone = [name for name in names if not name.startswith("b")]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": name} for name in gone]})
    for name in gone:
        with fails(errno.ENOENT):
            os.open(box / name, os.O_RDONLY)
    assert os.listdir(box) == ["b"]
    assert len(os.listdir(box / "b")) == 40


def test_buckets_come_and_go_at_the_root(s3: Any, bucket: str, box: Path) -> None:
    other = box.with_name(f"{bucket}-other")
    assert not other.exists()
    s3.create_bucket(Bucket=other.name)
    assert other.is_dir()
    assert other.name in os.listdir(box.parent)
    s3.delete_bucket(Bucket=other.name)
    assert not other.exists()
    assert other.name not in os.listdir(box.parent)
