"""The drives of one store, found by their labels.

Invariants:
  P1 the highest epoch among the labels present says who belongs to the pool; a drive with a
     lower one is stale;
  P2 a folder without a label is never written to: it counts as gone, whether it is a new drive
     or the bare mount point of an absent one;
  P3 ids of segments are taken from blocks that the labels of all writable drives were durably
     told of first, so no id is given out twice, whichever m drives are lost;
  P4 a drive that is behind the pool's epoch gets it from `rejoin` alone (or by `halfraised`),
     whatever a probe that began earlier made of `stale` in between;
  P5 drives that went on without each other are never used together (`store.chunks.lineage`); what
     keeps the witness has been told of an epoch before `raise_epoch` returns.
Concurrency: `open_drives` blocks and runs before the loop or in a thread; the rest on the loop.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import outcome
import trio

from store.chunks.config import ChunkConfig
from store.chunks.drive import Drive
from store.chunks.drive_io import DriveIO, Probe
from store.chunks.errors import BelowWriteQuorum, DriveBusy, LabelError
from store.chunks.geometry import default_parity
from store.chunks.halfraised import finish_raise
from store.chunks.label import Label, Member, prepare_folder, put_label
from store.chunks.lineage import (
    Lineage,
    Standing,
    follows,
    lineage_of,
    never_told,
    new_token,
    raised,
    refuse_doubtful,
    refuse_forks,
    standing_of,
)
from store.chunks.threads import Hung, fan_out, in_thread
from store.chunks.types import DriveId, DriveState, SegmentId

log = logging.getLogger(__name__)

_ID_BLOCK = 1024


class Pool:
    """The drives of one store, in the order they were given."""

    def __init__(self, label: Label, drives: Sequence[Drive]) -> None:
        self.store = label.store
        self.epoch = label.epoch
        self.drives = tuple(drives)
        self.by_id = {drive.id: drive for drive in drives}
        self._label = label
        self._choose_parity()
        told = {member.drive: member.epoch for member in label.members}
        self._members = [
            Member(
                drive=each.id, path=str(each.io.path), epoch=max(each.epoch, told.get(each.id, 0))
            )
            for each in drives
        ]
        self._line = lineage_of(label)
        self._coming = new_token()
        self.on_raise: Callable[[Standing], None] = lambda standing: None
        """Told of each new epoch, in a thread."""
        for drive in drives:
            drive.belongs = self._belongs
        self._config = ChunkConfig()
        self._write_lock = trio.Lock()
        self._next_segment = label.next_segment
        self._end_of_ids = label.next_segment

    def use(self, config: ChunkConfig) -> None:
        """Take the settings. Before any I/O."""
        self._config = config
        for drive in self.drives:
            drive.use(config)

    def close(self) -> None:
        """Let go of all drives and their locks."""
        for drive in self.drives:
            drive.forget_handles()
            drive.io.close()

    def sharing(self) -> Counter[int]:
        """How many drives stand on each file system, by its device number."""
        return Counter(drive.device for drive in self.drives)

    # -- ids of segments ---------------------------------------------------------------

    async def take_segment_id(self, above: int = 0) -> SegmentId:
        """An id that was never given out (P3), higher than `above`. Raises BelowWriteQuorum."""
        async with self._write_lock:
            taken = max(self._next_segment, above + 1)
            if taken >= self._end_of_ids:
                await self._write_labels(self._line, taken + _ID_BLOCK)
                self._end_of_ids = taken + _ID_BLOCK
            self._next_segment = taken + 1
            return SegmentId(taken)

    # -- epochs ------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """Where the pool stands, for the witness."""
        return standing_of(self.store, self._line)

    def refuse_doubtful(self, seen: Standing | None) -> None:
        """Before it is used without all drives: raise LabelError if others may have gone on."""
        labels = {drive.id: drive.label for drive in self.drives if drive.label is not None}
        here = {each: label for each, label in labels.items() if label.epoch == self.epoch}
        missing = [str(drive.io.path) for drive in self.drives if drive.label is None]
        refuse_doubtful(here, missing, self.standing, seen)

    def _belongs(self, label: Label) -> bool:
        return follows(self._line, label)

    async def raise_epoch(self, leave_out: DriveId | None = None) -> int:
        """Tell all drives that remain that others were given up; the new epoch.

        Drives that are not ONLINE or FULL keep theirs and are stale from now on, and so does
        `leave_out`, whatever its state. Raises BelowWriteQuorum when no drive remains to be told.
        """
        async with self._write_lock:
            line = raised(self._line, self._coming)
            await self._write_labels(line, self._end_of_ids, leave_out)
            self._line, self._coming = line, new_token()
            self.epoch = line[0]
            for drive in self.drives:
                drive.stale = drive.label is not None and drive.epoch < self.epoch
            await self._tell_witness()
            return self.epoch

    async def _tell_witness(self) -> None:
        try:
            tell = partial(self.on_raise, self.standing)
            await in_thread(tell, self._config.io_deadline_s)
        except TimeoutError:
            log.error("the state folder hangs: it doesn't know of epoch %s", self.epoch)

    async def rejoin(self, drive: Drive) -> None:
        """Give a stale drive the pool's epoch: it may take new segments again.

        Only after whoever else keeps copies on it has been told that they are out of date.
        Raises LabelError when the drive can't be written.
        """
        async with self._write_lock:
            # The others come first, so that none of them takes it for lost that it is in the pool.
            await self._write_labels(self._line, self._end_of_ids, joining=drive.id)
            label = self._label_of(drive.id, self._line, self._end_of_ids)
            (result,) = await fan_out(
                [partial(drive.io.write_label, label)], self._config.io_deadline_s
            )
            if not isinstance(result, outcome.Value):
                raise LabelError(f"{drive.io.path}: the label can't be written")
            drive.label = label
        await drive.check(self.epoch)

    async def adopt_replacement(self, missing: DriveId, path: Path) -> Drive:
        """Let the empty folder at `path` take the place of a missing drive; the new one.

        All other labels come first, so a crash half-way leaves a place in the pool that is still
        missing its drive. Raises LabelError when the drive isn't missing or the folder isn't fit,
        OSError, TimeoutError.
        """
        gone = self.by_id[missing]
        if gone.state not in (DriveState.OFFLINE, DriveState.FENCED):
            raise LabelError(f"{gone.io.path}: this drive is not missing")
        await in_thread(partial(prepare_folder, path), self._config.io_deadline_s)
        lost = next(each for each in self._members if each.drive == missing)
        drive = DriveId(secrets.token_hex(16))
        new = Member(drive=drive, path=str(path), epoch=self.epoch + 1)
        self._members = [new if each is lost else each for each in self._members]
        try:
            await self.raise_epoch(leave_out=missing)
            found = await self._format(drive, path, type(gone.io))
        except BaseException:
            self._members = [lost if each.drive == drive else each for each in self._members]
            raise
        gone.retire()
        self.drives = tuple(found if each is gone else each for each in self.drives)
        del self.by_id[missing]
        self.by_id[found.id] = found
        return found

    async def add(self, path: Path) -> Drive:
        """Make the empty folder at `path` one more drive of the pool.

        The other labels come first, as for a replacement, and are told once more when it has its
        own. Raises LabelError when the folder isn't fit, BelowWriteQuorum, OSError, TimeoutError.
        """
        await in_thread(partial(prepare_folder, path), self._config.io_deadline_s)
        drive = DriveId(secrets.token_hex(16))
        before = self._members
        self._members = [*before, Member(drive=drive, path=str(path))]
        try:
            await self.raise_epoch()
            self._members[-1] = replace(self._members[-1], epoch=self.epoch)
            found = await self._format(drive, path, type(self.drives[0].io))
            async with self._write_lock:
                await self._write_labels(self._line, self._end_of_ids)
        except BaseException:
            self._members = before
            raise
        self.drives = (*self.drives, found)
        self.by_id[found.id] = found
        self._choose_parity()
        return found

    async def remove(self, drive: DriveId) -> None:
        """Take a drive that holds nothing any more out of the pool. Raises BelowWriteQuorum."""
        gone = self.by_id[drive]
        before = self._members
        self._members = [each for each in before if each.drive != drive]
        try:
            await self.raise_epoch(leave_out=drive)
        except BaseException:
            self._members = before
            raise
        gone.retire()
        self.drives = tuple(each for each in self.drives if each is not gone)
        del self.by_id[drive]
        self._choose_parity()

    def _choose_parity(self) -> None:
        """m of new segments, for as many drives as there are now."""
        chosen = self._label.parity
        self.parity = default_parity(len(self.drives)) if chosen is None else chosen

    async def _format(
        self, drive: DriveId, path: Path, io_type: Callable[[Path], DriveIO]
    ) -> Drive:
        """A drive of the pool made of a prepared folder."""
        label = self._label_of(drive, self._line, self._end_of_ids)
        io = io_type(path)

        def make() -> Probe:
            put_label(path, label)
            io.attach()
            return io.probe()

        seen = await in_thread(make, self._config.io_deadline_s)
        found = Drive(drive, io, label, config=self._config)
        found.belongs = self._belongs
        found.settle(seen, self.epoch)
        return found

    async def _write_labels(
        self,
        line: Lineage,
        end_of_ids: int,
        leave_out: DriveId | None = None,
        joining: DriveId | None = None,
    ) -> None:
        """Write these figures to all drives in use, durably; at least one must take them."""
        drives = [
            drive
            for drive in self.drives
            if drive.state in (DriveState.ONLINE, DriveState.FULL)
            and drive.epoch == self.epoch
            and drive.id != leave_out
        ]
        told_now = {drive.id for drive in drives} | {joining}
        self._members = [
            replace(each, epoch=line[0]) if each.drive in told_now else each
            for each in self._members
        ]
        labels = [self._label_of(drive.id, line, end_of_ids) for drive in drives]
        results = await fan_out(
            [
                partial(drive.io.write_label, label)
                for drive, label in zip(drives, labels, strict=True)
            ],
            self._config.io_deadline_s,
        )
        told = 0
        for drive, label, result in zip(drives, labels, results, strict=True):
            if isinstance(result, Hung):
                drive.note_hung("label")
            elif isinstance(result, outcome.Error):
                drive.note_write_error(result.error)
            else:
                drive.label = label
                told += 1
        if not told:
            raise BelowWriteQuorum(0, 1)

    def _label_of(self, drive: DriveId, line: Lineage, end_of_ids: int) -> Label:
        epoch, tokens = line
        return replace(
            self._label,
            drive=drive,
            epoch=epoch,
            next_segment=end_of_ids,
            members=tuple(self._members),
            lineage=tokens,
        )


def open_drives(
    paths: Sequence[str | os.PathLike[str]],
    *,
    io: Callable[[Path], DriveIO] = DriveIO,
    allow_missing: int | None = None,
) -> Pool:
    """Find the pool whose drives stand at `paths`, and take its locks.

    Drives that are absent, empty or bare mount points are in the pool as OFFLINE. Up to m of
    them may be so, or `allow_missing` if that is given. Drives that came to the pool later are
    found where its labels say, and what stands at `paths` and is not of the pool any more, or not
    yet, is passed over.
    Raises LabelError: no label at all, labels of several stores, a drive twice, one in use by
    another daemon, too many missing, drives that went on without each other.
    """
    ios = [io(Path(os.path.abspath(path))) for path in paths]
    found: list[tuple[DriveIO, Label]] = []
    causes: dict[Path, str] = {}
    try:
        for each in ios:
            _find_label(each, found, causes)
        tried = {each.path for each in ios}
        newest = _agree(found, ios)
        while _follow(newest, found, ios, tried, causes, io):
            newest = _agree(found, ios)
        finish_raise(newest, found)
        drives = _assemble(newest, found, ios, causes, io)
        empty = never_told(newest)
        missing = [drive for drive in drives if drive.label is None and drive.id not in empty]
        pool = Pool(newest, drives)
        if len(missing) > (pool.parity if allow_missing is None else allow_missing):
            absent = ", ".join(f"{drive.io.path} ({drive.cause})" for drive in missing)
            raise LabelError(f"{len(missing)} of {len(drives)} drives are missing: {absent}")
    except BaseException:
        for each in ios:
            each.detach()
        raise
    return pool


def _find_label(io: DriveIO, found: list[tuple[DriveIO, Label]], causes: dict[Path, str]) -> None:
    """Attach to the drive at io's path; say why not when there is none."""
    try:
        label = io.attach()
    except DriveBusy:
        raise
    except (LabelError, OSError) as error:
        causes[io.path] = getattr(error, "strerror", None) or str(error)
        return
    if label is None:
        causes[io.path] = "no label"
    else:
        found.append((io, label))


