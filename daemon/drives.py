"""Drives that come to the pool of a running store, leave it, or take another's place.

Bytes, metadata and heal each have a part in it, in an order that a crash can't break: labels
first, then what builds on them; and a drive leaves the labels only when it holds nothing.
Concurrency: one change at a time.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import trio

from daemon.report import size_text
from metadb.errors import MetadbError
from metadb.sqlite import CopyPlace, SqliteEngine
from store.chunks.drive import Drive
from store.chunks.errors import ChunkError
from store.chunks.label import FOLDER, META
from store.chunks.local import LocalChunks
from store.chunks.pool import Pool
from store.drainplan import DrainPlan, plan_drain
from store.heal import Healer
from store.rebalance import Rebalancer

log = logging.getLogger(__name__)


class DriveRefused(Exception):
    """It can't be done. The text is one sentence without its end."""


def copy_place(drive: Drive) -> CopyPlace:
    """Where on a drive a copy of the metadata stands, or may stand."""
    path = drive.io.path / FOLDER / META
    return CopyPlace(drive=drive.id, path=path, trusted=not drive.stale)


def copies_wanted(pool: Pool) -> int:
    """How many drives ought to hold the metadata: it survives the loss of as many as bytes do."""
    return min(len(pool.drives), max(2, pool.parity + 1))


class Drives:
    """The pool's drives, as an operator changes them."""

    def __init__(
        self, chunks: LocalChunks, engine: SqliteEngine, healer: Healer, rebalancer: Rebalancer
    ) -> None:
        self.chunks = chunks
        self.engine = engine
        self.healer = healer
        self.rebalancer = rebalancer
        self._changing = trio.Lock()

    def find(self, name: str) -> Drive:
        """The drive at a path, or whose id begins like this. Raises DriveRefused."""
        path = Path(os.path.abspath(name))
        drives = self.chunks.pool.drives
        found = [drive for drive in drives if drive.io.path == path]
        if not found and len(name) >= 4:
            found = [drive for drive in drives if drive.id.startswith(name)]
        if len(found) != 1:
            raise DriveRefused(f"{name} is no drive of the pool: see twofold drive list")
        return found[0]

    async def add(self, path: Path) -> Drive:
        """Make an empty folder one more drive of the pool. Raises DriveRefused."""
        async with self._changing:
            try:
                drive = await self.chunks.add_drive(path)
                await self._take_copy(drive)
            except (OSError, TimeoutError, ChunkError, MetadbError) as error:
                raise DriveRefused(str(error)) from error
        log.info("drive %s came to the pool", path)
        self.healer.wake()
        return drive

    async def replace(self, old: Drive, path: Path) -> Drive:
        """Let an empty folder take a drive's place: at once where it is missing, else drained.

        Raises DriveRefused.
        """
        if old.readable:
            # First of all, so that nothing is laid out on both of them.
            self.chunks.drain(old)
            try:
                drive = await self.add(path)
                await self.drain(old)
            except DriveRefused:
                self.chunks.keep(old)
                raise
            return drive
        async with self._changing:
            try:
                drive = await self.chunks.replace_drive(old.id, path)
                self.engine.forget_place(old.id)
                await self._take_copy(drive)
            except (OSError, TimeoutError, ChunkError, MetadbError) as error:
                raise DriveRefused(str(error)) from error
        log.info("the empty drive %s takes the place of %s", path, old.id)
        self.healer.wake()
        return drive

    async def drain(self, drive: Drive) -> DrainPlan:
        """Have all that a drive holds moved or rewritten; then it leaves the pool by itself.

        What that takes. Raises DriveRefused where the others are too few, or too full.
        """
        async with self._changing:
            plan = await plan_drain(self.engine, self.chunks, drive)
            self._refuse(drive, plan)
            await self.healer.drain(drive)
        log.info("drive %s is being drained", drive.io.path)
        self.rebalancer.wake()
        return plan

    def _refuse(self, drive: Drive, plan: DrainPlan) -> None:
        """Say why a drive can't be drained, if it can't."""
        if not plan.staying:
            raise DriveRefused(f"{drive.io.path} is the last drive")
        if plan.lost_before and not plan.m and not self.chunks.allows_single_copy:
            raise DriveRefused(
                "without it one drive may be used, and nothing may be lost: add a drive first, or "
                "set allow_single_copy in [pool]"
            )
        if not plan.fits:
            needed = size_text(plan.moved_bytes + plan.rewritten_bytes)
            raise DriveRefused(
                f"the other drives have no room for the {needed} that it holds or has a share in, "
                f"as {plan.k} data + {plan.m} parity: add a drive first"
            )

    async def keep(self, drive: Drive) -> None:
        """Drain it no more."""
        self.chunks.keep(drive)
        await self.healer.drain(drive, draining=False)
        self.rebalancer.wake()

    async def remove_drained(self) -> None:
        """Take drives out of the pool that were drained and hold nothing any more."""
        for drive in self.chunks.pool.drives:
            if drive.draining and not self.chunks.holds_members(drive):
                async with self._changing:
                    await self._remove(drive)

    async def _remove(self, drive: Drive) -> None:
        if not self.engine.copies_elsewhere(drive.id):
            return  # A copy of the metadata is being built, for this or another reason.
        try:
            await self.chunks.pool.remove(drive.id)
            self.engine.want_copies(copies_wanted(self.chunks.pool))
            await self.engine.leave(drive.id)
        except (OSError, ChunkError, MetadbError) as error:
            log.warning("drive %s stays in the pool: %s", drive.io.path, error)
            return
        log.info("drive %s holds nothing any more and left the pool", drive.io.path)

    async def _take_copy(self, drive: Drive) -> None:
        self.engine.want_copies(copies_wanted(self.chunks.pool))
        await self.engine.take_back(copy_place(drive))
