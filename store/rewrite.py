"""Rewrites what stands in some segments into new ones: bytes through the codec, then rows.

A pass goes once through all extents, in order of their inodes. The live parts of each run in the
segments are read, which verifies them, and appended to new runs, as wide as drives stand now. When
the new runs are durable on every drive of their segments, the extents are switched, if they are
still what they were; a run that no extent names any more is reclaimed like any other.

Invariants:
  W1 rows name a new run only after all of its k + m fragments are durable;
  W2 an extent is switched only in a transaction that finds it as it was when its bytes were read:
     whatever happened to an object meanwhile, this did not happen to it;
  W3 nothing but the place of the bytes changes: no checksum, no time, no version;
  W4 what extents share stays shared, as far as memory reaches (`_GATHERED_MAX`).
Concurrency: one task. A crash anywhere leaves runs that nobody names, which the next start
reclaims, and rows that are true: the next pass finds what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import trio

from metadb import content, relocation
from metadb import segments as rows
from metadb.records import InodeId
from metadb.relocation import Holding
from metadb.statements import Tx
from store.chunks.errors import ChunkError, Unrecoverable
from store.chunks.local import LocalChunks
from store.chunks.reclaim import coalesce
from store.chunks.types import Owner, Run, RunId, SegmentId, segment_of
from store.pace import Pace
from store.state import State
from store.writing import note_runs

log = logging.getLogger(__name__)

_PAGE_ROWS = 300
_BATCH_BYTES = 16 << 20
_BATCH_COPIES = 64
_SWITCHED_AT_ONCE = 100
"""Extents in one transaction, so that the loop isn't held up for long."""
_GATHERED_MAX = 200_000
"""Extents whose fellows are still being looked for. What comes beyond is left to the next pass."""
_READ_BYTES = 2 << 20
_CLEANUP_S = 5.0


class NoRoom(ChunkError):
    """The drives have no room for the copy of what is to be rewritten."""


class NotWhole(ChunkError):
    """A drive failed while bytes were copied: they are copied again later."""


@dataclass(slots=True)
class Progress:
    """What was done so far; grows while work goes on.

    lost: runs that can't be read. tokens: how many of the readers so far were ours.
    """

    read_bytes: int = 0
    written_bytes: int = 0
    tokens: int = 0
    lost: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Copy:
    """Bytes [start, stop) of a run, which `held` name; made: where they stand anew."""

    run: Run
    start: int
    stop: int
    held: Sequence[Holding]
    made: tuple[Run, ...] = ()
    noted: bool = False

    def extents(self, held: Holding) -> list[tuple[int, int, int, int]]:
        """What stands in the place of `held`: rows (start, size, run, run_start)."""
        found: list[tuple[int, int, int, int]] = []
        first = self.start
        for run in self.made:
            low = max(first, held.run_start)
            high = min(first + run.size, held.run_start + held.size)
            if low < high:
                at = held.start + low - held.run_start
                found.append((at, high - low, run.id, low - first))
            first += run.size
        return found


