"""Changes born on the S3 face, taken out of the kernel's caches before S3 answers (rule R8).

`invalidate` returns when the kernel has forgotten, or after `WAIT_S`: then it logs, and the work
goes on by itself. Nothing is ever given up: what could not start in time waits in a backlog that
`run` works off; as long as it is there, the kernel may show what it knew before.
Own operations of the mount are never invalidated: the kernel knows them, and it would deadlock.
Concurrency: called from any task of the loop, with no lock held. The calls to the kernel may
block on a directory's lock, which a process holds that waits for an answer of ours, so they run
in threads of their own limiter. Source: pyfuse3's docstrings of `invalidate_entry` and
`invalidate_inode`; linux fs/fuse/dir.c, fuse_reverse_inval_entry (it takes the directory's lock).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pyfuse3
import trio

from fusefs.kernelcache import KernelCache
from metadb.records import InodeId

log = logging.getLogger(__name__)

WAIT_S: Final = 2.0
THREADS_MAX: Final = 8
BACKLOG_MAX: Final = 1_000
# The kernel has forgotten by itself, or the mount is on its way down.
_ALREADY_GONE: Final = frozenset({errno.ENOENT, errno.ENOTCONN, errno.ENODEV, errno.EBADF})


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What one change makes stale. started: set by the thread that takes it on."""

    entries: Sequence[tuple[InodeId, bytes]]
    inodes: Sequence[InodeId]
    started: bool = field(default=False)


class MountInvalidator:
    """`store.events.Invalidator` for the mounted kernel. `run` must be running."""

    def __init__(self, cache: KernelCache) -> None:
        self._cache = cache
        self._limiter = trio.CapacityLimiter(THREADS_MAX)
        self._late, self._backlog = trio.open_memory_channel[_Batch](BACKLOG_MAX)
        self.timeout_count = 0

    def knows(self, parent: InodeId, name: bytes) -> bool:
        """See `store.events.Invalidator`."""
        return self._cache.knows(parent, name)

    def holds(self, inode: InodeId) -> bool:
        """See `store.events.Invalidator`."""
        return self._cache.holds(inode)

    async def invalidate(
        self, entries: Sequence[tuple[InodeId, bytes]], inodes: Sequence[InodeId]
    ) -> None:
        """See `store.events.Invalidator`. Skips what the kernel does not hold, without a wait."""
        cache = self._cache
        batch = _Batch(
            entries=[entry for entry in entries if cache.knows(*entry)],
            inodes=[inode for inode in inodes if cache.holds(inode)],
        )
        if not batch.entries and not batch.inodes:
            return
        # Noted afresh by whatever looks them up from now on, which sees the change.
        cache.drop(batch.entries)
        with trio.move_on_after(WAIT_S) as waiting:
            try:
                await self._in_thread(batch)
            finally:
                if not batch.started:
                    self._postpone(batch)
        if waiting.cancelled_caught:
            self.timeout_count += 1
            log.warning("the kernel did not forget %s within %g s", batch.entries, WAIT_S)

    async def run(self) -> None:
        """Work off what could not start in time; for ever."""
        async for batch in self._backlog:
            await self._in_thread(batch)

    async def close(self) -> None:
        """Wait until no call to the kernel is under way, and let none begin.

        Only then may the session be freed.
        """
        for _ in range(THREADS_MAX):
            await self._limiter.acquire_on_behalf_of(object())

    async def _in_thread(self, batch: _Batch) -> None:
        await trio.to_thread.run_sync(_notify, batch, abandon_on_cancel=True, limiter=self._limiter)

    def _postpone(self, batch: _Batch) -> None:
        try:
            self._late.send_nowait(batch)
        except trio.WouldBlock:
            log.error("the kernel keeps stale names: %s", batch.entries)


def _notify(batch: _Batch) -> None:
    """Runs in a thread; blocks while the kernel's locks are held."""
    batch.started = True
    for inode in batch.inodes:
        try:
            pyfuse3.invalidate_inode(inode, attr_only=True)
        except OSError as error:
            _check(error)
    for parent, name in batch.entries:
        try:
            pyfuse3.invalidate_entry(parent, name)
        except OSError as error:
            _check(error)


def _check(error: OSError) -> None:
    if error.errno not in _ALREADY_GONE:
        log.error("the kernel refused an invalidation: %s", error)
