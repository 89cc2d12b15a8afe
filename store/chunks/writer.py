"""Writes stripes, flushes segments and closes them: what all appenders share.

Stripes that follow one another in a run are written together, in a batch: a batch costs two hops
between threads and a system call a member, however many they are. Batches are the smaller, the
more appenders write at once. One under way holds its payload and the parity, so their number is
limited for the whole store, and an appender waits before it places the next.

Concurrency: the loop; each batch has a task of the service's nursery and one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import outcome
import trio

from store.chunks.config import ChunkConfig
from store.chunks.placement import Placement
from store.chunks.reclaim import Reclaimer
from store.chunks.segment import OpenSegment
from store.chunks.stripe import StripeJob
from store.chunks.threads import Hung, fan_out
from store.chunks.types import Buffer, Owner, RunId

_MUCH_WASTE_BYTES = 16 << 20
_MAX_BATCH_STRIPES = 4
# What all appenders together gather, at most, beyond a stripe each.
_GATHERED_BYTES = 32 << 20


@dataclass(slots=True, kw_only=True)
class Batch:
    """Stripes in a row with their place. `written` and `missing` hold once `done` is set.

    token: what `Writer.admit` gave. stripes: the pieces of each; payload: bytes of all together.
    index, offset, owner: of the first.
    crash: an error of ours, to be raised where the batch is waited for.
    """

    token: object
    stripes: list[list[Buffer]]
    payload: int
    run: RunId
    index: int
    offset: int
    owner: Owner
    done: trio.Event = field(default_factory=trio.Event)
    written: bool = False
    missing: int = 0
    crash: BaseException | None = None


class Writer:
    """Shared by all appenders."""

    def __init__(
        self, store: bytes, placement: Placement, reclaimer: Reclaimer, config: ChunkConfig
    ) -> None:
        self.placement = placement
        self.stripe_bytes = config.stripe_bytes
        self.stripe_count = 0
        # Appenders with a batch under way.
        self.busy_count = 0
        self.nursery: trio.Nursery | None = None
        self._store = store
        self._reclaimer = reclaimer
        self._config = config
        placement.on_sealed = self._close_if_done
        self._under_way = trio.CapacityLimiter(config.stripes_in_flight)

    def service(self) -> trio.Nursery:
        """The nursery that owns background work."""
        if self.nursery is None:
            raise RuntimeError("LocalChunks.run() is not running")
        return self.nursery

    # -- stripes -----------------------------------------------------------------------

    def batch_stripes(self) -> int:
        """How many stripes an appender may write together, as things stand."""
        share = _GATHERED_BYTES // self.stripe_bytes // max(1, self.busy_count)
        return max(1, min(share, _MAX_BATCH_STRIPES))

    async def admit(self) -> object:
        """Wait until one more batch may be under way; its token. `start` must follow at once."""
        self.service()
        token = object()
        await self._under_way.acquire_on_behalf_of(token)
        return token

    def start(self, found: OpenSegment, batch: Batch, *, counted: bool = True) -> None:
        """Write an admitted batch in the background. counted: somebody waits for it."""
        self.stripe_count += len(batch.stripes) if counted else 0
        self.service().start_soon(self._write, found, batch)

    async def _write(self, found: OpenSegment, batch: Batch) -> None:
        live = found.live_members()
        try:
            if len(live) >= found.quorum:
                await self._run_job(found, batch, live)
            else:
                found.sealed = True
        finally:
            found.written += 1
            self._under_way.release_on_behalf_of(batch.token)
            batch.done.set()

    async def _run_job(self, found: OpenSegment, batch: Batch, live: Sequence[int]) -> None:
        job = StripeJob(
            found,
            self._store,
            batch.run,
            batch.index,
            batch.offset,
            batch.owner,
            batch.stripes,
            batch.payload,
            live,
            found.grow(batch.offset + len(batch.stripes) * found.record),
        )
        (result,) = await fan_out([job.run_in_thread], self._config.io_deadline_s)
        if isinstance(result, outcome.Error):
            batch.crash = result.error
            return
        failed = dict(job.errors)
        for shard, error in failed.items():
            found.lose(shard)
            found.drives[shard].note_write_error(error)
        if isinstance(result, Hung):
            job.abandoned = True
            found.sealed = True
            if job.position >= 0:
                found.lose(job.position)
                found.drives[job.position].note_hung("write")
            return
        written = [shard for shard in live if shard not in failed]
        batch.missing = (1 << len(found.drives)) - 1
        for shard in written:
            batch.missing &= ~(1 << shard)
        batch.written = len(written) >= found.quorum

    # -- flushing and closing ----------------------------------------------------------

    async def flush(self, found: OpenSegment) -> None:
        """Make everything written to the segment so far durable on all members not lost."""
        await found.flush(self.service())
        self._close_if_done(found)

    def release(self, segments: Iterable[OpenSegment]) -> None:
        """An appender is through with `segments` (one entry for each of its runs)."""
        for found in segments:
            found.users -= 1
            if found.wasted_bytes >= _MUCH_WASTE_BYTES:
                self.service().start_soon(self._punch_waste, found)
            self._close_if_done(found)

    def _close_if_done(self, found: OpenSegment) -> None:
        """Close a segment that nobody appends to or will."""
        if found.ended and not found.users and not found.closing:
            found.closing = True
            self.service().start_soon(self._close, found)

    async def _close(self, found: OpenSegment) -> None:
        """Flush, cut members to their used size, forget the handles."""
        await found.flush(self.service())
        if found.lost:
            self.placement.lost[found.segment.id] = found.lost
        del self.placement.open[found.segment.id]
        await self._reclaimer.cut(found)
        await self._punch_waste(found)

    async def _punch_waste(self, found: OpenSegment) -> None:
        """Give back what no run holds. Tails are small, so they are gathered first."""
        ranges = [(found.segment, start, stop) for start, stop in found.take_waste()]
        await self._reclaimer.punch(ranges)
