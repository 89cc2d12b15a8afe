"""Drives that come back are taken back, one after the other, as long as the store is open.

A drive that is behind (stale) is only read. First heal is told to look through it, then the
metadata disowns the copy it held, then its label gets the pool's epoch, and from then on it takes
new segments and may hold a copy again. Where an empty drive stands in the place of a missing one,
it becomes a member of the pool in its stead, and heal fills it.
Invariants: the epoch comes last, so a crash before that leaves the drive as stale as it was;
  a folder that may be the bare mount point of an absent drive is never written to.
Concurrency: one task, owned by whoever opens the store.
"""

from __future__ import annotations

import logging
from functools import partial

import trio

from daemon.drives import DriveRefused, Drives, copy_place
from daemon.patience import ANSWER_S
from metadb.errors import MetadbError
from metadb.sqlite import SqliteEngine
from metadb.trial import hanging
from store.chunks.drive import Drive
from store.chunks.errors import ChunkError
from store.chunks.label import is_emptied
from store.chunks.local import LocalChunks
from store.chunks.types import DriveId, DriveState
from store.heal import Healer

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_AGAIN_AFTER_S = 30.0
_LOOK_S = 5.0


async def take_drives_back(
    drives: Drives,
    *,
    adopt_empty: bool = True,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Look for drives that are behind, were away at the start or were emptied, for ever.

    A drive that falls behind again and again is taken back every half minute only.
    """
    chunks, engine, healer = drives.chunks, drives.engine, drives.healer
    pool = chunks.pool
    tried_s: dict[DriveId, float] = {}
    away = {drive.id for drive in pool.drives if drive.state is DriveState.OFFLINE}
    empty: set[DriveId] = set()
    task_status.started()
    while True:
        now_s = trio.current_time()
        for drive in pool.drives:
            behind = drive.stale and drive.state is DriveState.READ_ONLY
            back = drive.id in away and drive.state is DriveState.ONLINE
            if not behind and not back and not (adopt_empty and await _is_emptied(chunks, drive)):
                empty.discard(drive.id)
            elif now_s - tried_s.get(drive.id, -1e9) >= _AGAIN_AFTER_S:
                if behind or back:
                    tried_s[drive.id] = now_s
                    if await _take_back(chunks, engine, healer, drive):
                        away.discard(drive.id)
                elif drive.id not in empty:
                    empty.add(drive.id)  # Looked at once more: it may be on its way somewhere.
                else:
                    tried_s[drive.id] = now_s
                    await _replace_emptied(drives, drive)
        await drives.remove_drained()
        await trio.sleep(_LOOK_EVERY_S)


async def _replace_emptied(drives: Drives, missing: Drive) -> None:
    try:
        await drives.replace(missing, missing.io.path)
    except DriveRefused as error:
        log.warning("the empty drive at %s stays out: %s", missing.io.path, error)


async def _is_emptied(chunks: LocalChunks, drive: Drive) -> bool:
    if drive.state is not DriveState.OFFLINE or drive.hung:
        return False
    others = [each.io.path for each in chunks.pool.drives if each.readable]
    look = partial(is_emptied, drive.io.path, others)
    with trio.move_on_after(_LOOK_S):
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
    return False


async def _take_back(
    chunks: LocalChunks, engine: SqliteEngine, healer: Healer, drive: Drive
) -> bool:
    """Whether the drive is part of the pool again."""
    if await hanging([copy_place(drive)], ANSWER_S):
        # Whatever else is asked of it would hang as well, each time in one more thread.
        drive.note_hung("write")
        return False
    try:
        await healer.suspect([drive.id])
        await engine.take_back(copy_place(drive))
        if drive.stale:
            await chunks.pool.rejoin(drive)
    except (OSError, ChunkError, MetadbError) as error:
        log.warning("drive %s was behind and stays out: %s", drive.io.path, error)
        return False
    log.info("drive %s was away and is back in the pool", drive.io.path)
    return True
