"""A copy of the database: the primary's log written again, byte for byte, on another drive.

A copy is a complete SQLite database (`meta.db` and `meta.db-wal`) that no SQLite opens until it
is needed. Its log gets the primary's frames at the primary's offsets; its database file takes
pages from its own log, in the background or at the latest when the log restarts.

Invariants:
  Y1 pages reach the database file only from frames that are durable in the copy's own log, and
     the log keeps them until the file is durable: at any moment database and log together are
     the state after the last frame written;
  Y2 a log is made void, durably, before the first frame of the next generation is written over
     it: otherwise old frames at its start could be taken for new after a power cut;
  Y3 a copy says it is whole (its `state` file) only from when it is until something is done to
     it that breaks Y1, such as building it anew;
  Y4 a checkpoint takes no frame into the database file that differs from the primary's: of two
     that differ, the one whose checksum doesn't fit is the damaged one.
Concurrency: methods block and run in threads; those marked *lane* only on the copy's lane, in
order. The loop reads `frames` and `generation` only while none of them runs. `apply` may run in
another thread beside the lane, never two at once.
Source: https://sqlite.org/fileformat2.html#walformat (what a checkpoint does).
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from metadb import wal
from metadb.errors import PrimaryLost
from metadb.files import Folder
from metadb.lanes import Lane
from metadb.sums import PageSums, damaged_pages

DATABASE = "meta.db"
LOG = "meta.db-wal"
INDEX = "meta.db-shm"
SUMS = "meta.db-sums"
STATE = "state"

PIECE_BYTES = 1 << 20
_APPLY_FRAMES = 1024


class CopyDamaged(Exception):
    """A copy's file is gone, replaced or not what was written to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The end of a generation, kept in memory until every copy has it.

    generation: the one that begins; frames: how many the one before had in the end;
    start: frames of it before `tail`; void_header: what the log starts with in between;
    log_limit_bytes: a longer log is cut back to this.
    """

    generation: int
    frames: int
    start: int
    tail: bytes
    void_header: bytes
    log_limit_bytes: int


class Copy:
    """One mirrored copy. `whole`: its base is complete; until then it doesn't count as a copy."""

    def __init__(self, drive: str, folder: Folder, *, generation: int, frames: int) -> None:
        """Open what stands in `folder`, whose log holds `frames` frames of `generation`."""
        self.drive = drive
        self.folder = folder
        self.generation = generation
        self.frames = frames
        self.whole = True
        self.base_bytes = 0
        self.lane = Lane(drive)
        self._database = folder.open(DATABASE)
        self._log = folder.open(LOG)
        self._sums = PageSums(folder.open(SUMS))
        self._log_bytes = self._log.size()
        self._applied = 0
        self._database_pages = 0
        self._busy = threading.Lock()

    @classmethod
    def blank(cls, drive: str, folder: Folder) -> Copy:
        """Begin a copy anew: from here on, until it is whole, its folder holds none (Y3)."""
        folder.make()
        folder.remove(STATE)
        folder.remove(DATABASE, LOG, INDEX, SUMS)
        copy = cls(drive, folder, generation=0, frames=0)
        copy.whole = False
        folder.sync()
        return copy

    def take(self, turn: Turn | None, generation: int, start: int, chunk: bytes) -> None:
        """*lane* Write the primary's log behind its first `start` frames; durable on return.

        chunk: frames from `start` on, with the header when that is 0. What the copy has of it
        already is skipped. turn: needed when the copy is still in the generation before.
        """
        if not self._log.is_in_place():
            raise CopyDamaged(f"{self._log.path} is not the file it was")
        if self.generation != generation:
            if turn is None or turn.generation != generation:
                raise CopyDamaged(f"{self.drive} missed the end of a generation")
            self._turn(turn)
        begin = wal.start_of(start)
        skip = wal.start_of(self.frames) - begin
        if skip < 0:
            raise CopyDamaged(f"{self.drive} has {self.frames} frames and is given {start}")
        rest = memoryview(chunk)[skip:]
        if rest:
            self._grow_log(begin + len(chunk))
            self._log.write_synced(rest, begin + skip)
            self.frames = (begin + len(chunk) - wal.HEADER_BYTES) // wal.FRAME_BYTES

    def apply(self, frames: int, primary_log: int | None = None) -> None:
        """Bring the database file up to the first `frames` of this log, and make it durable.

        frames: a number of committed, mirrored frames. Safe to repeat (Y1). primary_log: compared
        with this one on the way: what rots in a log would else go into the database for good.
        Raises CopyDamaged, and PrimaryLost when it is the primary's log that is damaged.
        """
        damaged = False
        with self._busy:
            while self._applied < frames:
                stop = min(frames, self._applied + _APPLY_FRAMES)
                damaged |= self._apply_piece(self._applied, stop, primary_log)
                self._applied = stop
            if self._applied:
                self._database.truncate(self._database_pages * wal.PAGE_BYTES)
                self._database.sync()
        if damaged:
            raise PrimaryLost("frames of its log are not what was written")

    def take_log(self, primary_log: int, frames: int) -> None:
        """Begin the log of a blank copy with the primary's first `frames` frames.

        Raises PrimaryLost where those can't be read.
        """
        size = wal.end_of(frames) if frames else 0
        for offset in range(0, size, PIECE_BYTES):
            piece = _read_primary(primary_log, min(PIECE_BYTES, size - offset), offset)
            self._log.write([piece], offset)
        self._log.sync()
        self._log_bytes = self._log.size()
        self.frames = frames

    def take_piece(self, primary_database: int, offset: int) -> None:
        """*lane* Copy a piece of the primary's database file and set `base_bytes` to its end.

        Pages that change meanwhile may come old, new or torn: each such page is also in the log
        of the generation, which this copy applies only when the primary's file is past it.
        Raises PrimaryLost where they can't be read.
        """
        piece = _read_primary(primary_database, PIECE_BYTES, offset)
        self._database.write([piece], offset)
        self._sums.write_run(offset // wal.PAGE_BYTES + 1, piece)
        self.base_bytes = offset + len(piece)

    def sync_database(self) -> None:
        """Make the pieces taken so far durable."""
        self._database.sync()
        self._sums.sync()

    def verify(self, primary_database: int | None, start: int, stop: int) -> list[int]:
        """Pages in [start, stop) of the database file, or the primary's, that are damaged.

        No `apply` and no turn may happen meanwhile, nor may the primary be checkpointed.
        """
        return damaged_pages(
            self._database.path if primary_database is None else primary_database,
            self.folder.path / SUMS,
            self._log.path,
            frames=self.frames,
            start=start,
            stop=stop,
        )

    def close(self) -> None:
        """Close when the lane's jobs are done. Returns at once: the drive may be hung."""
        self.lane.close(self._close)

    def _close(self) -> None:
        with self._busy:
            self._log.close()
            self._database.close()
            self._sums.close()

    def _turn(self, turn: Turn) -> None:
        begin = wal.start_of(turn.start)
        skip = wal.start_of(self.frames) - begin
        if skip < 0:
            raise CopyDamaged(f"{self.drive} has {self.frames} frames, the end starts later")
        if rest := memoryview(turn.tail)[skip:]:
            self._log.write_synced(rest, begin + skip)
            self.frames = turn.frames
        self.apply(turn.frames)
        self._sums.save()
        self._log.write_synced(turn.void_header, 0)
        if self._log_bytes > turn.log_limit_bytes:
            self._log.truncate(turn.log_limit_bytes)
            self._log_bytes = turn.log_limit_bytes
        self.generation = turn.generation
        self.frames = self._applied = 0

    def _apply_piece(self, start: int, stop: int, primary_log: int | None) -> bool:
        """Write the newest page of each number in frames [start, stop), neighbours in one call.

        Whether the primary's frames are damaged.
        """
        begin = wal.HEADER_BYTES + start * wal.FRAME_BYTES
        frames = self._log.read((stop - start) * wal.FRAME_BYTES, begin)
        if len(frames) != (stop - start) * wal.FRAME_BYTES:
            raise CopyDamaged(f"{self._log.path} is shorter than what was written to it")
        damaged = False
        if primary_log is not None:
            others = _read_log(primary_log, len(frames), begin)
            if others != frames:
                self._verify(frames, begin, wal.first_difference(frames, others))
                damaged = True
        newest: dict[int, int] = {}
        for page, commit_pages, offset in wal.pages_of(frames):
            newest[page] = offset
            if commit_pages:
                self._database_pages = commit_pages
        view = memoryview(frames)
        for page, offset in newest.items():
            self._sums.note(page, view[offset : offset + wal.PAGE_BYTES])
        group: list[memoryview] = []
        first = 0
        for page in sorted(newest):
            if group and page != first + len(group):
                self._database.write(group, (first - 1) * wal.PAGE_BYTES)
                group = []
            if not group:
                first = page
            group.append(view[newest[page] : newest[page] + wal.PAGE_BYTES])
        if group:
            self._database.write(group, (first - 1) * wal.PAGE_BYTES)
        return damaged

    def _verify(self, frames: bytes, begin: int, index: int) -> None:
        """Raise CopyDamaged unless frame `index` of those read from offset `begin` is sound."""
        at = index * wal.FRAME_BYTES
        before = self._log.read(8, begin + at - 8)
        if index or begin > wal.HEADER_BYTES:
            before = self._log.read(8, begin + at - wal.FRAME_BYTES + 16)
        header = self._log.read(wal.HEADER_BYTES, 0)
        if not wal.is_sound(header, before, frames[at : at + wal.FRAME_BYTES]):
            raise CopyDamaged(f"{self._log.path} is not what was written to it")

    def _grow_log(self, size: int) -> None:
        """Have zeros stand where frames will: a sync is then spared the file's metadata.

        Measured on ext4: 123 us a sync, against 232 us in a file that grows.
        """
        while self._log_bytes < size:
            self._log.write_synced(bytes(PIECE_BYTES), self._log_bytes)
            self._log_bytes += PIECE_BYTES


def _read_primary(descriptor: int, size: int, offset: int) -> bytes:
    """What the primary's drive answers, whose failure is none of the copy's."""
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        raise PrimaryLost(f"the primary can't be read: {error}") from error


def _read_log(primary_log: int, size: int, offset: int) -> bytes:
    try:
        found = os.pread(primary_log, size, offset)
    except OSError as error:
        raise PrimaryLost(f"its log can't be read: {error}") from error
    if len(found) != size:
        raise PrimaryLost("its log is shorter than what was written to it")
    return found
