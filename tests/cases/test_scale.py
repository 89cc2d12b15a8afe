"""Large numbers: entries of a directory, open handles, bytes of a hole, operations in a life.

In CI some thousands; TWOFOLD_FULL=1 makes it the million entries and the million operations, whose
memory is extrapolated to a hundred million. What was measured goes to the captured output.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases.conftest import FULL
from tests.daemon.harness import ACCESS_KEY, SECRET_KEY, DaemonHarness

ENTRIES = int(os.environ.get("TWOFOLD_ENTRIES", "1000000" if FULL else "3000"))
OPERATIONS = int(os.environ.get("TWOFOLD_OPERATIONS", "1000000" if FULL else "20000"))
HANDLES = 10_000
TIB = 1 << 40
STALL_S = 5.0
"""The longest a second client may wait, on a machine that does other things too."""
GROWTH_BYTES = 8
"""What an operation may leave behind: 100 million of them then less than a gigabyte."""
SLACK_BYTES = 16 << 20

pytestmark = pytest.mark.timeout(4 * 3600 if FULL else 300)

_MAKE = "import os, sys\nfor n in range(int(sys.argv[2])): os.mknod(f'{sys.argv[1]}/{n:07d}')"
_LIST = """
import os, sys
with os.scandir(sys.argv[1]) as entries:
    names = {entry.name for entry in entries}
