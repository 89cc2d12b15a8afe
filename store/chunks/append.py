"""A stream of bytes on its way into runs.

The appender gathers pieces by reference until a stripe is full, and while it is being written
those that follow; it has up to two batches of stripes under way and collects them in order. When
too few members took a batch, it and all after it are gathered again and go to a new segment; so
runs always hold whole, consecutive stripes.

Invariants:
  W1 a run counts a stripe only when it and all before it are written to a write quorum;
  W2 pieces are kept until their stripe is counted;
  W3 places that were written but not counted are given back by punching, never written again.
Concurrency: one task uses an appender at a time; batches are written by tasks of the service.
"""

from __future__ import annotations

from collections import deque

import trio

from store.chunks.errors import BelowWriteQuorum, NoSpace
from store.chunks.geometry import full_record_size, member_size, record_size, run_id_at
from store.chunks.placement import Lane
from store.chunks.read import Reader
from store.chunks.segment import OpenSegment
from store.chunks.types import Buffer, Owner, Run
from store.chunks.writer import Batch, Writer

_BATCHES_UNDER_WAY = 2
_MAX_RESERVED_BYTES = 64 << 20
_MAX_HINTED_BYTES = 256 << 20
_MAX_DETOURS = 64


class Draft:
    """A run that is being written: reserved [start, limit), placed up to `next`."""

    __slots__ = ("count", "limit", "missing", "next", "open", "size", "start")

    def __init__(self, open_segment: OpenSegment, start: int, limit: int) -> None:
        self.open = open_segment
        self.start = start
        self.next = start
        self.limit = limit
        self.count = 0
        self.size = 0
        self.missing = 0

    def held(self) -> int:
        """How many members hold the run."""
        return self.open.held_by(self.missing)

    def holds_quorum(self) -> bool:
        return self.held() >= self.open.quorum

    def run(self) -> Run:
        missing = self.missing | self.open.lost
        return Run(id=run_id_at(self.open.segment, self.start), size=self.size, missing=missing)