def _follow(
    newest: Label,
    found: list[tuple[DriveIO, Label]],
    ios: list[DriveIO],
    tried: set[Path],
    causes: dict[Path, str],
    io: Callable[[Path], DriveIO],
) -> bool:
    """Look for members where they were last seen, if nobody named their paths; whether any is."""
    here = {label.drive for _, label in found}
    before = len(found)
    for member in newest.members:
        path = Path(member.path)
        if member.drive not in here and path not in tried:
            tried.add(path)
            _find_label(io(path), found, causes)
    ios += [each for each, _ in found[before:]]
    return len(found) > before


def _agree(found: list[tuple[DriveIO, Label]], ios: list[DriveIO]) -> Label:
    """The label that holds (P1), with the highest `next_segment` of all. Raises LabelError.

    Drives that it doesn't know are let go.
    """
    if not found:
        paths = ", ".join(str(io.path) for io in ios)
        raise LabelError(f"no drive with a label at {paths}; run `twofold init` first")
    stores = {label.store: io.path for io, label in found}
    if len(stores) > 1:
        listed = ", ".join(f"{path} ({store})" for store, path in stores.items())
        raise LabelError(f"drives of several stores: {listed}")
    newest = max((label for _, label in found), key=lambda label: label.epoch)
    known = {member.drive for member in newest.members}
    seen: dict[DriveId, Path] = {}
    for io, label in found:
        if label.drive in seen:
            raise LabelError(f"{io.path} and {seen[label.drive]} have the same label")
        seen[label.drive] = io.path
    end_of_ids = max(label.next_segment for _, label in found)
    for io, label in list(found):
        if label.drive not in known:
            log.warning("%s: this drive was taken out of the pool, and is not used", io.path)
            found.remove((io, label))
            io.detach()
            ios.remove(io)
    refuse_forks(newest, {io.path: label for io, label in found})
    return replace(newest, next_segment=end_of_ids)


