"""A real namespace on a real SQLite engine; the bytes side is the in-memory fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from sqlalchemy import bindparam, select

from metadb.schema import inode
from metadb.sqlite import CopyPlace, MetadbConfig, SqliteEngine, open_engine
from metadb.statements import Statement, Tx
from store.namespace import Namespace
from store.state import StoreConfig
from tests.fakes.memory_chunks import MemoryChunks

_INODE = Statement(select(inode).where(inode.c.id == bindparam("id")), "id")


@dataclass
class Opened:
    """A running namespace and what it stands on."""

    namespace: Namespace
    engine: SqliteEngine
    chunks: MemoryChunks


def _check_memory(tx: Tx) -> None:
    """After each test: what the engine remembers of rows is what they are."""
    for number, row in tx.inodes.items():
        assert tx.one(_INODE, number) == tuple(row)


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
        engine.read(_check_memory)
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