class LocalAppender:
    """See `types.Appender`. Made by `LocalChunks.appender`."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        lane: Lane,
        owner: Owner,
        size_hint: int | None,
        *,
        counted: bool = True,
    ) -> None:
        self._counted = counted
        self._writer = writer
        self._reader = reader
        self._lane = lane
        self._owner = owner
        self._size_hint = size_hint
        self._pieces: deque[Buffer] = deque()
        self._gathered = 0
        self._placed = 0
        self._draft: Draft | None = None
        self._drafts: list[Draft] = []
        self._flight: deque[tuple[Draft, Batch]] = deque()
        self._detours = 0
        self._reserved_records = 0
        self._spent = False

    # -- the protocol ------------------------------------------------------------------

    async def append(self, piece: Buffer) -> None:
        if self._spent:
            raise RuntimeError("the appender is spent")
        if not len(piece):
            return
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= self._writer.stripe_bytes:
            await self._pump(final=False)
        else:
            self._count_done()

    async def finish(self, *, durable: bool) -> tuple[Run, ...]:
        if self._spent:
            raise RuntimeError("the appender is spent")
        await self.complete()
        if durable:
            await self._flush()
        self._spent = True
        runs = tuple(draft.run() for draft in self._drafts if draft.size)
        for draft in self._drafts:
            self._writer.placement.hand_out(draft.open.segment.id)
        self._release()
        return runs

    async def abandon(self) -> None:
        if self._spent:
            return
        self._spent = True
        self._pieces.clear()
        self._close_draft()
        with trio.CancelScope(shield=True):
            for _, batch in self._flight:
                await batch.done.wait()
        self._land_all()
        for draft in self._drafts:
            draft.open.waste(draft.start, draft.next)
        self._release()

    async def complete(self) -> None:
        """Write what is left, without ending the appender."""
        await self._pump(final=True)
        self._close_draft()

    def hand_over(self) -> list[Draft]:
        """The drafts, to an appender that goes on with them; this one is spent."""
        self._spent = True
        drafts, self._drafts = self._drafts, []
        return drafts

    # -- stripes -----------------------------------------------------------------------

    async def _pump(self, *, final: bool) -> None:
        """Write what is gathered: full stripes, and at the end also the rest."""
        while True:
            while self._gathered:
                if not final and self._waits_for_more():
                    return
                await self._collect(_BATCHES_UNDER_WAY - 1)
                draft = await self._room()
                if self._gathered < draft.open.segment.stripe_size and not final:
                    return
                await self._launch(draft, final=final)
            if not final:
                return
            await self._collect(0)
            if not self._gathered:
                return

    def _waits_for_more(self) -> bool:
        """Whether more should be gathered while a batch is being written."""
        self._count_done()
        most = self._writer.batch_stripes() * self._writer.stripe_bytes
        return len(self._flight) > 0 and self._gathered < most

    async def _launch(self, draft: Draft, *, final: bool) -> None:
        """Place the next batch and write it in the background.

        The wait comes first: who is cancelled there has lost no piece and no place.
        """
        token = await self._writer.admit()
        size = self._batch_size(draft, final=final)
        segment = draft.open.segment
        full = segment.stripe_size
        batch = Batch(
            token=token,
            stripes=[self._cut(min(full, size - start)) for start in range(0, size, full)],
            payload=size,
            run=run_id_at(segment, draft.start),
            index=draft.count,
            offset=draft.next,
            owner=Owner(inode=self._owner.inode, offset=self._owner.offset + self._placed),
        )
        draft.count += len(batch.stripes)
        draft.next += member_size(segment, size)
        self._placed += size
        self._writer.busy_count += not self._flight
        self._flight.append((draft, batch))
        self._writer.start(draft.open, batch, counted=self._counted)

    def _batch_size(self, draft: Draft, *, final: bool) -> int:
        """Bytes of the next batch: whole stripes that fit the draft, or all that is left."""
        segment = draft.open.segment
        full = segment.stripe_size
        size = min(self._gathered, self._writer.batch_stripes() * full)
        if size < self._gathered or not final:
            size -= size % full
        room = draft.limit - draft.next
        if member_size(segment, size) > room:
            # `_room` saw to it that one stripe fits.
            size = room // full_record_size(segment) * full
        return size

    async def _collect(self, left: int) -> None:
        """Wait until no more than `left` batches are under way, counting those written (W1)."""
        while len(self._flight) > left:
            _, batch = self._flight[0]
            await batch.done.wait()
            self._count_done()
            if batch.crash is not None:
                raise batch.crash
            if not batch.written:
                await self._take_back()

    def _count_done(self) -> None:
        """Count the oldest batches as far as they are written (W1); their pieces are let go."""
        while self._flight and self._flight[0][1].written:
            draft, batch = self._flight.popleft()
            self._writer.busy_count -= not self._flight
            draft.size += batch.payload
            draft.missing |= batch.missing

    def _land_all(self) -> None:
        """Nothing is under way any more."""
        self._writer.busy_count -= len(self._flight) > 0
        self._flight.clear()

    async def _take_back(self) -> None:
        """The oldest batch was not written: gather it and all after it again."""
        self._detours += 1
        if self._detours > _MAX_DETOURS:
            raise NoSpace
        for _, batch in self._flight:
            await batch.done.wait()
        for draft, batch in reversed(self._flight):
            for pieces in reversed(batch.stripes):
                self._pieces.extendleft(reversed(pieces))
            self._gathered += batch.payload
            self._placed -= batch.payload
            size = member_size(draft.open.segment, batch.payload)
            draft.open.waste(batch.offset, batch.offset + size)
        self._land_all()
        self._close_draft()

    def _cut(self, size: int) -> list[Buffer]:
        """The first `size` gathered bytes."""
        cut: list[Buffer] = []
        self._gathered -= size
        while size:
            piece = self._pieces.popleft()
            if len(piece) > size:
                view = memoryview(piece)
                self._pieces.appendleft(view[size:])
                piece = view[:size]
            cut.append(piece)
            size -= len(piece)
        return cut

    # -- places ------------------------------------------------------------------------

    async def _room(self) -> Draft:
        """A draft with room for the next stripe, in a segment that isn't sealed."""
        draft = self._draft
        if draft is not None and not draft.open.sealed:
            needed = self._needed(draft.open)
            if draft.next + needed > draft.limit:
                draft.limit = draft.open.extend(draft.limit, self._wanted(draft.open))
            if draft.next + needed <= draft.limit:
                return draft
        self._close_draft()
        while True:
            found = await self._writer.placement.open_in(self._lane)
            place = found.reserve(self._needed(found), self._wanted(found))
            if place is not None:
                break
        self._draft = Draft(found, *place)
        self._drafts.append(self._draft)
        found.users += 1
        return self._draft

    def _needed(self, found: OpenSegment) -> int:
        """What the next stripe takes on each member."""
        segment = found.segment
        return record_size(min(self._gathered, segment.stripe_size), segment.k)

    def _wanted(self, found: OpenSegment) -> int:
        """How much to reserve in each member: what was announced, else ever more."""
        segment = found.segment
        left = 0 if self._size_hint is None else self._size_hint - self._placed
        if left >= self._gathered:
            return member_size(segment, min(left, _MAX_HINTED_BYTES))
        most = _MAX_RESERVED_BYTES // segment.stripe_size
        self._reserved_records = max(1, min(self._reserved_records * 2, most))
        return self._reserved_records * found.record

    def _close_draft(self) -> None:
        """Nothing more goes to this draft: its tail is given back."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        if draft.next < draft.limit and not draft.open.give_back(draft.next, draft.limit):
            draft.open.waste(draft.next, draft.limit)
        draft.limit = draft.next

    def _release(self) -> None:
        """Let go of the segments."""
        self._writer.release([draft.open for draft in self._drafts])

    # -- durability --------------------------------------------------------------------

    async def _flush(self) -> None:
        """Make the runs durable; those that too few members hold are written again elsewhere.

        Raises BelowWriteQuorum, NoSpace, Unrecoverable.
        """
        while True:
            for found in {draft.open for draft in self._drafts}:
                await self._writer.flush(found)
            weak = [draft for draft in self._drafts if draft.size and not draft.holds_quorum()]
            if not weak:
                return
            self._detours += 1
            if self._detours > _MAX_DETOURS:
                raise BelowWriteQuorum(weak[0].held(), weak[0].open.quorum)
            for draft in weak:
                await self._move(draft)

    async def _move(self, weak: Draft) -> None:
        """Read a run back from the members that hold it and write it to a healthy segment."""
        place = self._drafts.index(weak)
        before = sum(draft.size for draft in self._drafts[:place])
        owner = Owner(inode=self._owner.inode, offset=self._owner.offset + before)
        heir = LocalAppender(
            self._writer, self._reader, self._lane, owner, weak.size, counted=self._counted
        )
        # Not its `lost`: a fragment that a failed flush left in the page cache still reads.
        run = Run(id=weak.run().id, size=weak.size, missing=weak.missing)
        step = weak.open.segment.stripe_size
        try:
            for start in range(0, run.size, step):
                for piece in await self._reader.read(run, start, min(start + step, run.size)):
                    await heir.append(piece)
            await heir.complete()
        except BaseException:
            await heir.abandon()
            raise
        self._drafts[place : place + 1] = heir.hand_over()
        weak.open.waste(weak.start, weak.next)
        self._writer.release([weak.open])
