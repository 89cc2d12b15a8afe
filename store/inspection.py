"""Looks at a whole store for `store.fsck`: rows by their queries, drives by what stands on them.

    rows      metadb.check's queries
    drives    labels, and (stopped) the copies of the metadata compared page by page
    members   of each segment the files, and the header of every fragment that rows name

A stopped store is looked at alone. A running one goes on meanwhile: what looks wrong is asked
for again, and counts only if rows still say so; segments that are being written to, and files
that are about to be named or removed, are `Members`' business and not looked at.

Concurrency: one task; drives are read in threads, with deadlines, all of a segment's at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import outcome
import trio

from metadb import content, segments
from metadb.check import Scanning, Violation, files_of_run, find_violations
from metadb.engine import Engine
from metadb.offline import compare_copies
from metadb.recovery import CopyPlace
from metadb.repair import REPAIRS, WHILE_SERVING
from metadb.statements import Tx
from store.chunks.drive import Drive
from store.chunks.drive_io import StoredMember
from store.chunks.headers import Absent, absent_fragments, shard_on
from store.chunks.local import LocalChunks
from store.chunks.mend import Place
from store.chunks.pool import Pool
from store.chunks.reclaim import is_leaking, usage_of
from store.chunks.threads import fan_out
from store.chunks.types import DriveId, Run, RunId, Segment, SegmentId
from store.fsck import (
    COPIES_EQUAL,
    DRIVES_THERE,
    FRAGMENTS_THERE,
    LABELS_AGREE,
    MEMBERS_PLACED,
    MEMBERS_THERE,
    NOTHING_SPARE,
    STRIPES_WHOLE,
    Finding,
)
from store.rebuild import runs_of

P = ParamSpec("P")
T = TypeVar("T")

_FOUND_MAX = 1000
_ROWS = 1000
_REPAIR_ROUNDS = 5
_PATROL_S = 600.0
"""A segment's headers on one drive: 4 KiB of each of its stripes, 16,384 of them at most."""

Stored = dict[DriveId, dict[SegmentId, StoredMember]]


