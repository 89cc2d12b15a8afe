"""Heal: what drives lost, missed or let rot is rebuilt from the others, without being asked.

Two tasks. One surveys the segments whenever a drive comes, goes or is given up, and rebuilds those
with something wrong, least redundancy first. The other mends single fragments that a read found
bad, right after it.

Drives that were away are suspects until every one of their members was looked at; the database
remembers them, so that a crash in between forgets nothing.
Concurrency: tasks of `run`; events come on the loop and only leave notes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec
import trio

from metadb import segments as rows
from metadb.engine import Engine
from metadb.errors import MetadbError, PrimaryLost
from store.chunks.drive import Drive
from store.chunks.errors import ChunkError
from store.chunks.events import ChunkEvent, DriveChanged, FragmentDamaged, FragmentUnread
from store.chunks.geometry import windows
from store.chunks.local import LocalChunks
from store.chunks.mend import Look, Place, Seat
from store.chunks.types import DriveId, DriveState, Run, RunId, SegmentId, segment_of
from store.losses import Losses, LostStripe
from store.pace import Pace
from store.rebuild import End, Rebuilder, Tally
from store.state import Readers
from store.survey import Case, Surveyor

log = logging.getLogger(__name__)

_HINTS_MAX = 10_000
_HISTORY_MAX = 20
_SURVEY_EVERY_S = 600.0
_AGAIN_AFTER_S = 2.0
_GATHER_S = 0.05
"""Drives rarely fail alone: what is heard together is looked at together."""
_HISTORY = "heal_history"
_DRAINING = "draining_drives"
_USABLE = (DriveState.ONLINE, DriveState.FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealConfig:
    """wait_s: how long a drive may be away before what it held is built on others.

    rate_bytes_s: most that is read and written in a second; 0 for no limit.
    """

    wait_s: float = 300.0
    rate_bytes_s: int = 0


class HealRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One time that there was something to heal, from beginning to end. Times in s since 1970."""

    began_s: float
    ended_s: float
    causes: list[str]
    segments: int
    fragments: int
    written_bytes: int
    lost_stripes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealReport:
    """state: idle; healing; waiting, when something is wrong that no drive there is can mend.

    segments_left, bytes_left: of what is being healed, as estimated. eta_s: None when unknown.
    waiting_segments: have a member that no drive has room for. given_up_segments: some of their
    stripes can't be had at present. mended_fragments: found bad by reads and repaired since the
    start. heals_in_s: when a drive that is away is given up, None when none is.
    """

    state: Literal["idle", "healing", "waiting"]
    causes: list[str]
    segments_left: int
    bytes_left: int
    bytes_per_s: float
    eta_s: float | None
    waiting_segments: int
    given_up_segments: int
    mended_fragments: int
    suspects: list[DriveId]
    heals_in_s: float | None
    history: list[HealRecord]


class _Episode:
    """From the first thing found wrong until nothing is."""

    def __init__(self) -> None:
        self.began_s = time.time()
        self.clock_s = trio.current_time()
        self.tally = Tally()
        self.causes: set[str] = set()
        self.segments = 0

    def record(self) -> HealRecord:
        return HealRecord(
            began_s=round(self.began_s, 3),
            ended_s=round(time.time(), 3),
            causes=sorted(self.causes),
            segments=self.segments,
            fragments=self.tally.repaired_count,
            written_bytes=self.tally.written_bytes,
            lost_stripes=len(self.tally.lost),
        )