class Rewriter:
    """See the module's text.

    go_on: whether to, asked between pieces of work. has_room: for so many bytes of payload.
    """

    def __init__(
        self,
        state: State,
        chunks: LocalChunks,
        progress: Progress,
        pace: Pace,
        go_on: Callable[[], bool],
        has_room: Callable[[int], bool],
    ) -> None:
        self.progress = progress
        self._state = state
        self._engine = state.engine
        self._chunks = chunks
        self._pace = pace
        self._go_on = go_on
        self._has_room = has_room
        self._batch: list[_Copy] = []

    async def pass_over(self, segments: Collection[SegmentId]) -> None:
        """Rewrite what extents name of these segments. Ends early when it is not to go on.

        Raises NoRoom, NotWhole, NoSpace, BelowWriteQuorum, MetadbError.
        """
        self._batch = []
        gathered: dict[int, list[Holding]] = {}
        count = 0
        behind = (0, -1)
        while self._go_on():
            began_s = trio.current_time()
            page = self._engine.read(relocation.holdings, *behind, _PAGE_ROWS)
            if not page:
                break
            behind = (page[-1].inode, page[-1].start)
            for held in page:
                if segment_of(RunId(held.run)) not in segments or held.run in self.progress.lost:
                    continue
                if held.run not in gathered and held.refs > 1 and count > _GATHERED_MAX:
                    continue
                fellows = gathered.setdefault(held.run, [])
                fellows.append(held)
                count += 1
                if len(fellows) >= held.refs:
                    count -= len(fellows)
                    await self._take(gathered.pop(held.run))
            await self._pace.rest(0, trio.current_time() - began_s)
        for fellows in gathered.values():
            # Some extents of theirs were made or removed behind us.
            await self._take(fellows)
        await self._flush()

    # -- the bytes ---------------------------------------------------------------------

    async def _take(self, held: Sequence[Holding]) -> None:
        """Have the part of a run that these extents name copied with the next batch."""
        first = held[0]
        run = Run(id=RunId(first.run), size=first.run_size, missing=first.run_missing)
        for start, stop in coalesce((h.run_start, h.run_start + h.size) for h in held):
            inside = [h for h in held if start <= h.run_start < stop]
            self._batch.append(_Copy(run, start, stop, inside))
        size = sum(copy.stop - copy.start for copy in self._batch)
        if size >= _BATCH_BYTES or len(self._batch) >= _BATCH_COPIES:
            await self._flush()

    async def _flush(self) -> None:
        """Copy the batch and switch its extents."""
        batch, self._batch = self._batch, []
        if not batch or not self._go_on():
            return
        if not self._has_room(sum(copy.stop - copy.start for copy in batch)):
            raise NoRoom("the other drives have no room for the rest")
        token = self._state.readers.begin()
        self.progress.tokens += 1
        try:
            # Runs that are named now stay in place until the token is given back.
            read = self._engine.read
            batch = [copy for copy in batch if read(rows.run_of, copy.run.id) is not None]
            for copy in batch:
                await self._copy(copy)
            batch = [copy for copy in batch if copy.made]
            await self._chunks.sync(run for copy in batch for run in copy.made)
            if any(self._chunks.members.lacking(run) for copy in batch for run in copy.made):
                raise NotWhole("a drive failed meanwhile")
            await self._switch(batch)
        finally:
            self._state.readers.end(token)
            await self._give_back(run for copy in batch if not copy.noted for run in copy.made)

    async def _copy(self, copy: _Copy) -> None:
        """Read, verify and append a range; nothing is made of one that can't be read."""
        first = min(copy.held, key=lambda held: held.run_start)
        owner = Owner(inode=first.inode, offset=first.start)
        appender = self._chunks.copier(owner, copy.stop - copy.start)
        step = self._step(copy.run)
        try:
            position = copy.start
            while position < copy.stop:
                began_s = trio.current_time()
                stop = min(copy.stop, (position // step + 1) * step)
                for piece in await self._chunks.read(copy.run, position, stop):
                    await appender.append(piece)
                moved = stop - position
                position = stop
                self.progress.read_bytes += moved
                await self._pace.rest(2 * moved, trio.current_time() - began_s)
                if not self._go_on():
                    await appender.abandon()
                    return
            copy.made = await appender.finish(durable=False)
            self.progress.written_bytes += copy.stop - copy.start
        except Unrecoverable as error:
            await appender.abandon()
            self.progress.lost.add(copy.run.id)
            log.error("can't be rewritten: %s", error)
        except BaseException:
            with trio.move_on_after(_CLEANUP_S, shield=True):
                await appender.abandon()
            raise

    def _step(self, run: Run) -> int:
        """How much is read at once: whole stripes."""
        full = self._chunks.segment(segment_of(run.id)).stripe_size
        return max(1, _READ_BYTES // full) * full

    async def _give_back(self, runs: Iterable[Run]) -> None:
        """The space of runs that no row ever named."""
        given = list(runs)
        if given:
            with trio.move_on_after(_CLEANUP_S, shield=True):
                await self._chunks.free(given)

    # -- the rows ----------------------------------------------------------------------

    async def _switch(self, batch: Sequence[_Copy]) -> None:
        """Switch the extents of the batch, some in each transaction."""
        some: list[tuple[_Copy, Sequence[Holding]]] = []
        count = 0
        for copy in batch:
            for start in range(0, len(copy.held), _SWITCHED_AT_ONCE):
                held = copy.held[start : start + _SWITCHED_AT_ONCE]
                some.append((copy, held))
                count += len(held)
                if count >= _SWITCHED_AT_ONCE:
                    self._transact(some)
                    some, count = [], 0
                    await trio.lowlevel.checkpoint()
        if some:
            self._transact(some)

    def _transact(self, some: Sequence[tuple[_Copy, Sequence[Holding]]]) -> None:
        """One transaction, and what has to know of it in the same breath."""
        switched = self._engine.transact(_switch, self._state, some)
        for copy, _ in some:
            copy.noted = True
        self._state.relocated(switched)


def _switch(tx: Tx, state: State, some: Sequence[tuple[_Copy, Sequence[Holding]]]) -> set[InodeId]:
    """Have extents name the new runs (W2); the inodes of those that do."""
    switched: set[InodeId] = set()
    made = [run for copy in _distinct(some) if not copy.noted for run in copy.made]
    note_runs(tx, state, made)
    for copy, held in some:
        if copy.noted and any(rows.run_of(tx, run.id) is None for run in copy.made):
            continue  # All that was switched to them is gone again.
        for each in held:
            if relocation.switch(tx, each, copy.extents(each)):
                switched.add(each.inode)
    content.free_unnamed(tx, [run.id for run in made])
    return switched


def _distinct(some: Sequence[tuple[_Copy, Sequence[Holding]]]) -> list[_Copy]:
    return list({id(copy): copy for copy, _ in some}.values())
