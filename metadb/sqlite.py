"""`SqliteEngine`: SQLite on the loop, durability as a separate step.

Invariants: E1 to E3 of `metadb.engine`.
Concurrency: one trio loop owns the read-write connection; see `metadb.engine`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio
from sqlalchemy import Select, create_engine
from sqlalchemy.pool import StaticPool

from metadb.errors import MetadataFull, NoUsableCopy, PrimaryLost
from metadb.schema import METADATA
from metadb.statements import Row, Tx

P = ParamSpec("P")
T = TypeVar("T")

_LOST_CODES = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT}
    | {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlace:
    """A folder on one drive that may hold a copy. trusted: False when the drive came back stale."""

    drive: str
    path: Path
    trusted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadbConfig:
    """copies: how many drives hold the database, max(2, m + 1)."""

    copies: int = 2
    wal_bytes: int = 64 << 20
    flush_interval_s: float = 1.0
    flush_deadline_s: float = 10.0
    cache_bytes: int = 64 << 20


class SqliteEngine:
    """An `Engine`; made by `open_engine`."""

    def __init__(self, place: CopyPlace, config: MetadbConfig) -> None:
        self._config = config
        self._path = place.path / "meta.db"
        self._connection = sqlite3.connect(
            self._path, isolation_level=None, cached_statements=512, timeout=0
        )
        execute = self._execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = OFF")
        execute("PRAGMA wal_autocheckpoint = 0")
        execute(f"PRAGMA cache_size = {-config.cache_bytes // 1024}")
        execute("PRAGMA secure_delete = OFF")
        self._tx = Tx(self._connection)
        self._hook: Callable[[], Awaitable[None]] | None = None

    def transact(
        self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """See `Engine.transact`."""
        execute = self._execute
        try:
            execute("BEGIN IMMEDIATE")
            result = function(self._tx, *args, **kwargs)
            execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _translated(error) from error
            raise
        return result

    def read(
        self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """See `Engine.read`."""
        try:
            return function(self._tx, *args, **kwargs)
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def barrier(self) -> None:
        """See `Engine.barrier`."""
        if self._hook is not None:
            await self._hook()
        await trio.to_thread.run_sync(_sync_file, f"{self._path}-wal")

    def before_flush(self, hook: Callable[[], Awaitable[None]]) -> None:
        """See `Engine.before_flush`."""
        self._hook = hook

    async def scan(
        self, statement: Select[Any], page_rows: int = 500
    ) -> AsyncIterator[list[Row]]:
        """See `Engine.scan`."""
        raise NotImplementedError
        yield []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep barriers coming; raises PrimaryLost."""
        task_status.started()
        while True:
            await trio.sleep(self._config.flush_interval_s)
            await self.barrier()

    def _bring_up(self) -> None:
        engine = create_engine(
            "sqlite://", creator=lambda: self._connection, poolclass=StaticPool
        )
        METADATA.create_all(engine)

    def _close(self) -> None:
        self._connection.close()


@asynccontextmanager
async def open_engine(
    places: Sequence[CopyPlace],
    *,
    config: MetadbConfig,
    on_eject: Callable[[str], Awaitable[None]],
    create: bool = False,
) -> AsyncIterator[SqliteEngine]:
    """Open the store's metadata; `create` makes it anew where none of `places` holds any.

    on_eject: raises the epoch on the labels of all drives but the one named; a copy counts as
    gone only when it has returned.
    """
    place = places[0]
    if not create and not (place.path / "meta.db").exists():
        raise NoUsableCopy(f"{place.path}: no database")
    place.path.mkdir(parents=True, exist_ok=True)
    engine = SqliteEngine(place, config)
    engine._bring_up()
    try:
        yield engine
    finally:
        engine._close()


def _translated(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return MetadataFull("no room to commit")
    if code in _LOST_CODES:
        return PrimaryLost(str(error))
    return error


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
