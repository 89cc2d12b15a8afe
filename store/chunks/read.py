"""Reads runs back, verified, mending what is damaged or missing from parity.

The quick way is `read_nowait`: data shards that are in the page cache are read and verified on
the loop, without a thread. The other way reads in threads, one per drive, and when a fragment
is missing, damaged, or its drive answers no more, reads the same columns of other shards and
rebuilds. Checksum tables of verified headers are remembered, so that a small read takes just
its 64 KiB blocks.

Invariant: a byte is returned only from a block that verified, or from a rebuilding of k blocks
that did (C3).
Concurrency: the loop; `fetch` also in threads. A thread given up as hung may still write into
its buffer, so that buffer is not returned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import trio

from store.chunks.buffers import blank_buffer
from store.chunks.codec import codec
from store.chunks.config import ChunkConfig
from store.chunks.drive import Drive
from store.chunks.drive_io import Handle
from store.chunks.errors import Unrecoverable
from store.chunks.events import ChunkEvent, FragmentDamaged, FragmentUnread
from store.chunks.fragment import identity, verify_blocks, verify_header
from store.chunks.geometry import HEADER_BYTES, Window, windows
from store.chunks.pool import Pool
from store.chunks.threads import Hung, fan_out
from store.chunks.types import Buffer, Run, RunId, Segment, SegmentId, segment_of

_MAX_TABLES = 16384
_MAX_DAMAGED = 4096
_OVERDUE_POLL_S = 0.05
ReadCall = Callable[[Handle, Sequence[Buffer], int], int]
Place = tuple[RunId, int, int]
"""A fragment: run, stripe index, shard."""


class Verdict(Enum):
    """What became of a fetch."""

    PENDING = "pending"
    INTACT = "intact"
    SHORT = "short"
    DAMAGED = "damaged"
    FAILED = "failed"


@dataclass(slots=True, kw_only=True, eq=False)
class Fetch:
    """Columns [low, high) of one shard of a stripe, into `part`."""

    window: Window
    shard: int
    low: int
    high: int
    part: memoryview
    verdict: Verdict = Verdict.PENDING


class Reader:
    """See the module's text."""

    def __init__(
        self,
        store: bytes,
        pool: Pool,
        segments: dict[SegmentId, Segment],
        config: ChunkConfig,
        report: Callable[[ChunkEvent], None],
    ) -> None:
        self._store = store
        self._pool = pool
        self._segments = segments
        self._config = config
        self._report = report
        self._tables: dict[Place, bytes] = {}
        self._tables_lock = threading.Lock()
        self._damaged: dict[Place, None] = {}
        self.nursery: trio.Nursery | None = None

    # -- the quick way -----------------------------------------------------------------

    def read_nowait(self, run: Run, start: int, stop: int) -> list[Buffer] | None:
        assert 0 <= start < stop <= run.size, (run, start, stop)
        segment = self._segments[segment_of(run.id)]
        members: list[tuple[Drive, Handle] | None] = [
            self._member_nowait(segment, shard) for shard in range(segment.k)
        ]
        found: list[Buffer] = []
        for window in windows(segment, run, start, stop):
            if not all(members[shard] for shard in window.shards()):
                return None
            fetches, wanted = _plan(window)
            for fetch in fetches:
                member = members[fetch.shard]
                if member is None or not self._fetch_nowait(*member, segment, run, fetch):
                    return None
            found.append(wanted)
        return found

    def _member_nowait(self, segment: Segment, shard: int) -> tuple[Drive, Handle] | None:
        """The drive and the open member of a data shard, if both are at hand."""
        drive = self._pool.by_id.get(segment.members[shard])
        if drive is None or not drive.readable:
            return None
        handle = drive.handle_nowait(segment.id)
        return None if handle is None else (drive, handle)

    def _fetch_nowait(
        self, drive: Drive, handle: Handle, segment: Segment, run: Run, fetch: Fetch
    ) -> bool:
        try:
            self.fetch(drive.io.read_nowait, handle, segment, run, fetch)
        except OSError:
            return False  # Not in the page cache, or an error that the slow way will meet again.
        return fetch.verdict is Verdict.INTACT

    # -- the other way -----------------------------------------------------------------

    async def read(self, run: Run, start: int, stop: int) -> list[Buffer]:
        assert 0 <= start < stop <= run.size, (run, start, stop)
        segment = self._segments[segment_of(run.id)]
        found: list[tuple[Window, list[Fetch], memoryview]] = []
        for window in windows(segment, run, start, stop):
            fetches, wanted = _plan(window)
            found.append((window, fetches, wanted))
        await self._fetch_all(segment, run, [fetch for _, each, _ in found for fetch in each])
        read: list[Buffer] = []
        for window, fetches, wanted in found:
            if all(fetch.verdict is Verdict.INTACT for fetch in fetches):
                read.append(wanted)
            else:
                read.append(await self._mend(segment, run, window, fetches))
        return read

    async def _mend(
        self, segment: Segment, run: Run, window: Window, fetches: Sequence[Fetch]
    ) -> memoryview:
        """The wanted bytes of a stripe some of whose data shards could not be read."""
        # Decided once: an abandoned thread may still change a verdict.
        failed = [fetch for fetch in fetches if fetch.verdict is not Verdict.INTACT]
        low = min(fetch.low for fetch in failed)
        high = max(fetch.high for fetch in failed)
        intact = await self._gather(segment, run, window, low, high, failed)
        wanted = [fetch.shard for fetch in failed if fetch.shard not in intact]
        rebuilt = codec(segment.k, segment.m).rebuild(intact, wanted) if wanted else {}
        mended: list[Buffer] = []
        for fetch in fetches:
            if fetch not in failed:
                mended.append(fetch.part)
            else:
                shard = rebuilt.get(fetch.shard) or intact[fetch.shard]
                mended.append(memoryview(shard)[fetch.low - low : fetch.high - low])
        first = window.shards().start * window.shard + fetches[0].low
        return memoryview(b"".join(mended))[window.start - first : window.stop - first]

    async def _gather(
        self,
        segment: Segment,
        run: Run,
        window: Window,
        low: int,
        high: int,
        failed: Sequence[Fetch],
    ) -> dict[int, Buffer]:
        """Columns [low, high) of k intact shards of the stripe. Raises Unrecoverable.

        First the shards of drives that are well, then whatever may still answer.
        """
        intact: dict[int, Buffer] = {}
        well, last_resort = self._candidates(segment, run, {fetch.shard for fetch in failed})
        for candidates in (well, last_resort):
            while len(intact) < segment.k and candidates:
                wanted = candidates[: segment.k - len(intact)]
                del candidates[: len(wanted)]
                fetches = [
                    Fetch(
                        window=window,
                        shard=shard,
                        low=low,
                        high=high,
                        part=blank_buffer(high - low),
                    )
                    for shard in wanted
                ]
                await self._fetch_all(segment, run, fetches, desperate=candidates is last_resort)
                for fetch in fetches:
                    if fetch.verdict is Verdict.INTACT:
                        intact[fetch.shard] = fetch.part
        if len(intact) < segment.k:
            raise Unrecoverable(run.id, window.index, len(intact), segment.k)
        return intact

    def _candidates(
        self, segment: Segment, run: Run, tried: set[int]
    ) -> tuple[list[int], list[int]]:
        """Shards to rebuild from: those that are well, and the last resort."""
        well, last_resort = [], []
        for shard, member in enumerate(segment.members):
            drive = self._pool.by_id.get(member)
            if drive is None or not drive.reachable:
                continue
            if not drive.prompt or run.missing >> shard & 1:
                # It may have been written all the same; every fragment speaks for itself.
                last_resort.append(shard)
            elif shard not in tried:
                well.append(shard)
        return well, last_resort

    # -- fetching ----------------------------------------------------------------------

    async def _fetch_all(
        self, segment: Segment, run: Run, fetches: Sequence[Fetch], *, desperate: bool = False
    ) -> None:
        """Carry out `fetches`, in one thread per drive; their verdicts tell the rest.

        Where others can answer, a slow drive isn't waited for longer than `read_patience_s`.
        """
        by_drive: dict[Drive, list[Fetch]] = {}
        for fetch in fetches:
            drive = self._pool.by_id.get(segment.members[fetch.shard])
            likely = drive is not None and drive.prompt and not run.missing >> fetch.shard & 1
            if drive is not None and (likely or (desperate and drive.reachable)):
                by_drive.setdefault(drive, []).append(fetch)
            else:
                fetch.verdict = Verdict.FAILED
        if not by_drive:
            return
        # Always in the same order, so that two reads can't wait for each other.
        drives = sorted(by_drive, key=self._pool.drives.index)
        jobs = [_Job(self, drive, segment, run, by_drive[drive]) for drive in drives]
        deadline = self._config.io_deadline_s
        patience = deadline if desperate else min(self._config.read_patience_s, deadline)
        borrower = object()
        held: list[Drive] = []
        try:
            for drive in drives:
                await drive.readers.acquire_on_behalf_of(borrower)
                held.append(drive)
            outcomes = await fan_out([job.run_in_thread for job in jobs], patience)
        finally:
            for drive in held:
                drive.readers.release_on_behalf_of(borrower)
        for job, result in zip(jobs, outcomes, strict=True):
            if isinstance(result, Hung):
                self._give_up(job, deadline - patience)
            else:
                self._judge(job.drive, result.unwrap(), run, job.fetches)

    def _give_up(self, job: _Job, left_s: float) -> None:
        """A drive doesn't answer: do without it, and fence it unless it comes round in time."""
        for fetch in job.fetches:
            # Even one that was intact: its thread is beyond control.
            fetch.verdict = Verdict.FAILED
        if left_s > 0 and self.nursery is not None:
            job.drive.overdue_reads += 1
            self.nursery.start_soon(self._await_overdue, job, left_s)
        else:
            job.drive.note_hung("read")

    async def _await_overdue(self, job: _Job, left_s: float) -> None:
        with trio.move_on_after(left_s):
            while not job.ended:  # noqa: ASYNC110 (a thread ends it, on no one's behalf)
                await trio.sleep(_OVERDUE_POLL_S)
        job.drive.overdue_reads -= 1
        if not job.ended:
            job.drive.note_hung("read")

    def _judge(
        self, drive: Drive, errors: Sequence[OSError], run: Run, fetches: Sequence[Fetch]
    ) -> None:
        """Count what went wrong on a drive."""
        for error in errors:
            drive.note_read_error(error)
        for fetch in fetches:
            if run.missing >> fetch.shard & 1:
                continue  # Known not to be there.
            if fetch.verdict in (Verdict.DAMAGED, Verdict.SHORT):
                self._note_damage(drive, (run.id, fetch.window.index, fetch.shard))
            elif fetch.verdict is Verdict.FAILED and drive.prompt:
                self._note_unread(drive, (run.id, fetch.window.index, fetch.shard))

    def forget_damage(self, places: Iterable[Place]) -> None:
        """These fragments were written anew: damage there would be news again."""
        for place in places:
            self._damaged.pop(place, None)

    def count_damage(self, drive: Drive, place: Place) -> bool:
        """Count a damaged fragment on its drive, once; whether it was news."""
        news = self._is_news(place)
        drive.damaged_fragments += news
        return news

    def _note_damage(self, drive: Drive, place: Place) -> None:
        if self.count_damage(drive, place):
            run, stripe, shard = place
            self._report(FragmentDamaged(drive=drive.id, run=run, stripe=stripe, shard=shard))

    def _note_unread(self, drive: Drive, place: Place) -> None:
        if self._is_news(place):
            run, stripe, shard = place
            self._report(FragmentUnread(drive=drive.id, run=run, stripe=stripe, shard=shard))

    def _is_news(self, place: Place) -> bool:
        if place in self._damaged:
            return False
        if len(self._damaged) >= _MAX_DAMAGED:
            del self._damaged[next(iter(self._damaged))]
        self._damaged[place] = None
        return True

    def fetch(
        self, read: ReadCall, handle: Handle, segment: Segment, run: Run, fetch: Fetch
    ) -> None:
        """Read, verify and set the verdict. Raises OSError. In a thread, or quickly on the loop."""
        window, part = fetch.window, fetch.part
        place = (run.id, window.index, fetch.shard)
        table = self._tables.get(place)
        body = window.offset + HEADER_BYTES + fetch.low
        if table is not None:
            whole = read(handle, [part], body) == len(part)
        else:
            header = bytearray(HEADER_BYTES)
            if fetch.low == 0:
                whole = read(handle, [header, part], window.offset) == HEADER_BYTES + len(part)
            else:
                whole = read(handle, [header], window.offset) == HEADER_BYTES
                whole = whole and read(handle, [part], body) == len(part)
            if whole:
                table = self._verify_header(segment, run, fetch, header)
        if not whole:
            fetch.verdict = Verdict.SHORT
        elif table is not None and verify_blocks(table, fetch.low, part):
            fetch.verdict = Verdict.INTACT
        else:
            fetch.verdict = Verdict.DAMAGED

    def _verify_header(
        self, segment: Segment, run: Run, fetch: Fetch, header: bytearray
    ) -> bytes | None:
        """The checksum table of a fragment's header if it is intact; remembered."""
        window = fetch.window
        known = identity(
            self._store,
            segment,
            run.id,
            window.index,
            fetch.shard,
            payload=window.payload,
            size=window.shard,
        )
        table = verify_header(header, known)
        if table is not None:
            with self._tables_lock:
                if len(self._tables) >= _MAX_TABLES:
                    del self._tables[next(iter(self._tables))]
                self._tables[run.id, window.index, fetch.shard] = table
        return table


