"""What stands on the drives at start, and which copy the store goes on from.

Each copy's folder has a `state` file, written when the copy is whole, at each start and at a
clean stop. From it, from the log's header and from what SQLite finds valid of the log, `choose`
picks the next primary:
  - copies of the newest run count, others are leftovers of a drive that was gone;
  - where the machine has not been started anew, the primary has everything that was ever
    committed, acknowledged or not, and is taken, unless a copy has more;
  - where it has, frames that only the primary's log holds may name bytes that were never synced
    (E3): they are cut off, or, where they may be in its database file already (`turning`), the
    newest copy is taken and the old primary built anew;
  - one that SQLite can't open or finds damaged is passed over.
What is detected: a damaged log ends early (frames carry checksums), so another copy has more
frames; any damaged page of a database file, by the sums a copy keeps (`metadb.sums`), before it
is used (up to `check_bytes`) and later by `Upkeep`; after an unclean stop also what
`PRAGMA quick_check` finds. What is not: a flipped byte in a row's content, or lost frames at the
log's end, where there is one drive and so no copy; pages of a copy that was a primary before and
that haven't changed since.
Concurrency: blocking; run in a thread before the engine serves.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from metadb import wal
from metadb.errors import NoUsableCopy
from metadb.files import Folder
from metadb.mirror import DATABASE, INDEX, LOG, STATE, SUMS
from metadb.sums import damaged_pages

_SECTOR_BYTES = 512
_FORMAT = 1
UNUSABLE = (OSError, sqlite3.Error, UnicodeDecodeError)
"""What comes of a damaged database: SQLite may quote a name that is no UTF-8 any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlace:
    """A folder on one drive that may hold a copy.

    drive: its id; path: the folder, made when absent (its parent must exist);
    trusted: False when the drive came back stale: what it holds is never read.
    """

    drive: str
    path: Path
    trusted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a whole copy says of itself.

    run: number of the start it last took part in; boot: the machine's boot id then;
    turning: the primary may have checkpointed frames that no copy holds.
    """

    run: int
    boot: str
    is_primary: bool
    clean: bool = False
    turning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A whole copy as it stands on a drive: `frames` valid frames behind `log_header`."""

    place: CopyPlace
    state: State
    log_header: bytes
    frames: int

    @property
    def rank(self) -> tuple[int, int]:
        """Grows with what was committed, within a run."""
        return (wal.checkpoint_number(self.log_header), self.frames)

    def leads_to(self, other: Found) -> bool:
        """Whether this copy becomes `other` by frames of other's log alone."""
        return self.log_header == other.log_header and self.frames <= other.frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """primary: what to go on from; keep: copies that only lack frames; run: the number to take."""

    primary: Found
    keep: tuple[Found, ...]
    run: int


