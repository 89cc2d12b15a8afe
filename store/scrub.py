"""Scrub: everything is read and verified again and again, before somebody needs it.

A pass goes through the segments in order of their ids. Of each, every fragment of every named run
is read from its drive, parity too, past the page cache; what is bad is written anew from the
others. Then the books are compared: members hold named runs and nothing else (what nobody names
is given back), and the database keeps its own invariants. A pass is paced to take `pass_s`, and
the place it has got to outlives a restart.
Concurrency: one task of `run`. It waits while heal is at work, which has more urgent things to do.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Literal

import msgspec
import trio

from metadb import segments as rows
from metadb.check import find_violations
from metadb.engine import Engine
from metadb.errors import MetadbError, PrimaryLost
from metadb.statements import Tx
from store.chunks.drive import Drive
from store.chunks.drive_io import StoredMember
from store.chunks.errors import ChunkError
from store.chunks.local import LocalChunks
from store.chunks.types import DriveId, DriveState, Run, RunId, Segment, SegmentId
from store.heal import Healer
from store.pace import Pace
from store.rebuild import Rebuilder, Tally, runs_of
from store.state import Readers

log = logging.getLogger(__name__)

_KEPT = "scrub"
_LOOK_EVERY_S = 1.0
_AGAIN_AFTER_S = 5.0
_TRIES = 3
"""A segment whose drives fail again and again is left to the next pass."""
_SLOWEST_BYTES_S = 256 << 10
_ROWS = 1000
Stored = dict[DriveId, dict[SegmentId, StoredMember]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubConfig:
    """pass_s: how long a whole pass may take; small stores are through sooner, and rest then.

    first_after_s: after a start there are more urgent things to read for so long.
    """

    pass_s: float = 30 * 86400.0
    first_after_s: float = 60.0


class ScrubRecord(msgspec.Struct, kw_only=True):
    """One pass, under way or done. Times in seconds since 1970, ended_s 0 while it is under way.

    segment: the last one done. damaged: fragments that didn't verify or weren't there; repaired:
    those written anew; lost_stripes: can't be had. leaks: members that held more than rows name.
    violations: rows that break an invariant of the database.
    """

    began_s: float
    ended_s: float = 0.0
    segment: int = 0
    segments: int = 0
    read_bytes: int = 0
    fragments: int = 0
    damaged: int = 0
    repaired: int = 0
    lost_stripes: int = 0
    leaks: int = 0
    violations: int = 0


class _Kept(msgspec.Struct, kw_only=True):
    """What outlives a restart."""

    now: ScrubRecord
    last: ScrubRecord | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubReport:
    """state: scrubbing; resting, until the next pass is due; waiting, for heal; paused.

    segments: known now; next_s: until the next pass begins, when resting.
    """

    state: Literal["scrubbing", "resting", "waiting", "paused"]
    now: ScrubRecord
    last: ScrubRecord | None
    segments: int
    next_s: float | None


class Scrubber:
    """See the module's text."""

    def __init__(
        self,
        engine: Engine,
        chunks: LocalChunks,
        readers: Readers,
        healer: Healer,
        config: ScrubConfig | None = None,
    ) -> None:
        self._engine = engine
        self._chunks = chunks
        self._members = chunks.members
        self._healer = healer
        self._config = config or ScrubConfig()
        self._rebuilder = Rebuilder(engine, chunks, readers)
        self._pace = Pace(lambda: readers.mark() + chunks.stripe_count)
        self._kept = _Kept(now=ScrubRecord(began_s=time.time()))
        self._state: Literal["scrubbing", "resting", "waiting", "paused"] = "resting"
        self._hurried = False
        self._tries = 0
        self._begin_s = trio.current_time()
        self._changed = trio.Event()
        self._pass_ended = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Scrub for ever."""
        kept = self._engine.read(rows.kept_text, _KEPT)
        if kept:
            self._kept = msgspec.json.decode(kept, type=_Kept)
        self._begin_s = trio.current_time() + self._config.first_after_s
        task_status.started()
        while True:
            self._changed = trio.Event()
            try:
                rest_s = await self._go_on()
            except PrimaryLost:
                raise
            except (MetadbError, ChunkError) as error:
                log.warning("scrub waits: %s", error)
                rest_s = _AGAIN_AFTER_S
            with trio.move_on_after(rest_s):
                await self._changed.wait()

    def start(self) -> None:
        """Go on if paused; begin a pass now if resting; and don't spread it over time."""
        self._hurried = True
        self._kept.paused = False
        self._keep()
        self._changed.set()

    def pause(self) -> None:
        """Do nothing, over restarts too, until `start`."""
        self._hurried = False
        self._kept.paused = True
        self._keep()
        self._changed.set()

    async def finish(self) -> ScrubRecord:
        """Begin a pass or go on with it, unpaced; its record when it is done."""
        self.start()
        await self._pass_ended.wait()
        assert self._kept.last is not None
        return self._kept.last

    def report(self) -> ScrubReport:
        """How it stands, from memory."""
        resting = self._state == "resting"
        return ScrubReport(
            state="paused" if self._kept.paused else self._state,
            now=self._kept.now,
            last=self._kept.last,
            segments=len(self._members.segments()),
            next_s=max(0.0, self._due_s()) if resting else None,
        )

    # -- inside ------------------------------------------------------------------------

    def _keep(self) -> None:
        self._engine.transact(rows.keep_text, _KEPT, msgspec.json.encode(self._kept).decode())

    def _due_s(self) -> float:
        """Until the next pass begins."""
        first_s = self._begin_s - trio.current_time()
        if self._kept.now.segment or self._kept.last is None:
            return first_s
        return max(first_s, self._kept.last.began_s + self._config.pass_s - time.time())

    async def _go_on(self) -> float:
        """Do what is to be done now; how long to rest then."""
        if self._kept.paused:
            self._state = "paused"
            return _AGAIN_AFTER_S
        if not self._hurried and (due_s := self._due_s()) > 0:
            self._state = "resting"
            return due_s
        if self._healer.is_needed():
            self._state = "waiting"
            return _LOOK_EVERY_S
        self._state = "scrubbing"
        now = self._kept.now
        if not now.segment:
            self._kept.now = now = ScrubRecord(began_s=time.time())
        left = sorted(s.id for s in self._members.segments() if s.id > now.segment)
        if not left:
            await self._end_pass()
            return 0.0
        stored = await self._stored()
        self._set_pace(stored, set(left))
        for segment in left:
            if self._kept.paused or self._changed.is_set() or self._healer.is_needed():
                break
            if not await self._scrub(segment, stored):
                return _AGAIN_AFTER_S
        return 0.0

    async def _stored(self) -> Stored:
        """The member files of all drives that can be told; strays are removed by the way."""
        found: Stored = {}
        for drive in self._chunks.pool.drives:
            if drive.state in (DriveState.ONLINE, DriveState.FULL):
                stored = await self._members.stored(drive)
                if stored is not None:
                    found[drive.id] = stored
                    await self._members.unlink(drive, self._members.strays(drive, stored))
        return found

    def _set_pace(self, stored: Stored, left: set[SegmentId]) -> None:
        if self._hurried:
            self._pace.rate_bytes_s = 0
            return
        size = sum(
            member.allocated_bytes
            for each in stored.values()
            for segment, member in each.items()
            if segment in left
        )
        left_s = self._kept.now.began_s + self._config.pass_s - time.time()
        self._pace.rate_bytes_s = max(size / max(left_s, 1.0), _SLOWEST_BYTES_S)

    async def _scrub(self, number: SegmentId, stored: Stored) -> bool:
        """One segment; False when it has to be tried again later."""
        now, tally = self._kept.now, Tally()
        done = await self._rebuilder.scrub(number, tally, self._pace)
        if not done:
            self._healer.wake()
        self._healer.hint(tally.unwritten)
        now.read_bytes += tally.read_bytes
        now.fragments += tally.fragment_count
        now.damaged += tally.damaged_count
        now.repaired += tally.repaired_count
        now.lost_stripes += len(tally.lost)
        if tally.damaged_count:
            log.warning(
                "scrub: segment %s: %s damaged fragments, %s repaired",
                number,
                tally.damaged_count,
                tally.repaired_count,
            )
        # All of the segment was looked at only where no drive failed meanwhile.
        await self._healer.losses.note(tally.lost, number if done else None)
        self._tries += 1
        if not done and self._tries < _TRIES:
            return False
        self._tries = 0
        segment = self._members.segment(number)
        if segment is not None:
            now.leaks += await self._tidy(segment, stored)
        now.segment = number
        now.segments += 1
        self._keep()
        return True

    async def _tidy(self, segment: Segment, stored: Stored) -> int:
        """Have the members hold what rows name, or named until a moment ago, and no more."""
        if not self._members.is_settled(segment.id):
            return 0
        by_id = self._chunks.pool.by_id
        members: dict[Drive, StoredMember] = {}
        for drive in segment.members:
            member = stored.get(drive, {}).get(segment.id)
            if member is not None and drive in by_id:
                members[by_id[drive]] = member
        named = self._engine.read(_named, segment.id)
        return await self._chunks.tidy(segment, members, named)

    async def _end_pass(self) -> None:
        now = self._kept.now
        found = await find_violations(self._engine)
        for violation in found[:10]:
            log.error("scrub: %s: %s", violation.invariant, violation.row)
        now.violations = len(found)
        now.ended_s = time.time()
        log.info(
            "scrub: %s fragments in %s segments, %s repaired, %s stripes lost",
            now.fragments,
            now.segments,
            now.repaired,
            now.lost_stripes,
        )
        self._kept.last = now
        self._kept.now = ScrubRecord(began_s=now.ended_s)
        self._hurried = False
        self._keep()
        self._pass_ended.set()
        self._pass_ended = trio.Event()


def _named(tx: Tx, segment: SegmentId) -> list[Run]:
    """The segment's runs, and those that reclaim has yet to give back."""
    found: list[Run] = []
    for page in (rows.runs_between, rows.freed_between):
        after, past = runs_of(segment)
        while some := page(tx, after, past, _ROWS):
            found += [Run(id=RunId(row[0]), size=row[1]) for row in some]
            after = some[-1][0]
    return found
