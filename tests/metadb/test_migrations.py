"""Revisions and schema agree, and a newer file is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from metadb import migrations
from metadb.errors import SchemaTooNew
from metadb.migrations.apply import configuration
from metadb.schema import METADATA, TRIGGERS
from tests.metadb.copies import Pool, get, put


def described(connection: sqlite3.Connection) -> dict[str, object]:
    """Every table's columns and options, and every index's columns."""
    found: dict[str, object] = {}
    for name, without_rowid in connection.execute(
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
    ).fetchall():
        if name.startswith("sqlite_") or name == "alembic_version":
            continue
        columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
        keys = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
        found[name] = (without_rowid, columns, sorted(row[2:] for row in keys))
        for _, index, unique, _, partial in connection.execute(
            f"PRAGMA index_list({name})"
        ).fetchall():
            parts = connection.execute(f"PRAGMA index_info({index})").fetchall()
            found[index] = (unique, partial, parts)
    for name, sql in connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall():
        found[name] = " ".join(sql.split())
    return found


def memory() -> sqlite3.Connection:
    """An empty database."""
    return sqlite3.connect(":memory:", isolation_level=None)


def test_revisions_make_the_very_tables_of_the_schema() -> None:
    migrated, created = memory(), memory()
    migrations.upgrade(migrated)
    METADATA.create_all(create_engine("sqlite://", creator=lambda: created, poolclass=StaticPool))
    for trigger in TRIGGERS.values():
        created.execute(trigger)
    assert described(migrated) == described(created)


def test_newest_revision_is_the_one_that_is_known_without_alembic() -> None:
    assert ScriptDirectory.from_config(configuration()).get_current_head() == migrations.NEWEST


@pytest.mark.slow
def test_libraries_that_start_rarely_needs_are_not_imported() -> None:
    script = """
import sqlite3, sys
import daemon.app
from metadb import migrations
connection = sqlite3.connect(":memory:", isolation_level=None)
connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
connection.execute("INSERT INTO alembic_version VALUES (?)", (migrations.NEWEST,))
migrations.upgrade(connection)
rare = {"alembic", "aiosqlite", "trio_asyncio", "sqlalchemy.ext.asyncio", "sqlalchemy.orm"}
sys.exit(", ".join(rare & sys.modules.keys()) or 0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_upgrade_of_what_is_up_to_date_changes_nothing() -> None:
    connection = memory()
    migrations.upgrade(connection)
    changes = connection.total_changes
    migrations.upgrade(connection)
    assert connection.total_changes == changes
    assert not connection.in_transaction


def test_revision_nobody_knows_is_refused() -> None:
    connection = memory()
    migrations.upgrade(connection)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew):
        migrations.upgrade(connection)


async def test_store_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
        engine._execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew):
        async with pool.open():
            pass
    connection = sqlite3.connect(pool.path("d0") / "meta.db", isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = ?", (migrations.NEWEST,))
    connection.close()
    async with pool.open(pool.without("d1")) as engine:
        assert engine.read(get, "a") == "x"
