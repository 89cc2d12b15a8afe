"""The scan lane, opened when the first scan starts.

The libraries of `metadb.scan` take about as long to import as SQLAlchemy itself, and a daemon that
restarts should answer soon: they wait for the first scan, and are then imported in a thread.

Concurrency: any number of scans at once. The lane is open in a task of its own from the first
scan until the context is left, which is after all scans.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from sqlalchemy import Select

from metadb.statements import Row

if TYPE_CHECKING:
    from metadb.scan import ScanLane


class LazyScanLane:
    """Runs scans; made by `open_lazy_scan_lane`."""

    def __init__(self, database: Path, nursery: trio.Nursery) -> None:
        self._database = database
        self._nursery = nursery
        self._opening = trio.Lock()
        self._lane: ScanLane | None = None

    async def pages(self, statement: Select[Any], page_rows: int) -> AsyncIterator[list[Row]]:
        """See `ScanLane.pages`."""
        lane = self._lane or await self._open()
        async with aclosing(lane.pages(statement, page_rows)) as pages:
            async for page in pages:
                yield page

    async def _open(self) -> ScanLane:
        async with self._opening:
            if self._lane is None:
                await trio.to_thread.run_sync(importlib.import_module, "metadb.scan")
                self._lane = await self._nursery.start(self._keep_open)
            return self._lane

    async def _keep_open(self, *, task_status: trio.TaskStatus[ScanLane]) -> None:
        from metadb.scan import open_scan_lane

        async with open_scan_lane(self._database) as lane:
            task_status.started(lane)
            await trio.sleep_forever()


@asynccontextmanager
async def open_lazy_scan_lane(database: Path) -> AsyncIterator[LazyScanLane]:
    """The lane of the open primary at `database`, an absolute path."""
    failed: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield LazyScanLane(database, nursery)
        except Exception as error:
            failed = error  # The nursery would wrap it in a group: raise it outside.
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
