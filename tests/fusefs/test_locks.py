"""flock(2) and fcntl(2) locks between processes on the mount, and that S3 takes no notice."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fusefs.conftest import Mount, needs_fuse

pytestmark = needs_fuse

F_OFD_GETLK, F_OFD_SETLK = 36, 37
_FLOCK = "hhqqi4x"
_HOLD = """
import fcntl, os, struct, sys
opened = os.open(sys.argv[1], os.O_RDWR)
{lock}
print("held", flush=True)
sys.stdin.read()
"""
LOCKS = {
    "flock": "fcntl.flock(opened, fcntl.LOCK_EX)",
    "fcntl": "fcntl.lockf(opened, fcntl.LOCK_EX, 10, 0)",
    "OFD": "fcntl.fcntl(opened, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 10, 0))",
}


def of_range(kind: int, start: int, size: int) -> bytes:
    """`struct flock`."""
    return struct.pack(_FLOCK, kind, os.SEEK_SET, start, size, 0)


def by_flock(opened: int) -> None:
    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def by_fcntl(opened: int) -> None:
    fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)


def by_ofd(opened: int) -> None:
    fcntl.fcntl(opened, F_OFD_SETLK, of_range(fcntl.F_WRLCK, 0, 10))


def is_free(lock: Callable[[int], None], opened: int) -> bool:
    """Whether this process gets the lock at once."""
    try:
        lock(opened)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


@contextmanager
def another_holds(file: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock of the file while this is entered."""
    program = _HOLD.format(lock=LOCKS[kind])
    with subprocess.Popen(
        [sys.executable, "-c", program, file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


@pytest.fixture
def file(folder: Path) -> Path:
    made = folder / "file"
    made.write_bytes(b"0123456789" * 2)
    return made


@pytest.mark.parametrize(
    ("kind", "lock"),
    [
        ("flock", by_flock),
        ("fcntl", by_fcntl),
        ("OFD", by_ofd),
        ("fcntl", by_ofd),
        ("OFD", by_fcntl),
    ],
)
def test_a_lock_of_one_process_keeps_another_out_until_it_ends(
    file: Path, kind: str, lock: Callable[[int], None]
) -> None:
    with file.open("r+b") as opened:
        with another_holds(file, kind):
            assert not is_free(lock, opened.fileno())
        assert is_free(lock, opened.fileno())


@pytest.mark.parametrize("kind", ["flock", "fcntl", "OFD"])
def test_a_lock_goes_with_a_process_that_is_killed(file: Path, kind: str) -> None:
    lock = {"flock": by_flock, "fcntl": by_fcntl, "OFD": by_ofd}[kind]
    with file.open("r+b") as opened, another_holds(file, kind) as process:
        assert not is_free(lock, opened.fileno())
        process.kill()
        process.wait()
        assert is_free(lock, opened.fileno())


def test_ranges_that_do_not_meet_are_locked_side_by_side(file: Path) -> None:
    with file.open("r+b") as opened, another_holds(file, "fcntl"):
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
        answer = fcntl.fcntl(opened, fcntl.F_GETLK, of_range(fcntl.F_WRLCK, 5, 10))
        kind, _, start, size, _ = struct.unpack(_FLOCK, answer)
        assert (kind, start, size) == (fcntl.F_WRLCK, 0, 10)


def test_ofd_locks_are_of_the_open_file_and_not_of_the_process(file: Path) -> None:
    with file.open("r+b") as one, file.open("r+b") as other:
        by_ofd(one.fileno())
        assert not is_free(by_ofd, other.fileno())
        os.close(os.open(file, os.O_RDWR))  # This would drop all of fcntl's other locks.
        assert not is_free(by_ofd, other.fileno())
        again = os.dup(one.fileno())
        one.close()
        assert not is_free(by_ofd, other.fileno())
        os.close(again)
        assert is_free(by_ofd, other.fileno())


def test_readers_share_a_lock_and_a_writer_waits_for_them(file: Path) -> None:
    with file.open("rb") as one, file.open("rb") as other, file.open("r+b") as writer:
        fcntl.flock(one, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not is_free(by_flock, writer.fileno())
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_UN)
        assert is_free(by_flock, writer.fileno())


def test_a_waiting_process_gets_the_lock_when_it_is_free(file: Path) -> None:
    with another_holds(file, "flock") as holder:
        program = _HOLD.format(lock=LOCKS["flock"])
        with subprocess.Popen(
            [sys.executable, "-c", program, file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as waiting:
            assert waiting.stdout is not None
            assert holder.stdin is not None
            holder.stdin.close()
            assert waiting.stdout.readline() == "held\n"


def test_s3_takes_no_notice_of_locks(mount: Mount, file: Path) -> None:
    key = f"{file.parent.name}/file"
    with another_holds(file, "flock"), file.open("rb") as opened:
        mount.put(key, b"by s3")
        assert mount.get(key) == b"by s3"
        assert opened.read(10) == b"0123456789"
        # The lock is of the file that lost the name: the new one is free.
        with file.open("r+b") as new:
            assert is_free(by_flock, new.fileno())
