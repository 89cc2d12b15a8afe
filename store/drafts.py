"""`Draft`: an inode that is open on the mount, with what was written to it since it was published.

The database holds the published content; S3 sees nothing else (rule R6). What the mount writes
is gathered in memory up to about 2 MiB, then packed in order of place into a log of the chunk
store, whatever its place in the file: many small writes become one run. Publication finishes
the log and changes rows in one transaction. What remains in memory of the bytes in a log is one
small record for each separate range written since the last publication.

Invariants:
  D1 reads through the mount see the published content with all writes over it;
  D2 a write that raises has changed nothing; a publication that raises leaves the draft whole;
  D3 finished runs that wait for publication are held by a nameless inode (an orphan), so that
     neither reclaim nor the end of their segment can take them; after a crash they go with it;
  D4 nothing of an inode without a name is ever published.
Concurrency: writers and publications of one inode take turns (`_turn`); reads and truncations
need no turn, so a publication looks again after each wait whether the draft is still the same.
"""

from __future__ import annotations

from collections.abc import Collection

import trio

from metadb import content, inodes
from metadb.records import ExtentRow, InodeId, InodeRow
from store import reading
from store.chunks.types import Buffer, Owner, Run, RunId
from store.digests import RunningMd5
from store.errors import TooLarge
from store.overlay import Log, Overlay
from store.plans import Step, gather, gather_nowait
from store.publication import Publication, anchor, drop_anchors, publish
from store.reservation import Reservation
from store.state import State, now_ns
from store.translate import translated
from store.writing import OBJECT_BYTES_MAX

HELD_BYTES_MAX = 2 << 20