assert len(names) == int(sys.argv[2]), len(names)
"""
_STAT = "import os, sys\nfor n in range(int(sys.argv[2])): os.stat(f'{sys.argv[1]}/{n:07d}')"
_REMOVE = "import os, sys\nfor n in range(int(sys.argv[2])): os.unlink(f'{sys.argv[1]}/{n:07d}')"
_LIST_KEYS = """
import boto3, sys
s3 = boto3.client(
    "s3", endpoint_url=sys.argv[1], region_name="us-east-1",
    aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3],
)
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=sys.argv[4], Prefix="many/")
found = sum(page["KeyCount"] for page in pages)
assert found == int(sys.argv[5]), found
"""
_CHURN = """
import os, sys
os.chdir(sys.argv[1])
for n in range(int(sys.argv[2]) // 3):
    os.close(os.open(f"{sys.argv[3]}-{n}", os.O_CREAT | os.O_WRONLY))
    os.rename(f"{sys.argv[3]}-{n}", f"{sys.argv[3]}-renamed-{n}")
    os.unlink(f"{sys.argv[3]}-renamed-{n}")
"""


def tell(line: str) -> None:
    """What was measured, for who looks."""
    print(line)  # noqa: T201


def run(program: str, *arguments: object) -> float:
    """Run a program of ours to its end; how long it took."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True)
    return time.monotonic() - began


class Bystander:
    """A client that does the same small thing again and again, and notes the longest it took."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.longest_s = 0.0
        self.count = 0
        self._act = act
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failed: BaseException | None = None

    def _run(self) -> None:
        try:
            while not self._done.wait(0.005):
                began = time.monotonic()
                self._act()
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.count += 1
        except BaseException as error:
            self._failed = error

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed


def test_a_directory_of_many_entries_keeps_nobody_waiting(
    harness: DaemonHarness, s3: Any, box: Path, bucket: str
) -> None:
    many, beside = box / "many", box / "beside"
    many.mkdir()
    beside.write_bytes(b"x" * 100_000)

    def look() -> None:
        # Not from the page cache, and by its name.
        assert beside.stat().st_size == 100_000
        with beside.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.read(4096)
        (box / "absent").exists()

    def fetch() -> None:
        s3.get_object(Bucket=bucket, Key="beside", Range="bytes=0-4095")["Body"].read()

    key = (harness.endpoint, ACCESS_KEY, SECRET_KEY)
    steps: dict[str, Callable[[], object]] = {
        "make": lambda: run(_MAKE, many, ENTRIES),
        "list": lambda: run(_LIST, many, ENTRIES),
        "stat": lambda: run(_STAT, many, ENTRIES),
        # In a process of its own as all of them: the bystanders share an interpreter's lock.
        "list by S3": lambda: run(_LIST_KEYS, *key, bucket, ENTRIES),
        "remove": lambda: run(_REMOVE, many, ENTRIES),
    }
    for name, step in steps.items():
        began = time.monotonic()
        with Bystander(look) as program, Bystander(fetch) as client:
            step()
        took_s = time.monotonic() - began
        tell(
            f"{name} {ENTRIES}: {took_s:.1f} s; longest of {program.count} looks "
            f"{program.longest_s * 1000:.0f} ms, of {client.count} GETs "
            f"{client.longest_s * 1000:.0f} ms"
        )
        assert max(program.longest_s, client.longest_s) < STALL_S, name
    many.rmdir()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for the handles in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < HANDLES + 1000:
        pytest.skip(f"no more than {hard} files can be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (HANDLES + 1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_ten_thousand_files_are_open_at_once(s3: Any, box: Path, bucket: str) -> None:
    folder = box / "open"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context((folder / f"{number:05d}").open("w+b", buffering=0))
            for number in range(HANDLES)
        ]
        for number, file in enumerate(files):
            file.write(b"%d" % number)
        for number, file in enumerate(files):
            assert os.pread(file.fileno(), 10, 0) == b"%d" % number
        assert s3.list_objects_v2(Bucket=bucket, Prefix="open/")["KeyCount"] == 0
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="open/")
    sizes = [entry["Size"] for page in pages for entry in page["Contents"]]
    assert sizes == [len(str(number)) for number in range(HANDLES)]


def test_a_file_of_a_tebibyte_is_mostly_hole(s3: Any, box: Path, bucket: str) -> None:
    file = box / "sparse"
    with file.open("w+b", buffering=0) as opened:
        opened.write(b"begin")
        os.pwrite(opened.fileno(), b"end", TIB - 3)
        os.fsync(opened.fileno())
        assert os.fstat(opened.fileno()).st_size == TIB
        assert os.pread(opened.fileno(), 10, TIB - 5) == b"\0\0end"
        assert os.pread(opened.fileno(), 10, TIB // 2) == bytes(10)
        os.pwrite(opened.fileno(), b"middle", TIB // 2)
    assert file.stat().st_size == TIB
    assert s3.head_object(Bucket=bucket, Key="sparse")["ContentLength"] == TIB
    for start, expected in ((0, b"begin\0"), (TIB // 2 - 2, b"\0\0middle\0"), (TIB - 4, b"\0end")):
        wanted = f"bytes={start}-{start + len(expected) - 1}"
        found = s3.get_object(Bucket=bucket, Key="sparse", Range=wanted)
        assert found["Body"].read() == expected
        assert found["ContentRange"] == f"{wanted.replace('=', ' ')}/{TIB}"
    # As many zeros as a GET may have to make up at once.
    hole = f"bytes={TIB // 4}-{TIB // 4 + (8 << 20) - 1}"
    assert s3.get_object(Bucket=bucket, Key="sparse", Range=hole)["Body"].read() == bytes(8 << 20)
    os.truncate(file, TIB // 2 + 3)
    assert s3.get_object(Bucket=bucket, Key="sparse", Range="bytes=-4")["Body"].read() == b"\0mid"
    os.truncate(file, 5 * TIB)
    assert file.stat().st_size == 5 * TIB
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        os.truncate(file, 5 * TIB + 1)
    os.truncate(file, 5)
    assert s3.get_object(Bucket=bucket, Key="sparse")["Body"].read() == b"begin"


def resident_bytes(harness: DaemonHarness) -> int:
    """What the daemon occupies now."""
    assert harness.process is not None
    with open(f"/proc/{harness.process.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_operations_leave_no_memory_behind(harness: DaemonHarness, box: Path) -> None:
    """Each name is new: whatever is kept by name or by inode grows with them."""
    marks = [resident_bytes(harness)]
    parts = 5
    for part in range(parts):
        run(_CHURN, box, OPERATIONS // parts, part)
        marks.append(resident_bytes(harness))
        tell(f"after {OPERATIONS // parts * (part + 1)}: {marks[-1] / (1 << 20):.1f} MiB")
    # At first what is bounded fills up: caches, the allocator's arenas, SQLite's pages, and up to
    # 250,000 names that the kernel may know (fusefs.kernelcache), some 20 MiB.
    warm = 2
    growth = marks[-1] - marks[warm]
    done = OPERATIONS // parts * (parts - warm)
    tell(f"{growth / done:.1f} bytes an operation")
    assert growth < SLACK_BYTES + GROWTH_BYTES * done
    assert not list(box.iterdir())
