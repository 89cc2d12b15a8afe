"""The few file operations a copy of the database is kept with.

Everything the mirror writes goes through `Folder` and `File`, so that a test can record each
write and sync and rebuild what a power cut at any point would leave behind.

Invariants:
  F1 what `write_synced`, `sync`, `replace` and `remove` did is durable when they return;
  F2 a descriptor is never shared with SQLite's own, and none on a database SQLite has open is
     closed before SQLite's: POSIX drops a process's record locks on any close (fcntl(2)).
Concurrency: plain blocking calls; the caller sees to it that one thread at a time writes a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

Buffer = bytes | bytearray | memoryview

_IOV_MAX = 1024


class File:
    """One open file, read and written by offset."""

    def __init__(self, path: Path) -> None:
        """Open for reading and writing; made when absent."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._synced_fd = -1
        self._identity = os.fstat(self._fd)

    def read(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset`; short only at the end of the file."""
        return os.pread(self._fd, size, offset)

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write `buffers` one behind the other from `offset`; not durable before `sync`."""
        for first in range(0, len(buffers), _IOV_MAX):
            offset += _write_whole(self._fd, buffers[first : first + _IOV_MAX], offset)

    def write_synced(self, buffer: Buffer, offset: int) -> None:
        """Write and make durable in one system call (O_DSYNC: one wait for the GIL, not two)."""
        if self._synced_fd < 0:
            self._synced_fd = os.open(self.path, os.O_WRONLY | os.O_DSYNC | os.O_CLOEXEC)
        _write_whole(self._synced_fd, [buffer], offset)

    def sync(self) -> None:
        """Make all that was written durable."""
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        """Cut or extend to `size` bytes; not durable before `sync`."""
        os.ftruncate(self._fd, size)

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    def is_in_place(self) -> bool:
        """Whether the path still names this very file (it was not moved away or replaced)."""
        try:
            return os.path.samestat(os.stat(self.path), self._identity)
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._fd)
        if self._synced_fd >= 0:
            os.close(self._synced_fd)


class Folder:
    """A copy's folder on its drive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Make the folder, durably, when it is absent. Its parent must exist."""
        if not self.path.is_dir():
            os.mkdir(self.path, 0o700)
            _sync_folder(self.path.parent)

    def open(self, name: str) -> File:
        """Open `name`, made when absent."""
        return File(self.path / name)

    def read(self, name: str) -> bytes | None:
        """The whole of a small file; None when there is none."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def replace(self, name: str, content: bytes) -> None:
        """Make `content` the file `name`, at once and durably."""
        beside = self.path / f"{name}.new"
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(file.fileno())
        os.replace(beside, self.path / name)
        _sync_folder(self.path)

    def overwrite(self, name: str, content: bytes) -> None:
        """Write over a small file that is there: takes no room, and one sector at once."""
        (self.path / f"{name}.new").unlink(missing_ok=True)
        with open(self.path / name, "r+b") as file:
            file.write(content)
            file.truncate()
            file.flush()
            os.fdatasync(file.fileno())

    def remove(self, *names: str) -> None:
        """Remove files, durably; those that are absent already are no error."""
        if not self.path.is_dir():
            return
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        _sync_folder(self.path)

    def sync(self) -> None:
        """Make the folder's entries durable."""
        _sync_folder(self.path)


def _write_whole(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
    """pwritev until everything is written; the number of bytes."""
    size = sum(len(buffer) for buffer in buffers)
    if not size:
        return 0
    done = os.pwritev(fd, buffers, offset)
    while done < size:
        rest = memoryview(b"".join(buffers))[done:]
        done += os.pwrite(fd, rest, offset + done)
    return size


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
