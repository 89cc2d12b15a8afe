"""The scan lane: long queries, on connections of their own, beside the loop's.

SQLAlchemy's asynchronous engine over aiosqlite, whose asyncio runs inside trio (trio-asyncio);
no other module knows of either. Each scan opens a read-only connection, lets SQLite write the
whole result into a temporary table in one go, without the GIL, and hands it out from there in
pages. So a scan sees one consistent snapshot, and however slowly it is read, that snapshot is
held only as long as the query itself takes: the log can restart (`Primary.restart`) soon after.

Concurrency: trio outside; any number of scans at once, each on a thread of aiosqlite.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from trio_asyncio import aio_as_trio, open_loop

from metadb.errors import MetadbError
from metadb.statements import Row

_PAGE = "SELECT * FROM temp.result WHERE rowid > ? AND rowid <= ?"


class ScanLane:
    """Runs scans; made by `open_scan_lane`."""

    def __init__(self, engine: AsyncEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop

    async def pages(
        self, statement: Select[Any], page_rows: int
    ) -> AsyncGenerator[list[Row], None]:
        """Rows of `statement` in lists of up to `page_rows`. Close it when stopping early.

        Raises MetadbError where the database can't be read.
        """
        connection = self._engine.connect()
        try:
            # A connection that was cancelled while it opened could not be closed.
            with trio.CancelScope(shield=True):
                await aio_as_trio(connection.start, loop=self._loop)()
            try:
                await aio_as_trio(self._collect, loop=self._loop)(connection, statement)
                last = 0
                while rows := await aio_as_trio(_page, loop=self._loop)(
                    connection, last, page_rows
                ):
                    last += page_rows
                    yield rows
            finally:
                with trio.CancelScope(shield=True):
                    await aio_as_trio(connection.close, loop=self._loop)()
        except DBAPIError as error:
            # The primary's drive, most likely: the flusher finds that out, and says so.
            raise MetadbError(f"the database can't be scanned: {error.orig}") from error

    async def _collect(self, connection: AsyncConnection, statement: Select[Any]) -> None:
        compiled = statement.compile(
            dialect=self._engine.dialect, compile_kwargs={"render_postcompile": True}
        )
        values = compiled.params
        parameters = tuple(values[name] for name in compiled.positiontup or ())
        await connection.exec_driver_sql(f"CREATE TEMP TABLE result AS {compiled}", parameters)
        await connection.commit()


async def _page(connection: AsyncConnection, last: int, page_rows: int) -> list[Row]:
    result = await connection.exec_driver_sql(_PAGE, (last, last + page_rows))
    return [tuple(row) for row in result.fetchall()]


@asynccontextmanager
async def open_scan_lane(database: Path) -> AsyncIterator[ScanLane]:
    """The lane of the open primary at `database`, an absolute path."""
    address = database.as_uri()
    async with open_loop() as loop:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{address}?mode=ro&uri=true",
            poolclass=NullPool,
            connect_args={"isolation_level": None},
        )
        try:
            yield ScanLane(engine, loop)
        finally:
            with trio.CancelScope(shield=True):
                await aio_as_trio(engine.dispose, loop=loop)()
