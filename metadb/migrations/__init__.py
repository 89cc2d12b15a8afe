"""The schema's history: revisions, applied in order, forward only, when a database is opened.

`versions/` holds one module a revision; the first creates the schema. `python -m
metadb.migrations NAME` writes the next one from the difference between them and `metadb.schema`,
to be read and corrected by hand; `NEWEST` must name it then. Tests hold schema, revisions and
`NEWEST` equal.

Concurrency: synchronous, in one transaction, before the engine serves.
"""

from __future__ import annotations

import sqlite3

NEWEST = "0003"
"""The revision that this version of the program writes."""


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the database up to the newest revision, all or nothing. Raises SchemaTooNew."""
    revision = revision_of(connection)
    if revision != NEWEST:
        # Alembic takes a good part of the daemon's start to import, and is rarely needed.
        from metadb.migrations.apply import apply_missing

        apply_missing(connection, revision)


def revision_of(connection: sqlite3.Connection) -> str | None:
    """What Alembic noted in the database, None for an empty one."""
    table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'alembic_version'"
    if connection.execute(table).fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])