class Draft:
    """See the module's header. Made and kept by `store.handles.Drafts`."""

    def __init__(self, state: State, row: InodeRow) -> None:
        self.inode = row.id
        self.size = row.size
        self.mtime_ns = row.mtime_ns
        self.changed_ns = row.ctime_ns
        self.handles = 0
        # A file that was made but never published is a draft from the start.
        self.dirty = row.etag is None
        self._state = state
        self._published_size = row.size
        # The published bytes where they are inline; None: extents, or not looked up yet.
        self._inline: bytes | None = b"" if row.size == 0 else None
        self._looked_up = row.size == 0
        self._overlay = Overlay()
        self._log: Log | None = None
        self._logs: list[Log] = []
        self._md5: RunningMd5 | None = RunningMd5() if row.size == 0 else None
        self._edits = 0
        # The version id published last since the file was opened or closed, "" for none.
        self._transient: str | None = ""
        self._reservation = Reservation(state, row)
        self._turn = trio.Lock()

    # -- reading -----------------------------------------------------------------------

    def read_nowait(self, offset: int, size: int) -> list[Buffer] | None:
        """Bytes [offset, offset + size) as far as the file goes, if all are in memory."""
        stop = min(offset + size, self.size)
        if offset >= stop:
            return []
        plan = self._plan(offset, stop)
        return None if plan is None else gather_nowait(self._state, plan)

    async def read(self, offset: int, size: int) -> list[Buffer]:
        """The same, waiting where they are not. Raises Unrecoverable; NoSpace, Unavailable
        where bytes on their way to the drives can't get there."""
        token = self._state.readers.begin()
        try:
            while True:
                stop = min(offset + size, self.size)
                if offset >= stop:
                    return []
                plan = self._plan(offset, stop)
                if plan is not None:
                    break
                await self._make_readable()
            return await gather(self._state, self.inode, plan)
        finally:
            self._state.readers.end(token)

    def _plan(self, start: int, stop: int) -> list[Step] | None:
        """What [start, stop) is made of; None where a log must be finished first."""
        if not self._overlay:
            plan: list[Step] = []
            self._plan_published(plan, start, stop)
            return plan
        plan = []
        for first, last, source, at in self._overlay.resolve(start, stop):
            if source is None:
                self._plan_published(plan, first, last)
            elif isinstance(source, Log):
                if source.runs is None:
                    return None
                slices = source.slices(at, at + last - first)
                plan += [reading.Piece(run, into, size) for run, into, size in slices]
            elif last - first == len(source):
                plan.append(source)
            else:
                plan.append(memoryview(source)[at : at + last - first])
        return plan

    def _plan_published(self, plan: list[Step], start: int, stop: int) -> None:
        visible = max(start, min(stop, self._published_size, self._overlay.floor))
        if start < visible:
            inline = self._published_inline()
            if inline is not None:
                plan.append(memoryview(inline)[start:visible])
            else:
                engine = self._state.engine
                extents = engine.read(content.extents_between, self.inode, start, visible)
                plan += reading.pieces(extents, start, visible)
        if visible < stop:
            plan.append(reading.Piece(None, 0, stop - visible))

    def _published_inline(self) -> bytes | None:
        if not self._looked_up:
            self._inline = self._state.engine.read(content.inline_of, self.inode)
            self._looked_up = True
        return self._inline

    # -- writing -----------------------------------------------------------------------

    async def write(self, offset: int, piece: bytes) -> int:
        """Take `piece`, which must not change.

        Raises TooLarge, QuotaExceeded, NoSpace, Unavailable (D2).
        """
        if offset + len(piece) > OBJECT_BYTES_MAX:
            raise TooLarge(offset + len(piece))
        if not piece:
            return 0
        await _take(self._turn)
        try:
            overlay = self._overlay
            if overlay.held_bytes + len(piece) > HELD_BYTES_MAX and overlay.held_bytes:
                await self._spill()
            if self._md5 is not None and self._md5.full:
                await self._md5.room()
            size = max(self.size, offset + len(piece))
            self._reservation.cover(size, self._published_size, self._transient)
            self._absorb_inline()
            overlay.put(offset, piece)
            self.size = size
            self._edited()
            if self._md5 is not None:
                if self._md5.position == offset:
                    self._md5.feed(piece)
                else:
                    self._md5 = None
        finally:
            self._turn.release()
        return len(piece)

    def truncate(self, size: int) -> None:
        """Cut the file off, or let it grow by zeros. Raises TooLarge, QuotaExceeded."""
        if size > OBJECT_BYTES_MAX:
            raise TooLarge(size)
        if size == self.size:
            return
        self._reservation.cover(size, self._published_size, self._transient)
        self._absorb_inline()
        if size < self.size:
            self._overlay.cut(size)
        self.size = size
        if size == 0:
            self._md5 = RunningMd5()
        elif self._md5 is not None and self._md5.position != size:
            self._md5 = None
        self._edited()

    def closed(self) -> None:
        """A program closed the file: its next publication makes a version of its own."""
        self._transient = ""

    def moved(self, bucket: InodeId) -> None:
        """It has another name, and with it another version id."""
        self._transient = ""
        self._reservation.move(bucket)

    def touched(self, mtime_ns: int) -> None:
        """The modification time was set by hand: publication must not set it back."""
        self.mtime_ns = mtime_ns

    def _edited(self) -> None:
        self.dirty = True
        self._edits += 1
        self.mtime_ns = self.changed_ns = now_ns()

    def _absorb_inline(self) -> None:
        """Before the first change: published bytes that are inline become part of the draft."""
        if self._overlay:
            return
        inline = self._published_inline()
        if inline is not None:
            self._overlay.cut(0)
            if inline:
                self._overlay.put(0, inline)

    # -- logs --------------------------------------------------------------------------

    async def _spill(self) -> None:
        """Move what is held in memory to the log. Only in turn. Raises NoSpace, Unavailable."""
        overlay = self._overlay
        held = overlay.take_held()
        done = 0
        try:
            for written in held:
                for piece in overlay.live(written):
                    assert isinstance(piece.source, bytes)
                    at = piece.at
                    whole = piece.stop - piece.start == len(piece.source)
                    bytes_ = (
                        piece.source
                        if whole
                        else memoryview(piece.source)[at : at + piece.stop - piece.start]
                    )
                    log, place = await self._append(piece.start, bytes_)
                    overlay.moved(piece, log, place)
                done += 1
        finally:
            overlay.give_back(held[done:])

    async def _append(self, start: int, piece: Buffer) -> tuple[Log, int]:
        log = self._log
        if log is None:
            log = Log(self._state.chunks.appender(Owner(inode=self.inode, offset=start)))
        # A stripe that was begun is written: leaving in the middle would lose track of it.
        with translated(self.inode), trio.CancelScope(shield=True):
            try:
                await log.appender.append(piece)
            except BaseException:
                log.broken = True
                self._log = None
                if not log.size:
                    await log.appender.abandon()
                raise
        place = log.size
        log.size += len(piece)
        if self._log is None:
            self._log = log
            self._logs.append(log)
        return log, place

    async def _finish_logs(self, *, durable: bool = False) -> None:
        """Turn every log into runs. Only in turn. Raises NoSpace, Unavailable; may be repeated."""
        self._log = None
        with translated(self.inode), trio.CancelScope(shield=True):
            for log in self._logs:
                if log.runs is None:
                    log.runs = await log.appender.finish(durable=durable)

    async def _make_readable(self) -> None:
        """A reader needs bytes of a log that is still open: finish it, and hold its runs (D3)."""
        await _take(self._turn)
        try:
            if any(log.runs is None for log in self._logs):
                await self._finish_logs()
                self._hold()
        finally:
            self._turn.release()

    def _hold(self) -> None:
        waiting = [log for log in self._logs if log.runs and log.anchor is None]
        with translated(self.inode):
            for log in waiting:
                assert log.runs is not None
                log.anchor = self._state.engine.transact(anchor, self._state, log.runs)
                self._state.unsynced.extend(log.runs)

    async def name_logs(self) -> None:
        """Have rows name what is in logs (D3). Raises NoSpace, Unavailable."""
        await _take(self._turn)
        try:
            if any(log.anchor is None for log in self._logs):
                await self._finish_logs()
                self._hold()
        finally:
            self._turn.release()

    def relocated(self, inodes: Collection[InodeId]) -> None:
        """Anchors among these inodes name other runs now, with the same bytes."""
        for log in self._logs:
            if log.anchor is not None and log.anchor in inodes:
                extents = self._state.engine.read(content.extents_of, log.anchor)
                log.runs = tuple(map(_whole_run, extents))

    # -- publication -------------------------------------------------------------------

    async def publish(self, *, durable: bool = False) -> None:
        """Make what was written the published content; nothing happens if nothing was.

        durable: a barrier comes next. Bytes that lost drives on their way are written again now,
        which afterwards only heal could do.
        Raises NoSpace, Unavailable, Unrecoverable (D2).
        """
        if not self.dirty:
            return
        await _take(self._turn)
        try:
            while self.dirty:
                edits = self._edits
                inline = await self._small()
                if self._md5 is not None and not self._md5.settled:
                    await self._md5.settle()
                if inline is None:
                    if not self._named():
                        return
                    await self._spill()
                    await self._finish_logs(durable=durable)
                if edits == self._edits:
                    await self._commit(inline)
                    return
                self._hold()
        finally:
            self._turn.release()

    def _named(self) -> bool:
        row = self._state.engine.read(inodes.get, self.inode)
        return row is not None and row.nlink > 0

    async def _small(self) -> bytes | None:
        """All bytes of a file that is small enough to be inline, else None."""
        if self.size > self._state.config.inline_max_bytes:
            return None
        plan = self._plan(0, self.size) if self.size else []
        found = None if plan is None else gather_nowait(self._state, plan)
        if found is None:
            await self._finish_logs()
            self._hold()
            plan = self._plan(0, self.size)
            assert plan is not None
            token = self._state.readers.begin()
            try:
                found = await gather(self._state, self.inode, plan)
            finally:
                self._state.readers.end(token)
        if len(found) == 1 and isinstance(found[0], bytes):
            return found[0]
        return b"".join(found)

    async def _commit(self, inline: bytes | None) -> None:
        """Change the rows. Until the transaction is through there is no wait."""
        state = self._state
        fresh = [log for log in self._logs if log.anchor is None and log.runs]
        publication = Publication(
            size=self.size,
            mtime_ns=self.mtime_ns,
            md5=self._whole_md5(),
            inline=inline,
            floor=min(self._overlay.floor, self.size),
            extents=() if inline is not None else self._extents(),
            runs=[run for log in fresh for run in log.runs or ()],
            anchors=[log.anchor for log in self._logs if log.anchor is not None],
            transient=self._transient,
        )
        with translated(self.inode):
            row = state.engine.transact(publish, state, self.inode, publication, now_ns())
        if row is None:
            return
        state.unsynced.extend(publication.runs)
        self._transient = row.version_id
        self._reservation.release()
        unused = [log for log in self._logs if log.runs is None]
        self.dirty = False
        self._published_size = self.size
        self._inline = inline
        self._looked_up = True
        self._overlay = Overlay()
        self._logs = []
        self._log = None
        with trio.CancelScope(shield=True):
            for log in unused:
                await log.appender.abandon()

    def _whole_md5(self) -> str | None:
        md5 = self._md5
        return md5.hexdigest() if md5 is not None and md5.position == self.size else None

    def _extents(self) -> list[tuple[int, int, int, int]]:
        extents: list[tuple[int, int, int, int]] = []
        for start, stop, log, at in self._overlay.pieces:
            assert isinstance(log, Log)
            for run, into, size in log.slices(at, at + stop - start):
                extents.append((start, size, run.id, into))
                start += size
        return extents

    async def discard(self) -> None:
        """Give up what was never published: the inode is gone, or can't be published."""
        self._reservation.release()
        logs, self._logs, self._log = self._logs, [], None
        self._overlay = Overlay()
        self.dirty = False
        anchors = [log.anchor for log in logs if log.anchor is not None]
        if anchors:
            self._state.engine.transact(drop_anchors, self._state, anchors)
        with trio.CancelScope(shield=True):
            for log in logs:
                if log.runs is None:
                    await log.appender.abandon()
                elif log.anchor is None:
                    await self._state.chunks.free(log.runs)


def _whole_run(row: ExtentRow) -> Run:
    assert (row.run_start, row.size) == (0, row.run_size), row
    return Run(id=RunId(row.run), size=row.run_size, missing=row.run_missing)


async def _take(turn: trio.Lock) -> None:
    """`turn.acquire` without a checkpoint when nobody is before us."""
    try:
        turn.acquire_nowait()
    except trio.WouldBlock:
        await turn.acquire()
