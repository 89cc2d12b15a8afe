"""Group commit: one flush at a time makes the primary and all its copies durable together.

A flush samples how far the log is committed, awaits the hook (E3), gives the copies the frames
up to there and syncs all drives in parallel. Whoever calls `barrier` first leads a flush; those
who come while it runs wait, and one of them leads the next.

Invariants:
  B1 everything up to position `_durable` is synced on the primary and on every copy in `copies`;
  B2 a copy that fails is out of `copies`, and `on_eject` has returned, before `_durable` passes it;
  B3 when the primary fails no copy is ejected by that flush: it may be the primary's fault.
Positions count frames over all generations: `_base` (those of ended ones) + frames of this one.
Concurrency: one trio loop. A leader is shielded from cancellation until its flush is done, which
`deadline_s` bounds for each piece of it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NoReturn

import trio

from metadb import wal
from metadb.errors import MetadataFull, MetadbError, PrimaryLost
from metadb.groups import Groups
from metadb.journal import Journal
from metadb.lanes import Batch
from metadb.mirror import Copy, CopyDamaged, Turn
from metadb.primary import Primary

_log = logging.getLogger(__name__)

# A flush goes over in pieces of about 1 MiB, each read on the loop in 0.1 ms.
_PIECE_FRAMES = 254


class _Flush:
    """A flush under way, for those who wait for it."""

    __slots__ = ("done", "error", "target")

    def __init__(self, target: int) -> None:
        self.target = target
        self.done = trio.Event()
        self.error: Exception | None = None


class Flusher:
    """See the module. `copies` holds the primary's live copies, whole or still being built."""

    def __init__(
        self,
        primary: Primary,
        *,
        deadline_s: float,
        long_log_frames: int,
        on_eject: Callable[[str], Awaitable[None]],
        journal: Journal,
        base: int = 0,
    ) -> None:
        """base: the position where the generation begins that the primary's log is in."""
        self.primary = primary
        self.journal = journal
        self.groups = Groups(primary, self.position, self.lose, journal)
        self.groups.hurry = lambda: self.due.set()
        self.copies: list[Copy] = []
        self.hook: Callable[[], Awaitable[None]] | None = None
        self.generation = 0
        self.flushed = 0
        self.lost: PrimaryLost | None = None
        self.lost_event = trio.Event()
        self.ejected: set[str] = set()
        self.changed = trio.Event()
        self.long_log = False
        # Has the timer's flush come before its time.
        self.due = trio.Event()
        self._deadline_s = deadline_s
        self._long_log_frames = long_log_frames
        self._on_eject = on_eject
        self._turn: Turn | None = None
        self._base = base
        self._durable = -1
        self._under_way: _Flush | None = None
        # Held by a flush; whoever else takes it gets its turn behind the one under way.
        self.between_flushes = trio.Lock()

    def position(self) -> int:
        """How far the primary is committed."""
        return self._base + self.primary.index.frames()

    async def barrier(self) -> None:
        """Return when all that was committed before the call is durable (`Engine.barrier`)."""
        group = self.groups.pending
        target = self.position() if group is None else None
        if group is not None:
            group.waiters += 1
        while True:
            if group is not None:
                if group.error is not None:
                    _raise_anew(group.error)
                target = group.position
            if target is not None and self._durable >= target:
                return
            if self.lost is not None:
                raise PrimaryLost(*self.lost.args)
            flush = self._under_way
            if flush is None:
                await self._lead()
                continue
            await flush.done.wait()
            ours = target is not None and flush.target >= target
            if flush.error is not None and (ours or self.lost is not None):
                _raise_anew(flush.error)

    def lose(self, error: PrimaryLost) -> None:
        """Take the primary as lost: no barrier succeeds any more."""
        if self.lost is None:
            self.lost = error
            self.lost_event.set()

    def restart(self) -> bool:
        """Restart the primary's log; False when a reader is in the way. Needs `between_flushes`.

        What the copies lack of the old generation goes to memory: little, when it is called
        right behind a flush. They get it with the next flush.
        """
        assert self.between_flushes.locked() and self._turn is None
        self.groups.commit()
        frames = self.primary.index.frames()
        start = min([self.flushed, *(copy.frames for copy in self.copies)])
        tail = self.primary.read_log(start, frames)
        salts = self.primary.index.salts()
        if not self.primary.restart():
            return False
        number = self.primary.read_log_number()
        self.generation += 1
        self._turn = Turn(
            generation=self.generation,
            frames=frames,
            start=start,
            tail=tail,
            void_header=wal.void_header(number, salts),
            log_limit_bytes=self.primary.log_limit_bytes,
        )
        self._base += frames
        self.flushed = 0
        self.journal.generation_began(self.primary.index.salts(), self._base, salts)
        return True

    def add(self, copy: Copy) -> None:
        """Have `copy` follow from the next flush on, which the next barrier makes happen."""
        self.copies.append(copy)
        self._durable = min(self._durable, self._base + copy.frames)

    async def eject(self, copy: Copy, error: BaseException) -> None:
        """Go on without `copy`; it counts as gone when this returns (B2)."""
        if copy in self.copies:
            self.copies.remove(copy)
            copy.close()
            await self.eject_drive(copy.drive, error)

    async def eject_drive(self, drive: str, error: BaseException | None) -> None:
        """Have what stands on `drive` counted as stale from now on."""
        if drive not in self.ejected:
            _log.warning("metadata: drive %s is ejected: %s", drive, error)
            self.ejected.add(drive)
            await self._on_eject(drive)
            self.changed.set()

    async def _lead(self) -> None:
        flush = self._under_way = _Flush(self.position())
        try:
            with trio.CancelScope(shield=True):
                await self._acquire()
                try:
                    self.groups.commit()
                    if self.lost is not None:
                        raise PrimaryLost(*self.lost.args)
                    flush.target = self.position()
                    await self._flush()
                finally:
                    self.between_flushes.release()
        except Exception as error:
            flush.error = error
            if isinstance(error, PrimaryLost):
                self.lose(error)
            raise
        finally:
            self._under_way = None
            flush.done.set()

    async def _acquire(self) -> None:
        try:
            self.between_flushes.acquire_nowait()  # Spares the trip through the scheduler.
        except trio.WouldBlock:
            await self.between_flushes.acquire()

    async def _flush(self) -> None:
        target = self.primary.index.frames()
        if self.hook is not None:
            await self.hook()
        self.journal.flushing(self._base + target)
        start = self.flushed
        for copy in self.copies:
            start = min(start, copy.frames if copy.generation == self.generation else 0)
        while True:
            stop = min(target, start + _PIECE_FRAMES)
            await self._flush_piece(start, stop, last=stop == target)
            start = stop
            if stop == target:
                break
        self.flushed = target
        # A copy that was added while the last piece went over has yet to be given it.
        held = [c.frames if c.generation == self.generation else 0 for c in self.copies]
        self._durable = self._base + min([target, *held])
        self.journal.flushed(self._durable)
        if self._turn is not None and all(c.generation == self.generation for c in self.copies):
            self._turn = None
        try:
            self.primary.grow_log()
        except OSError as error:
            # This flush is done; the next one, or a transaction, would meet the same.
            self.lose(PrimaryLost(f"the log can't be written: {error}"))
        if target >= self._long_log_frames:
            self.long_log = True
            self.due.set()

    async def _flush_piece(self, start: int, stop: int, *, last: bool) -> None:
        """Give frames [start, stop) to the copies; with the last piece sync the primary too."""
        chunk = self.primary.read_log(start, stop)
        batch = Batch()
        copies = list(self.copies)
        for copy in copies:
            take = partial(copy.take, self._turn, self.generation, start, chunk)
            copy.lane.submit(take, batch)
        if last:
            self.primary.lane.submit(self.primary.sync_log, batch)
        errors = await batch.wait(self._deadline_s)
        if last and (error := errors.pop()) is not None:
            if isinstance(error, TimeoutError):
                self.journal.hung_drives.add(self.primary.drive)
            raise _as_primary_lost(error)
        failed = [(c, e) for c, e in zip(copies, errors, strict=True) if e is not None]
        if failed:
            self.primary.probe()
            await self._sort_out(failed, well=1 + len(copies) - len(failed))

    async def _sort_out(self, failed: list[tuple[Copy, BaseException]], *, well: int) -> None:
        """Eject what failed; raise MetadataFull where only full drives would be ejected.

        well: drives that took the piece, the primary among them. A full drive stays a copy that
        is behind, unless two others are well: full drives are rarely full alone.
        """
        full = False
        for copy, error in failed:
            if not isinstance(error, OSError | CopyDamaged):
                raise error
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) and well < 2:
                full = True
            else:
                await self.eject(copy, error)
        if full:
            raise MetadataFull("no room for the log on the drives that hold a copy")


def _raise_anew(error: Exception) -> NoReturn:
    """Raise another task's error; one of ours as a new one, with a traceback of its own."""
    if isinstance(error, MetadbError):
        raise type(error)(*error.args) from error
    raise error


def _as_primary_lost(error: BaseException) -> MetadbError:
    if isinstance(error, PrimaryLost):
        return error
    if isinstance(error, OSError):
        return PrimaryLost(f"the primary's drive failed to sync: {error}")
    raise error
