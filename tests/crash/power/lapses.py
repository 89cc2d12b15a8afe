"""Syncs that are left out, one at a time, to see that the enumeration of power cuts notices.

Each function here breaks the product in the process that calls it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from metadb import files, primary
from metadb.sqlite import SqliteEngine
from store import reclaim
from store.chunks.append import LocalAppender
from store.chunks.drive_io import DriveIO, Handle
from store.state import State


def log_unsynced() -> None:
    """The barrier doesn't sync the primary's log."""
    primary.Primary.sync_log = primary.Primary.probe  # type: ignore[method-assign]


def copies_unsynced() -> None:
    """The copies' logs are written, not synced."""

    def write(self: files.File, buffer: files.Buffer, offset: int) -> None:
        files._write_whole(self._fd, [buffer], offset)

    files.File.write_synced = write  # type: ignore[method-assign]


def members_unsynced() -> None:
    """A member is never flushed."""

    def flush(self: DriveIO, handle: Handle) -> None:
        pass

    DriveIO.flush = flush  # type: ignore[method-assign]


def published_early() -> None:
    """An object is published before its bytes are durable."""

    async def nothing(self: LocalAppender) -> None:
        pass

    LocalAppender._flush = nothing  # type: ignore[method-assign]


def folders_unsynced() -> None:
    """The name of a new file is never made durable: fsync of a folder does nothing."""
    sync = os.fsync

    def of_files_only(fd: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{fd}"):
            sync(fd)

    os.fsync = of_files_only  # type: ignore[assignment]


def reclaimed_early() -> None:
    """Space is given back before it is durable that nothing is there."""
    one_round = reclaim._one_round

    async def hasty(state: State) -> int:
        async def nothing(self: SqliteEngine) -> None:
            pass

        real, SqliteEngine.barrier = SqliteEngine.barrier, nothing  # type: ignore[method-assign]
        try:
            return await one_round(state)
        finally:
            SqliteEngine.barrier = real  # type: ignore[method-assign]

    reclaim._one_round = hasty


LAPSES: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        log_unsynced,
        copies_unsynced,
        members_unsynced,
        published_early,
        folders_unsynced,
        reclaimed_early,
    )
}
