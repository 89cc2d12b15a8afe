"""Drives that come back are taken back, one after the other, as long as the store is open.

A drive that is behind (stale) is only read. First the metadata disowns the copy it held, then its
label gets the pool's epoch, and from then on it takes new segments and may hold a copy again.
What it missed of the bytes is known run by run, and healed from the others.
Invariant: the epoch comes last. A crash before that leaves the drive as stale as it was.
Concurrency: one task, owned by whoever opens the store.
"""

from __future__ import annotations

import logging

import trio

from metadb.sqlite import CopyPlace, SqliteEngine
from store.chunks.drive import Drive
from store.chunks.errors import ChunkError
from store.chunks.label import FOLDER, META
from store.chunks.pool import Pool
from store.chunks.types import DriveId, DriveState

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_AGAIN_AFTER_S = 30.0


def copy_place(drive: Drive) -> CopyPlace:
    """Where on a drive a copy of the metadata stands, or may stand."""
    path = drive.io.path / FOLDER / META
    return CopyPlace(drive=drive.id, path=path, trusted=not drive.stale)


async def take_drives_back(
    pool: Pool, engine: SqliteEngine, *, task_status: trio.TaskStatus[None]
) -> None:
    """Look for drives that are behind, or were away at the start, for ever.

    A drive that falls behind again and again is taken back every half minute only.
    """
    tried_s: dict[DriveId, float] = {}
    away = {drive.id for drive in pool.drives if drive.state is DriveState.OFFLINE}
    task_status.started()
    while True:
        now_s = trio.current_time()
        for drive in pool.drives:
            behind = drive.stale and drive.state is DriveState.READ_ONLY
            back = drive.id in away and drive.state is DriveState.ONLINE
            if (behind or back) and now_s - tried_s.get(drive.id, -1e9) >= _AGAIN_AFTER_S:
                tried_s[drive.id] = now_s
                if await _take_back(pool, engine, drive):
                    away.discard(drive.id)
        await trio.sleep(_LOOK_EVERY_S)


async def _take_back(pool: Pool, engine: SqliteEngine, drive: Drive) -> bool:
    """Whether the drive is part of the pool again."""
    try:
        await engine.take_back(copy_place(drive))
        if drive.stale:
            await pool.rejoin(drive)
    except (OSError, ChunkError) as error:
        log.warning("drive %s was behind and stays out: %s", drive.io.path, error)
        return False
    log.info("drive %s was away and is back in the pool", drive.io.path)
    return True
