"""What programs do to files on the mount, and what S3 makes of it (rules R4, R11 to R16)."""

from __future__ import annotations

import errno
import mmap
import os
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cases.conftest import Shell
from tests.cases.doors import (
    EXCHANGE,
    NOREPLACE,
    etag,
    fails,
    get,
    keys,
    noise,
    prefixes,
    put,
    refused,
    renameat2,
)

CHUNK = 1 << 20


# -- bytes -----------------------------------------------------------------------------------


def test_appends_through_many_opens_add_up(s3: Any, bucket: str, box: Path) -> None:
    put(s3, bucket, "log", b"0\n")
    for number in range(1, 30):
        with (box / "log").open("ab") as file:
            file.write(b"%d\n" % number)
    assert get(s3, bucket, "log") == b"".join(b"%d\n" % number for number in range(30))


def test_two_appenders_lose_nothing(s3: Any, bucket: str, box: Path) -> None:
    with (box / "log").open("ab", buffering=0) as one, (box / "log").open("ab", buffering=0) as two:
        for _ in range(50):
            one.write(b"one\n")
            two.write(b"two\n")
    assert get(s3, bucket, "log").splitlines() == [b"one", b"two"] * 50


@pytest.mark.parametrize("size", [10, 20_000, 3 * CHUNK + 5])
def test_truncation_both_ways(s3: Any, bucket: str, box: Path, size: int) -> None:
    content = noise(size)
    put(s3, bucket, "file", content)
    os.truncate(box / "file", size // 2)
    assert get(s3, bucket, "file") == content[: size // 2]
    os.truncate(box / "file", size + 100_000)
    wanted = content[: size // 2] + bytes(size + 100_000 - size // 2)
    assert get(s3, bucket, "file") == wanted
    assert (box / "file").read_bytes() == wanted
    os.truncate(box / "file", 0)
    assert get(s3, bucket, "file") == b""
    with (box / "file").open("wb"):
        pass
    assert (box / "file").stat().st_size == 0


def test_a_sparse_file_reads_as_zeros_and_takes_no_room(s3: Any, bucket: str, box: Path) -> None:
    free = os.statvfs(box)
    with (box / "sparse").open("wb") as file:
        file.seek(40 * CHUNK)
        file.write(b"end")
    assert (box / "sparse").stat().st_size == 40 * CHUNK + 3
    taken = (free.f_bfree - os.statvfs(box).f_bfree) * free.f_frsize
    assert taken < 20 * CHUNK
    assert get(s3, bucket, "sparse", Range="bytes=-5") == b"\0\0end"
    assert get(s3, bucket, "sparse") == bytes(40 * CHUNK) + b"end"


def test_random_edits_leave_what_a_local_file_would_hold(
    s3: Any, bucket: str, box: Path, work: Path
) -> None:
    chance = random.Random(11)
    for path in (box / "file", work / "file"):
        path.write_bytes(noise(2 * CHUNK, 5))
    pair = [os.open(path, os.O_RDWR) for path in (box / "file", work / "file")]
    try:
        for turn in range(150):
            start = chance.randrange(3 * CHUNK)
            size = chance.choice([1, 100, 4096, 65_537])
            piece = noise(size, turn)
            for fd in pair:
                if turn % 10 == 9:
                    os.ftruncate(fd, start)
                else:
                    os.pwrite(fd, piece, start)
            if turn % 25 == 24:
                os.fsync(pair[0])
                assert get(s3, bucket, "file") == (work / "file").read_bytes()
    finally:
        for fd in pair:
            os.close(fd)
    assert (box / "file").read_bytes() == (work / "file").read_bytes()
    assert get(s3, bucket, "file") == (work / "file").read_bytes()


def test_shared_and_private_mappings(s3: Any, bucket: str, box: Path) -> None:
    content = noise(3 * 4096 + 100, 2)
    put(s3, bucket, "file", content)
    with (box / "file").open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as private:
            private[:4] = b"mine"
            assert private[:8] == b"mine" + content[4:8]
        assert get(s3, bucket, "file") == content
        with mmap.mmap(file.fileno(), 0) as shared:
            shared[4094:4100] = b"shared"
            shared.flush()
            assert os.pread(file.fileno(), 6, 4094) == b"shared"
    assert get(s3, bucket, "file") == content[:4094] + b"shared" + content[4100:]


def test_an_unlinked_file_lives_as_long_as_it_is_open(s3: Any, bucket: str, box: Path) -> None:
    with (box / "file").open("w+b", buffering=0) as file:
        file.write(noise(2 * CHUNK))
        (box / "file").unlink()
        assert os.listdir(box) == []
        file.write(b"more")
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == noise(2 * CHUNK) + b"more"
        assert keys(s3, bucket) == [], "it came back as a key"
        put(s3, bucket, "file", b"another")
    assert keys(s3, bucket) == ["file"]
    assert (box / "file").read_bytes() == b"another"


# -- links and special files -----------------------------------------------------------------


def test_hard_links_are_two_keys_until_a_put_parts_them(s3: Any, bucket: str, box: Path) -> None:
    (box / "one").write_bytes(b"shared")
    os.link(box / "one", box / "two")
    assert keys(s3, bucket) == ["one", "two"]
    with (box / "two").open("ab") as file:
        file.write(b" bytes")
    assert get(s3, bucket, "one") == get(s3, bucket, "two") == b"shared bytes"
    assert etag(s3, bucket, "one") == etag(s3, bucket, "two")
    assert (box / "one").stat().st_nlink == 2
    put(s3, bucket, "one", b"its own")
    assert (box / "one").read_bytes() == b"its own"
    assert (box / "two").read_bytes() == b"shared bytes"
    assert (box / "one").stat().st_nlink == (box / "two").stat().st_nlink == 1
    s3.delete_object(Bucket=bucket, Key="one")
    assert get(s3, bucket, "two") == b"shared bytes"


def test_symbolic_links_are_followed_inside_the_bucket_only(
    s3: Any, bucket: str, box: Path
) -> None:
    other = box.with_name(f"{bucket}-other")
    other.mkdir()
    (other / "secret").write_bytes(b"of another bucket")
    (box / "blobs").mkdir()
    (box / "blobs" / "b1").write_bytes(b"blob")
    (box / "snapshot").mkdir()
    (box / "snapshot" / "model").symlink_to("../blobs/b1")
    (box / "again").symlink_to("snapshot/model")
    (box / "directory").symlink_to("blobs")
    for name, target in {
        "dangling": "nothing",
        "outside": f"../{other.name}/secret",
        "absolute": str(other / "secret"),
        "far-outside": "../../../../../../etc/passwd",
        "loop": "loop",
    }.items():
        (box / name).symlink_to(target)
    assert keys(s3, bucket) == ["again", "blobs/b1", "snapshot/model"]
    for key in ("again", "blobs/b1", "snapshot/model", "directory/b1"):
        assert get(s3, bucket, key) == b"blob"
    for key in ("dangling", "outside", "absolute", "far-outside", "loop"):
        with refused("NoSuchKey"):
            get(s3, bucket, key)
        with refused("404"):
            s3.head_object(Bucket=bucket, Key=key)
    assert (box / "outside").read_bytes() == b"of another bucket"
    put(s3, bucket, "snapshot/model", b"new")
    assert not (box / "snapshot" / "model").is_symlink()
    assert (box / "blobs" / "b1").read_bytes() == b"blob", "a PUT went through a link"


def test_special_files_are_no_keys_and_stand_in_the_way_of_a_put(
    s3: Any, bucket: str, box: Path, work: Path
) -> None:
    os.mkfifo(box / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        # The path may be too long for a socket's address, so it is bound from within.
        here = os.open(".", os.O_RDONLY)
        os.chdir(box)
        try:
            listener.bind("socket")
        finally:
            os.fchdir(here)
            os.close(here)
    assert keys(s3, bucket) == []
    for key in ("fifo", "socket"):
        with refused("NoSuchKey"):
            get(s3, bucket, key)
        with pytest.raises(s3.exceptions.ClientError) as caught:
            put(s3, bucket, key, b"x")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
        s3.delete_object(Bucket=bucket, Key=key)
    assert sorted(os.listdir(box)) == ["fifo", "socket"]
    reader = os.open(box / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with (box / "fifo").open("wb", buffering=0) as writer:
        writer.write(b"through")
        assert os.read(reader, 10) == b"through"
    os.close(reader)


# -- names -----------------------------------------------------------------------------------


def test_rename_without_replacing_and_exchange(s3: Any, bucket: str, box: Path) -> None:
    put(s3, bucket, "a", b"a")
    put(s3, bucket, "b", b"b")
    with fails(errno.EEXIST):
        renameat2(box / "a", box / "b", NOREPLACE)
    renameat2(box / "a", box / "b", EXCHANGE)
    assert (get(s3, bucket, "a"), get(s3, bucket, "b")) == (b"b", b"a")
    renameat2(box / "a", box / "c", NOREPLACE)
    assert keys(s3, bucket) == ["b", "c"]
    put(s3, bucket, "d/x", b"x")
    renameat2(box / "d", box / "b", EXCHANGE)
    assert keys(s3, bucket) == ["b/x", "c", "d"]
    with fails(errno.EINVAL):
        renameat2(box / "b", box / "z", 4)


def test_renames_between_buckets(s3: Any, bucket: str, box: Path, shell: Shell) -> None:
    other = box.with_name(f"{bucket}-other")
    other.mkdir()
    put(s3, bucket, "file", b"x", Metadata={"kept": "yes"})
    put(s3, bucket, "d/e", b"e")
    os.rename(box / "file", other / "file")
    assert get(s3, other.name, "file") == b"x"
    with fails(errno.EXDEV):
        os.rename(box / "d", other / "d")
    shell("mv", box / "d", other / "d")
    assert keys(s3, bucket) == []
    assert keys(s3, other.name) == ["d/e", "file"]


def test_a_made_directory_outlives_its_keys_and_an_implied_one_does_not(
    s3: Any, bucket: str, box: Path
) -> None:
    (box / "made").mkdir()
    put(s3, bucket, "made/key", b"")
    put(s3, bucket, "implied/deep/key", b"")
    put(s3, bucket, "touched/key", b"")
    (box / "touched").chmod(0o700)
    for key in ("made/key", "implied/deep/key", "touched/key"):
        s3.delete_object(Bucket=bucket, Key=key)
    assert sorted(os.listdir(box)) == ["made", "touched"]
    assert prefixes(s3, bucket) == ["made/", "touched/"]
    assert keys(s3, bucket) == []
    s3.delete_bucket(Bucket=bucket)
    assert not box.exists()


def test_the_root_holds_buckets_and_nothing_else(s3: Any, mount: Path, bucket: str) -> None:
    made = mount / f"{bucket}-made"
    made.mkdir()
    assert made.name in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    put(s3, made.name, "key", b"x")
    with fails(errno.ENOTEMPTY):
        made.rmdir()
    s3.delete_object(Bucket=made.name, Key="key")
    made.rmdir()
    with refused("NoSuchBucket"):
        keys(s3, made.name)
    with fails(errno.EINVAL):
        (mount / "Not_A_Bucket").mkdir()
    with fails(errno.EPERM):
        (mount / "file").write_bytes(b"")
    with fails(errno.EPERM):
        (mount / "link").symlink_to("x")
    with fails(errno.EEXIST):
        (mount / bucket).mkdir()


# -- attributes ------------------------------------------------------------------------------


def test_metadata_shows_as_attributes_both_ways(s3: Any, bucket: str, box: Path) -> None:
    put(
        s3,
        bucket,
        "file",
        b"x",
        Metadata={"colour": "blue"},
        ContentType="text/plain",
        Tagging="team=red",
    )
    path = box / "file"
    assert set(os.listxattr(path)) == {"user.s3.meta.colour", "user.s3.tag.team", "user.mime_type"}
    assert os.getxattr(path, "user.s3.key") == b"file"
    assert os.getxattr(path, "user.s3.meta.colour") == b"blue"
    assert os.getxattr(path, "user.s3.tag.team") == b"red"
    assert os.getxattr(path, "user.mime_type") == b"text/plain"
    before = etag(s3, bucket, "file")
    os.setxattr(path, "user.s3.meta.colour", b"green")
    os.setxattr(path, "user.s3.meta.size", "größer".encode())
    os.setxattr(path, "user.mime_type", b"image/png")
    os.setxattr(path, "user.plain", b"\0\xff")
    head = s3.head_object(Bucket=bucket, Key="file")
    assert head["Metadata"]["colour"] == "green"
    assert set(head["Metadata"]) == {"colour", "size"}
    assert head["ContentType"] == "image/png"
    assert etag(s3, bucket, "file") == before
    os.removexattr(path, "user.s3.meta.colour")
    assert set(s3.head_object(Bucket=bucket, Key="file")["Metadata"]) == {"size"}
    assert os.getxattr(path, "user.plain") == b"\0\xff"
    with fails(errno.ENODATA):
        os.getxattr(path, "user.s3.meta.colour")
    with fails(errno.EPERM):
        os.setxattr(path, "user.s3.etag", b"forged")
    with fails(errno.E2BIG):
        os.setxattr(path, "user.s3.meta.large", b"x" * 3000)
    with fails(errno.EEXIST):
        os.setxattr(path, "user.plain", b"", os.XATTR_CREATE)
    with fails(errno.EOPNOTSUPP):
        os.setxattr(path, "trusted.x", b"")


def test_modes_and_owners(s3: Any, bucket: str, box: Path) -> None:
    put(s3, bucket, "d/file", b"x")
    assert (box / "d" / "file").stat().st_mode & 0o7777 == 0o644
    assert (box / "d").stat().st_mode & 0o7777 == 0o755
    (box / "script").write_bytes(b"#!/bin/sh\n")
    (box / "script").chmod(0o4755)
    os.chown(box / "script", 1234, 4321)
    assert (box / "script").stat().st_mode & 0o7777 == 0o755, "chown clears set-id bits"
    assert ((box / "script").stat().st_uid, (box / "script").stat().st_gid) == (1234, 4321)
    (box / "script").chmod(0o4755)
    put(s3, bucket, "script", b"replaced")
    assert (box / "script").stat().st_mode & 0o7777 == 0o644


def test_statfs_is_of_the_store(s3: Any, bucket: str, box: Path, harness: Any) -> None:
    figures = os.statvfs(box)
    under = os.statvfs(harness.drives[0])
    payload = figures.f_blocks * figures.f_frsize
    # Four drives, 2+2, all on the same file system: twice its size in payload, by each's figures.
    assert 0 < payload <= 2 * under.f_blocks * under.f_frsize
    assert 0 < figures.f_bavail <= figures.f_bfree <= figures.f_blocks
    assert figures.f_namemax == 255
    put(s3, bucket, "file", b"x")
    assert os.statvfs(box).f_files - os.statvfs(box).f_ffree > 1