class Healer:
    """See the module's text."""

    def __init__(
        self,
        engine: Engine,
        chunks: LocalChunks,
        readers: Readers,
        config: HealConfig | None = None,
    ) -> None:
        self._engine = engine
        self._chunks = chunks
        self._members = chunks.members
        self._config = config or HealConfig()
        self._rebuilder = Rebuilder(engine, chunks, readers)
        self._surveyor = Surveyor(engine, chunks, self._config.wait_s)
        self.losses = Losses(engine, self._members.segment)

        def activity() -> int:
            return readers.mark() + chunks.stripe_count

        self._pace = Pace(activity, self._config.rate_bytes_s)
        self._suspects: set[DriveId] = set()
        self._history: list[HealRecord] = []
        self._hints: dict[Place, None] = {}
        self._hinted = trio.Event()
        self._wake = trio.Event()
        self._cases: list[Case] = []
        self._waiting = 0
        self._heals_at_s: float | None = None
        self._episode: _Episode | None = None
        self._mended_count = 0
        self._rounds_begun = 0
        self._quiet_round = 0
        self._round_ended = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Heal for ever."""
        self._suspects = {DriveId(drive) for drive in self._engine.read(rows.suspects)}
        for drive in self._engine.read(rows.kept_text, _DRAINING).split():
            if (found := self._chunks.pool.by_id.get(DriveId(drive))) is not None:
                self._chunks.drain(found)
        kept = self._engine.read(rows.kept_text, _HISTORY)
        self._history = msgspec.json.decode(kept or "[]", type=list[HealRecord])
        self.losses.load()
        self._chunks.listen(self._hear)
        self._members.on_missing = self._note_marked
        self._surveyor.marked |= self._members.marked
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mend_hints)
            await self._heal_forever()

    async def suspect(self, drives: Iterable[DriveId]) -> None:
        """Durably: these drives missed something, and every member on them is to be looked at."""
        self._suspects.update(drives)
        for drive in drives:
            self._surveyor.to_look.pop(drive, None)
        self._engine.transact(rows.note_suspects, self._suspects)
        await self._engine.barrier()
        self.wake()

    async def drain(self, drive: Drive, *, draining: bool = True) -> None:
        """Durably: move what a drive holds to others, or let it be."""
        if draining:
            self._chunks.drain(drive)
        drive.draining = draining
        listed = " ".join(each.id for each in self._chunks.pool.drives if each.draining)
        self._engine.transact(rows.keep_text, _DRAINING, listed)
        await self._engine.barrier()
        self.wake()

    def wake(self) -> None:
        """Look at everything soon: something changed."""
        self._surveyor.given_up.clear()
        self._wake.set()

    async def finish(self) -> None:
        """Return when a round that began after this call found nothing that can be healed now."""
        self.wake()
        begun = self._rounds_begun
        while self._quiet_round <= begun:
            await self._round_ended.wait()

    def is_needed(self) -> bool:
        """Whether there is something to heal just now."""
        return bool(self._cases)

    def limit(self, rate_bytes_s: int) -> None:
        """Go no faster than this from now on; 0 for no limit."""
        self._pace.rate_bytes_s = rate_bytes_s

    def hint(self, places: Iterable[Place]) -> None:
        """These fragments are bad and may be mended. What is too much is left to scrub."""
        for place in places:
            if len(self._hints) >= _HINTS_MAX:
                break
            self._hints[place] = None
        self._hinted.set()

    def report(self) -> HealReport:
        """How it stands, from memory."""
        episode = self._episode
        left = sum(case.size_bytes for case in self._cases)
        speed = 0.0
        if episode is not None:
            took_s = max(trio.current_time() - episode.clock_s, 1e-3)
            speed = (episode.tally.written_bytes + episode.tally.read_bytes / 64) / took_s
        stuck = self._waiting or self._surveyor.given_up
        state: Literal["idle", "healing", "waiting"] = "waiting" if stuck else "idle"
        heals_at_s = self._heals_at_s
        return HealReport(
            state="healing" if self._cases else state,
            causes=sorted({cause for case in self._cases for cause in case.causes}),
            segments_left=len(self._cases),
            bytes_left=left,
            bytes_per_s=speed,
            eta_s=left / speed if self._cases and speed else None,
            waiting_segments=self._waiting,
            given_up_segments=len(self._surveyor.given_up),
            mended_fragments=self._mended_count,
            suspects=sorted(self._suspects),
            heals_in_s=None if heals_at_s is None else max(0, heals_at_s - trio.current_time()),
            history=self._history,
        )

    # -- what is heard -----------------------------------------------------------------

    def _hear(self, event: ChunkEvent) -> None:
        if isinstance(event, DriveChanged):
            if event.before is DriveState.OFFLINE and event.after is DriveState.ONLINE:
                self._suspects.add(event.drive)
                self._look_again(self.losses.stripes())
            self.wake()
        elif isinstance(event, FragmentDamaged | FragmentUnread):
            self.hint([(event.run, event.stripe, event.shard)])

    def _note_marked(self, segment: SegmentId) -> None:
        self._surveyor.marked.add(segment)
        self._wake.set()

    # -- segments ----------------------------------------------------------------------

    async def _heal_forever(self) -> None:
        while True:
            self._wake = trio.Event()
            self._rounds_begun += 1
            again_s = _SURVEY_EVERY_S
            try:
                if not await self._round():
                    again_s = _AGAIN_AFTER_S
                elif self._episode is None:
                    self._quiet_round = self._rounds_begun
            except PrimaryLost:
                raise
            except (MetadbError, ChunkError) as error:
                log.warning("heal waits: %s", error)
                again_s = _AGAIN_AFTER_S
            finally:
                self._cases = []
                self._round_ended.set()
                self._round_ended = trio.Event()
            if self._heals_at_s is not None:
                again_s = min(again_s, max(0.0, self._heals_at_s - trio.current_time()) + 0.01)
            with trio.move_on_after(again_s):
                await self._wake.wait()
                await trio.sleep(_GATHER_S)

    async def _round(self) -> bool:
        """Survey and heal; whether all was done that could be. Ends early when drives change."""
        found = await self._surveyor.survey(self._suspects)
        self._cases, self._waiting = found.cases, found.waiting
        self._heals_at_s = None
        if found.heals_in_s is not None:
            self._heals_at_s = trio.current_time() + found.heals_in_s
        whole = True
        if not self._cases:
            self._end_episode()
        while self._cases and not self._wake.is_set():
            end = await self._heal(self._cases[0])
            whole = whole and end in (End.DONE, End.LOST)
            self._cases = self._cases[1:]
        self._clear_suspects()
        if self._episode is not None and whole:
            self._wake.set()  # To see whether anything is left.
        return whole

    async def _heal(self, case: Case) -> End:
        if self._episode is None:
            self._episode = _Episode()
            log.info("heal begins: %s", "; ".join(sorted(case.causes)))
        episode = self._episode
        episode.causes |= case.causes
        elsewhere = {each for each in episode.tally.lost if segment_of(each[0]) != case.segment}
        episode.tally.lost = set(elsewhere)
        end = await self._rebuilder.rebuild(case.segment, case.orders, episode.tally, self._pace)
        unwritten, episode.tally.unwritten = episode.tally.unwritten, []
        self.hint(unwritten)
        await self.losses.note(episode.tally.lost - elsewhere)
        if end in (End.DONE, End.WAITING):
            episode.segments += 1
            self._surveyor.looked(case.segment)
            known = self.losses.stripes()
            self._look_again(each for each in known if segment_of(each[0]) == case.segment)
        elif end is End.LOST:
            self._surveyor.given_up.add(case.segment)
            log.error("segment %s can't be healed whole: stripes are lost", case.segment)
        return end

    def _end_episode(self) -> None:
        episode, self._episode = self._episode, None
        if episode is None:
            return
        record = episode.record()
        log.info("heal ends: %s fragments in %s segments", record.fragments, record.segments)
        self._history = [*self._history, record][-_HISTORY_MAX:]
        text = msgspec.json.encode(self._history).decode()
        self._engine.transact(rows.keep_text, _HISTORY, text)

    def _clear_suspects(self) -> None:
        """Drives of which nothing is left to be looked at, or that were replaced, are none."""
        to_look = self._surveyor.to_look
        clear = {drive for drive, left in to_look.items() if not left & self._known()}
        clear |= self._suspects - self._chunks.pool.by_id.keys()
        if clear:
            for drive in clear:
                to_look.pop(drive, None)
            self._suspects -= clear
            self._engine.transact(rows.note_suspects, self._suspects)

    def _known(self) -> set[SegmentId]:
        return {segment.id for segment in self._members.segments()} - self._surveyor.given_up

    # -- single fragments --------------------------------------------------------------

    async def _mend_hints(self) -> None:
        while True:
            await self._hinted.wait()
            self._hinted = trio.Event()
            while self._hints:
                place = next(iter(self._hints))
                del self._hints[place]
                await self._mend_hint(*place)

    def _look_again(self, stripes: Iterable[LostStripe]) -> None:
        """Whether these can be had now."""
        self.hint([(run, stripe, 0) for run, stripe in stripes])

    async def _mend_hint(self, run: RunId, stripe: int, shard: int) -> None:
        segment = self._members.segment(segment_of(run))
        row = self._engine.read(rows.run_of, run)
        again = (run, stripe) in self.losses
        if segment is None or row is None:
            self.losses.forget([(run, stripe)])
            return
        by_id = self._chunks.pool.by_id
        drives = {i: drive for i, each in enumerate(segment.members) if (drive := by_id.get(each))}
        drive = drives.get(shard)
        if not again and (drive is None or drive.state not in _USABLE):
            return
        seats = {
            i: Seat(drive=each, look=Look.WHOLE if whole else Look.SPARE)
            for i, each in drives.items()
            if each.readable
            for whole in [each.state in _USABLE and (again or i == shard)]
        }
        at = stripe * segment.stripe_size
        named = Run(id=run, size=row[0])
        began_s = trio.current_time()
        mended = await self._members.mend(
            segment, [(named, windows(segment, named, at, at + 1)[0])], seats
        )
        if mended is None:
            return
        if mended.write_errors:
            self._wake.set()  # Its file may be missing.
        if mended.lost:
            await self.losses.note(mended.lost)
        elif again:
            self.losses.forget([(run, stripe)])
        written = {place[2]: seats[place[2]] for place in mended.written}
        if written and await self._members.finish(segment.id, written, []):
            self._chunks.forget_damage(mended.written)
            self._mended_count += len(mended.written)
            for seat in written.values():
                log.info("repaired on drive %s: run %s, stripe %s", seat.drive.io.path, run, stripe)
        await self._pace.rest(0, trio.current_time() - began_s)