class Rows(Scanning, Protocol):
    """What is asked for rows: an `Engine`, or a copy of a stopped store."""

    def read(
        self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """See `Engine.read`."""
        ...


class Inspection:
    """One look. live: the chunk store of a running daemon; copies: places, of a stopped store."""

    def __init__(
        self,
        rows: Rows,
        pool: Pool,
        *,
        live: LocalChunks | None = None,
        copies: Sequence[CopyPlace] = (),
        chosen: CopyPlace | None = None,
    ) -> None:
        self.findings: list[Finding] = []
        self.violations: list[Violation] = []
        self.absent: list[Place] = []
        self.differing: list[CopyPlace] = []
        self.segment_count = 0
        self.fragment_count = 0
        self._rows = rows
        self._pool = pool
        self._live = live
        self._copies = copies
        self._chosen = chosen
        self._store = bytes.fromhex(pool.store)
        self._counts: Counter[str] = Counter()

    async def run(self) -> list[Finding]:
        """Look at everything; what was found."""
        self.violations = await find_violations(self._rows, _FOUND_MAX)
        for violation in self.violations:
            self._note(violation.invariant, _row_text(violation))
        self._look_at_labels()
        if self._chosen is not None:
            compare = partial(compare_copies, self._copies, self._chosen)
            for each in await trio.to_thread.run_sync(compare):
                if not each.behind:
                    self.differing.append(each.place)
                    self._note(COPIES_EQUAL, f"{each.place.path}: {each.cause}")
        await self._look_at_members()
        return self.findings

    def _note(self, check: str, what: str) -> None:
        self._counts[check] += 1
        if self._counts[check] <= _FOUND_MAX:
            self.findings.append(Finding(check=check, what=what))

    # -- drives ------------------------------------------------------------------------

    def _look_at_labels(self) -> None:
        told: dict[object, str] = {}
        for drive in self._pool.drives:
            path = str(drive.io.path)
            if drive.label is None or not drive.readable:
                self._note(DRIVES_THERE, f"{path}: {drive.state.value}, {drive.cause}")
            elif drive.epoch < self._pool.epoch:
                cause = f"its epoch is {drive.epoch}, the pool's {self._pool.epoch}"
                self._note(DRIVES_THERE, f"{path}: {cause}")
            else:
                label = drive.label
                said = (frozenset(each.drive for each in label.members), label.parity)
                told.setdefault(said, path)
        if len(told) > 1:
            self._note(LABELS_AGREE, " and ".join(told.values()))

    async def _list_members(self) -> Stored:
        """The member files of all drives that can be read."""
        found: Stored = {}
        drives = [drive for drive in self._pool.drives if drive.readable]
        listed = await fan_out([partial(_list, drive) for drive in drives], _PATROL_S)
        for drive, result in zip(drives, listed, strict=True):
            if isinstance(result, outcome.Value):
                found[drive.id] = result.value
            else:
                self._note(DRIVES_THERE, f"{drive.io.path}: its files can't be listed")
        return found

    # -- members -----------------------------------------------------------------------

    async def _look_at_members(self) -> None:
        # Rows first: of a segment that is dropped meanwhile they say so when asked again.
        known = {segment.id: segment for segment in all_segments(self._rows)}
        stored = await self._list_members()
        away: Counter[str] = Counter()
        for segment in known.values():
            await self._look_at_segment(segment, stored, away)
        for drive, count in away.items():
            self._note(MEMBERS_THERE, f"{drive} is away: {count} segments lack a member")
        await self._look_for_strays(known, stored)

    async def _look_at_segment(self, segment: Segment, stored: Stored, away: Counter[str]) -> None:
        runs = named_runs(self._rows, segment.id)
        if not runs:
            return
        self.segment_count += 1
        seats: dict[int, Drive] = {}
        gone = 0
        for shard, member in enumerate(segment.members):
            drive = self._pool.by_id.get(member)
            if drive is None or drive.id not in stored:
                away[member if drive is None else str(drive.io.path)] += 1
                gone |= 1 << shard
            elif segment.id not in stored[member] and not self._has_changed(segment):
                self._note(MEMBERS_THERE, f"{drive.io.path}: segment {segment.id:09x}")
                gone |= 1 << shard
            else:
                seats[shard] = drive
        absent = await self._absent(segment, runs, seats)
        if absent and self._live is not None:
            still = self._still_named(segment, absent)
            absent = [each for each in absent if each.run in still]
        for each in absent:
            drive = seats[each.shard]
            self.absent.append((each.run, each.stripe, each.shard))
            where = f"run {each.run} stripe {each.stripe} shard {each.shard}"
            self._note(FRAGMENTS_THERE, f"{drive.io.path}: {where}")
        self._look_for_losses(segment, runs, gone, absent)

    async def _absent(
        self, segment: Segment, runs: Sequence[Run], seats: dict[int, Drive]
    ) -> list[Absent]:
        results = await fan_out(
            [
                partial(absent_fragments, self._store, segment, shard, drive, runs)
                for shard, drive in seats.items()
            ],
            _PATROL_S,
        )
        stripes = sum(-(-run.size // segment.stripe_size) for run in runs)
        self.fragment_count += len(seats) * stripes
        absent: list[Absent] = []
        for drive, result in zip(seats.values(), results, strict=True):
            if isinstance(result, outcome.Value):
                absent += result.value
            elif not self._has_changed(segment):
                self._note(MEMBERS_THERE, f"{drive.io.path}: segment {segment.id:09x}: unreadable")
        return absent

    def _look_for_losses(
        self, segment: Segment, runs: Sequence[Run], gone: int, absent: Iterable[Absent]
    ) -> None:
        lacking: dict[tuple[RunId, int], int] = defaultdict(int)
        for each in absent:
            lacking[each.run, each.stripe] |= 1 << each.shard
        shards = segment.k + segment.m
        for run in runs:
            stripes = {stripe for number, stripe in lacking if number == run.id} or {0}
            for stripe in stripes:
                mask = gone | run.missing | lacking.get((run.id, stripe), 0)
                if shards - mask.bit_count() < segment.k:
                    files = self._rows.read(files_of_run, run.id)
                    where = f"run {run.id} stripe {stripe}"
                    self._note(STRIPES_WHOLE, f"{', '.join(files) or 'no file'}: {where}")

    def _has_changed(self, segment: Segment) -> bool:
        """Whether a running store has moved or dropped the segment since it was read."""
        if self._live is None:
            return False
        members = self._rows.read(segments.members_of, segment.id)
        return members is None or members.split() != list(segment.members)

    def _still_named(self, segment: Segment, absent: Iterable[Absent]) -> set[RunId]:
        if self._has_changed(segment):
            return set()
        read = self._rows.read
        return {each.run for each in absent if read(segments.run_of, each.run) is not None}

    # -- what nothing names ------------------------------------------------------------

    async def _look_for_strays(self, known: dict[SegmentId, Segment], stored: Stored) -> None:
        for drive_id, files in stored.items():
            drive = self._pool.by_id[drive_id]
            for number, member in files.items():
                segment = known.get(number)
                settled = self._live is None or self._live.members.is_settled(number)
                if segment is not None and not settled:
                    continue
                if segment is None or drive_id not in segment.members:
                    if self._live is not None and not self._live.members.strays(
                        drive, {number: member}
                    ):
                        continue
                    await self._judge_stray(drive, number, segment)
                    continue
                runs = [*named_runs(self._rows, number), *freed_runs(self._rows, number)]
                if is_leaking(member, usage_of(segment, runs)):
                    self._note(NOTHING_SPARE, f"{drive.io.path}: segment {number:09x}")

    async def _judge_stray(self, drive: Drive, number: SegmentId, segment: Segment | None) -> None:
        where = f"{drive.io.path}: segment {number:09x}"
        shard = None
        if segment is not None and self._live is None:
            shard = await takes_place(self._rows, self._pool, segment, drive)
        if shard is not None:
            self._note(MEMBERS_PLACED, where)
        else:
            self._note(NOTHING_SPARE, f"{where}, a file that no segment has there")


async def repair(engine: Engine, pool: Pool, *, serving: bool) -> None:
    """Mend what can be without taking anything away; of a running store what it may."""
    for _ in range(_REPAIR_ROUNDS):
        mended = 0
        for violation in await find_violations(engine, _FOUND_MAX):
            mend = REPAIRS.get(violation.invariant)
            if mend is not None and (not serving or violation.invariant in WHILE_SERVING):
                mended += engine.transact(mend, violation.row)
        if not mended:
            break
    if not serving:
        await follow_members(engine, pool)
    await engine.barrier()


async def follow_members(engine: Engine, pool: Pool) -> int:
    """On a stopped store: have rows name the drives that members stand on; how many followed."""
    followed = 0
    for segment in all_segments(engine):
        for drive in pool.drives:
            if drive.readable and drive.id not in segment.members:
                shard = await takes_place(engine, pool, segment, drive)
                if shard is not None:
                    segment = segment.moved_to({shard: drive.id})
                    engine.transact(segments.move_members, segment.id, " ".join(segment.members))
                    followed += 1
    return followed


async def takes_place(rows: Rows, pool: Pool, segment: Segment, drive: Drive) -> int | None:
    """The shard whose member stands on `drive` and nowhere that the row says; else None."""
    runs = named_runs(rows, segment.id)
    store = bytes.fromhex(pool.store)

    def look() -> int | None:
        try:
            shard = shard_on(store, segment, drive, runs)
        except OSError:
            return None
        if shard is None:
            return None
        own = pool.by_id.get(segment.members[shard])
        if own is None or not own.readable:
            return shard
        try:
            return None if shard_on(store, segment, own, runs) == shard else shard
        except OSError:
            return shard

    (result,) = await fan_out([look], _PATROL_S)
    return result.value if isinstance(result, outcome.Value) else None


def all_segments(rows: Rows) -> list[Segment]:
    """As rows say."""
    return [
        Segment(
            id=SegmentId(row.id),
            nonce=int.from_bytes(row.nonce, "little"),
            k=row.k,
            m=row.m,
            stripe_size=row.stripe_size,
            members=tuple(DriveId(drive) for drive in row.members.split()),
        )
        for row in rows.read(content.segments)
    ]


def named_runs(rows: Rows, segment: SegmentId) -> list[Run]:
    """All runs of a segment that rows name, in order."""
    found: list[Run] = []
    after, past = runs_of(segment)
    while page := rows.read(segments.runs_between, after, past, _ROWS):
        found += [Run(id=RunId(row[0]), size=row[1], missing=row[2]) for row in page]
        after = page[-1][0]
    return found


def freed_runs(rows: Rows, segment: SegmentId) -> list[Run]:
    """Those that wait for reclaim."""
    found: list[Run] = []
    after, past = runs_of(segment)
    while page := rows.read(segments.freed_between, after, past, _ROWS):
        found += [Run(id=RunId(row[0]), size=row[1]) for row in page]
        after = page[-1][0]
    return found


def _list(drive: Drive) -> dict[SegmentId, StoredMember]:
    return {
        member.segment: member
        for folder in drive.io.list_folders()
        for member in drive.io.list_segments(folder)
        if not member.draft
    }


def _row_text(violation: Violation) -> str:
    return " ".join(
        each.decode(errors="backslashreplace") if isinstance(each, bytes) else str(each)
        for each in violation.row
    )
