"""A real namespace on a real SQLite engine; the bytes side is the in-memory fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from metadb.sqlite import CopyPlace, MetadbConfig, SqliteEngine, open_engine
from store.namespace import Namespace
from store.state import StoreConfig
from tests.fakes.memory_chunks import MemoryChunks


@dataclass
class Opened:
    """A running namespace and what it stands on."""

    namespace: Namespace
    engine: SqliteEngine
    chunks: MemoryChunks


async def _never(drive: str) -> None:
    raise AssertionError(f"copy on {drive} was ejected")


@asynccontextmanager
async def open_namespace(folder: Path, chunks: MemoryChunks | None = None) -> AsyncIterator[Opened]:
    """A running namespace with a bucket `box`; its database lives in `folder`.

    chunks: what an earlier life in the same folder left behind.
    """
    chunks = chunks or MemoryChunks()
    config = MetadbConfig(copies=1)
    create = not (folder.exists() and any(folder.iterdir()))
    async with (
        open_engine(
            [CopyPlace(drive="d1", path=folder)], config=config, on_eject=_never, create=create
        ) as engine,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(lambda task_status: engine.run(task_status=task_status))
        namespace = Namespace(engine, chunks, "store-id", StoreConfig(reclaim_interval_s=0.01))
        await nursery.start(lambda task_status: namespace.run(task_status=task_status))
        if not namespace.buckets.page():
            await namespace.buckets.create("box", "owner")
        yield Opened(namespace, engine, chunks)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """A namespace that runs for the length of a test."""
    async with open_namespace(tmp_path / "meta") as opened:
        yield opened


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for what a task of the store does in its own time."""
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)
