"""What is wrong with which segment: drives, files and marks looked at together.

It believes the drives, not the rows: which of them are there, which member files they hold, which
of them were away. `run.missing` only adds to it.
Concurrency: one task; drives are listed in threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import trio

from metadb import segments as rows
from metadb.engine import Engine
from store.chunks.drive import Drive
from store.chunks.drive_io import StoredMember
from store.chunks.local import LocalChunks
from store.chunks.mend import Look
from store.chunks.types import DriveId, DriveState, Segment, SegmentId
from store.rebuild import Orders, runs_of

_HEADER_SHARE = 64
"""A look at headers alone reads about so much less than the whole."""

Stored = Mapping[DriveId, Mapping[SegmentId, StoredMember]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A segment to be healed. redundancy: drives that may still be lost, below 0 for none at all.

    size_bytes: about how much is to be read or written. causes: for people.
    """

    segment: SegmentId
    orders: Orders
    redundancy: int
    size_bytes: int
    causes: frozenset[str]


@dataclass(slots=True, kw_only=True)
class Findings:
    """cases: least redundancy first. waiting: segments no drive can take a member of.

    heals_in_s: when a drive that is away is given up, at the soonest; None when none is.
    """

    cases: list[Case] = field(default_factory=list)
    waiting: int = 0
    heals_in_s: float | None = None


class Surveyor:
    """Remembers since when drives are away, and which segments of which drives are to be looked at.

    wait_s: how long a drive may be away before its members are built elsewhere.
    """

    def __init__(self, engine: Engine, chunks: LocalChunks, wait_s: float) -> None:
        self.marked: set[SegmentId] = set()
        self.to_look: dict[DriveId, set[SegmentId]] = {}
        self.given_up: set[SegmentId] = set()
        """Segments that can't be healed whole before a drive returns."""
        self._engine = engine
        self._chunks = chunks
        self._wait_s = wait_s
        self._away_since_s: dict[DriveId, float] = {}

    async def survey(self, suspects: Iterable[DriveId]) -> Findings:
        """Look at everything once. Strays found on the way are removed."""
        segments = self._chunks.members.segments()
        self._note_away()
        stored = await self._list_drives()
        for drive in self._present(suspects):
            if drive.id not in self.to_look:
                self.to_look[drive.id] = {s.id for s in segments if drive.id in s.members}
        found = Findings(heals_in_s=self._heals_in_s())
        for count, segment in enumerate(segments):
            if count % 200 == 0:
                await trio.lowlevel.checkpoint()
            self._judge(segment, stored, found)
        found.cases.sort(key=lambda case: (case.redundancy, case.segment))
        return found

    def looked(self, segment: SegmentId) -> None:
        """All that was to be looked at in the segment is right now."""
        self.marked.discard(segment)
        for left in self.to_look.values():
            left.discard(segment)

    # -- drives ------------------------------------------------------------------------

    def _note_away(self) -> None:
        now_s = trio.current_time()
        away = [drive.id for drive in self._chunks.pool.drives if not drive.readable]
        self._away_since_s = {each: self._away_since_s.get(each, now_s) for each in away}

    def _heals_in_s(self) -> float | None:
        now_s = trio.current_time()
        left = [since_s + self._wait_s - now_s for since_s in self._away_since_s.values()]
        return min((each for each in left if each > 0), default=None)

    def _is_given_up(self, drive: Drive) -> bool:
        since_s = self._away_since_s.get(drive.id)
        return since_s is not None and since_s + self._wait_s <= trio.current_time()

    def _present(self, suspects: Iterable[DriveId]) -> list[Drive]:
        """Suspects that can be looked at and mended now."""
        wanted = set(suspects)
        usable = (DriveState.ONLINE, DriveState.FULL)
        return [d for d in self._chunks.pool.drives if d.id in wanted and d.state in usable]

    async def _list_drives(self) -> Stored:
        members = self._chunks.members
        found: dict[DriveId, Mapping[SegmentId, StoredMember]] = {}
        for drive in self._chunks.pool.drives:
            if drive.state not in (DriveState.ONLINE, DriveState.FULL):
                continue
            stored = await members.stored(drive)
            if stored is None:
                continue
            found[drive.id] = stored
            if strays := members.strays(drive, stored):
                await members.unlink(drive, strays)
        return found

    # -- segments ----------------------------------------------------------------------

    def _judge(self, segment: Segment, stored: Stored, found: Findings) -> None:
        members = self._chunks.members
        if segment.id in self.given_up:
            return
        if not members.takes_no_more(segment.id) and not self._lacks_files(segment, stored):
            # Opened since the drive is back, or one of a drive that is to be drained.
            self.looked(segment.id)
            return
        orders = Orders()
        causes: set[str] = set()
        mask = 0
        if segment.id in self.marked:
            mask = self._engine.read(rows.missing_between, *runs_of(segment.id))
        lost = sum(
            self._judge_shard(segment, shard, mask, stored, orders, causes)
            for shard in range(len(segment.members))
        )
        if not orders:
            self.marked.discard(segment.id)
            return
        if orders.moves and members.choose_drive(segment, (), 0) is None:
            # Those of drives that are drained are rewritten (store.rebalance).
            found.waiting += any(not self._is_drained(segment, each) for each in orders.moves)
            orders.moves.clear()
            if not orders:
                return
        size = max(
            (each[segment.id].allocated_bytes for each in stored.values() if segment.id in each),
            default=0,
        )
        found.cases.append(
            Case(
                segment=segment.id,
                orders=orders,
                redundancy=segment.m - lost,
                size_bytes=size * len(orders.moves | orders.blanks)
                + size // _HEADER_SHARE * len(orders.looks),
                causes=frozenset(causes),
            )
        )

    def _is_drained(self, segment: Segment, shard: int) -> bool:
        drive = self._chunks.pool.by_id.get(segment.members[shard])
        return drive is not None and drive.draining

    def _lacks_files(self, segment: Segment, stored: Stored) -> bool:
        """Whether a segment that is appended to lost a member's file; it is sealed then."""
        gone = [
            shard
            for shard, drive in enumerate(segment.members)
            if drive in stored and segment.id not in stored[drive]
        ]
        for shard in gone:
            self._chunks.members.lose(segment.id, shard)
        return bool(gone)

    def _judge_shard(
        self,
        segment: Segment,
        shard: int,
        mask: int,
        stored: Stored,
        orders: Orders,
        causes: set[str],
    ) -> bool:
        """Whether the shard counts as lost, in whole or in part; orders are given for it."""
        member = segment.members[shard]
        drive = self._chunks.pool.by_id.get(member)
        if drive is None:
            orders.moves.add(shard)
            causes.add("a drive was replaced")
            return True
        if not drive.readable:
            if self._is_given_up(drive):
                orders.moves.add(shard)
                causes.add(f"{drive.io.path} is {drive.state.value}")
            return True
        if drive.draining:
            # Without parity a run that is not named yet has its only copy there.
            if not segment.m and not self._chunks.members.is_settled(segment.id):
                return False
            orders.moves.add(shard)
            causes.add(f"{drive.io.path} is drained")
            return False
        files = stored.get(drive.id)
        if files is None:
            return False
        if segment.id not in files:
            (orders.blanks if drive.writable else orders.moves).add(shard)
            causes.add(f"{drive.io.path} lacks files")
            return True
        if mask >> shard & 1:
            orders.looks[shard] = Look.HEADER
            causes.add("writes went on without a drive")
            return True
        if segment.id in self.to_look.get(drive.id, ()):
            orders.looks[shard] = Look.HEADER
            causes.add(f"{drive.io.path} was away")
        return False
