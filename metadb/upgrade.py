"""The schema is brought up to date on a copy beside the database, which then takes its place.

    meta.db, meta.db-wal      as the older version left them, only read
    upgraded.db               a copy; the revisions that are missing are applied to it
    upgrade                   its presence means: `upgraded.db` is the database

The copy is held against what it was made of before it counts: SQLite's integrity check, the rows
of each table, and the invariants of `metadb.check`. Then `upgrade` is written: from there on a
crash is followed by the rest of the swap at the next start, before that by another try. The copies
on other drives are of an older run then, and are built anew.

Invariants:
  R1 until `upgrade` is durable nothing that the older version needs is changed, and so it can
     be started again instead;
  R2 `upgrade` counts only while nobody has opened the store since: it names the run it is of.
Concurrency: blocking; run in a thread before the engine opens anything.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from metadb import migrations, wal
from metadb.check import QUERIES
from metadb.errors import UpgradeFailed
from metadb.files import Folder
from metadb.mirror import DATABASE, INDEX, LOG, SUMS
from metadb.recovery import CopyPlace, Found, State, boot_id, read_state, write_state
from metadb.snapshot import SnapshotEnded, connect_reading, stopped_snapshot

_log = logging.getLogger(__name__)

UPGRADED = "upgraded.db"
INTENT = "upgrade"
_LEFT = (UPGRADED, f"{UPGRADED}-wal", f"{UPGRADED}-shm", f"{UPGRADED}-journal")
_DIALECT = sqlite.dialect(paramstyle="qmark")
# The copy, as much again for tables that a revision rebuilds, and something to spare.
_SPARE_BYTES = 16 << 20
_VIOLATIONS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Census:
    """rows: of each table. violations: of each invariant, as far as the schema can be asked."""

    rows: dict[str, int]
    violations: dict[str, int]


def is_due(copy: Found) -> bool:
    """Whether an older version wrote the chosen copy. Raises sqlite3.Error."""
    with contextlib.closing(connect_reading(copy.place.path)) as connection:
        revision = migrations.revision_of(connection)
    return revision is not None and revision < migrations.NEWEST


def upgrade(copy: Found) -> None:
    """Bring the chosen copy up to date. Raises UpgradeFailed; OSError where its drive fails."""
    folder = Folder(copy.place.path)
    with stopped_snapshot(copy.place.path) as snapshot:
        connection = connect_reading(copy.place.path)
        revision = migrations.revision_of(connection)
        size = snapshot.page_count * wal.PAGE_BYTES
        said = f"from revision {revision} to {migrations.NEWEST}"
        _log.info("metadata: upgrading %s, on a copy of %s bytes", said, size)
        try:
            with contextlib.closing(connection):
                before = _census(connection)
            _need_room(folder, 2 * size + _SPARE_BYTES)
            folder.remove(*_LEFT)
            _copy(snapshot.pieces(), folder)
            _migrate(folder.path / UPGRADED)
            _verify(folder.path / UPGRADED, before)
        except (sqlite3.Error, DBAPIError, SnapshotEnded, UnicodeDecodeError, _Refused) as error:
            folder.remove(*_LEFT)
            cause = str(error).splitlines()[0]
            raise UpgradeFailed(
                f"it was not upgraded {said} and is as it was, for the version before this one "
                f"to go on with: {cause}"
            ) from error
    folder.replace(INTENT, json.dumps({"run": copy.state.run}).encode())
    _swap(folder, copy.state.run)
    _log.info("metadata: upgraded %s", said)


def finish(places: Sequence[CopyPlace]) -> None:
    """Do the rest of a swap that a crash cut short, or forget it where it counts no more (R2)."""
    folders = [Folder(place.path) for place in places if place.trusted]
    runs = [state.run for folder in folders if (state := _state_of(folder)) is not None]
    for folder in folders:
        run = _intent_of(folder)
        if run is None:
            continue
        try:
            if run >= max(runs, default=0):
                _swap(folder, run)
                _log.info("metadata: the upgrade that was cut short is complete")
            else:
                folder.remove(INTENT, *_LEFT)
        except OSError as error:
            # The drive fails: `choose` will find out, and take another.
            _log.warning("metadata: %s: the upgrade can't be completed: %s", folder.path, error)


class _Refused(Exception):
    """The upgraded copy is not what it ought to be, or there is no room for one."""


def _state_of(folder: Folder) -> State | None:
    try:
        return read_state(folder)
    except OSError:
        return None


def _intent_of(folder: Folder) -> int | None:
    """The run that was upgraded, if a swap has begun in this folder."""
    try:
        content = folder.read(INTENT)
        return None if content is None else int(json.loads(content)["run"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _swap(folder: Folder, run: int) -> None:
    """Make `upgraded.db` the database. May be repeated from any point where a crash stopped it."""
    if (folder.path / UPGRADED).exists():
        # The log first: its frames are the old database's.
        folder.remove(LOG, INDEX, SUMS)
        os.replace(folder.path / UPGRADED, folder.path / DATABASE)
        folder.sync()
    write_state(folder, State(run=run + 1, boot=boot_id(), is_primary=True, clean=True))
    folder.remove(INTENT)


def _need_room(folder: Folder, size: int) -> None:
    sizes = os.statvfs(folder.path)
    free = sizes.f_bavail * sizes.f_frsize
    if free < size:
        raise _Refused(f"{folder.path} has {free} bytes free and it takes {size}")


def _copy(pieces: Iterator[bytes], folder: Folder) -> None:
    file = folder.open(UPGRADED)
    try:
        offset = 0
        for piece in pieces:
            file.write([piece], offset)
            offset += len(piece)
    finally:
        file.close()


def _migrate(database: Path) -> None:
    """Apply the revisions and make the file durable; it stays in WAL mode, with an empty log."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        migrations.upgrade(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = Folder(database.parent).open(database.name)
    try:
        file.sync()
    finally:
        file.close()


def _verify(database: Path, before: _Census) -> None:
    """Raises _Refused."""
    uri = f"{database.absolute().as_uri()}?immutable=1"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        verdict = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if verdict != "ok":
            raise _Refused(verdict)
        after = _census(connection)
    for table, count in before.rows.items():
        if after.rows.get(table, count) != count:
            raise _Refused(f"table {table} had {count} rows and has {after.rows[table]}")
    for invariant, count in after.violations.items():
        if count > before.violations.get(invariant, 0):
            raise _Refused(f"{count} rows break the invariant {invariant}")


def _census(connection: sqlite3.Connection) -> _Census:
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    rows = {
        name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])
        for (name,) in tables
    }
    violations: dict[str, int] = {}
    for invariant, statement in QUERIES:
        compiled = statement.limit(_VIOLATIONS_MAX).compile(
            dialect=_DIALECT, compile_kwargs={"render_postcompile": True}
        )
        values = tuple(compiled.params[name] for name in compiled.positiontup or ())
        try:
            found = len(connection.execute(str(compiled), values).fetchall())
        except sqlite3.OperationalError as error:
            if not str(error).startswith("no such"):
                raise
            continue  # The older schema had no such table or column.
        violations[invariant] = violations.get(invariant, 0) + found
    return _Census(rows=rows, violations=violations)
