"""What the mount writes, reads and publishes, against a bytearray and S3's view of it."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from metadb import content, inodes
from metadb.records import InodeId
from store import drafts
from store.chunks.errors import NoSpace as ChunksFull
from store.errors import NoSpace, NoSuchEntry, NoSuchKey, TooLarge, Unavailable
from store.files import Changes
from store.handles import Handle
from tests.fakes.memory_chunks import MemoryChunks
from tests.store.conftest import Opened, open_namespace, until
from tests.store.posix import (
    CALLER,
    box,
    broken,
    contents,
    joined,
    made,
    object_bytes,
    read_back,
)

INLINE_BYTES = 16 * 1024
OFFSETS = st.integers(0, 60_000)
SIZES = st.one_of(st.integers(0, 300), st.integers(4000, 5000), st.integers(15_000, 30_000))
STEPS = st.one_of(
    st.tuples(st.just("write"), OFFSETS, SIZES),
    st.tuples(st.just("write"), st.integers(0, 8).map(lambda n: n * 4096), SIZES),
    st.tuples(st.just("append"), st.just(0), SIZES),
    st.tuples(st.sampled_from(["truncate", "truncate here"]), OFFSETS, st.just(0)),
    st.tuples(st.just("read"), OFFSETS, SIZES),
    st.tuples(st.sampled_from(["flush", "flush", "reopen", "empty"]), st.just(0), st.just(0)),
)
OPERATIONS = st.lists(st.tuples(STEPS, st.integers(0, 1)), min_size=8, max_size=24)


class Model:
    """The file as it should be: through the mount, and as S3 sees it."""

    def __init__(self) -> None:
        self.drafted = bytearray()
        self.published: bytes | None = None
        self.counter = 0

    def piece(self, size: int) -> bytes:
        self.counter += 1
        return random.Random(self.counter).randbytes(size)

    def write(self, offset: int, piece: bytes) -> None:
        if piece:
            self.truncate(max(len(self.drafted), offset))
            self.drafted[offset : offset + len(piece)] = piece

    def truncate(self, size: int) -> None:
        del self.drafted[size:]
        self.drafted.extend(bytes(size - len(self.drafted)))


async def _step(
    opened: Opened, model: Model, handles: list[Handle], which: int, step: tuple[str, int, int]
) -> None:
    files, handle = opened.namespace.files, handles[which]
    what, offset, size = step
    if what == "append":
        what, offset = "write", len(model.drafted)
    if what == "write":
        piece = model.piece(size)
        assert await handle.write(offset, piece) == size
        model.write(offset, piece)
    elif what == "truncate":
        await files.change(handle.inode, Changes(size=offset))
        model.truncate(offset)
        model.published = bytes(model.drafted)
    elif what == "truncate here":
        await files.change(handle.inode, Changes(size=offset), handle)
        model.truncate(offset)
    elif what == "read":
        found = joined(await handle.read(offset, size))
        assert found == model.drafted[offset : offset + size]
    elif what == "flush":
        await handle.flush()
        model.published = bytes(model.drafted)
    elif what == "empty":
        handles.append(files.open(handle.inode, os.O_RDWR | os.O_TRUNC))
        await handles.pop().release()
        model.truncate(0)
        model.published = b""
    else:
        await handle.release()
        model.published = bytes(model.drafted)
        handles[which] = files.open(handle.inode, os.O_RDWR)


async def _play(folder: Path, cold: bool, steps: list[tuple[tuple[str, int, int], int]]) -> None:
    chunks = MemoryChunks(run_bytes=20_000)
    chunks.cold = cold
    async with open_namespace(folder / "meta", chunks) as opened:
        files, objects = opened.namespace.files, opened.namespace.objects
        first, row = files.create(box(files), b"f", 0o644, os.O_RDWR, CALLER)
        handles = [first, files.open(row.id, os.O_RDWR)]
        model = Model()
        for step, which in steps:
            await _step(opened, model, handles, which, step)
            assert files.attributes(row.id).size == len(model.drafted)
            if model.published is None:
                with pytest.raises(NoSuchKey):
                    objects.stat("box", "f")
                continue
            assert await object_bytes(opened.namespace, "f") == model.published
            etag = objects.stat("box", "f").etag
            md5 = hashlib.md5(model.published).hexdigest()
            assert etag == md5 if "-" not in etag else etag.endswith("-1")
        assert await read_back(handles[0], 200_000) == model.drafted
        assert not broken(opened.namespace)
        for handle in handles:
            await handle.release()
        assert await object_bytes(opened.namespace, "f") == model.drafted
        assert not broken(opened.namespace)
        named = {extent.run for extent in opened.engine.read(content.extents_of, row.id)}
        await until(lambda: not opened.engine.read(content.freed_runs, 0, 1))
        assert chunks.run_ids == named


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    cold=st.booleans(),
    held=st.sampled_from([1000, 30_000, drafts.HELD_BYTES_MAX]),
    steps=OPERATIONS,
)
def test_any_sequence_of_writes_reads_and_publications_matches_a_bytearray(
    cold: bool, held: int, steps: list[tuple[tuple[str, int, int], int]]
) -> None:
    before = drafts.HELD_BYTES_MAX
    drafts.HELD_BYTES_MAX = held
    try:
        with tempfile.TemporaryDirectory() as folder:
            trio.run(_play, Path(folder), cold, steps)
    finally:
        drafts.HELD_BYTES_MAX = before


@pytest.mark.parametrize("cut", [0, 5, 10_000, 30_000, 59_999])
@pytest.mark.parametrize("regrown", [30_001, 50_000, 70_000])
async def test_what_was_cut_off_does_not_come_back_when_the_file_grows(
    opened: Opened, cut: int, regrown: int
) -> None:
    files = opened.namespace.files
    content_ = random.Random(1).randbytes(60_000)
    inode = await made(files, box(files), b"f", content_)
    handle = files.open(inode, os.O_RDWR)
    await files.change(inode, Changes(size=cut), handle)
    await files.change(inode, Changes(size=regrown), handle)
    expected = content_[:cut].ljust(regrown, b"\0")[:regrown]
    assert await read_back(handle, 100_000) == expected
    await handle.release()
    assert await object_bytes(opened.namespace, "f") == expected
    assert not broken(opened.namespace)


async def test_a_file_is_no_key_before_its_first_close(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    handle, row = files.create(box(files), b"f", 0o600, os.O_WRONLY, CALLER)
    await handle.write(0, b"abc")
    assert files.lookup(box(files), b"f").size == 3
    with pytest.raises(NoSuchKey):
        objects.stat("box", "f")
    await handle.flush()
    assert objects.stat("box", "f").etag == hashlib.md5(b"abc").hexdigest()
    await handle.release()
    assert files.attributes(row.id).mode & 0o777 == 0o600


async def test_a_file_closed_unwritten_is_an_empty_object(opened: Opened) -> None:
    await made(opened.namespace.files, box(opened.namespace.files), b"f")
    stat = opened.namespace.objects.stat("box", "f")
    assert (stat.size, stat.etag) == (0, hashlib.md5().hexdigest())


async def test_a_flush_of_what_was_not_written_changes_nothing(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"abc")
    before = files.attributes(inode)
    handle = files.open(inode, os.O_RDWR)
    await handle.flush()
    await handle.fsync(datasync=False)
    await handle.release()
    assert files.attributes(inode) == before


@pytest.mark.parametrize("size", [100, 50_000, 3 << 20])
async def test_the_etag_of_a_file_written_from_front_to_back_is_its_md5(
    opened: Opened, size: int
) -> None:
    files = opened.namespace.files
    content_ = os.urandom(size)
    handle, _ = files.create(box(files), b"f", 0o644, os.O_WRONLY, CALLER)
    step = size // 3 + 1
    for offset in range(0, size, step):
        await handle.write(offset, content_[offset : offset + step])
    await handle.flush()
    assert opened.namespace.objects.stat("box", "f").etag == hashlib.md5(content_).hexdigest()
    # Going on where it ended keeps it so.
    await handle.write(size, b"tail")
    await handle.release()
    etag = opened.namespace.objects.stat("box", "f").etag
    assert etag == hashlib.md5(content_ + b"tail").hexdigest()


async def test_the_etag_of_any_other_edit_is_opaque_and_new_each_time(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"abcdef")
    seen = {opened.namespace.objects.stat("box", "f").etag}
    for offset in (3, 3, 0):
        handle = files.open(inode, os.O_WRONLY)
        await handle.write(offset, b"xyz")
        await handle.release()
        seen.add(opened.namespace.objects.stat("box", "f").etag)
    assert len(seen) == 4
    assert sum(etag.endswith("-1") for etag in seen) == 3


async def test_random_small_writes_become_one_run(opened: Opened) -> None:
    files = opened.namespace.files
    handle, row = files.create(box(files), b"f", 0o644, os.O_WRONLY, CALLER)
    offsets = [(index * 7919) % 400 * 8192 for index in range(400)]
    for offset in offsets:
        await handle.write(offset, os.urandom(4096))
    await handle.flush()
    extents = opened.engine.read(content.extents_of, row.id)
    assert len(extents) == 400
    assert len({extent.run for extent in extents}) == 1
    assert not broken(opened.namespace)
    await handle.release()


async def test_growing_by_size_alone_needs_no_extents(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f")
    await files.change(inode, Changes(size=10 << 30))
    assert files.attributes(inode).size == 10 << 30
    assert not opened.engine.read(content.extents_of, inode)
    handle = files.open(inode, os.O_RDONLY)
    assert joined(await handle.read(5 << 30, 4096)) == bytes(4096)
    await handle.release()
    with pytest.raises(TooLarge):
        await files.change(inode, Changes(size=6 << 40))


async def test_content_moves_out_of_the_database_when_it_grows_and_back(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"a" * 100)
    assert opened.engine.read(content.inline_of, inode) == b"a" * 100
    handle = files.open(inode, os.O_RDWR)
    await handle.write(50_000, b"b")
    await handle.flush()
    assert opened.engine.read(content.inline_of, inode) is None
    assert await object_bytes(opened.namespace, "f") == b"a" * 100 + bytes(49_900) + b"b"
    await files.change(inode, Changes(size=50), handle)
    await handle.release()
    assert opened.engine.read(content.inline_of, inode) == b"a" * 50
    assert not broken(opened.namespace)


async def test_an_edit_keeps_headers_but_not_checksums(opened: Opened) -> None:
    from store.types import ObjectMeta
    from tests.store.bodies import BytesBody

    files, objects = opened.namespace.files, opened.namespace.objects
    meta = ObjectMeta(
        content_type="text/x", user={"k": "v"}, checksums={"CRC32": "AAAA"}, part_sizes=(3,)
    )
    await objects.put("box", "f", BytesBody(b"abc"), meta)
    inode = files.lookup(box(files), b"f").id
    handle = files.open(inode, os.O_WRONLY)
    await handle.write(0, b"x")
    await handle.release()
    kept = objects.stat("box", "f").meta
    assert (kept.content_type, kept.user) == ("text/x", {"k": "v"})
    assert (kept.checksums, kept.part_sizes) == ({}, ())


async def test_times_set_by_hand_outlive_the_publication(opened: Opened) -> None:
    files = opened.namespace.files
    handle, row = files.create(box(files), b"f", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, b"abc")
    await files.change(row.id, Changes(mtime_ns=123_000_000_000))
    await handle.release()
    after = files.attributes(row.id)
    assert after.mtime_ns == 123_000_000_000
    assert after.stored_ns > after.mtime_ns


async def test_an_unlinked_file_lives_until_its_last_handle(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"a" * 30_000)
    one, two = files.open(inode, os.O_RDWR), files.open(inode, os.O_RDONLY)
    files.unlink(box(files), b"f")
    assert files.attributes(inode).nlink == 0
    await one.write(30_000, b"b" * 3_000_000)
    await one.flush()
    await one.release()
    assert joined(await two.read(29_999, 3)) == b"abb"
    assert files.attributes(inode).size == 3_030_000
    await two.release()
    with pytest.raises(NoSuchEntry):
        files.attributes(inode)
    assert not broken(opened.namespace)
    await until(lambda: not opened.chunks.run_ids)


async def test_a_put_over_an_open_file_leaves_the_handle_its_bytes(opened: Opened) -> None:
    from store.types import ObjectMeta
    from tests.store.bodies import BytesBody

    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"old")
    handle = files.open(inode, os.O_RDWR)
    await handle.write(3, b"er")
    await opened.namespace.objects.put("box", "f", BytesBody(b"new"), ObjectMeta())
    await handle.flush()
    assert await read_back(handle, 10) == b"older"
    await handle.release()
    assert await object_bytes(opened.namespace, "f") == b"new"
    assert not broken(opened.namespace)


@pytest.mark.parametrize("knob", ["full", "below_quorum"])
async def test_a_write_that_does_not_fit_is_refused_and_the_draft_stays(
    opened: Opened, knob: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "HELD_BYTES_MAX", 50_000)
    files = opened.namespace.files
    handle, row = files.create(box(files), b"f", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, b"a" * 40_000)
    setattr(opened.chunks, knob, True)
    error = NoSpace if knob == "full" else Unavailable
    for _ in range(3):
        with pytest.raises(error):
            await handle.write(40_000, b"b" * 40_000)
    with pytest.raises(error):
        await handle.flush()
    assert files.attributes(row.id).size == 40_000
    setattr(opened.chunks, knob, False)
    await handle.write(40_000, b"c" * 40_000)
    await handle.release()
    assert await object_bytes(opened.namespace, "f") == b"a" * 40_000 + b"c" * 40_000
    assert not broken(opened.namespace)


async def test_a_failed_finish_is_tried_again_at_the_next_flush(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"0" * 20_000)
    handle = files.open(inode, os.O_WRONLY)
    await handle.write(10_000, b"1" * 20_000)
    real = MemoryChunks.check_writable
    calls = 0

    def fails_at_finish(chunks: MemoryChunks) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ChunksFull
        real(chunks)

    monkeypatch.setattr(MemoryChunks, "check_writable", fails_at_finish)
    with pytest.raises(NoSpace):
        await handle.flush()
    assert await object_bytes(opened.namespace, "f") == b"0" * 20_000
    await handle.flush()
    assert await object_bytes(opened.namespace, "f") == b"0" * 10_000 + b"1" * 20_000
    await handle.release()


async def test_two_flushes_and_writes_at_once_lose_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "HELD_BYTES_MAX", 10_000)
    files = opened.namespace.files
    handle, row = files.create(box(files), b"f", 0o644, os.O_RDWR, CALLER)

    async def write(part: int) -> None:
        for step in range(10):
            await handle.write(part * 100_000 + step * 4096, bytes([part]) * 4096)
            await trio.lowlevel.checkpoint()

    async def flush() -> None:
        for _ in range(10):
            await handle.flush()
            await handle.read(0, 500_000)

    async with trio.open_nursery() as nursery:
        for part in range(1, 5):
            nursery.start_soon(write, part)
        nursery.start_soon(flush)
        nursery.start_soon(flush)
    await handle.release()
    found = await contents(files, row.id)
    for part in range(1, 5):
        assert found[part * 100_000 : part * 100_000 + 40_960] == bytes([part]) * 40_960
    assert not broken(opened.namespace)


async def test_truncation_during_a_publication_is_what_is_published(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened.namespace.files
    handle, row = files.create(box(files), b"f", 0o644, os.O_RDWR, CALLER)
    await handle.write(0, b"a" * 100_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle.flush)
        await trio.lowlevel.checkpoint()
        other = files.open(row.id, os.O_WRONLY | os.O_TRUNC)
    await other.write(0, b"bc")
    await other.release()
    await handle.release()
    assert await object_bytes(opened.namespace, "f") == b"bc"
    assert not broken(opened.namespace)
    await until(lambda: not opened.chunks.run_ids)


async def test_what_was_closed_is_durable_after_the_barrier(tmp_path: Path) -> None:
    chunks = MemoryChunks()
    async with open_namespace(tmp_path / "meta", chunks) as opened:
        files = opened.namespace.files
        inode = await made(files, box(files), b"closed", b"c" * 50_000)
        handle = files.open(inode, os.O_WRONLY)
        await handle.write(0, b"d")
        await handle.fsync(datasync=True)
        await handle.write(0, b"e")
        assert joined(await handle.read(0, 2)) == b"ec"
        chunks.crash()
    async with open_namespace(tmp_path / "meta", chunks) as opened:
        assert await object_bytes(opened.namespace, "closed") == b"d" + b"c" * 49_999
        assert opened.engine.read(inodes.orphans) == []
        assert not broken(opened.namespace)


async def test_runs_read_before_publication_are_held_by_an_orphan(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "HELD_BYTES_MAX", 10_000)
    files = opened.namespace.files
    handle, _ = files.create(box(files), b"f", 0o644, os.O_RDWR, CALLER)
    await handle.write(0, b"a" * 40_000)
    await handle.write(40_000, b"b" * 40_000)
    assert joined(await handle.read(39_999, 2)) == b"ab"
    anchors: list[InodeId] = opened.engine.read(inodes.orphans)
    assert len(anchors) == 1
    assert not broken(opened.namespace)
    await handle.release()
    assert opened.engine.read(inodes.orphans) == []
    assert not broken(opened.namespace)


async def test_runs_that_were_read_before_publication_are_durable_after_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "HELD_BYTES_MAX", 10_000)
    chunks = MemoryChunks()
    async with open_namespace(tmp_path / "meta", chunks) as opened:
        files = opened.namespace.files
        handle, _ = files.create(box(files), b"f", 0o644, os.O_RDWR, CALLER)
        await handle.write(0, b"a" * 40_000)
        await handle.write(40_000, b"b" * 40_000)
        assert joined(await handle.read(39_999, 2)) == b"ab"
        await handle.fsync(datasync=True)
        chunks.crash()
    async with open_namespace(tmp_path / "meta", chunks) as opened:
        assert await object_bytes(opened.namespace, "f") == b"a" * 40_000 + b"b" * 40_000


async def test_publish_all_publishes_what_is_open(opened: Opened) -> None:
    files = opened.namespace.files
    handle, _ = files.create(box(files), b"f", 0o644, os.O_RDWR, CALLER)
    await handle.write(0, b"abc")
    await files.publish_all()
    assert await object_bytes(opened.namespace, "f") == b"abc"
    await handle.release()
