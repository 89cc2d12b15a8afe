"""The database the loop works on: SQLite's own connections, and the log they write.

Three connections: `connection` reads and writes, on the loop; `_keeper` only reads, holds a
snapshot where one is needed, and is closed last, so that SQLite never deletes the log;
`_checkpointer` checkpoints, in a thread while commits go on or on the loop to restart the log.

Invariants:
  W1 nothing but `restart` lets the log start again: outside of it some frame is always not yet
     checkpointed, or the keeper holds a snapshot, and either keeps SQLite from overwriting it;
  W2 the database file only takes frames that are durable in the log: SQLite syncs the log before
     a checkpoint and the database after it (`synchronous = FULL` on the checkpointer);
  W3 frames of a new generation are written only when its header is durable: the first commit of
     one is made with `synchronous = NORMAL`, which has SQLite sync the header first.
Concurrency: everything on the loop but `backfill` and `sync_log`, which run in threads.
No memory map is used for reading: a drive that fails under one ends the process with SIGBUS.
Source: https://sqlite.org/wal.html, https://sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from metadb import wal
from metadb.errors import PrimaryLost
from metadb.lanes import Lane
from metadb.mirror import DATABASE, LOG, PIECE_BYTES

_CACHED_STATEMENTS = 512
# What most groups of transactions stay below (metadb.groups).
_GROUP_BYTES = 512 << 10


class Primary:
    """An open primary database. Raises sqlite3.Error and OSError as they come."""

    def __init__(self, drive: str, folder: Path, *, cache_bytes: int, log_limit_bytes: int) -> None:
        """Open `folder`'s database, made when absent, and commit one frame to it (W1)."""
        self.drive = drive
        self.log_limit_bytes = log_limit_bytes
        self.path = folder.absolute() / DATABASE
        self.connection = sqlite3.connect(
            self.path,
            timeout=0,
            isolation_level=None,
            cached_statements=_CACHED_STATEMENTS,
            check_same_thread=False,
        )
        execute = self.connection.execute
        execute(f"PRAGMA page_size = {wal.PAGE_BYTES}")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA wal_autocheckpoint = 0")
        execute(f"PRAGMA cache_size = {-cache_bytes // 1024}")
        # A log that one huge transaction made long is cut back when it restarts.
        execute(f"PRAGMA journal_size_limit = {log_limit_bytes}")
        # Deleted rows needn't be overwritten: pages that only held them would have to be logged.
        execute("PRAGMA secure_delete = OFF")
        self._mark()
        self._keeper = _connect(self.path, "ro")
        # SQLite opens files when they are first read, and only then is this one in the way of its
        # deleting the log with the last connection but one.
        self.pin()
        self.unpin()
        self._checkpointer = _connect(self.path, "rw")
        self._checkpointer.execute("PRAGMA synchronous = FULL")
        self._checkpointer.execute("PRAGMA wal_autocheckpoint = 0")
        self.index = wal.WalIndex(self.path)
        self.log_fd = os.open(folder / LOG, os.O_RDWR | os.O_CLOEXEC)
        self.database_fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._log_stat = os.fstat(self.log_fd)
        self._database_stat = os.fstat(self.database_fd)
        self._log_bytes = self._log_stat.st_size
        self.lane = Lane(drive)

    def read_log(self, start: int, stop: int) -> bytes:
        """The log behind its first `start` frames, up to and with frame `stop`.

        Raises PrimaryLost.
        """
        if start == stop:
            return b""
        begin = wal.start_of(start)
        try:
            chunk = os.pread(self.log_fd, wal.end_of(stop) - begin, begin)
        except OSError as error:
            raise PrimaryLost(f"{self.path}: the log can't be read: {error}") from error
        if len(chunk) != wal.end_of(stop) - begin:
            raise PrimaryLost(f"{self.path}: the log is shorter than SQLite says")
        return chunk

    def read_log_number(self) -> int:
        """The checkpoint number that the log starts with. Raises PrimaryLost."""
        try:
            return wal.checkpoint_number(os.pread(self.log_fd, wal.HEADER_BYTES, 0))
        except OSError as error:
            raise PrimaryLost(f"{self.path}: the log can't be read: {error}") from error

    def grow_log(self) -> None:
        """Have zeros stand where the next frames will, as the copies do, if there is room.

        On the loop (SQLite's writes are too, so that none is overwritten). Raises OSError.
        """
        if self._log_bytes < wal.end_of(self.index.frames()) + PIECE_BYTES // 2:
            self._log_bytes = os.fstat(self.log_fd).st_size
            try:
                self._log_bytes += os.pwrite(self.log_fd, bytes(PIECE_BYTES), self._log_bytes)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise

    def has_room(self) -> bool:
        """Whether the log has zeros ahead for a group of transactions; they are made if not.

        Raises OSError.
        """
        if self._log_bytes >= wal.end_of(self.index.frames()) + _GROUP_BYTES:
            return True
        self.grow_log()
        return self._log_bytes >= wal.end_of(self.index.frames()) + _GROUP_BYTES

    def probe(self) -> None:
        """Raise PrimaryLost unless the paths still name the files that are open."""
        try:
            same = os.path.samestat(os.stat(self.path), self._database_stat) and os.path.samestat(
                os.stat(f"{self.path}-wal"), self._log_stat
            )
        except OSError as error:
            raise PrimaryLost(f"{self.path}: {error.strerror}") from error
        if not same:
            raise PrimaryLost(f"{self.path} is not the file it was")

    def sync_log(self) -> None:
        """*lane* Make the whole log durable."""
        self.probe()
        os.fdatasync(self.log_fd)

    def pin(self) -> None:
        """Hold a snapshot of this moment: no checkpoint passes it, no restart happens (W1)."""
        if not self._keeper.in_transaction:
            self._keeper.execute("BEGIN")
            self._keeper.execute("SELECT count(*) FROM sqlite_schema").fetchone()

    def unpin(self) -> None:
        """Let the snapshot go."""
        if self._keeper.in_transaction:
            self._keeper.execute("COMMIT")

    def backfill(self) -> None:
        """*thread* Checkpoint as far as snapshots allow, while commits go on. Needs a pin."""
        self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def restart(self) -> bool:
        """Checkpoint the rest and start the log again; False when a reader is in the way.

        Unpins, and commits one frame either way (W1, W3). On the loop, with what little is left
        to checkpoint: three syncs of a few pages.
        """
        salts = self.index.salts()
        self.unpin()
        self._end_read()
        self._checkpointer.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        self._mark()
        self._log_bytes = 0  # To be asked again: SQLite may have cut the log.
        return self.index.salts() != salts

    def close(self) -> None:
        """Close SQLite's connections, the keeper last, then everything else (F2)."""
        self.unpin()
        self._checkpointer.close()
        self.connection.close()
        self._keeper.close()
        self.index.close()
        os.close(self.database_fd)
        self.lane.close(lambda: os.close(self.log_fd))

    def _mark(self) -> None:
        """Commit a frame: SQLite's own, unused `user_version` counts them (W3)."""
        execute = self.connection.execute
        self._end_read()
        execute("PRAGMA synchronous = NORMAL")
        count = execute("PRAGMA user_version").fetchone()[0]
        execute("BEGIN IMMEDIATE")
        execute(f"PRAGMA user_version = {count % 0x7FFFFFFF + 1}")
        execute("COMMIT")
        execute("PRAGMA synchronous = OFF")

    def _end_read(self) -> None:
        """End the loop's read transaction, which else counts as a reader in the way."""
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
