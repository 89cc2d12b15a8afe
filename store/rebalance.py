"""Rebalance: what stands on the drives follows the drives there are.

Three kinds of work, in this order:
  drain    what heal can't move off a drive that is drained, since every other drive has a member
           already, is rewritten into segments of the drives that stay;
  rewrite  on demand: segments of another geometry than new ones have are rewritten;
  even     members go from fuller to emptier drives: on demand, and by itself where the fullest
           is more than `SPREAD_POINTS` fuller than the emptiest.

Invariants: a member that is moved is whole on the other drive before it leaves the first, and no
  drive has two of a segment (store.rebuild); bytes that are rewritten are whole in their new
  segment before a row names them there (store.rewrite). So there is never less redundancy than
  before. What was ordered outlives a restart.
Concurrency: one task of `run`. It waits while heal is at work.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import msgspec
import trio

from metadb import relocation
from metadb import segments as rows
from metadb.errors import MetadbError, PrimaryLost
from store import reclaim
from store.chunks.errors import ChunkError
from store.chunks.events import ChunkEvent, DriveChanged
from store.chunks.local import LocalChunks
from store.chunks.types import DriveState, Segment, SegmentId
from store.errors import StoreError
from store.evening import Move, Shelf, plan, spread
from store.heal import Healer
from store.pace import Pace
from store.rebalancereport import Activity, Episode, RebalanceRecord, RebalanceReport, Want
from store.rebuild import End, Orders, Rebuilder, runs_of
from store.rewrite import Progress, Rewriter
from store.state import State

log = logging.getLogger(__name__)

SPREAD_POINTS = 10.0
_EVEN_POINTS = 5.0
"""Evening out that began by itself ends here."""
_KEPT = "rebalance"
_HISTORY_MAX = 20
_LOOK_EVERY_S = 600.0
_AGAIN_AFTER_S = 5.0
_SOON_S = 1.0
_STUCK_S = 30.0
_MOVES_AT_ONCE = 16
_SEGMENTS_AT_ONCE = 100
_ROOM_SHIFT = 7
"""A rewrite leaves 1/2**7 of all room to those who write."""
_THERE = (DriveState.ONLINE, DriveState.FULL)


class _Kept(msgspec.Struct, kw_only=True):
    """What outlives a restart."""

    want: Want = ""
    paused: bool = False
    history: list[RebalanceRecord] = []


class Rebalancer:
    """See the module's text. rate_bytes_s: most that is read and written in a second, 0: all."""

    def __init__(
        self, state: State, chunks: LocalChunks, healer: Healer, rate_bytes_s: int = 0
    ) -> None:
        self._state = state
        self._engine = state.engine
        self._chunks = chunks
        self._members = chunks.members
        self._healer = healer
        self._rebuilder = Rebuilder(state.engine, chunks, state.readers)
        self._progress = progress = Progress()
        self._pace = Pace(
            lambda: state.readers.mark() - progress.tokens + chunks.stripe_count, rate_bytes_s
        )
        self._rewriter = Rewriter(
            state, chunks, progress, self._pace, self._may_go_on, self._has_room
        )
        self._kept = _Kept()
        self._activity: Activity = "idle"
        self._cause = ""
        self._left_bytes = 0
        self._begun_bytes = 0
        self._logs_named: set[SegmentId] = set()
        self._spread_points = 0.0
        self._episode: Episode | None = None
        self._changed = trio.Event()
        self._rounds_begun = 0
        self._quiet_round = 0
        self._round_ended = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Rebalance for ever."""
        kept = self._engine.read(rows.kept_text, _KEPT)
        if kept:
            self._kept = msgspec.json.decode(kept, type=_Kept)
        self._chunks.listen(self._hear)
        task_status.started()
        while True:
            self._changed = trio.Event()
            self._rounds_begun += 1
            try:
                rest_s = await self._round()
                if self._activity in ("idle", "paused"):
                    self._quiet_round = self._rounds_begun
            except PrimaryLost:
                raise
            except (MetadbError, ChunkError, StoreError) as error:
                log.warning("rebalance waits: %s", error)
                rest_s = self._wait(str(error) or "no drive has room", _AGAIN_AFTER_S)
            self._round_ended.set()
            self._round_ended = trio.Event()
            with trio.move_on_after(rest_s):
                await self._changed.wait()

    def order(self, want: Want) -> None:
        """Do this over all drives; goes on if it was paused. "": what was ordered is given up."""
        self._kept.want = want
        self._kept.paused = False
        self._progress.lost.clear()
        self._keep()

    def pause(self) -> None:
        """Do nothing, over restarts too, until the next order."""
        self._kept.paused = True
        self._keep()

    def wake(self) -> None:
        """Look soon: something changed."""
        self._changed.set()

    def limit(self, rate_bytes_s: int) -> None:
        """Go no faster than this from now on; 0 for no limit."""
        self._pace.rate_bytes_s = rate_bytes_s

    async def finish(self) -> None:
        """Return when a round that began after this call found nothing to do."""
        self.wake()
        begun = self._rounds_begun
        while self._quiet_round <= begun:
            await self._round_ended.wait()

    def report(self) -> RebalanceReport:
        """How it stands, from memory."""
        episode = self._episode
        done = 0 if episode is None else episode.done_bytes()
        left = max(0, self._left_bytes - (done - self._begun_bytes)) if episode else 0
        speed = 0.0 if episode is None else episode.bytes_per_s()
        return RebalanceReport(
            state="paused" if self._kept.paused else self._activity,
            cause="" if self._kept.paused else self._cause,
            want=self._kept.want,
            old_segments=len(self._old()),
            bytes_left=left,
            bytes_per_s=speed,
            eta_s=left / speed if left and speed else None,
            moved_members=0 if episode is None else episode.moved_members,
            rewritten_bytes=0 if episode is None else episode.rewritten_bytes(),
            spread_points=self._spread_points,
            history=self._kept.history,
        )

    # -- inside ------------------------------------------------------------------------

    def _hear(self, event: ChunkEvent) -> None:
        if isinstance(event, DriveChanged):
            self._progress.lost.clear()
            self._changed.set()

    def _keep(self) -> None:
        text = msgspec.json.encode(self._kept).decode()
        self._engine.transact(rows.keep_text, _KEPT, text)
        self._changed.set()

    def _may_go_on(self) -> bool:
        return not self._changed.is_set() and not self._healer.is_needed()

    def _has_room(self, size_bytes: int) -> bool:
        total, free = self._chunks.usable_bytes()
        return free - (total >> _ROOM_SHIFT) > size_bytes

    def _old(self) -> list[Segment]:
        """Segments of another geometry than a new one would have."""
        geometry = self._chunks.geometry()
        return [s for s in self._members.segments() if (s.k, s.m) != geometry]

    def _wait(self, cause: str, for_s: float) -> float:
        self._activity, self._cause = "waiting", cause
        return for_s

    def _begin(self, activity: Activity, cause: str, left_bytes: int) -> Episode:
        """There is something to do."""
        if self._episode is None:
            self._episode = Episode(self._progress)
            log.info("rebalance begins: %s", cause)
        self._activity, self._cause = activity, cause
        self._left_bytes, self._begun_bytes = left_bytes, self._episode.done_bytes()
        self._episode.causes.add(cause)
        return self._episode

    def _end(self) -> None:
        """There is nothing to do any more."""
        self._activity, self._cause = "idle", ""
        episode, self._episode = self._episode, None
        if episode is None:
            return
        record = episode.record()
        if record.moved_members or record.rewritten_bytes:
            self._kept.history = [*self._kept.history, record][-_HISTORY_MAX:]
            text = msgspec.json.encode(self._kept).decode()
            self._engine.transact(rows.keep_text, _KEPT, text)
        log.info(
            "rebalance ends: %s members moved, %s bytes rewritten",
            record.moved_members,
            record.rewritten_bytes,
        )

    async def _round(self) -> float:
        """Do what is to be done now; how long to rest then."""
        if self._kept.paused:
            self._activity, self._cause = "paused", ""
            return _LOOK_EVERY_S
        if self._healer.is_needed():
            return self._wait("heal comes first", _SOON_S)
        if drained := self._drained():
            return await self._leave(drained)
        old = await self._held(self._old())
        if self._kept.want == "geometry":
            # What new segments are like now, with a drive away, is not what was asked for.
            if cause := self._unfit((DriveState.ONLINE,)):
                return self._wait(cause, _AGAIN_AFTER_S)
            if old:
                k, m = self._chunks.geometry()
                return await self._rewrite(old, f"segments are rewritten as {k} data + {m} parity")
            self._kept.want = ""
            self._keep()
            return 0.0
        return await self._even()

    # -- rewriting ---------------------------------------------------------------------

    def _drained(self) -> list[Segment]:
        """Segments with a member on a drive that is drained."""
        draining = {drive.id for drive in self._chunks.pool.drives if drive.draining}
        if not draining:
            return []
        return [s for s in self._members.segments() if draining.intersection(s.members)]

    async def _leave(self, drained: list[Segment]) -> float:
        """Rewrite what heal can't move off drives that are drained."""
        held = await self._held(drained)
        stuck = [s for s in held if self._members.choose_drive(s, (), 0) is None]
        paths = ", ".join(str(d.io.path) for d in self._chunks.pool.drives if d.draining)
        if stuck:
            if cause := self._unfit(_THERE):
                return self._wait(cause, _AGAIN_AFTER_S)
            return await self._rewrite(stuck, f"{paths} is drained")
        if held:
            return self._wait(f"heal moves what {paths} holds", _SOON_S)
        await self._name_logs(drained)
        # Whoever wrote there lately may be about to name it; who began to read there may go on.
        return self._wait(f"the last writers and readers of {paths} are waited for", _SOON_S)

    async def _held(self, segments: Collection[Segment]) -> list[Segment]:
        """Those with a run. The others are removed, where they take nothing more."""
        held: list[Segment] = []
        empty: list[SegmentId] = []
        for segment in segments:
            if not self._members.takes_no_more(segment.id):
                continue
            if self._engine.read(relocation.any_between, *runs_of(segment.id)):
                held.append(segment)
            elif self._members.is_settled(segment.id):
                empty.append(segment.id)
            if len(held) % _SEGMENTS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        if empty:
            await self._name_logs(segments)
            await reclaim.drop_empty(self._state, empty)
        return held

    async def _name_logs(self, segments: Collection[Segment]) -> None:
        """Once for each of them: what open files have in it is named, and so not overlooked."""
        numbers = {s.id for s in segments if self._members.takes_no_more(s.id)}
        if numbers - self._logs_named:
            await self._state.name_logs()
            self._logs_named |= numbers

    async def _named_bytes(self, segments: Collection[Segment]) -> int:
        size = 0
        for segment in segments:
            size += self._engine.read(relocation.bytes_between, *runs_of(segment.id))
            await trio.lowlevel.checkpoint()
        return size

    def _unfit(self, fit: Collection[DriveState]) -> str:
        """Which of the drives that stay is in none of these states, "" for none."""
        for drive in self._chunks.pool.drives:
            if not drive.draining and drive.state not in fit:
                return f"{drive.io.path} is {drive.state.value}"
        return ""

    async def _rewrite(self, segments: Collection[Segment], cause: str) -> float:
        await self._name_logs(segments)
        episode = self._begin("rewriting", cause, await self._named_bytes(segments))
        before = episode.done_bytes()
        await self._rewriter.pass_over({segment.id for segment in segments})
        if episode.done_bytes() > before or not self._may_go_on():
            return 0.0
        lost = len(self._progress.lost)
        why = f"{lost} runs can't be read" if lost else "nothing of what is left can be rewritten"
        return self._wait(why, _STUCK_S)

    # -- evening out -------------------------------------------------------------------

    async def _even(self) -> float:
        shelves = await self._shelves()
        self._spread_points = spread(shelves)
        ordered = self._kept.want == "even"
        enough = SPREAD_POINTS if self._episode is None else _EVEN_POINTS
        moves: list[Move] = []
        if ordered or self._spread_points > enough:
            moves = plan(shelves, _MOVES_AT_ONCE)
        if not moves:
            if ordered:
                self._kept.want = ""
                self._keep()
            self._end()
            return _LOOK_EVERY_S
        left_bytes = sum(move.size_bytes for move in moves)
        episode = self._begin("evening", "drives are filled alike", left_bytes)
        for move in moves:
            if not self._may_go_on():
                return 0.0
            segment = self._members.segment(move.segment)
            if segment is None or move.source.id not in segment.members:
                continue
            shard = segment.members.index(move.source.id)
            orders = Orders(moves={shard}, among=(move.target,))
            end = await self._rebuilder.rebuild(segment.id, orders, episode.tally, self._pace)
            if end is not End.DONE:
                self._healer.wake()
                return self._wait(f"a member can't be moved to {move.target.io.path}", _STUCK_S)
            episode.moved_members += 1
        return 0.0

    async def _shelves(self) -> list[Shelf]:
        """What the drives that take members hold, and what of it may be moved."""
        shelves: list[Shelf] = []
        movable = {s.id: s for s in self._members.segments() if self._members.is_settled(s.id)}
        for drive, free_bytes in self._chunks.rooms().items():
            if not drive.placeable or (stored := await self._members.stored(drive)) is None:
                continue
            shelf = Shelf(
                drive=drive,
                held_bytes=sum(member.allocated_bytes for member in stored.values()),
                free_bytes=free_bytes,
                shut={s.id for s in self._members.segments() if drive.id in s.members},
            )
            shelf.members = {
                number: member.allocated_bytes
                for number, member in stored.items()
                if number in movable and drive.id in movable[number].members
            }
            shelves.append(shelf)
        return shelves
