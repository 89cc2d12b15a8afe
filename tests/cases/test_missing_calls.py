"""What the mount has no operation for: the kernel or libc does it another way, or says so cleanly.

The library under the mount knows no fallocate, lseek, copy_file_range, ioctl and tmpfile. Programs
have to get along with that as they do on other file systems that lack them.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cases.doors import fails, get, keys, noise

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
FICLONE, GETFLAGS, FIEMAP = 0x40049409, 0x80086601, 0xC020660B
PROT_READ_WRITE, MAP_SHARED, FAILED = 3, 1, ctypes.c_void_p(-1).value
WITHIN_S = 30.0
SIZE = 200_000
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_int64]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


@pytest.fixture
def file(box: Path) -> Iterator[int]:
    """A file of noise, open for reading and writing."""
    descriptor = os.open(box / "file", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, noise(SIZE))
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    "mode",
    [0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, COLLAPSE, ZERO, INSERT],
    ids=["reserve", "keep size", "punch", "collapse", "zero", "insert"],
)
def test_fallocate_is_refused_and_changes_nothing(file: int, mode: int) -> None:
    assert libc.fallocate(file, mode, 4096, 4096) == -1
    assert ctypes.get_errno() == errno.EOPNOTSUPP
    assert os.pread(file, SIZE + 1, 0) == noise(SIZE)


def test_posix_fallocate_writes_instead(file: int) -> None:
    os.posix_fallocate(file, SIZE - 10, 5000)
    assert os.pread(file, SIZE + 5000, 0) == noise(SIZE) + bytes(4990)


def test_a_file_is_all_written_to_who_looks_for_holes(file: int) -> None:
    os.ftruncate(file, 3 * SIZE)
    assert os.lseek(file, SIZE, os.SEEK_DATA) == SIZE
    assert os.lseek(file, 0, os.SEEK_HOLE) == 3 * SIZE
    with fails(errno.ENXIO):
        os.lseek(file, 3 * SIZE, os.SEEK_DATA)


def test_copy_file_range_copies_through_the_kernel(box: Path, file: int) -> None:
    other = os.open(box / "other", os.O_RDWR | os.O_CREAT)
    done = 0
    while done < SIZE:
        done += os.copy_file_range(file, other, SIZE - done, done, 77 + done)
    assert os.pread(other, SIZE + 77, 0) == bytes(77) + noise(SIZE)
    os.close(other)
    shutil.copyfile(box / "file", box / "third")
    assert (box / "third").read_bytes() == noise(SIZE)


def test_clones_are_refused_and_cp_copies(box: Path, file: int) -> None:
    other = os.open(box / "other", os.O_RDWR | os.O_CREAT)
    with fails(errno.EOPNOTSUPP):
        fcntl.ioctl(other, FICLONE, file)
    os.close(other)
    assert os.system(f"cp --reflink=auto {box / 'file'} {box / 'copy'}") == 0
    assert (box / "copy").read_bytes() == noise(SIZE)


def test_flags_and_extents_of_other_file_systems_are_not_there(file: int) -> None:
    with fails(errno.ENOTTY):
        fcntl.ioctl(file, GETFLAGS, bytes(8))
    with fails(errno.EOPNOTSUPP):
        fcntl.ioctl(file, FIEMAP, bytes(32))


def test_temporary_files_have_a_name_for_a_moment(s3: Any, bucket: str, box: Path) -> None:
    with fails(errno.EOPNOTSUPP):
        os.open(box, os.O_TMPFILE | os.O_RDWR)
    # Python, like others, then makes one and removes its name.
    with tempfile.TemporaryFile(dir=box) as temporary:
        temporary.write(noise(SIZE))
        temporary.flush()
        assert os.listdir(box) == []
        assert keys(s3, bucket) == []
        temporary.seek(0)
        assert temporary.read() == noise(SIZE)


def test_databases_that_ask_for_space_get_it(box: Path) -> None:
    database = sqlite3.connect(box / "database")
    database.execute("PRAGMA mmap_size = 100000000")
    database.execute("CREATE TABLE t (x)")
    with database:
        database.executemany("INSERT INTO t VALUES (?)", [(noise(3000, n),) for n in range(200)])
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_a_mapping_outlives_its_descriptor_and_is_published_when_it_goes(
    s3: Any, bucket: str, box: Path, file: int
) -> None:
    own = os.open(box / "file", os.O_RDWR)
    place = libc.mmap(None, SIZE, PROT_READ_WRITE, MAP_SHARED, own, 0)
    assert place != FAILED
    os.close(own)
    ctypes.memmove(place + 100_000, b"through the mapping", 19)
    assert os.pread(file, 19, 100_000) == b"through the mapping"
    assert libc.munmap(place, SIZE) == 0
    # The kernel closes the file behind munmap's back, a moment later.
    wanted = noise(SIZE)[:100_000] + b"through the mapping" + noise(SIZE)[100_019:]
    deadline = time.monotonic() + WITHIN_S
    while read_or_none(s3, bucket) != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_or_none(s3: Any, bucket: str) -> bytes | None:
    try:
        return get(s3, bucket, "file")
    except ClientError:
        return None
