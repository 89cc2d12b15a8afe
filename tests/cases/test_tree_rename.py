"""A directory with 100,000 files below moves in an instant, and S3 lists the new keys at once.

In CI 10,000 files; TWOFOLD_FULL=1 makes it all of them. The bound on time is the same for both.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.cases.conftest import FULL, Shell
from tests.cases.doors import fails, get, keys, put, refused

COUNT = 100_000 if FULL else 10_000
WITHIN_S = 0.5


def fill(top: Path) -> list[str]:
    """COUNT empty files in directories of 1,000; their keys below `top`, in byte order."""
    names = []
    for number in range(COUNT):
        name = f"{number // 1000:03d}/file-{number}"
        if number % 1000 == 0:
            (top / name).parent.mkdir(parents=True)
        os.mknod(top / name, stat.S_IFREG | 0o644)
        names.append(name)
    return sorted(names)


def test_a_full_directory_moves_at_once_for_both_doors(
    s3: Any, bucket: str, box: Path, shell: Shell
) -> None:
    names = fill(box / "dir1")
    put(s3, bucket, "dir1/written by S3", b"by S3")
    put(s3, bucket, "dir1", b"the object beside it")
    put(s3, bucket, "dir1-later", b"")
    put(s3, bucket, "dir2.", b"")
    put(s3, bucket, "dir20", b"")
    (box / "dir1" / "written on the mount").write_bytes(b"on the mount")
    below = sorted([*names, "written by S3", "written on the mount"])
    assert get(s3, bucket, "dir1/written by S3") == b"by S3"

    start = time.perf_counter()
    os.rename(box / "dir1", box / "dir2")
    took_s = time.perf_counter() - start
    assert took_s < WITHIN_S

    wanted = ["dir1-later", "dir2", "dir2.", *(f"dir2/{name}" for name in below), "dir20"]
    assert keys(s3, bucket) == wanted
    assert get(s3, bucket, "dir2/written by S3") == b"by S3"
    assert get(s3, bucket, "dir2/written on the mount") == b"on the mount"
    assert get(s3, bucket, "dir2") == b"the object beside it"
    for gone in ("dir1", "dir1/written by S3", f"dir1/{names[0]}"):
        with refused("NoSuchKey"):
            get(s3, bucket, gone)
    with fails(errno.ENOENT):
        (box / "dir1").stat()
    assert (box / "dir2" / names[-1]).stat().st_size == 0
    assert len(os.listdir(box / "dir2")) == COUNT // 1000 + 3

    # mv(1) moves it too, and into another directory just as quickly.
    (box / "deep").mkdir()
    start = time.perf_counter()
    shell("mv", box / "dir2", box / "deep" / "dir3")
    assert time.perf_counter() - start < WITHIN_S + 0.5
    page = s3.list_objects_v2(Bucket=bucket, Prefix="deep/dir3/", MaxKeys=1000)
    assert [entry["Key"] for entry in page["Contents"]] == [
        f"deep/dir3/{name}" for name in below[:1000]
    ]


def test_a_listing_sees_a_directory_before_or_after_its_rename_never_between(
    s3: Any, bucket: str, box: Path
) -> None:
    (box / "a").mkdir()
    for number in range(300):
        os.mknod(box / "a" / f"{number:03d}", stat.S_IFREG | 0o644)
    whole = {tuple(f"{name}/{number:03d}" for number in range(300)) for name in ("a", "b", "c/d")}
    (box / "c").mkdir()
    ended = threading.Event()

    def move() -> int:
        count = 0
        while not ended.is_set():
            for old, new in (("a", "b"), ("b", "c/d"), ("c/d", "a")):
                os.rename(box / old, box / new)
                count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        try:
            seen = [tuple(keys(s3, bucket)) for _ in range(60)]
        finally:
            ended.set()
        assert moving.result() > 60
    assert set(seen) <= whole
    assert len(set(seen)) > 1
