"""All pages of a database as of one moment, read without copying the file first.

A read transaction holds the moment: while it lasts, a checkpoint takes no frame into the database
file that is not among the log's first `frames`, and the log doesn't start again. So of each page
the last of those frames holds, else the database file: whatever is being written meanwhile.

Invariants:
  N1 after `end` no descriptor is read any more: they are their owner's, and may be closed;
  N2 made where nothing commits in between (on the loop of the engine, or on a stopped store).
Concurrency: `pieces` in one thread at a time; `end` from any other.
Source: https://sqlite.org/fileformat2.html#walformat, https://sqlite.org/wal.html.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metadb import wal
from metadb.errors import MetadbError
from metadb.mirror import DATABASE, LOG

PIECE_PAGES = 256
_END_S = 1.0


class SnapshotEnded(MetadbError):
    """The engine was closed, or the files are shorter than they ought to be."""


class Snapshot:
    """See the module. connection: of its own, read-only; frames: committed ones of the log."""

    def __init__(
        self, connection: sqlite3.Connection, database_fd: int, log_fd: int, frames: int
    ) -> None:
        self._connection = connection
        self._database_fd = database_fd
        self._log_fd = log_fd
        self.frames = frames
        self._ended = False
        self._lock = threading.Lock()
        self.page_count: int = connection.execute("PRAGMA page_count").fetchone()[0]

    def pieces(self) -> Iterator[bytes]:
        """The database file as of the moment, in pieces of up to 1 MiB. Raises SnapshotEnded."""
        logged = self._pages_of_log()
        for first in range(0, self.page_count, PIECE_PAGES):
            count = min(PIECE_PAGES, self.page_count - first)
            size = count * wal.PAGE_BYTES
            # A page that only the log holds may be beyond the file's end.
            piece = bytearray(self._read(self._database_fd, size, first * wal.PAGE_BYTES))
            held = len(piece)
            piece += bytes(size - held)
            for index in range(count):
                offset = logged.get(first + index + 1)
                start = index * wal.PAGE_BYTES
                if offset is not None:
                    page = self._read(self._log_fd, wal.PAGE_BYTES, offset)
                    piece[start : start + wal.PAGE_BYTES] = page
                elif start + wal.PAGE_BYTES > held:
                    raise SnapshotEnded("the database file is shorter than it says")
            yield bytes(piece)

    def end(self) -> None:
        """Let the moment go (N1)."""
        # A read that hangs keeps its own hold on the file; no other begins.
        self._ended = True
        if self._lock.acquire(timeout=_END_S):
            self._lock.release()
        self._connection.close()

    def _pages_of_log(self) -> dict[int, int]:
        """Of each page in the log the offset of its newest content."""
        newest: dict[int, int] = {}
        for first in range(0, self.frames, PIECE_PAGES):
            count = min(PIECE_PAGES, self.frames - first)
            base = wal.end_of(first)
            frames = self._read(self._log_fd, count * wal.FRAME_BYTES, base)
            if len(frames) != count * wal.FRAME_BYTES:
                raise SnapshotEnded("the log is shorter than it says")
            for page, _, offset in wal.pages_of(frames):
                newest[page] = base + offset
        return newest

    def _read(self, fd: int, size: int, offset: int) -> bytes:
        with self._lock:
            if self._ended:
                raise SnapshotEnded("the store was closed")
            return os.pread(fd, size, offset)


def connect_reading(folder: Path) -> sqlite3.Connection:
    """A read-only connection in a read transaction: SQLite neither checkpoints nor deletes."""
    uri = f"{(folder / DATABASE).absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(
        uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False
    )
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return connection


@contextmanager
def stopped_snapshot(folder: Path) -> Iterator[Snapshot]:
    """The copy in `folder`, which no daemon uses. Raises OSError, sqlite3.Error."""
    connection = connect_reading(folder)
    descriptors = [os.open(folder / DATABASE, os.O_RDONLY | os.O_CLOEXEC)]
    snapshot = None
    try:
        frames = 0
        if (folder / LOG).exists():
            descriptors.append(os.open(folder / LOG, os.O_RDONLY | os.O_CLOEXEC))
            index = wal.WalIndex(folder / DATABASE)
            frames = index.frames()
            index.close()
        snapshot = Snapshot(connection, descriptors[0], descriptors[-1], frames)
        yield snapshot
    finally:
        if snapshot is not None:
            snapshot.end()
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)
