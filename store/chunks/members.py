"""The member files of segments, as heal and scrub see them: looked at, mended, moved.

A member that is built on another drive counts from `reseat` on, which the caller runs in the
same breath as the transaction that moves it in the database. Runs that were handed out but are
not named yet are unknown to whoever builds; what becomes of them is sorted out by `naming`: a run
named while its segment is being built is given to the builder, and one named afterwards lacks
the shards that were moved, and says so.

Invariants:
  R1 a drive holds one member of a segment at most;
  R2 a member that is built on another drive is durable before `reseat`, and one that was left is
     unlinked by the caller, when no row can name it any more;
  R3 a member being built is a draft until it is whole, by the name of its file; files of a segment
     being created, and those left by a move that isn't durable yet, are never taken for strays.
Concurrency: the loop; work on drives in threads with deadlines.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import outcome

from store.chunks.config import ChunkConfig
from store.chunks.drive import Drive
from store.chunks.drive_io import Handle, StoredMember
from store.chunks.geometry import Window
from store.chunks.mend import Mended, MendJob, Seat
from store.chunks.placement import Placement
from store.chunks.pool import Pool
from store.chunks.threads import Hung, NoMemory, fan_out
from store.chunks.types import DriveId, DriveState, Run, Segment, SegmentId, segment_of

_UNLINKS_AT_ONCE = 16


@dataclass(slots=True)
class Building:
    """A segment whose members are being built. late: runs named since, for the builder to take."""

    late: list[Run] = field(default_factory=list)


class Members:
    """See the module's text. Made by `LocalChunks`."""

    def __init__(self, store: bytes, pool: Pool, placement: Placement, config: ChunkConfig) -> None:
        self.on_missing: Callable[[SegmentId], None] = lambda segment: None
        """Told of segments with a run that was just named and lacks a shard."""
        self.marked: set[SegmentId] = set()
        """Segments with runs that lacked a shard at the start."""
        self._store = store
        self._pool = pool
        self._placement = placement
        self._config = config
        self._building: dict[SegmentId, Building] = {}
        self._held: set[tuple[DriveId, SegmentId]] = set()
        self._moved: dict[SegmentId, int] = {}

    # -- runs on their way into the database -------------------------------------------

    def naming(self, run: Run) -> Run:
        """`run` as it is to be remembered; called in the transaction that names it."""
        segment = segment_of(run.id)
        building = self._building.get(segment)
        if building is not None:
            building.late.append(run)
        moved = self._moved.get(segment)
        if moved is not None:
            run = replace(run, missing=run.missing | moved)
        if run.missing:
            self.on_missing(segment)
        return run

    # -- what there is -----------------------------------------------------------------

    def segments(self) -> list[Segment]:
        """All known segments."""
        return list(self._placement.segments.values())

    def segment(self, segment: SegmentId) -> Segment | None:
        """The record of a segment, None when it is gone."""
        return self._placement.segments.get(segment)

    def takes_no_more(self, segment: SegmentId) -> bool:
        """Whether no stripe will be placed in it any more."""
        found = self._placement.open.get(segment)
        return found is None or found.sealed

    def is_settled(self, segment: SegmentId) -> bool:
        """Whether, in addition, every run that was handed out has had its time to be named."""
        return segment not in self._placement.open and self._placement.sealed(segment)

    def is_building(self, segment: SegmentId) -> bool:
        """Whether somebody builds members of it just now."""
        return segment in self._building

    def lacking(self, run: Run) -> int:
        """The shards of a run that may not be on their drives, as a mask."""
        return run.missing | self._placement.lacking(segment_of(run.id))

    def lose(self, segment: SegmentId, shard: int) -> None:
        """A member of a segment that is appended to has lost its file: nothing more goes there."""
        found = self._placement.open.get(segment)
        if found is not None:
            found.lose(shard)
            self._placement.on_sealed(found)

    async def stored(self, drive: Drive) -> dict[SegmentId, StoredMember] | None:
        """All member files on a drive; None when it can't tell."""

        def look() -> dict[SegmentId, StoredMember]:
            io = drive.io
            return {
                member.segment: member
                for folder in io.list_folders()
                for member in io.list_segments(folder)
                if not member.draft
            }

        (result,) = await fan_out([look], self._config.flush_deadline_s)
        if isinstance(result, Hung):
            drive.note_hung("read")
            return None
        if isinstance(result, outcome.Error):
            drive.note_read_error(result.error)
            return None
        return result.value

    def strays(self, drive: Drive, stored: Mapping[SegmentId, StoredMember]) -> list[SegmentId]:
        """Files among `stored` that no segment has on this drive (R3)."""
        known = self._placement.segments
        return [
            segment
            for segment in stored
            if not self._placement.is_drafted(segment)
            and (drive.id, segment) not in self._held
            and (segment not in known or drive.id not in known[segment].members)
        ]

    # -- mending -----------------------------------------------------------------------

    async def mend(
        self,
        segment: Segment,
        stripes: Sequence[tuple[Run, Window]],
        seats: Mapping[int, Seat],
        *,
        direct: bool = False,
    ) -> Mended | None:
        """Look at `stripes` and write what is bad; None when one hung, or without memory."""
        job = MendJob(self._store, segment, stripes, seats, direct=direct)
        (result,) = await fan_out([job.run_in_thread], self._config.flush_deadline_s)
        if isinstance(result, Hung):
            job.abandoned = True
            if job.position is not None:
                drive, work = job.position
                drive.note_hung(work)
            return None
        if isinstance(result, outcome.Error) and isinstance(result.error, NoMemory):
            return None
        mended = result.unwrap()
        for shard, error in mended.read_errors.items():
            seats[shard].drive.note_read_error(error)
        for shard, error in mended.write_errors.items():
            # A member file that is missing is no fault of its drive.
            if error.errno != errno.ENOENT:
                seats[shard].drive.note_write_error(error)
        return mended

    async def finish(
        self, segment: SegmentId, seats: Mapping[int, Seat], drafts: Sequence[Drive]
    ) -> bool:
        """Make what was written durable, then give the drafts their names; whether all of it was.

        seats: the members written to.
        """
        drives = [seat.drive for seat in seats.values()]
        flushed = await fan_out(
            [partial(_flush, seat, segment) for seat in seats.values()],
            self._config.flush_deadline_s,
        )
        for drive, result in zip(drives, flushed, strict=True):
            if isinstance(result, Hung):
                drive.note_hung("flush")
            elif isinstance(result, outcome.Error):
                drive.note_flush_error(result.error)
        if not all(isinstance(each, outcome.Value) and each.value for each in flushed):
            return False
        named = await fan_out(
            [partial(drive.io.finish_segment, segment) for drive in drafts],
            self._config.io_deadline_s,
        )
        for drive, finished in zip(drafts, named, strict=True):
            if isinstance(finished, Hung):
                drive.note_hung("rename")
            elif isinstance(finished, outcome.Error) and not _is_taken(finished.error):
                drive.note_write_error(finished.error)
        return all(isinstance(each, outcome.Value) for each in named)

    # -- moving ------------------------------------------------------------------------

    def begin(self, segment: SegmentId) -> Building:
        """From now on runs that are named in the segment are the builder's to take, too."""
        assert segment not in self._building, segment
        self._building[segment] = Building()
        return self._building[segment]

    def end(self, segment: SegmentId) -> None:
        """The builder is through, or gives up."""
        del self._building[segment]

    async def draft(self, segment: SegmentId, drive: Drive) -> Handle | None:
        """An empty file that is to become a member; None when the drive can't hold it."""

        def make() -> Handle:
            drive.io.unlink_segment(segment, draft=True)
            return drive.io.create_segment(segment, 0, draft=True)

        (result,) = await fan_out([make], self._config.io_deadline_s)
        if isinstance(result, outcome.Value):
            return result.value
        if isinstance(result, Hung):
            drive.note_hung("create")
        else:
            drive.note_write_error(result.error)
        return None

    def let_go(self, segment: SegmentId, drive: DriveId) -> None:
        """The file that `reseat` left is a stray from now on (R3)."""
        self._held.discard((drive, segment))

    def choose_drive(
        self,
        segment: Segment,
        taken: Iterable[Drive],
        size: int,
        among: Iterable[Drive] | None = None,
    ) -> Drive | None:
        """Where a member of `size` bytes can be moved to (R1): the drive with most room.

        among: None for all drives of the pool.
        """
        shut = {*segment.members, *(drive.id for drive in taken)}
        fit = [
            drive
            for drive in (self._pool.drives if among is None else among)
            if drive.placeable
            and drive.id not in shut
            and drive.free_bytes - drive.reserve_bytes > size
        ]
        return max(fit, key=lambda drive: drive.free_bytes, default=None)

    def reseat(self, before: Segment, after: Segment, blank: Iterable[int] = ()) -> None:
        """The segment's members are those of `after` now; files that are left are held.

        blank: shards whose files were built anew, on whichever drive: what isn't named yet is not
        in them.
        """
        mask = sum(1 << shard for shard in blank)
        for shard, (old, new) in enumerate(zip(before.members, after.members, strict=True)):
            if old != new:
                self._held.add((old, before.id))
                mask |= 1 << shard
        if not mask:
            return
        self._placement.segments[before.id] = after
        self._moved = {each: was for each, was in self._moved.items() if not self.is_settled(each)}
        if not self.is_settled(before.id):
            self._moved[before.id] = self._moved.get(before.id, 0) | mask

    def take_back(self, before: Segment) -> None:
        """The transaction of a `reseat` did not hold: the segment is as `before`."""
        if before.id in self._placement.segments:
            self._placement.segments[before.id] = before

    async def unlink(
        self, drive: Drive, segments: Sequence[SegmentId], *, draft: bool = False
    ) -> None:
        """Remove member files, or drafts, that nothing names any more. Errors are counted."""
        if drive.state not in (DriveState.ONLINE, DriveState.FULL):
            return

        def remove(some: Sequence[SegmentId]) -> None:
            for segment in some:
                if not draft:
                    drive.forget_handle(segment)
                drive.io.unlink_segment(segment, draft=draft)

        for start in range(0, len(segments), _UNLINKS_AT_ONCE):
            some = segments[start : start + _UNLINKS_AT_ONCE]
            (result,) = await fan_out([partial(remove, some)], self._config.flush_deadline_s)
            if isinstance(result, Hung):
                drive.note_hung("reclaim")
                return
            if isinstance(result, outcome.Error):
                drive.note_write_error(result.error)


def _is_taken(error: BaseException) -> bool:
    """A member that stands there after all is no fault of its drive."""
    return isinstance(error, FileExistsError)


def _flush(seat: Seat, segment: SegmentId) -> bool:
    """False where the member file is missing, which is no fault of the drive."""
    try:
        handle = seat.handle or seat.drive.handle(segment)
    except FileNotFoundError:
        return False
    seat.drive.io.flush(handle)
    return True
