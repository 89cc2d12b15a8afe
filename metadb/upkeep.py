"""What the engine does beside its callers: timed barriers, checkpoints, copies built and verified.

A checkpoint brings the primary's database file and the copies' up to date in threads, while
commits go on, and then restarts the log on the loop, with what little was committed meanwhile.
A copy is built by following the primary from the first moment: it takes the log so far, then
every flush, and beside that the database file in pieces; no commit waits for it.

Invariants:
  U1 a checkpoint never puts frames into the primary's database file that no flush has covered,
     but those between its last flush and the restart; `turning` is in its state file by then,
     so that after a power cut nobody takes that file for one without them (E3);
  U2 a copy's `state` file is written when its base and its log are durable, not before (Y3);
  U3 the log does not restart, and no database file changes, while a new copy takes its first
     part of the log, or a piece of a file is verified (`_shape`).
Concurrency: tasks on the loop; long work in threads, each with a deadline. Threads that work on
the primary's connections are abandoned at their deadline, which loses the primary, or with it.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import trio

from metadb import wal
from metadb.errors import MetadbError, PrimaryLost
from metadb.files import Folder
from metadb.flusher import Flusher
from metadb.lanes import Batch
from metadb.mirror import DATABASE, STATE, Copy, CopyDamaged
from metadb.primary import Primary
from metadb.recovery import CopyPlace, State, write_state

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

_LONG_LOG_SHARE = 0.75
_ROUNDS = 5
_SMALL_REST_FRAMES = 256
_SYNC_EVERY_PIECES = 32
_VERIFY_PAGES = 4096
_VERIFY_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadbConfig:
    """How the metadata is kept.

    copies: how many drives hold it, max(2, m + 1), as far as there are drives;
    wal_bytes: the log is restarted when it is about this long;
    flush_interval_s: a barrier happens at least this often;
    flush_deadline_s: a drive that takes longer to sync 1 MiB is ejected;
    thread_deadline_s: the same for a checkpoint or a piece of a new copy;
    cache_bytes: SQLite's page cache; check_bytes: largest file that is checked at start;
    verify_interval_s: all pages of all copies are read and checked this often, and at start.
    """

    copies: int = 2
    wal_bytes: int = 64 << 20
    flush_interval_s: float = 1.0
    flush_deadline_s: float = 10.0
    thread_deadline_s: float = 120.0
    cache_bytes: int = 64 << 20
    check_bytes: int = 256 << 20
    verify_interval_s: float = 86_400.0


class Upkeep:
    """The tasks of one open engine, which `SqliteEngine.run` runs."""

    def __init__(
        self,
        flusher: Flusher,
        places: Sequence[CopyPlace],
        *,
        config: MetadbConfig,
        state: State,
        folder_type: Callable[[Path], Folder],
    ) -> None:
        """places: all drives; state: what the primary's state file says in this run."""
        self._flusher = flusher
        self._places = {place.drive: place for place in places}
        self._config = config
        self._state = state
        self._folder_type = folder_type
        self._shape = trio.Lock()
        self._threads = trio.CapacityLimiter(8)
        self._thread_scopes: set[trio.CancelScope] = set()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Run until cancelled; raises PrimaryLost, when the primary's drive counts as gone."""
        flusher = self._flusher
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flusher.groups.run)
            nursery.start_soon(self._flush_and_checkpoint)
            nursery.start_soon(self._replace_copies)
            nursery.start_soon(self._verify_forever)
            task_status.started()
            await flusher.lost_event.wait()
            nursery.cancel_scope.cancel()
            for scope in self._thread_scopes:
                scope.cancel()
        with trio.CancelScope(shield=True):
            await flusher.eject_drive(flusher.primary.drive, flusher.lost)
        assert flusher.lost is not None
        raise PrimaryLost(*flusher.lost.args) from flusher.lost

    async def checkpoint(self) -> bool:
        """Restart the log; False when a reader, or a full drive, is in the way."""
        async with self._shape:
            try:
                return await self._checkpoint()
            except PrimaryLost as error:
                self._flusher.lose(error)
                raise
            except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
                # The copies' own errors have ejected them; this one is the primary's.
                if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                    return False
                lost = PrimaryLost(f"a checkpoint failed: {error}")
                self._flusher.lose(lost)
                raise lost from error
            finally:
                if self._flusher.lost is None:
                    self._flusher.primary.unpin()

    async def take_back(self, place: CopyPlace) -> None:
        """See `SqliteEngine.take_back`."""
        holders = {self._flusher.primary.drive, *(copy.drive for copy in self._flusher.copies)}
        if place.drive in holders:
            return
        await self._in_thread(self._folder_type(place.path).remove, STATE)
        self._places[place.drive] = place
        self._flusher.ejected.discard(place.drive)
        self._flusher.changed.set()

    def want_copies(self, copies: int) -> None:
        """See `SqliteEngine.want_copies`."""
        self._config = replace(self._config, copies=copies)
        self._flusher.changed.set()

    def forget_place(self, drive: str) -> None:
        """See `SqliteEngine.forget_place`."""
        self._places.pop(drive, None)

    async def join_missing(self, wanted: int) -> None:
        """Build copies on drives that have none until `wanted` drives, of those there are, do."""
        flusher = self._flusher
        while 1 + len(flusher.copies) < wanted:
            taken = {copy.drive for copy in flusher.copies} | {flusher.primary.drive}
            spare = [d for d in self._places if d not in taken and d not in flusher.ejected]
            if not spare or flusher.lost is not None:
                return
            await self._join(self._places[spare[0]])

    async def write_state(self, *, clean: bool) -> None:
        """Tell the primary's folder and every whole copy's that they are this run's.

        A file system that takes room even to write in place may be too full to note a clean stop:
        the next start then looks at the log. Raises PrimaryLost.
        """
        state = replace(self._state, clean=clean)
        try:
            await self._in_thread(write_state, self._primary_folder(), state)
        except OSError as error:
            if not clean or error.errno != errno.ENOSPC:
                lost = PrimaryLost(f"the primary's drive does not take its state: {error}")
                self._flusher.lose(lost)
                raise lost from error
            _log.warning("the drive is too full to note that the stop was clean")
        for copy in list(self._flusher.copies):
            if copy.whole:
                await self._write_copy_state(copy, clean=clean)

    async def _flush_and_checkpoint(self) -> None:
        flusher = self._flusher
        while True:
            with trio.move_on_after(self._config.flush_interval_s):
                await flusher.due.wait()
            flusher.due = trio.Event()
            try:
                await flusher.barrier()
                if not flusher.long_log:
                    continue
                if await self.checkpoint():
                    flusher.long_log = False
                    continue
            except PrimaryLost:
                await trio.sleep_forever()
            except Exception as error:
                # The hook's, or a full drive's: whoever waits for a barrier is told the same.
                _log.warning("metadata: %s; trying again", error)
            await trio.sleep(self._config.flush_interval_s)

    async def _replace_copies(self) -> None:
        while True:
            try:
                await self.join_missing(self._config.copies)
            except MetadbError as error:
                _log.warning("metadata: no new copy: %s", error)
            await self._flusher.changed.wait()
            self._flusher.changed = trio.Event()

    async def _verify_forever(self) -> None:
        while True:
            await self.verify()
            await trio.sleep(self._config.verify_interval_s)

    async def verify(self) -> None:
        """Check every page of every copy, then of the primary; damaged copies are built anew."""
        for copy in list(self._flusher.copies):
            if pages := await self._damaged(copy, None):
                _log.error("metadata: drive %s: %d damaged pages", copy.drive, len(pages))
                await self._drop(copy)
        primary = self._flusher.primary
        for copy in list(self._flusher.copies):
            if pages := await self._damaged(copy, primary):
                self._flusher.lose(PrimaryLost(f"{primary.path}: {len(pages)} damaged pages"))

    async def _damaged(self, copy: Copy, primary: Primary | None) -> list[int]:
        """Damaged pages of a whole copy, or of the primary by that copy's sums."""
        path = copy.folder.path / DATABASE if primary is None else primary.path
        descriptor = None if primary is None else primary.database_fd
        damaged: list[int] = []
        start = 0
        while copy.whole and copy in self._flusher.copies:
            async with self._shape:
                try:
                    size = await self._in_thread(_size_pages, path)
                    part = partial(copy.verify, descriptor, start, start + _VERIFY_PAGES)
                    damaged += await self._in_thread(part)
                except OSError as error:
                    if primary is None:
                        await self._flusher.eject(copy, error)
                    return []
            start += _VERIFY_PAGES
            if start >= size:
                break
            await trio.sleep(_VERIFY_PAUSE_S)
        return damaged

    async def _drop(self, copy: Copy) -> None:
        """Go on without a damaged copy; another is built, maybe on the same drive."""
        try:
            await self._in_thread(copy.folder.remove, STATE)
        except OSError as error:
            await self._flusher.eject(copy, error)
            return
        if copy in self._flusher.copies:
            self._flusher.copies.remove(copy)
            copy.close()
        self._flusher.changed.set()

    async def _checkpoint(self) -> bool:
        flusher, primary = self._flusher, self._flusher.primary
        pinned = -1
        for _ in range(_ROUNDS):
            if primary.index.frames() > pinned:
                primary.unpin()
                primary.pin()
                pinned = primary.index.frames()
            await flusher.barrier()
            await self._in_primary_thread(primary.backfill)
            await self._apply(flusher.flushed)
            if primary.index.frames() - pinned < _SMALL_REST_FRAMES:
                break
        try:
            await self._in_thread(
                write_state, self._primary_folder(), replace(self._state, turning=True)
            )
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False  # The log goes on as it is.
        await flusher.barrier()
        async with flusher.between_flushes:
            if not flusher.restart():
                return False
        await flusher.barrier()
        await self._in_thread(write_state, self._primary_folder(), self._state)
        return True

    async def _apply(self, frames: int) -> None:
        """Bring all whole copies' files up to `frames`, in parallel; eject those that fail."""

        async def apply(copy: Copy) -> None:
            try:
                await self._in_thread(copy.apply, frames, self._flusher.primary.log_fd)
            except PrimaryLost as error:
                self._flusher.lose(error)
            except (OSError, CopyDamaged) as error:
                await self._flusher.eject(copy, error)

        async with trio.open_nursery() as nursery:
            for copy in self._flusher.copies:
                if copy.whole:
                    nursery.start_soon(apply, copy)

    async def _join(self, place: CopyPlace) -> None:
        """Build a copy on `place`; its drive is ejected when that fails."""
        flusher = self._flusher
        copy: Copy | None = None
        try:
            folder = self._folder_type(place.path)
            copy = await self._in_thread(Copy.blank, place.drive, folder)
            async with self._shape:
                copy.generation = flusher.generation
                await self._in_thread(copy.take_log, flusher.primary.log_fd, flusher.flushed)
                flusher.add(copy)
            await self._take_base(copy)
            await flusher.barrier()
            async with self._shape:
                if copy in flusher.copies:
                    await self._write_copy_state(copy, clean=False)
                    copy.whole = True
        except (OSError, CopyDamaged) as error:
            if copy is not None and copy in flusher.copies:
                await flusher.eject(copy, error)
            else:
                await flusher.eject_drive(place.drive, error)
        except PrimaryLost as error:
            # One sector that can't be read is no reason to give up the only copy there is.
            if not any(each.whole for each in flusher.copies):
                raise MetadbError(str(error)) from error
            flusher.lose(error)
            raise
        finally:
            if copy is not None and not copy.whole and copy in flusher.copies:
                flusher.copies.remove(copy)
                copy.close()

    async def _take_base(self, copy: Copy) -> None:
        flusher = self._flusher
        offset = pieces = 0
        while copy in flusher.copies:
            batch = Batch()
            copy.lane.submit(partial(copy.take_piece, flusher.primary.database_fd, offset), batch)
            (error,) = await batch.wait(self._config.thread_deadline_s)
            if error is not None:
                raise error
            if copy.base_bytes == offset:
                break
            offset = copy.base_bytes
            pieces += 1
            if pieces % _SYNC_EVERY_PIECES == 0:
                await self._in_thread(copy.sync_database)
        await self._in_thread(copy.sync_database)

    async def _write_copy_state(self, copy: Copy, *, clean: bool) -> None:
        state = replace(self._state, is_primary=False, clean=clean)
        try:
            await self._in_thread(write_state, copy.folder, state)
        except OSError as error:
            await self._flusher.eject(copy, error)

    def _primary_folder(self) -> Folder:
        return Folder(self._flusher.primary.path.parent)

    async def _in_primary_thread(self, work: Callable[[], T]) -> T:
        try:
            return await self._in_thread(work)
        except TimeoutError as error:
            lost = PrimaryLost("the primary's drive does not answer")
            self._flusher.lose(lost)
            raise lost from error

    async def _in_thread(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work; TimeoutError at the deadline, which alone abandons the thread."""
        deadline = trio.current_time() + self._config.thread_deadline_s
        with trio.CancelScope(shield=True, deadline=deadline) as scope:
            self._thread_scopes.add(scope)
            try:
                return await trio.to_thread.run_sync(
                    partial(work, *args, **kwargs), abandon_on_cancel=True, limiter=self._threads
                )
            finally:
                self._thread_scopes.discard(scope)
        raise TimeoutError("no answer from the drive")


def long_log_frames(config: MetadbConfig) -> int:
    """At how many frames a checkpoint begins, so that the log stays below `wal_bytes`."""
    return max(2, int(config.wal_bytes * _LONG_LOG_SHARE) // wal.FRAME_BYTES)


def _size_pages(database: Path) -> int:
    return database.stat().st_size // wal.PAGE_BYTES
