"""Rebuilds the members of one segment: looked at run by run, written, synced, moved in one row.

What is bad is written from the other members as a stream, onto the drives it belongs to or, where
a drive is lost, left or given up, onto another one.

Invariants:
  H1 a segment's row names a member on another drive only after that member is durable, and the old
     one is removed only after the row is;
  H2 a crash at any point leaves the old row and files nobody names, or the new row: both true;
  H3 a member is given up for another only if all of its bytes could be had from the others, or
     its drive is out of the pool for good. So heal never removes the last good copy;
  H4 `run.missing` is cleared for shards of which every run named at that moment was looked at.
Concurrency: one task per segment; runs that are named or freed meanwhile are sorted out at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import trio

from metadb import segments as rows
from metadb.engine import Engine
from metadb.errors import MetadbError
from metadb.statements import Tx
from store.chunks.drive import Drive
from store.chunks.geometry import Window, windows
from store.chunks.local import LocalChunks
from store.chunks.mend import Look, Mended, Place, Seat
from store.chunks.types import DriveState, Run, RunId, Segment, SegmentId, run_id
from store.pace import Pace
from store.state import Readers

_PAGE_ROWS = 200
_BATCH_BYTES = 8 << 20
"""Payload looked at in one call of a thread."""
_BATCH_STRIPES = 32
"""So that a drive that seeks for each of them, and serves others too, isn't taken for hung."""
_LEFT_S = 2.0
"""A read that began on a member that was left, in a segment without parity, is over by then."""
_READERS_POLL_S = 0.05

Stripe = tuple[Run, Window]


class End(Enum):
    """How a rebuilding ended."""

    DONE = "done"
    LATER = "later"  # a drive failed meanwhile, or the segment is gone
    LOST = "lost"  # some stripes can't be had at present
    WAITING = "waiting"  # there is no drive to move a member to


@dataclass(slots=True, kw_only=True)
class Orders:
    """What to do about a segment, by shard.

    looks: look at every fragment that stands there. blanks: the member file is missing on its
    drive. moves: the member is to stand on another drive, the one with most room `among` these.
    """

    looks: dict[int, Look] = field(default_factory=dict)
    blanks: set[int] = field(default_factory=set)
    moves: set[int] = field(default_factory=set)
    among: tuple[Drive, ...] | None = None

    def __bool__(self) -> bool:
        return bool(self.looks or self.blanks or self.moves)


@dataclass(slots=True)
class Tally:
    """What was done so far, for progress reports; grows while work goes on.

    unwritten: fragments met on the way that are bad and weren't to be written; for whoever asks.
    """

    read_bytes: int = 0
    written_bytes: int = 0
    fragment_count: int = 0
    repaired_count: int = 0
    damaged_count: int = 0
    lost: set[tuple[RunId, int]] = field(default_factory=set)
    unwritten: list[Place] = field(default_factory=list)

    def add(self, mended: Mended) -> None:
        self.read_bytes += mended.read_bytes
        self.written_bytes += mended.written_bytes
        self.fragment_count += mended.fragment_count
        self.repaired_count += len(mended.written)
        self.damaged_count += len(mended.damaged)
        if not mended.write_errors:
            self.unwritten += mended.unwritten


def runs_of(segment: SegmentId) -> tuple[int, int]:
    """All runs of a segment are between these two numbers."""
    return run_id(segment, 0) - 1, run_id(SegmentId(segment + 1), 0)


