"""Puts a backup of the metadata in the place of what a stopped store has, on all its drives.

    labels     the epoch is raised, so that a copy on a drive that is away is never taken again
    one copy   the backup is laid down beside what is there, checked, then made the only copy
    members    rows follow members that were moved to other drives since (store.inspection)
    copies     the others are built, and everything is closed in order

Each step may be the last that happened: the command is then given again.
Concurrency: a loop of its own, on drives that it has locked.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from daemon.drives import copies_wanted
from daemon.stoppedstore import copy_places
from metadb.archive import Archive
from metadb.errors import NoUsableCopy, SchemaTooNew
from metadb.offline import Facts, facts_of, lay_down, opened_copy, raise_inode_ceiling
from metadb.series import Composed
from metadb.sqlite import MetadbConfig, SqliteEngine, open_engine
from store.chunks.pool import Pool
from store.chunks.types import DriveId, DriveState
from store.inspection import follow_members


class RestoreRefused(Exception):
    """The backup doesn't belong here, or would take more away than was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """lost: changes that were known here and are in the backup no more; None: not known.

    moved: segments whose rows had to follow a member to another drive. copies: drives with one.
    """

    lost: int | None
    moved: int
    copies: int


def present_facts(pool: Pool) -> Facts | None:
    """What the drives' own metadata says; None when no copy can be used."""
    try:
        with opened_copy(copy_places(pool)) as copy:
            return copy.read(facts_of)
    except (NoUsableCopy, SchemaTooNew, OSError):
        return None


def restore(pool: Pool, archive: Archive | Composed, *, replace: bool) -> Restored:
    """Do it. replace: also where the drives hold metadata that can be used.

    Raises RestoreRefused, BadArchive, MetadbError, ChunkError, OSError.
    """
    manifest = archive.manifest
    if manifest.store != pool.store:
        raise RestoreRefused(f"the backup is of store {manifest.store}, this is {pool.store}")
    present = present_facts(pool)
    lost = None if present is None else max(0, present.sequence - manifest.sequence)
    if present is not None and not replace:
        raise RestoreRefused(
            f"the drives hold metadata that can be used, with {lost} changes that the backup "
            "lacks: take a backup of it first, then say --replace"
        )
    ceiling = 0 if present is None else present.inode_ceiling
    moved, copies = trio.run(_restore, pool, archive, ceiling)
    return Restored(lost=lost, moved=moved, copies=copies)


async def _restore(pool: Pool, archive: Archive | Composed, ceiling: int) -> tuple[int, int]:
    await pool.raise_epoch()
    places = [place for place in copy_places(pool) if place.trusted]
    await trio.to_thread.run_sync(lay_down, places, archive)
    async with reopened(pool) as engine:
        engine.transact(raise_inode_ceiling, ceiling)
        moved = await follow_members(engine, pool)
        await engine.barrier()
        return moved, 1 + len(engine.copy_drives)


@contextlib.asynccontextmanager
async def reopened(pool: Pool) -> AsyncIterator[SqliteEngine]:
    """The metadata of a stopped store, to be changed: brought up to date, with all its copies."""

    async def note_ejected(drive: str) -> None:
        await pool.raise_epoch(leave_out=DriveId(drive))

    if any(drive.state is DriveState.OFFLINE for drive in pool.drives):
        # What is changed now they miss: their copies must never be gone on from.
        await pool.raise_epoch()
    config = MetadbConfig(copies=copies_wanted(pool))
    async with open_engine(copy_places(pool), config=config, on_eject=note_ejected) as engine:
        yield engine