def boot_id() -> str:
    """Which start of the machine this is. See proc_sys_kernel(5)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_state(folder: Folder, state: State) -> None:
    """Durably, also on a drive without a block to spare, where one is there. Blocks."""
    content = json.dumps({"format": _FORMAT, **asdict(state)}).encode()
    assert len(content) <= _SECTOR_BYTES, content
    try:
        folder.replace(STATE, content)
    except OSError as error:
        if error.errno != errno.ENOSPC or folder.read(STATE) is None:
            raise
        folder.overwrite(STATE, content)


def read_state(folder: Folder) -> State | None:
    """None when there is no whole copy in the folder, or none this version knows."""
    content = folder.read(STATE)
    if content is None:
        return None
    try:
        fields = json.loads(content)
        if fields.pop("format") != _FORMAT:
            return None
        return State(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def choose(places: Sequence[CopyPlace], *, boot: str, check_bytes: int, wrong: list[str]) -> Choice:
    """Find the next primary. Raises NoUsableCopy, naming what is wrong with each copy.

    wrong: what is known to be wrong already; grows. May cut the old primary's log (see the
    module); changes nothing else.
    """
    found = [copy for place in places if (copy := _find(place, wrong)) is not None]
    run = max((copy.state.run for copy in found), default=0)
    found = [copy for copy in found if copy.state.run == run]
    for candidate in _in_order(found, boot):
        found.remove(candidate)
        candidate = _cut(candidate, found, boot)
        size = (candidate.place.path / DATABASE).stat().st_size
        if size <= check_bytes and not _is_sound(candidate, found, wrong):
            continue
        keep = tuple(copy for copy in found if copy.leads_to(candidate))
        return Choice(primary=candidate, keep=keep, run=run + 1)
    raise NoUsableCopy("; ".join(wrong) or "no drive holds a copy of the metadata")


def _in_order(found: list[Found], boot: str) -> list[Found]:
    """Best first: the highest rank, of equals the primary, as far as the primary may be used."""

    def merit(copy: Found) -> tuple[bool, tuple[int, int], bool]:
        state = copy.state
        rebooted = state.boot != boot and not state.clean
        doubtful = rebooted and state.is_primary and state.turning
        rank = copy.rank
        if rebooted and state.is_primary and (others := _newest_copy(found)) is not None:
            rank = min(rank, others.rank)
        return (not doubtful, rank, state.is_primary)

    return sorted(found, key=merit, reverse=True)


def _newest_copy(found: list[Found]) -> Found | None:
    return max((c for c in found if not c.state.is_primary), key=lambda c: c.rank, default=None)


def _cut(candidate: Found, found: list[Found], boot: str) -> Found:
    """Cut frames off the old primary's log that no copy holds, after a start of the machine."""
    state = candidate.state
    newest = _newest_copy(found)
    if state.boot == boot or state.clean or not state.is_primary or newest is None:
        return candidate
    if newest.log_header != candidate.log_header or newest.frames >= candidate.frames:
        return candidate
    folder = Folder(candidate.place.path)
    log = folder.open(LOG)
    try:
        at = wal.end_of(newest.frames)
        log.write_synced(bytes(wal.FRAME_HEADER_BYTES), at)
    finally:
        log.close()
    return replace(candidate, frames=newest.frames)


def _find(place: CopyPlace, wrong: list[str]) -> Found | None:
    """What stands in `place`, opened read-only: SQLite then neither checkpoints nor deletes."""
    if not place.trusted:
        return None
    folder = Folder(place.path)
    try:
        state = read_state(folder)
        if state is None:
            return None
        for name in (DATABASE, LOG):
            # After a clean stop there is nothing in the log; `sqlite3` on the file removes it.
            needed = name == DATABASE or not state.clean
            if needed and not (place.path / name).is_file():
                wrong.append(f"{place.path / name}: missing")
                return None
        header = _log_header(place.path / LOG)
        frames = _valid_frames(place.path)
    except UNUSABLE as error:
        wrong.append(f"{place.path}: {error}")
        return None
    return Found(place=place, state=state, log_header=header, frames=frames)


def _log_header(log: Path) -> bytes:
    try:
        with open(log, "rb") as file:
            return file.read(wal.HEADER_BYTES)
    except FileNotFoundError:
        return b""


def _valid_frames(path: Path) -> int:
    """Committed frames in the log, whose checksums SQLite verifies when it opens the database."""
    # A wal-index that was left here knows nothing of frames the mirror wrote since.
    (path / INDEX).unlink(missing_ok=True)
    connection = _open_read_only(path)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        index = wal.WalIndex(path / DATABASE)
        try:
            return index.frames()
        finally:
            index.close()
    finally:
        connection.close()


def _is_sound(candidate: Found, others: list[Found], wrong: list[str]) -> bool:
    """Whether all pages are what the sums of a copy say, and SQLite finds no fault either."""
    path = candidate.place.path
    try:
        for copy in [candidate, *others]:
            sums = copy.place.path / SUMS
            same = copy.log_header and copy.log_header == candidate.log_header
            if same and not copy.state.is_primary and sums.exists():
                pages = damaged_pages(path / DATABASE, sums, path / LOG, frames=candidate.frames)
                if pages:
                    wrong.append(f"{path / DATABASE}: {len(pages)} damaged pages")
                    return False
                break
        verdict = "ok" if candidate.state.clean else _quick_check(path)
    except UNUSABLE as error:
        verdict = str(error)
    if verdict != "ok":
        wrong.append(f"{path}: {verdict}")
    return verdict == "ok"


def _quick_check(path: Path) -> str:
    connection = _open_read_only(path)
    try:
        return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    finally:
        connection.close()


def _open_read_only(path: Path) -> sqlite3.Connection:
    uri = f"{(path / DATABASE).absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None)
