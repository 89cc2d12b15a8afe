"""`SqliteEngine`: SQLite on the loop, durability as a separate step.

    transact, read   on the loop's connection; WAL, `synchronous = OFF` (`primary`)
    barrier          copies' logs written and everything synced at once (`flusher`, `mirror`)
    run              timed barriers, checkpoints, copies replaced (`upkeep`)
    open             which copy to go on from (`recovery`), its schema brought up to date
                     (`upgrade`), what it lacks done again (`journal`), missing copies built
    scan             long queries on connections of their own (`scan`, opened by `lazyscan`)

Invariants: E1 to E4 of `metadb.engine`, kept by the modules named; and
  S1 `open_engine` returns with two whole copies at least, where there are two usable drives, and
     with no other place that says it holds one.
A transaction that waits for a hung drive hangs the loop. The kernel takes log writes into its page
cache, so that is rare; the daemon ends such a process (`daemon.loopwatch`). All else has deadlines.
Concurrency: one trio loop; see `metadb.engine`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio
from sqlalchemy import Select

from metadb import migrations, upgrade
from metadb.errors import MetadbError, NoUsableCopy, PrimaryLost
from metadb.files import Folder
from metadb.flusher import Flusher
from metadb.groups import meaning
from metadb.journal import Journal, Lack, run_again
from metadb.lazyscan import LazyScanLane, open_lazy_scan_lane
from metadb.mirror import DATABASE, INDEX, LOG, STATE, SUMS, Copy
from metadb.primary import Primary
from metadb.recovery import UNUSABLE, Choice, CopyPlace, State, boot_id, choose
from metadb.snapshot import Snapshot, connect_reading
from metadb.statements import Row, Tx
from metadb.upkeep import MetadbConfig, Upkeep, long_log_frames

__all__ = ["CopyPlace", "Journal", "MetadbConfig", "SqliteEngine", "open_engine"]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

_SMALL_BYTES = 256 << 20
_CLOSE_DEADLINE_S = 5.0
_LAST_SYNC_S = 2.0


class SqliteEngine:
    """An `Engine`; made by `open_engine`."""

    def __init__(
        self, primary: Primary, flusher: Flusher, upkeep: Upkeep, scan: LazyScanLane
    ) -> None:
        self._primary = primary
        self._connection = primary.connection
        self._execute = primary.connection.execute
        self._groups = flusher.groups
        self._tx = Tx(primary.connection, flusher.journal.steps.append)
        flusher.groups.rolled_back = self._tx.forget
        self._flusher = flusher
        self._upkeep = upkeep
        self._scan = scan
        self._snapshots: set[Snapshot] = set()

    @property
    def primary_drive(self) -> str:
        """The drive the loop's database is on."""
        return self._primary.drive

    @property
    def copy_drives(self) -> tuple[str, ...]:
        """The drives that hold a whole copy beside the primary."""
        return tuple(copy.drive for copy in self._flusher.copies if copy.whole)

    def transact(
        self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """See `Engine.transact`."""
        if self._flusher.lost is not None:
            raise PrimaryLost(*self._flusher.lost.args)
        groups = self._groups
        group = groups.begin()
        try:
            result = function(self._tx, *args, **kwargs)
            groups.keep()
        except BaseException as error:
            try:
                groups.undo(group, error)
            except (sqlite3.Error, UnicodeDecodeError) as undone:
                self._flusher.lose(PrimaryLost(f"a transaction could not be undone: {undone}"))
            self._raise_translated(error)
            raise
        return result

    def read(
        self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """See `Engine.read`."""
        if self._flusher.lost is not None:
            # What was answered may be rolled back here; it is in the journal.
            raise PrimaryLost(*self._flusher.lost.args)
        try:
            # Left open: until the next commit, which is always this connection's own, its
            # snapshot is the latest, and each statement is spared two locks (7 us, not 11).
            if not self._connection.in_transaction:
                self._execute("BEGIN")
            return function(self._tx, *args, **kwargs)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._raise_translated(error)
            raise

    async def barrier(self) -> None:
        """See `Engine.barrier`. Raises MetadataFull too, where no drive has room for a copy."""
        await self._flusher.barrier()

    def before_flush(self, hook: Callable[[], Awaitable[None]]) -> None:
        """See `Engine.before_flush`. What the hook raises, the barrier raises."""
        self._flusher.hook = hook

    def scan(self, statement: Select[Any], page_rows: int = 500) -> AsyncIterator[list[Row]]:
        """See `Engine.scan`."""
        self._groups.commit()
        return self._scan.pages(statement, page_rows)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """All pages as of now, for a backup. The log grows while this is entered."""
        primary = self._primary
        self._groups.commit()
        connection = connect_reading(primary.path.parent)
        snapshot = Snapshot(connection, primary.database_fd, primary.log_fd, primary.index.frames())
        self._snapshots.add(snapshot)
        try:
            yield snapshot
        finally:
            self._snapshots.discard(snapshot)
            snapshot.end()

    def end_snapshots(self) -> None:
        """The files are about to be closed: whoever still reads one gets SnapshotEnded."""
        for snapshot in self._snapshots:
            snapshot.end()

    async def checkpoint(self) -> bool:
        """Restart the log now; False when a reader is in the way. `run` does it by itself."""
        return await self._upkeep.checkpoint()

    async def take_back(self, place: CopyPlace) -> None:
        """Let a drive that was ejected, or is new in the pool, hold a copy if one is missing.

        What stands there is disowned when this returns, so that the drive's label may be given
        the pool's epoch. `run` builds the copy. Raises OSError when the drive can't be written.
        """
        await self._upkeep.take_back(place)

    def forget_place(self, drive: str) -> None:
        """A drive is out of the pool: no copy is built there any more."""
        self._upkeep.forget_place(drive)

    def want_copies(self, copies: int) -> None:
        """So many drives ought to hold the metadata from now on; `run` builds what is missing."""
        self._upkeep.want_copies(copies)

    def copies_elsewhere(self, drive: str) -> bool:
        """Whether a whole copy stands on another drive than this one."""
        return any(holder != drive for holder in (self.primary_drive, *self.copy_drives))

    async def leave(self, drive: str) -> None:
        """Give up what a drive holds that was taken out of the pool, if it holds any.

        Where that is the primary, the engine is lost (`run` raises PrimaryLost), and is to be
        opened again on a copy. Raises NoUsableCopy when there is none.
        """
        self.forget_place(drive)
        flusher = self._flusher
        gone = MetadbError("it was taken out of the pool")
        for copy in [copy for copy in flusher.copies if copy.drive == drive]:
            await flusher.eject(copy, gone)
        if self.primary_drive == drive:
            if not self.copy_drives:
                raise NoUsableCopy("no other drive holds a whole copy of the metadata yet")
            await self.barrier()
            flusher.lose(PrimaryLost(f"drive {drive} was taken out of the pool"))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep barriers, checkpoints and copies going; raises PrimaryLost.

        By then `on_eject` has been called for the primary's drive: open again on the others.
        """
        await self._upkeep.run(task_status)

    def _raise_translated(self, error: BaseException) -> None:
        """Raise what the error means for the engine; return when it means nothing to it."""
        found = meaning(error)
        if isinstance(found, PrimaryLost):
            found = PrimaryLost(f"{self._primary.path}: {error}")
            self._flusher.lose(found)
        if found is not None:
            raise found from error


@asynccontextmanager
async def open_engine(
    places: Sequence[CopyPlace],
    *,
    config: MetadbConfig,
    on_eject: Callable[[str], Awaitable[None]],
    create: bool = False,
    folder_type: Callable[[Path], Folder] = Folder,
    journal: Journal | None = None,
) -> AsyncIterator[SqliteEngine]:
    """Open the store's metadata, on the newest copy there is; on exit stop cleanly.

    places: one folder on each drive of the pool that is there; a drive that is missing, or came
    back, must have been dealt with in the labels before (missing: its epoch is lower from now
    on; back: `trusted=False`). on_eject: raises the epoch on the labels of all drives but the one
    named; that drive's copy counts as gone only when it has returned.
    create: make the metadata anew where no place holds any; otherwise it is opened.
    journal: of the engine that was open in this process before, if there was one, whose primary
    may be lost: what the copy lacks that was answered is done again.
    Raises NoUsableCopy, SchemaTooNew, UpgradeFailed, PrimaryLost.
    """
    boot = boot_id()
    journal = journal or Journal()
    primary, choice = await _open_primary(places, boot, config, on_eject, create=create)
    lack = _lack_of(journal, choice)
    flusher = Flusher(
        primary,
        deadline_s=config.flush_deadline_s,
        long_log_frames=long_log_frames(config),
        on_eject=on_eject,
        journal=journal,
        base=lack.base,
    )
    state = State(run=choice.run if choice else 1, boot=boot, is_primary=True)
    upkeep = Upkeep(flusher, places, config=config, state=state, folder_type=folder_type)
    opened = False
    try:
        async with _failures_named(flusher):
            # A copy's sums are of no more use to a primary: nobody would keep them right.
            Folder(primary.path.parent).remove(SUMS)
            migrations.upgrade(primary.connection)
            done = run_again(primary.connection, lack.groups)
            journal.go_on(state.run, primary.index.salts(), flusher.position(), lack, done)
            _keep_copies(flusher, choice, config, folder_type)
            await flusher.barrier()
            await upkeep.write_state(clean=False)
            small = primary.path.stat().st_size <= _SMALL_BYTES
            await upkeep.join_missing(config.copies if small else min(2, config.copies))
            await _disown_others(flusher, places)
        opened = True
        async with open_lazy_scan_lane(primary.path) as scan:
            engine = SqliteEngine(primary, flusher, upkeep, scan)
            try:
                yield engine
            finally:
                engine.end_snapshots()
    finally:
        with trio.CancelScope(shield=True):
            await _stop(primary, flusher, upkeep, clean=opened)


@asynccontextmanager
async def _failures_named(flusher: Flusher) -> AsyncIterator[None]:
    """While opening: what means that the primary failed is raised as that, its drive ejected."""
    try:
        yield
    except (PrimaryLost, *UNUSABLE) as error:
        lost = PrimaryLost(str(error)) if isinstance(error, OSError) else meaning(error)
        lost = error if isinstance(error, PrimaryLost) else lost
        if lost is None:
            raise
        if isinstance(lost, PrimaryLost):
            flusher.lose(lost)
            await flusher.eject_drive(flusher.primary.drive, lost)
        raise lost from (None if lost is error else error)


async def _open_primary(
    places: Sequence[CopyPlace],
    boot: str,
    config: MetadbConfig,
    on_eject: Callable[[str], Awaitable[None]],
    *,
    create: bool,
) -> tuple[Primary, Choice | None]:
    """Open the best copy that opens; a drive where it doesn't is ejected first."""
    if create and await trio.to_thread.run_sync(_are_blank, places):
        place = await trio.to_thread.run_sync(_prepare, places[0])
        return _open_at(place, config), None
    wrong: list[str] = []
    await trio.to_thread.run_sync(upgrade.finish, places)
    while True:
        find = partial(choose, places, boot=boot, check_bytes=config.check_bytes, wrong=wrong)
        choice = await trio.to_thread.run_sync(find)
        place = choice.primary.place
        try:
            if await trio.to_thread.run_sync(upgrade.is_due, choice.primary):
                # A stop needn't wait for it: a process that ends here is a crash, as any other.
                await trio.to_thread.run_sync(
                    upgrade.upgrade, choice.primary, abandon_on_cancel=True
                )
                continue
            return _open_at(place, config), choice
        except UNUSABLE as error:
            wrong.append(f"{place.path}: {error}")
            await on_eject(place.drive)
            places = [other for other in places if other is not place]


def _open_at(place: CopyPlace, config: MetadbConfig) -> Primary:
    return Primary(
        place.drive,
        place.path,
        cache_bytes=config.cache_bytes,
        log_limit_bytes=2 * config.wal_bytes,
    )


def _are_blank(places: Sequence[CopyPlace]) -> bool:
    return not any((place.path / STATE).exists() for place in places)


def _prepare(place: CopyPlace) -> CopyPlace:
    folder = Folder(place.path)
    folder.make()
    folder.remove(DATABASE, LOG, INDEX)  # Left by one that never became whole.
    return place


def _lack_of(journal: Journal, choice: Choice | None) -> Lack:
    """What the chosen copy lacks of what was answered (`metadb.journal`)."""
    if choice is None:
        return journal.lack_of(0, b"", 0)
    found = choice.primary
    return journal.lack_of(found.state.run, found.log_header, found.frames)


def _keep_copies(
    flusher: Flusher,
    choice: Choice | None,
    config: MetadbConfig,
    folder_type: Callable[[Path], Folder],
) -> None:
    """Let the copies that only lack frames follow from where they are."""
    for found in choice.keep[: config.copies - 1] if choice else ():
        copy = Copy(
            found.place.drive, folder_type(found.place.path), generation=0, frames=found.frames
        )
        flusher.add(copy)


async def _disown_others(flusher: Flusher, places: Sequence[CopyPlace]) -> None:
    """See to it that no place but those that follow says it holds a copy (S1)."""
    following = {flusher.primary.drive, *(copy.drive for copy in flusher.copies)}
    for place in places:
        if place.drive not in following:
            try:
                await trio.to_thread.run_sync(Folder(place.path).remove, STATE)
            except OSError as error:
                await flusher.eject_drive(place.drive, error)


async def _stop(primary: Primary, flusher: Flusher, upkeep: Upkeep, *, clean: bool) -> None:
    """Close; with `clean` leave every copy complete, its log restarted and its state clean."""
    try:
        if clean and flusher.lost is None:
            await flusher.barrier()
            await upkeep.checkpoint()
            await flusher.barrier()
            await upkeep.write_state(clean=True)
        elif flusher.lost is not None:
            await _sync_named_bytes(flusher)
    finally:
        for copy in flusher.copies:
            copy.close()
        with trio.move_on_after(_CLOSE_DEADLINE_S):
            await trio.to_thread.run_sync(primary.close, abandon_on_cancel=True)


async def _sync_named_bytes(flusher: Flusher) -> None:
    """Make durable what rows in the journal name, as long as somebody knows what that is (E3)."""
    if flusher.hook is None:
        return
    flusher.journal.bytes_unsynced = True
    with trio.move_on_after(_LAST_SYNC_S) as scope:
        try:
            await flusher.hook()
            flusher.journal.bytes_unsynced = False
        except Exception as error:
            # The rows are kept all the same: a drive that lacks their bytes is there to be healed.
            _log.warning("metadata: bytes of the last changes are not durable yet: %s", error)
    if scope.cancelled_caught:
        _log.warning("metadata: bytes of the last changes are not durable yet: a drive hangs")
