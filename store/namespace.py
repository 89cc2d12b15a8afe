"""`Namespace`: the one interface both faces speak to, over an engine and a chunk store.

Concurrency: one trio loop; `run` owns every task of the store (reading ahead, reclaim).
"""

from __future__ import annotations

import logging
import stat

import trio

from metadb import buckets, inodes
from metadb.engine import Engine
from metadb.records import ROOT, InodeId
from metadb.statements import Tx
from store import permissions, reclaim, trash, tree
from store.access.sealed import Keyring
from store.buckets import Buckets
from store.chunks.errors import BelowWriteQuorum
from store.chunks.types import ChunkStore, Run, segment_of
from store.events import Invalidator
from store.files import Files
from store.identity.service import Identity
from store.listing import Listing
from store.objects import Objects
from store.state import Readers, State, StoreConfig, now_ns
from store.trash import Trash
from store.uploads import Uploads

log = logging.getLogger(__name__)


class Namespace:
    """Buckets, objects, uploads and files of one store, and who may do what with them."""

    def __init__(
        self,
        engine: Engine,
        chunks: ChunkStore,
        store_id: str,
        config: StoreConfig | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        """keyring: as `Identity` wants it."""
        self._state = State(
            engine=engine, chunks=chunks, config=config or StoreConfig(), store_id=store_id
        )
        self.buckets = Buckets(self._state)
        self.objects = Objects(self._state)
        self.listing = Listing(self._state)
        self.uploads = Uploads(self._state)
        self.trash = Trash(self._state)
        self.files = Files(self._state)
        self.identity = Identity(engine, keyring)

    @property
    def readers(self) -> Readers:
        """Who reads runs just now, for whoever moves them."""
        return self._state.readers

    @property
    def state(self) -> State:
        """For the parts of the store that run beside the namespace."""
        return self._state

    def set_invalidator(self, invalidator: Invalidator | None) -> None:
        """Have S3-born changes told to this mount (rule R8); None when it is unmounted."""
        self._state.invalidator = invalidator
        self.files.forgotten(list(self._state.nameless))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover, report started, then serve until cancelled.

        Recovery: inode numbers go on above all that were given out, orphans are erased, the chunk
        store adopts what rows name and reclaims the rest.
        """
        state = self._state
        state.engine.before_flush(self._sync_runs)
        state.engine.transact(_prepare, state)
        self.identity.load()
        while state.engine.transact(reclaim.erase_orphans, state):
            await trio.lowlevel.checkpoint()
        await reclaim.adopt(state)
        async with trio.open_nursery() as nursery:
            state.nursery = nursery
            nursery.start_soon(reclaim.run, state)
            nursery.start_soon(trash.run, state)
            nursery.start_soon(self.identity.keys.uses.keep)
            task_status.started()

    async def _sync_runs(self) -> None:
        """Bytes before the rows that name them (E3): the barrier calls this at its start."""
        state = self._state
        if not state.unsynced:
            return
        runs: list[Run] = state.unsynced
        state.unsynced = []
        try:
            try:
                await state.chunks.sync(runs)
            except BelowWriteQuorum:
                await self._sync_what_can_be(runs)
        except BaseException:
            state.unsynced = runs + state.unsynced
            raise

    async def _sync_what_can_be(self, runs: list[Run]) -> None:
        """Sync run by run, where drives were lost between a write to the mount and its flush.

        A run that can still be read whole is then no worse off than older ones that lost the same
        drives. To fail for it would fail every barrier from now on, also of those who have nothing
        to do with it. Raises BelowWriteQuorum for one that can't be read.
        """
        for run in runs:
            try:
                await self._state.chunks.sync([run])
            except BelowWriteQuorum as error:
                if error.alive < self._state.chunks.segment(segment_of(run.id)).k:
                    raise
                log.warning("run %s is on %s drives only until it is healed", run.id, error.alive)


def _prepare(tx: Tx, state: State) -> None:
    state.numbers.load(tx)
    if inodes.get(tx, ROOT) is None:
        _make_root(tx, state)
    state.inode_count = inodes.count(tx)
    permissions.load(tx, state)
    kept = buckets.setting_of(tx, "store_id")
    if kept is None:
        buckets.set_setting(tx, "store_id", state.store_id)
    assert kept in (None, state.store_id), (kept, state.store_id)


def _make_root(tx: Tx, state: State) -> None:
    now = now_ns()
    number = state.numbers.take(tx)
    assert number == ROOT, number
    root = tree.new_inode(state, number, InodeId(0), now, stat.S_IFDIR | 0o755)
    inodes.insert(tx, root._replace(nlink=2))
