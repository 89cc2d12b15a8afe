"""Folders of copies for the tests of `metadb`, and the rows they write and look for."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import bindparam, func, select

from metadb import schema
from metadb.sqlite import CopyPlace, MetadbConfig, SqliteEngine, open_engine
from metadb.statements import Statement, Tx, insert_row

_INSERT = insert_row(schema.setting, replace=True)
_COUNT = Statement(select(func.count()).select_from(schema.setting))
_GET = Statement(
    select(schema.setting.c.value).where(schema.setting.c.name == bindparam("name")), "name"
)

CONFIG = MetadbConfig(
    copies=3,
    wal_bytes=1 << 20,
    flush_interval_s=0.05,
    flush_deadline_s=20.0,
    thread_deadline_s=30.0,
    cache_bytes=1 << 20,
)


def put(tx: Tx, name: str, value: str = "x") -> None:
    """Write one row."""
    tx.run(_INSERT, name, value)


def get(tx: Tx, name: str) -> str | None:
    """The value of a row; None when it is not there."""
    row = tx.one(_GET, name)
    return None if row is None else row[0]


def count(tx: Tx) -> int:
    """Rows there are."""
    row = tx.one(_COUNT)
    assert row is not None
    return int(row[0])


class Pool:
    """Some drives' folders below one directory, and what was ejected."""

    def __init__(self, base: Path, drives: int) -> None:
        self.base = base
        self.places = []
        for index in range(drives):
            (base / f"d{index}").mkdir(parents=True, exist_ok=True)
            self.places.append(CopyPlace(drive=f"d{index}", path=base / f"d{index}" / "meta"))
        self.ejected: list[str] = []

    def path(self, drive: str) -> Path:
        """A drive's folder of metadata."""
        return self.base / drive / "meta"

    def without(self, *drives: str) -> list[CopyPlace]:
        """All places but those."""
        return [place for place in self.places if place.drive not in drives]

    def distrust(self, *drives: str) -> list[CopyPlace]:
        """All places, those not trusted."""
        return [replace(p, trusted=p.drive not in drives) for p in self.places]

    async def on_eject(self, drive: str) -> None:
        """Note what the owner of the labels would be told."""
        await trio.lowlevel.checkpoint()
        self.ejected.append(drive)

    @asynccontextmanager
    async def open(
        self,
        places: list[CopyPlace] | None = None,
        *,
        config: MetadbConfig = CONFIG,
        create: bool = False,
        running: bool = False,
        **options: Any,
    ) -> AsyncIterator[SqliteEngine]:
        """An engine on this pool; with `running`, its service task too."""
        async with open_engine(
            self.places if places is None else places,
            config=config,
            on_eject=self.on_eject,
            create=create,
            **options,
        ) as engine:
            if not running:
                yield engine
                return
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.run)
                yield engine
                nursery.cancel_scope.cancel()

    def crashed(self, base: Path) -> Pool:
        """What a process that dies now leaves: all that was written, synced or not."""
        shutil.copytree(self.base, base)
        pool = Pool(base, len(self.places))
        return pool


def end_round(engine: SqliteEngine) -> None:
    """Commit without a flush, as `engine.run` does soon after a transaction."""
    engine._groups.commit()


def reboot(pool: Pool) -> None:
    """Have all state files say that the machine was started since."""
    for place in pool.places:
        state = place.path / "state"
        if state.exists():
            text = state.read_text()
            boot = text.split('"boot": "')[1].split('"')[0]
            state.write_text(text.replace(boot, "another boot"))


def sqlite_rows(path: Path) -> set[str]:
    """Names of all rows of the copy in `path`, which must pass SQLite's integrity check."""
    connection = sqlite3.connect(path / "meta.db")
    try:
        connection.execute("PRAGMA synchronous = OFF")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {row[0] for row in connection.execute("SELECT name FROM setting")}
    finally:
        connection.close()