def stripes_of(segment: Segment, runs: Iterable[Run]) -> Iterator[list[Stripe]]:
    """The stripes of `runs`, in batches for a thread."""
    batch: list[Stripe] = []
    size = 0
    step = max(1, _BATCH_BYTES // segment.stripe_size) * segment.stripe_size
    for run in runs:
        for start in range(0, run.size, step):
            for window in windows(segment, run, start, min(start + step, run.size)):
                batch.append((run, window))
                size += window.payload
                if size >= _BATCH_BYTES or len(batch) >= _BATCH_STRIPES:
                    yield batch
                    batch, size = [], 0
    if batch:
        yield batch


class Rebuilder:
    """Shared by heal and scrub."""

    def __init__(self, engine: Engine, chunks: LocalChunks, readers: Readers) -> None:
        self._engine = engine
        self._chunks = chunks
        self._members = chunks.members
        self._readers = readers

    async def rebuild(self, number: SegmentId, orders: Orders, tally: Tally, pace: Pace) -> End:
        """Carry out `orders` on a segment that takes no more. Safe to cancel, and to repeat."""
        segment = self._members.segment(number)
        if segment is None or not self._members.takes_no_more(number):
            return End.LATER
        if self._members.is_building(number):
            return End.LATER
        work = _Work(segment, orders)
        building = self._members.begin(number)
        try:
            if not await self._seat(work):
                return End.LATER
            await self._all_runs(work, tally, pace)
            if work.look_closer():
                await self._all_runs(work, tally, pace)
            while not work.failed:
                if building.late:
                    late, building.late = building.late, []
                    await self._mend(work, late, tally, pace)
                elif work.unfinished:
                    await self._finish(work)
                else:
                    break
            return await self._settle(work)
        finally:
            self._members.end(number)
            await self._clean_up(work)

    async def scrub(self, number: SegmentId, tally: Tally, pace: Pace) -> bool:
        """Look at every fragment of every named run of a segment, and write what is bad anew.

        False when a drive failed meanwhile, or a member file is missing, which is heal's business.
        """
        segment = self._members.segment(number)
        if segment is None:
            return True
        work = _Work(segment, Orders(looks=dict.fromkeys(range(len(segment.members)), Look.WHOLE)))
        work.direct = True
        await self._seat(work)
        await self._all_runs(work, tally, pace)
        if work.unfinished and not work.failed:
            await self._finish(work)
        return not work.failed or self._members.segment(number) is None

    # -- before ------------------------------------------------------------------------

    async def _seat(self, work: _Work) -> bool:
        """Say who is read and who is written; begin the files that are missing."""
        pool, segment, orders = self._chunks.pool, work.segment, work.orders
        size = await self._room_needed(segment) if orders.moves else 0
        for shard, member in enumerate(segment.members):
            drive = pool.by_id.get(member)
            if shard in orders.moves:
                target = self._members.choose_drive(
                    segment, work.moves.values(), size, orders.among
                )
                if target is not None and await self._draft(work, shard, target, drive):
                    work.moves[shard] = target
                    continue
                work.waiting = True
            elif shard in orders.blanks and drive is not None and drive.writable:
                if not await self._draft(work, shard, drive, None):
                    return False
                continue
            if drive is None or not drive.readable:
                continue
            usable = drive.state in (DriveState.ONLINE, DriveState.FULL)
            look = orders.looks.get(shard, Look.SPARE) if usable else Look.SPARE
            work.seats[shard] = Seat(drive=drive, look=look)
        return True

    async def _draft(self, work: _Work, shard: int, target: Drive, left: Drive | None) -> bool:
        handle = await self._members.draft(work.segment.id, target)
        if handle is None:
            return False
        work.drafts.append(target)
        work.unfinished = True
        origin = left if left is not None and left.readable else None
        work.seats[shard] = Seat(drive=target, look=Look.BLANK, handle=handle, origin=origin)
        return True

    async def _room_needed(self, segment: Segment) -> int:
        """Bytes that a member takes, at most."""
        after, past = runs_of(segment.id)
        size = 0
        while page := self._engine.read(rows.runs_between, after, past, 1000):
            size += sum(each[1] for each in page) // segment.k + len(page) * 8192
            after = page[-1][0]
            await trio.lowlevel.checkpoint()
        return size + size // 64

    # -- the bytes ---------------------------------------------------------------------

    async def _all_runs(self, work: _Work, tally: Tally, pace: Pace) -> None:
        if not any(seat.look is not Look.SPARE for seat in work.seats.values()):
            return
        after, past = runs_of(work.segment.id)
        while not work.failed:
            page = self._engine.read(rows.runs_between, after, past, _PAGE_ROWS)
            if not page:
                return
            after = page[-1][0]
            runs = [Run(id=RunId(row[0]), size=row[1], missing=row[2]) for row in page]
            await self._mend(work, runs, tally, pace)

    async def _mend(self, work: _Work, runs: Sequence[Run], tally: Tally, pace: Pace) -> None:
        work.built += runs
        for batch in stripes_of(work.segment, runs):
            began_s = trio.current_time()
            mended = await self._members.mend(work.segment, batch, work.seats, direct=work.direct)
            if mended is None:
                work.failed = True
                return
            tally.add(mended)
            self._count_damage(work, mended)
            self._chunks.forget_damage(mended.written)
            work.note(mended)
            for run, stripe in mended.lost:
                # One that was freed meanwhile may be half punched: no loss.
                if self._engine.read(rows.run_of, run) is not None:
                    work.lost.add((run, stripe))
                    tally.lost.add((run, stripe))
            if mended.write_errors or self._members.segment(work.segment.id) is None:
                work.failed = True
                return
            moved = mended.read_bytes + mended.written_bytes
            await pace.rest(moved, trio.current_time() - began_s)

    def _count_damage(self, work: _Work, mended: Mended) -> None:
        """Have the drives' counters say what stood there and didn't verify."""
        for place in mended.damaged:
            run, _, shard = place
            row = self._engine.read(rows.run_of, run)
            # One that was freed meanwhile is punched; one that was never written isn't damaged.
            if row is not None and not row[1] >> shard & 1:
                self._chunks.count_damage(work.seats[shard].drive, place)

    async def _finish(self, work: _Work) -> None:
        work.unfinished = False
        drafts, work.drafts = work.drafts, []
        work.failed = not await self._members.finish(work.segment.id, work.written_seats(), drafts)
        if work.failed:
            work.drafts = drafts
        for seat in work.seats.values():
            if seat.handle is not None and seat.drive in drafts and not work.failed:
                seat.drive.keep_handle(work.segment.id, seat.handle)

    # -- after -------------------------------------------------------------------------

    async def _settle(self, work: _Work) -> End:
        """One transaction that says what is true now (H1). No await before it."""
        members, segment = self._members, work.segment
        if work.failed or members.segment(segment.id) != segment:
            return End.LATER
        if not self._may_move(work):
            return End.LOST
        after = segment.moved_to({shard: drive.id for shard, drive in work.moves.items()})
        if not self._engine.transact(_note, work, after):
            return End.LATER
        work.kept = True
        members.reseat(segment, after, work.blank_shards())
        try:
            await self._engine.barrier()
        except MetadbError:
            if self._engine.read(rows.members_of, segment.id) != " ".join(after.members):
                work.kept = False
                members.take_back(segment)
            raise
        for shard in work.moves:
            members.let_go(segment.id, segment.members[shard])
        await self._tidy(work, after)
        if work.lost:
            return End.LOST
        return End.WAITING if work.waiting else End.DONE

    def _may_move(self, work: _Work) -> bool:
        """Whether members may be given up for what was built (H3)."""
        pool = self._chunks.pool
        old = [pool.by_id.get(work.segment.members[shard]) for shard in work.moves]
        return not work.lost or all(drive is None for drive in old)

    async def _tidy(self, work: _Work, after: Segment) -> None:
        """Remove what was left; what was freed beside us is punched in the new members, too."""
        by_id = self._chunks.pool.by_id
        left = [by_id.get(work.segment.members[shard]) for shard in work.moves]
        gone = await self._gone(work.built) if work.blank_shards() else []
        if not gone and not any(left):
            return
        mark = self._readers.mark()
        while not self._readers.passed(mark):  # noqa: ASYNC110 (a poll costs less than waking)
            await trio.sleep(_READERS_POLL_S)
        if any(left) and not after.m:
            await trio.sleep(_LEFT_S)
        for drive in left:
            if drive is not None:
                await self._members.unlink(drive, [after.id])
        await self._chunks.free(gone)

    async def _gone(self, built: Sequence[Run]) -> list[Run]:
        """Those of `built` that are named no more."""
        gone = []
        for index, run in enumerate(built):
            if self._engine.read(rows.run_of, run.id) is None:
                gone.append(run)
            if index % _PAGE_ROWS == 0:
                await trio.lowlevel.checkpoint()
        return gone

    async def _clean_up(self, work: _Work) -> None:
        """Remove what was begun in vain; what can't be removed now is at the next start."""
        with trio.CancelScope(shield=True):
            for drive in work.drafts:
                await self._members.unlink(drive, [work.segment.id], draft=True)
            if not work.kept:
                for drive in work.moves.values():
                    await self._members.unlink(drive, [work.segment.id])


def _note(tx: Tx, work: _Work, after: Segment) -> bool:
    if after != work.segment and not rows.move_members(tx, after.id, " ".join(after.members)):
        return False
    if not work.lost:
        rows.settle_runs(tx, *runs_of(after.id), work.healed())
    return True


class _Work:
    """One segment's rebuilding under way.

    drafts: drives with a file that has no member's name yet. kept: the transaction that names
    what was built was run, and wasn't rolled back as far as is known.
    """

    def __init__(self, segment: Segment, orders: Orders) -> None:
        self.segment = segment
        self.orders = orders
        self.seats: dict[int, Seat] = {}
        self.moves: dict[int, Drive] = {}
        self.drafts: list[Drive] = []
        self.built: list[Run] = []
        self.lost: set[tuple[RunId, int]] = set()
        self.waiting = False
        self.failed = False
        self.unfinished = False
        self.direct = False
        self.kept = False
        self._written: set[int] = set()

    def note(self, mended: Mended) -> None:
        """Remember which members were written to."""
        if mended.written:
            self.unfinished = True
            self._written |= {shard for _, _, shard in mended.written}

    def blank_shards(self) -> list[int]:
        """Shards that are built from nothing."""
        return [shard for shard, seat in self.seats.items() if seat.look is Look.BLANK]

    def written_seats(self) -> dict[int, Seat]:
        """The members to be synced."""
        shards = self._written.union(self.blank_shards())
        return {shard: self.seats[shard] for shard in shards}

    def look_closer(self) -> bool:
        """Where a header was bad, no shard behind the others is believed: look at all of them."""
        unsound = [s for s in self._written if self.seats[s].look is Look.HEADER]
        for shard in unsound:
            self.seats[shard] = replace(self.seats[shard], look=Look.WHOLE)
        return bool(unsound) and not self.failed

    def healed(self) -> int:
        """The shards that every named run has on its drive now (H4)."""
        looked = [shard for shard, seat in self.seats.items() if seat.look is not Look.SPARE]
        return sum(1 << shard for shard in looked)
