"""Reads stripes of one segment whole, verifies them, and writes what is missing or damaged anew.

Heal and scrub are the same work: they differ in how closely each member is looked at.

    BLANK   nothing of ours stands there: every fragment is written
    HEADER  the header is read; the shard behind an intact one is believed
    WHOLE   header and shard are read and verified
    SPARE   read only when too few others are intact, never written

A fragment is always written to the one place that is its own, with the same bytes as ever, so
a reader beside us sees the old fragment, the new one or a torn one, which doesn't verify and is
mended from the others as it was before.

Invariant: only shards rebuilt from k intact ones, whose headers agree on the owner, are written.
Concurrency: `MendJob.run_in_thread` in one thread; the loop reads its results when it has ended,
and `position` when it has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from store.chunks.buffers import aligned_buffer, blank_buffer
from store.chunks.codec import codec
from store.chunks.drive import Drive
from store.chunks.drive_io import Handle
from store.chunks.fragment import (
    build_header,
    identity,
    read_owner,
    verify_blocks,
    verify_header,
)
from store.chunks.geometry import HEADER_BYTES, Window
from store.chunks.types import Buffer, Owner, Run, RunId, Segment

Place = tuple[RunId, int, int]
"""A fragment: run, stripe index, shard."""


class Look(IntEnum):
    """How closely a member is looked at; see the module's text."""

    BLANK = 0
    HEADER = 1
    WHOLE = 2
    SPARE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One shard's member during a job.

    handle: opened in the thread where it is None. origin: where the shard of a BLANK member stands
    until now, if it can still be read there.
    """

    drive: Drive
    look: Look
    handle: Handle | None = None
    origin: Drive | None = None


@dataclass(slots=True, kw_only=True)
class Mended:
    """What came of a job.

    written: fragments written anew; damaged: those that stood there and didn't verify.
    lost: (run, stripe index) with fewer than k intact shards.
    unwritten: fragments that are bad still: their drive refused the write, or they are SPARE.
    read_errors, write_errors: the last error met, by shard.
    """

    read_bytes: int = 0
    written_bytes: int = 0
    fragment_count: int = 0
    written: list[Place] = field(default_factory=list)
    damaged: list[Place] = field(default_factory=list)
    unwritten: list[Place] = field(default_factory=list)
    lost: list[tuple[RunId, int]] = field(default_factory=list)
    read_errors: dict[int, OSError] = field(default_factory=dict)
    write_errors: dict[int, OSError] = field(default_factory=dict)


class MendJob:
    """Mend `stripes` (run and window each) of one segment. `run_in_thread` once.

    seats: the members that may be read or written, by shard. A member that isn't there has no seat.
    direct: look at what the drives hold, past the page cache.
    position: the drive at work and what it does, None outside.
    abandoned: set by the loop when it waits no more; nothing further is written then.
    """

    def __init__(
        self,
        store: bytes,
        segment: Segment,
        stripes: Sequence[tuple[Run, Window]],
        seats: Mapping[int, Seat],
        *,
        direct: bool = False,
    ) -> None:
        self.result = Mended()
        self.position: tuple[Drive, str] | None = None
        self.abandoned = False
        self._store = store
        self._segment = segment
        self._stripes = stripes
        self._seats = seats
        self._direct = direct
        self._direct_handles: dict[Drive, Handle] = {}
        self._closed: set[int] = set()

    def run_in_thread(self) -> Mended:
        """Everything, stripe after stripe."""
        for run, window in self._stripes:
            if self.abandoned:
                break
            self._mend(run, window)
        self.position = None
        return self.result

    def _mend(self, run: Run, window: Window) -> None:
        stripe = _Stripe(run, window)
        for shard, seat in self._seats.items():
            if seat.look is not Look.SPARE:
                self.result.fragment_count += 1
                self._look_at(stripe, shard, seat)
        rest = [shard for shard in stripe.bad if shard not in stripe.intact]
        if rest and not self._gather(stripe):
            self.result.lost.append((run.id, window.index))
            rest = []
        elif rest:
            sources = dict(sorted(stripe.intact.items())[: self._segment.k])
            rebuilt = codec(self._segment.k, self._segment.m).rebuild(sources, rest)
            stripe.intact.update(rebuilt)
        for shard in stripe.bad:
            if shard in stripe.intact:
                self._write(stripe, shard, stripe.intact[shard])

    def _gather(self, stripe: _Stripe) -> bool:
        """Read more shards until k are intact; False when there aren't as many."""
        for look in (Look.HEADER, Look.SPARE):
            for shard, seat in self._seats.items():
                if len(stripe.intact) >= self._segment.k:
                    return True
                known = shard in stripe.bad or shard in stripe.intact
                if seat.look is look and not known:
                    self._read(stripe, shard, seat.drive, seat.handle, header_only=False)
        return len(stripe.intact) >= self._segment.k

    # -- reading -----------------------------------------------------------------------

    def _look_at(self, stripe: _Stripe, shard: int, seat: Seat) -> None:
        if seat.look is not Look.BLANK:
            header_only = seat.look is Look.HEADER
            self._read(stripe, shard, seat.drive, seat.handle, header_only=header_only)
            return
        if seat.origin is not None:
            self._read(stripe, shard, seat.origin, None, header_only=False)
        stripe.bad[shard] = False

    def _read(
        self, stripe: _Stripe, shard: int, drive: Drive, handle: Handle | None, *, header_only: bool
    ) -> None:
        """Put the shard among the intact or the bad ones; neither where a header was enough."""
        size = HEADER_BYTES if header_only else HEADER_BYTES + stripe.window.shard
        record = aligned_buffer(size) if self._direct else blank_buffer(size)
        header, body = record[:HEADER_BYTES], record[HEADER_BYTES:]
        self.position = (drive, "read")
        try:
            handle = handle or self._handle(drive)
            whole = drive.io.read(handle, [record], stripe.window.offset) == size
        except OSError as error:
            self.result.read_errors[shard] = error
            if isinstance(error, FileNotFoundError) and self._seats[shard].drive is drive:
                # A handle opened before leads to the file that was: nothing may be written there.
                self.result.write_errors[shard] = error
                self._closed.add(shard)
            self._note_bad(stripe, shard, damaged=False)
            return
        self.result.read_bytes += size
        table = verify_header(header, self._identity(stripe, shard)) if whole else None
        if table is None or not verify_blocks(table, 0, body):
            self._note_bad(stripe, shard, damaged=True)
            return
        if not header_only:
            stripe.intact[shard] = body
        owned = read_owner(header)
        assert owned is not None, "a header that verified"
        stripe.owner = owned.owner

    def _handle(self, drive: Drive) -> Handle:
        if not self._direct:
            return drive.handle(self._segment.id)
        if drive not in self._direct_handles:
            self._direct_handles[drive] = drive.io.open_direct(self._segment.id)
        return self._direct_handles[drive]

    def _note_bad(self, stripe: _Stripe, shard: int, *, damaged: bool) -> None:
        if self._seats[shard].look is Look.SPARE:
            self.result.unwritten.append((stripe.run.id, stripe.window.index, shard))
        else:
            stripe.bad[shard] = damaged
            if damaged:
                self.result.damaged.append((stripe.run.id, stripe.window.index, shard))

    def _identity(self, stripe: _Stripe, shard: int) -> bytes:
        window = stripe.window
        return identity(
            self._store,
            self._segment,
            stripe.run.id,
            window.index,
            shard,
            payload=window.payload,
            size=window.shard,
        )

    # -- writing -----------------------------------------------------------------------

    def _write(self, stripe: _Stripe, shard: int, body: Buffer) -> None:
        place = (stripe.run.id, stripe.window.index, shard)
        if self.abandoned:
            return
        if shard in self._closed:
            self.result.unwritten.append(place)
            return
        assert stripe.owner is not None, "k shards verified"
        header = build_header(self._identity(stripe, shard), stripe.owner, body)
        size = len(header) + len(body)
        seat = self._seats[shard]
        self.position = (seat.drive, "write")
        try:
            handle = seat.handle or seat.drive.handle(self._segment.id)
            seat.drive.io.write(handle, [header, body], stripe.window.offset)
            seat.drive.io.start_writeback(handle, stripe.window.offset, size)
        except OSError as error:
            self.result.write_errors[shard] = error
            self.result.unwritten.append(place)
            self._closed.add(shard)
            return
        self.result.written.append(place)
        self.result.written_bytes += size


class _Stripe:
    """What is known of one stripe. bad: shards to be written; True where something stood there."""

    __slots__ = ("bad", "intact", "owner", "run", "window")

    def __init__(self, run: Run, window: Window) -> None:
        self.run = run
        self.window = window
        self.intact: dict[int, Buffer] = {}
        self.bad: dict[int, bool] = {}
        self.owner: Owner | None = None
