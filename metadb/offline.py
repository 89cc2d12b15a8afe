"""The metadata of a store that no daemon serves: looked at, compared, laid down from a backup.

Looking changes no row and no file but what each start does to the log of the last primary
(`metadb.recovery`). The caller holds the drives' locks, so that no daemon starts meanwhile.

Invariant: `lay_down` takes every other copy's `state` away before the new one gets its own, so
that a crash in between leaves no copy at all, and never an old one to be taken for the new.
Concurrency: blocking, but for `StoppedCopy.scan`, which blocks its loop: nobody else waits there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Select
from sqlalchemy.dialects import sqlite
from xxhash import xxh3_128

from metadb import buckets, changes, migrations, wal
from metadb.archive import Archive, BadArchive
from metadb.errors import NoUsableCopy, SchemaTooNew
from metadb.files import Folder
from metadb.mirror import DATABASE, INDEX, LOG, STATE, SUMS
from metadb.recovery import (
    UNUSABLE,
    CopyPlace,
    State,
    boot_id,
    choose,
    read_state,
    write_state,
)
from metadb.series import Composed
from metadb.snapshot import connect_reading, stopped_snapshot
from metadb.statements import Row, Tx
from metadb.upkeep import MetadbConfig

P = ParamSpec("P")
T = TypeVar("T")

_DIALECT = sqlite.dialect(paramstyle="qmark")
_RESTORED = "restored.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """store: its id, "" where the database is new. sequence: of the newest change.

    inode_ceiling: above every inode number that was ever given out.
    """

    store: str
    sequence: int
    inode_ceiling: int


def facts_of(tx: Tx) -> Facts:
    """What a backup says of the database it is of."""
    return Facts(
        store=buckets.setting_of(tx, "store_id") or "",
        sequence=changes.last(tx),
        inode_ceiling=int(buckets.setting_of(tx, "inode_ceiling") or 0),
    )


class StoppedCopy:
    """Reads as `Engine` does; made by `opened_copy`."""

    def __init__(self, place: CopyPlace, connection: sqlite3.Connection) -> None:
        self.place = place
        self._connection = connection
        self._tx = Tx(connection)

    def read(
        self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """See `Engine.read`."""
        return function(self._tx, *args, **kwargs)

    async def scan(self, statement: Select[Any], page_rows: int = 500) -> AsyncIterator[list[Row]]:
        """See `Engine.scan`."""
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        values = tuple(compiled.params[name] for name in compiled.positiontup or ())
        cursor = self._connection.execute(str(compiled), values)
        while rows := cursor.fetchmany(page_rows):
            yield rows


@contextmanager
def opened_copy(places: Sequence[CopyPlace]) -> Iterator[StoppedCopy]:
    """The copy that the next start would go on from. Raises NoUsableCopy, SchemaTooNew.

    SchemaTooNew also for an older schema: a start brings it up to date.
    """
    check_bytes = MetadbConfig().check_bytes
    place = choose(places, boot=boot_id(), check_bytes=check_bytes, wrong=[]).primary.place
    connection: sqlite3.Connection | None = None
    try:
        connection = connect_reading(place.path)
        revision = migrations.revision_of(connection)
        if revision != migrations.NEWEST:
            raise SchemaTooNew(
                f"the metadata has revision {revision}, this version {migrations.NEWEST}: "
                "start the daemon once, or take its version"
            )
        yield StoppedCopy(place, connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise NoUsableCopy(f"{place.path}: {error}") from error
    finally:
        if connection is not None:
            connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A copy that is not what the chosen one is. behind: it only lacks what was last written."""

    place: CopyPlace
    behind: bool
    cause: str


def compare_copies(places: Sequence[CopyPlace], chosen: CopyPlace) -> list[Difference]:
    """Read all copies of the last run whole; those that differ from the chosen one."""
    found: list[Difference] = []
    own = read_state(Folder(chosen.path))
    frames, header, digest = _digest(chosen.path)
    for place in places:
        state = read_state(Folder(place.path)) if place.trusted else None
        if place.drive == chosen.drive or state is None or own is None or state.run != own.run:
            continue
        try:
            theirs, their_header, their_digest = _digest(place.path)
        except UNUSABLE as error:
            found.append(Difference(place=place, behind=False, cause=str(error)))
            continue
        if (theirs, their_header) != (frames, header) and not (state.clean and own.clean):
            cause = f"{theirs} frames of the log, not {frames}"
            found.append(Difference(place=place, behind=True, cause=cause))
        elif their_digest != digest:
            found.append(Difference(place=place, behind=False, cause="pages differ"))
    return found


def disown(place: CopyPlace) -> None:
    """Have a place say that it holds no copy: the next opening builds it anew. Raises OSError."""
    Folder(place.path).remove(STATE)


def _digest(folder: Path) -> tuple[int, bytes, bytes]:
    """Frames in the log, its header, and the digest of all pages."""
    log = folder / LOG
    header = b""
    if log.exists():
        with log.open("rb") as file:
            header = file.read(wal.HEADER_BYTES)
    digest = xxh3_128()
    with stopped_snapshot(folder) as snapshot:
        for piece in snapshot.pieces():
            digest.update(piece)
        return snapshot.frames, header, digest.digest()


def lay_down(places: Sequence[CopyPlace], archive: Archive | Composed) -> None:
    """Make the backup the only copy there is, on the first place. Raises BadArchive, OSError.

    places: of all drives that can be written. The drives that can't have a lower epoch already.
    Nothing is taken away before the whole backup stands beside it, durable and sound.
    """
    first = Folder(places[0].path)
    first.make()
    beside = first.path / _RESTORED
    beside.unlink(missing_ok=True)
    file = first.open(_RESTORED)
    offset = 0
    for piece in archive.pieces():
        file.write([piece], offset)
        offset += len(piece)
    file.sync()
    file.close()
    _refuse_unsound(beside, archive.path)
    runs = [state.run for p in places if (state := read_state(Folder(p.path))) is not None]
    for place in places:
        Folder(place.path).remove(STATE)
    first.remove(DATABASE, LOG, INDEX, SUMS)
    beside.rename(first.path / DATABASE)
    first.sync()
    run = max(runs, default=0) + 1
    write_state(first, State(run=run, boot=boot_id(), is_primary=True, clean=True))


def _refuse_unsound(database: Path, source: Path) -> None:
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?immutable=1", uri=True)
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        revision = migrations.revision_of(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        verdict, revision = str(error), None
    finally:
        connection.close()
    if verdict != "ok":
        raise BadArchive(f"{source}: {verdict}")
    if revision is None or revision > migrations.NEWEST:
        raise BadArchive(f"{source}: its schema {revision} is newer than this version of twofold")


def raise_inode_ceiling(tx: Tx, ceiling: int) -> None:
    """See to it that no inode number below `ceiling` is given out again."""
    if ceiling > int(buckets.setting_of(tx, "inode_ceiling") or 0):
        buckets.set_setting(tx, "inode_ceiling", str(ceiling))