def _assemble(
    newest: Label,
    found: Sequence[tuple[DriveIO, Label]],
    ios: Sequence[DriveIO],
    causes: dict[Path, str],
    io: Callable[[Path], DriveIO],
) -> list[Drive]:
    """A `Drive` for each member, those at `ios` in their order, then those at no path given."""
    present = {label.drive: (each, label) for each, label in found}
    absent = [member for member in newest.members if member.drive not in present]
    drives_at: dict[Path, Drive] = {}
    for drive_id, (each, label) in present.items():
        drives_at[each.path] = Drive(drive_id, each, label)
        drives_at[each.path].settle(each.probe(), newest.epoch)
    free_ios = {each.path: each for each in ios if each.path not in drives_at}
    # A path without a label stands for the member last seen there, or for any that is absent.
    absent.sort(key=lambda member: Path(member.path) not in free_ios)
    homeless: list[Drive] = []
    for member in absent:
        path = Path(member.path)
        if path not in free_ios and free_ios:
            path = next(iter(free_ios))
        given = free_ios.pop(path, None)
        cause = causes.get(path, "its path was not given")
        drive = Drive(member.drive, given or io(path), None, cause=cause)
        if given is None:
            homeless.append(drive)
        else:
            drives_at[path] = drive
    for path in free_ios:
        log.warning("%s is no drive of the pool: `twofold drive add` makes it one", path)
    return [drives_at[each.path] for each in ios if each.path in drives_at] + homeless
