"""The series of backups that the daemon keeps of its metadata, while it serves.

Every `interval_s`, if anything has changed: the first since the start is whole, later ones hold the
pages that changed (`metadb.series`), and after `whole_hours` or when they have grown as large as
the whole one, the next is whole again. What is older than `keep_days` goes, but for what a restore
to that time needs. So the room it takes is bounded by the database's size and what changes.
Reading rests as long as it works, so that who is served keeps half of the machine.
Invariant: a point counts only once the target gave it back as it was sent.
Concurrency: one task; pages are read and files sent in threads.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import trio

from daemon.report import BackupStatus
from daemon.settings import BackupSettings
from daemon.targets import Access, Target, TargetError, target_of
from metadb import changes, migrations, wal
from metadb.archive import Manifest, pack
from metadb.errors import MetadbError, PrimaryLost
from metadb.offline import facts_of
from metadb.series import PageSums, Point, new_chain, outlived, points_of
from metadb.snapshot import Snapshot
from metadb.sqlite import SqliteEngine

log = logging.getLogger(__name__)

_SPOOL = "backup.new"
_DAY_S = 86400.0
_HOUR_S = 3600.0
_STEP_S = 120.0
T = TypeVar("T")


class Backups:
    """See the module's text. folder: for the file that is being made."""

    def __init__(self, engine: SqliteEngine, settings: BackupSettings, folder: Path) -> None:
        self._engine = engine
        self._settings = settings
        self._spool = folder / _SPOOL
        self._sums = PageSums()
        self._target: Target | None = None
        self._last: Point | None = None
        self._begun_s = 0.0
        self._whole_bytes = self._part_bytes = 0
        self._count = 0
        self._fault = ""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it up for ever."""
        task_status.started()
        while self._settings.target:
            began_s = trio.current_time()
            try:
                await self.take()
                self._fault = ""
            except PrimaryLost:
                raise
            except (MetadbError, TargetError, OSError) as error:
                # What was sent is unknown: the next one begins anew.
                self._last = None
                self._fault = str(error)
                log.warning("the backup failed, and will be tried again: %s", error)
            left_s = began_s + self._settings.interval_s - trio.current_time()
            await trio.sleep(max(left_s, 0.1))

    async def take(self) -> Point | None:
        """Keep one more point; None when nothing has changed. Raises TargetError, OSError."""
        last = self._last
        if last is not None and self._engine.read(changes.last) == last.sequence:
            return None
        if self._target is None:
            access = Access(
                endpoint=self._settings.endpoint, credentials=self._settings.credentials_file
            )
            self._target = await self._in_thread(partial(target_of, self._settings.target, access))
        whole = last is None or self._is_due()
        await self._engine.barrier()
        # No await between the two: they are of the same moment.
        with self._engine.snapshot() as snapshot:
            facts = self._engine.read(facts_of)
            now_s = time.time()
            manifest = Manifest(
                store=facts.store,
                sequence=facts.sequence,
                taken_s=now_s,
                revision=migrations.NEWEST,
                database_bytes=snapshot.page_count * wal.PAGE_BYTES,
                since=None if last is None or whole else last.sequence,
            )
            size = await self._write(manifest, snapshot)
        point = Point(
            chain=new_chain(now_s) if last is None or whole else last.chain,
            number=0 if last is None or whole else last.number + 1,
            sequence=facts.sequence,
            taken_s=int(now_s),
        )
        target = self._target
        await self._in_thread(partial(target.put, point.name, self._spool), _HOUR_S)
        self._sums.keep()
        self._note(point, size)
        await self._forget_old(target, now_s)
        return point

    def report(self) -> BackupStatus | None:
        """From memory; None where none is asked for."""
        if not self._settings.target:
            return None
        last = self._last
        return BackupStatus(
            target=self._settings.target,
            fault=self._fault,
            points=self._count,
            sequence=0 if last is None else last.sequence,
            taken_s=0 if last is None else last.taken_s,
        )

    # -- inside ------------------------------------------------------------------------

    def _is_due(self) -> bool:
        """Whether the next one is to be whole."""
        aged = time.time() - self._begun_s > self._settings.whole_hours * _HOUR_S
        return aged or self._part_bytes > self._whole_bytes

    def _note(self, point: Point, size: int) -> None:
        if point.number == 0:
            self._begun_s, self._whole_bytes, self._part_bytes = time.time(), size, 0
        else:
            self._part_bytes += size
        self._last = point
        self._count += 1
        log.info("metadata backed up: changes up to %s, %s bytes", point.sequence, size)

    async def _write(self, manifest: Manifest, snapshot: Snapshot) -> int:
        """Make the file; its size."""
        go_through = self._sums.all if manifest.since is None else self._sums.changed
        pieces = pack(manifest, go_through(snapshot.pieces()))
        size = 0
        with await self._in_thread(self._open_spool) as file:
            while True:
                began_s = trio.current_time()
                piece = await self._in_thread(partial(next, pieces, None))
                if piece is None:
                    break
                size += await self._in_thread(partial(file.write, piece))
                await trio.sleep(trio.current_time() - began_s)
        return size

    def _open_spool(self) -> BinaryIO:
        # A new file each time: one that hangs may still be read by a thread that was given up.
        self._spool.unlink(missing_ok=True)
        return os.fdopen(os.open(self._spool, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    async def _forget_old(self, target: Target, now_s: float) -> None:
        points = points_of(await self._in_thread(target.names))
        for point in outlived(points, now_s - self._settings.keep_days * _DAY_S):
            await self._in_thread(partial(target.remove, point.name))

    async def _in_thread(self, work: Callable[[], T], within_s: float = _STEP_S) -> T:
        """Raises TargetError at the deadline."""
        with trio.move_on_after(within_s):
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        raise TargetError(f"no answer within {within_s:.0f} s")
