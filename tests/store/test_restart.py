"""What a start finds after the process before it ended anywhere."""

from __future__ import annotations

from pathlib import Path

from metadb import content, inodes
from metadb.statements import Tx
from store.chunks.types import Owner
from store.types import ObjectMeta
from tests.fakes.memory_chunks import MemoryChunks
from tests.store.bodies import BytesBody
from tests.store.conftest import open_namespace
from tests.store.test_objects import get, put

SIZE = 1 << 20


async def test_acknowledged_objects_outlive_a_crash(tmp_path: Path) -> None:
    chunks = MemoryChunks()
    async with open_namespace(tmp_path, chunks) as opened:
        await put(opened, "small", b"s")
        await put(opened, "dir/large", bytes(SIZE))
    chunks.crash()
    async with open_namespace(tmp_path, chunks) as opened:
        assert await get(opened, "small") == b"s"
        assert await get(opened, "dir/large") == bytes(SIZE)


async def test_bytes_that_nothing_names_are_given_back_at_start(tmp_path: Path) -> None:
    chunks = MemoryChunks()
    async with open_namespace(tmp_path, chunks) as opened:
        await put(opened, "k", bytes(SIZE))
        kept = set(chunks.run_ids)
        # An upload whose transaction never came: its bytes are there, no row names them.
        appender = chunks.appender(Owner())
        await appender.append(bytes(SIZE))
        await appender.finish(durable=True)
        assert set(chunks.run_ids) != kept
    async with open_namespace(tmp_path, chunks) as opened:
        assert set(chunks.run_ids) == kept
        assert await get(opened, "k") == bytes(SIZE)


async def test_freed_runs_waiting_at_the_crash_are_given_back(tmp_path: Path) -> None:
    chunks = MemoryChunks()
    async with open_namespace(tmp_path, chunks) as opened:
        await put(opened, "k", bytes(SIZE))
        reader = opened.namespace.objects.open("box", "k")  # keeps reclaim waiting
        await opened.namespace.objects.delete("box", "k")
        assert opened.engine.read(content.freed_runs, 0, 10)
        assert reader.stat.size == SIZE
    async with open_namespace(tmp_path, chunks) as opened:
        assert not chunks.run_ids
        assert not opened.engine.read(content.freed_runs, 0, 10)
        assert not opened.engine.read(content.segments)


async def test_an_unlinked_inode_that_was_open_at_the_crash_is_erased(tmp_path: Path) -> None:
    chunks = MemoryChunks()
    async with open_namespace(tmp_path, chunks) as opened:
        await put(opened, "k", bytes(SIZE))
        number = opened.namespace.objects.stat("box", "k").inode

        def orphan(tx: Tx) -> None:
            inodes.add_orphan(tx, number)

        opened.engine.transact(orphan)
    async with open_namespace(tmp_path, chunks) as opened:
        assert opened.engine.read(inodes.get, number) is None
        assert not chunks.run_ids


async def test_an_upload_outlives_a_restart_with_its_parts(tmp_path: Path) -> None:
    chunks = MemoryChunks()
    async with open_namespace(tmp_path, chunks) as opened:
        uploads = opened.namespace.uploads
        upload_id = await uploads.create("box", "k", ObjectMeta())
        await uploads.put_part("box", "k", upload_id, 1, BytesBody(bytes(SIZE)))
    chunks.crash()
    async with open_namespace(tmp_path, chunks) as opened:
        parts = opened.namespace.uploads.parts("box", "k", upload_id)
        assert [(part.number, part.size) for part in parts] == [(1, SIZE)]


async def test_inode_numbers_are_never_given_out_twice(tmp_path: Path) -> None:
    chunks = MemoryChunks()
    seen: set[int] = set()
    for _ in range(3):
        async with open_namespace(tmp_path, chunks) as opened:
            for _ in range(5):
                await put(opened, "k", b"x")
                number = opened.namespace.objects.stat("box", "k").inode
                assert number not in seen
                seen.add(number)
            await opened.namespace.objects.delete("box", "k")
