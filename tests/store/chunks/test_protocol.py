"""What every `ChunkStore` promises: the fake and the real one pass the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from store.chunks.errors import Unrecoverable
from store.chunks.types import ChunkStore, Owner, RunId, segment_of
from tests.fakes.memory_chunks import MemoryChunks
from tests.store.chunks.rig import OpenRig, get, pattern, put

MIB = 1 << 20


@pytest.fixture(params=["memory", "local"])
async def chunks(request: pytest.FixtureRequest, rig: OpenRig) -> AsyncIterator[ChunkStore]:
    if request.param == "memory":
        yield MemoryChunks(run_bytes=3 * MIB)
    else:
        async with rig(segment_bytes=16 * MIB) as opened:
            yield opened.chunks


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 65536, MIB - 1, MIB, MIB + 1, 5 * MIB + 7])
@pytest.mark.parametrize("hinted", [True, False])
async def test_what_was_appended_is_read_back(chunks: ChunkStore, size: int, hinted: bool) -> None:
    body = pattern(size)
    runs = await put(chunks, body, hint=size if hinted else None)
    assert sum(run.size for run in runs) == size
    assert await get(chunks, runs) == body
    quick = [chunks.read_nowait(run, 0, run.size) for run in runs]
    assert b"".join([piece for pieces in quick if pieces for piece in pieces]) == body


async def test_no_bytes_make_no_runs(chunks: ChunkStore) -> None:
    assert await put(chunks, b"") == ()


async def test_a_wrong_size_hint_does_no_harm(chunks: ChunkStore) -> None:
    body = pattern(3 * MIB + 5)
    for hint in (1, 10_000, 2 * MIB, 100 * MIB):
        assert await get(chunks, await put(chunks, body, hint=hint)) == body


async def test_any_range_is_read_back(chunks: ChunkStore) -> None:
    body = pattern(2 * MIB + 12_345)
    (run,) = await put(chunks, body, hint=len(body))
    edges = [0, 1, 4096, 65535, 65536, 524_288, 524_289, MIB - 1, MIB, MIB + 1, len(body) - 1]
    for start in edges:
        for stop in (start + 1, start + 70_000, len(body)):
            stop = min(stop, len(body))
            pieces = await chunks.read(run, start, stop)
            assert b"".join(pieces) == body[start:stop], (start, stop)
            assert sum(map(len, pieces)) == stop - start
            quick = chunks.read_nowait(run, start, stop)
            assert quick is not None
            assert b"".join(quick) == body[start:stop]


async def test_many_appenders_at_once_do_not_mix(chunks: ChunkStore) -> None:
    bodies = [pattern(300_000 + 77_777 * i, seed=i + 1) for i in range(12)]
    found: dict[int, bytes] = {}

    async def go(index: int) -> None:
        runs = await put(chunks, bodies[index], piece=65_536)
        found[index] = await get(chunks, runs)

    async with trio.open_nursery() as nursery:
        for index in range(len(bodies)):
            nursery.start_soon(go, index)
    assert all(found[index] == body for index, body in enumerate(bodies))


async def test_an_undurable_run_reads_and_syncs_later(chunks: ChunkStore) -> None:
    body = pattern(MIB)
    runs = await put(chunks, body, durable=False)
    assert await get(chunks, runs) == body
    await chunks.sync(runs)
    await chunks.sync(runs)
    assert await get(chunks, runs) == body


async def test_a_freed_run_is_gone_and_others_stay(chunks: ChunkStore) -> None:
    first = await put(chunks, pattern(500_000, 1))
    second = await put(chunks, pattern(500_000, 2))
    await chunks.free(first)
    await chunks.free(first)
    with pytest.raises(Unrecoverable):
        await get(chunks, first)
    assert await get(chunks, second) == pattern(500_000, 2)


async def test_places_are_never_used_twice(chunks: ChunkStore) -> None:
    seen: set[RunId] = set()
    for _ in range(5):
        runs = await put(chunks, pattern(200_000))
        assert not seen & {run.id for run in runs}
        seen |= {run.id for run in runs}
        await chunks.free(runs)


async def test_an_abandoned_appender_leaves_nothing(chunks: ChunkStore) -> None:
    appender = chunks.appender(Owner())
    await appender.append(pattern(3 * MIB))
    await appender.abandon()
    await appender.abandon()
    body = pattern(10_000)
    assert await get(chunks, await put(chunks, body)) == body


async def test_a_run_names_a_known_segment(chunks: ChunkStore) -> None:
    (run,) = await put(chunks, b"x")
    segment = chunks.segment(segment_of(run.id))
    assert segment.id == segment_of(run.id)
    assert len(segment.members) == segment.k + segment.m
    with pytest.raises(KeyError):
        chunks.segment(type(segment.id)(12345))


async def test_an_open_segment_is_not_dropped(chunks: ChunkStore) -> None:
    body = pattern(50_000)
    (run,) = await put(chunks, body)
    assert not chunks.sealed(segment_of(run.id))
    await chunks.drop_segments([segment_of(run.id)])
    assert await get(chunks, [run]) == body


async def test_the_fake_adopts_as_the_real_one_does_in_test_restart() -> None:
    chunks = MemoryChunks()
    (kept,) = await put(chunks, pattern(50_000, 1), hint=50_000)
    (unnamed,) = await put(chunks, pattern(50_000, 2), hint=50_000)
    segment = chunks.segment(segment_of(kept.id))
    chunks.crash()
    await chunks.adopt([segment], {segment.id: [kept]})
    assert chunks.sealed(segment.id)
    assert await get(chunks, [kept]) == pattern(50_000, 1)
    with pytest.raises(Unrecoverable):
        await get(chunks, [unnamed])
    (later,) = await put(chunks, b"y")
    assert segment_of(later.id) > segment.id


async def test_status_and_room_are_told(chunks: ChunkStore) -> None:
    total, free = chunks.usable_bytes()
    assert 0 < free <= total
    assert chunks.status()
