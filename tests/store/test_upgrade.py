"""A store that the first release left behind, opened by this one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from metadb import migrations
from metadb.check import find_violations
from metadb.migrations.apply import configuration
from store.errors import QuotaExceeded
from store.types import ObjectMeta
from tests.fakes.memory_chunks import MemoryChunks
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened, open_namespace
from tests.store.posix import box, broken, made, version_bytes
from tests.store.versioned import MARKER, enable, history, put


def at_revision(revision: str) -> sqlite3.Connection:
    """Empty tables as they were then, in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    config = configuration()
    with engine.connect() as sqlalchemy_connection:
        config.attributes["connection"] = sqlalchemy_connection
        command.upgrade(config, revision)
        sqlalchemy_connection.commit()
    return connection


def take_back(path: Path, revision: str) -> None:
    """Bring a database to the tables of an earlier revision, with the rows it has of them."""
    old = at_revision(revision)
    tables = [row[0] for row in old.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    made_by = [
        row[0]
        for row in old.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type = 'index'"
        )
    ]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = {
            table: connection.execute(f"SELECT * FROM {table}").fetchall()
            for table in tables
            if table not in ("alembic_version", "version")
        }
        rows["alembic_version"] = [(revision,)]
        connection.execute("BEGIN")
        present = connection.execute(
            "SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'table') "
            "ORDER BY type DESC"
        ).fetchall()
        for kind, name in present:
            connection.execute(f"DROP {kind} {name}")
        for sql in made_by:
            connection.execute(sql)
        for table, found in rows.items():
            for row in found:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        connection.execute("COMMIT")


async def _fill(opened: Opened) -> None:
    namespace, files = opened.namespace, opened.namespace.files
    await put(opened, "d/small", b"small")
    await put(opened, "large", bytes(100_000), ObjectMeta(user={"a": "b"}))
    inode = await made(files, box(files), b"file", b"by the mount")
    files.link(inode, box(files), b"link")
    await namespace.buckets.create("empty", "owner")
    upload = await namespace.uploads.create("box", "k", ObjectMeta())
    await namespace.uploads.put_part("box", "k", upload, 1, BytesBody(bytes(1000)))


async def test_a_store_of_the_first_revision_opens_with_its_usage_counted(tmp_path: Path) -> None:
    folder, chunks = tmp_path / "meta", MemoryChunks()
    async with open_namespace(folder, chunks) as opened:
        await _fill(opened)
        buckets = opened.namespace.buckets
        before = {name: buckets.usage(name) for name in ("box", "empty")}
    take_back(folder / "meta.db", "0001")
    async with open_namespace(folder, chunks) as opened:
        namespace = opened.namespace
        assert opened.engine._execute("SELECT version_num FROM alembic_version").fetchone() == (
            migrations.NEWEST,
        )
        assert before["box"].bytes == 5 + 100_000 + len(b"by the mount") + 1000
        assert {name: namespace.buckets.usage(name) for name in before} == before
        assert await version_bytes(namespace, "large", None) == bytes(100_000)
        # It can do now what came with the new revision.
        await enable(opened)
        await put(opened, "large", b"new")
        await namespace.objects.delete("box", "link")
        assert await history(opened, "large") == [b"new", bytes(100_000)]
        assert await history(opened, "link") == [MARKER, b"by the mount"]
        await namespace.buckets.set_quota("empty", 3)
        await put(opened, "k", b"123", bucket="empty")
        with pytest.raises(QuotaExceeded):
            await put(opened, "l", b"4", bucket="empty")
        assert not broken(namespace)
        assert await find_violations(opened.engine) == []