def _plan(window: Window) -> tuple[list[Fetch], memoryview]:
    """The fetches for a stripe's wanted bytes, and the view they will appear in."""
    shards = window.shards()
    size = window.shard
    first = shards[0] * size + window.columns(shards[0])[0]
    end = shards[-1] * size + window.columns(shards[-1])[1]
    buffer = blank_buffer(end - first)
    fetches = []
    for shard in shards:
        low, high = window.columns(shard)
        part = buffer[shard * size + low - first : shard * size + high - first]
        fetches.append(Fetch(window=window, shard=shard, low=low, high=high, part=part))
    return fetches, buffer[window.start - first : window.stop - first]


class _Job:
    """The fetches of one read from one drive, in one thread."""

    def __init__(
        self,
        reader: Reader,
        drive: Drive,
        segment: Segment,
        run: Run,
        fetches: Sequence[Fetch],
    ) -> None:
        self.drive = drive
        self.fetches = fetches
        self.ended = False
        self._reader = reader
        self._segment = segment
        self._run = run

    def run_in_thread(self) -> list[OSError]:
        """The errors met; the fetches' verdicts are set."""
        errors: list[OSError] = []
        read = self.drive.io.read
        try:
            for fetch in self.fetches:
                try:
                    handle = self.drive.handle(self._segment.id)
                    self._reader.fetch(read, handle, self._segment, self._run, fetch)
                except OSError as error:
                    fetch.verdict = Verdict.FAILED
                    errors.append(error)
        finally:
            self.ended = True
        return errors
