"""Stop, crash, start: named runs are whole, the rest is given back, no place is used twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.chunks.errors import Unrecoverable
from store.chunks.geometry import member_size
from store.chunks.reclaim import coalesce, gaps
from store.chunks.types import Owner, Run, Segment, segment_of
from tests.store.chunks.rig import OpenRig, Rig, get, pattern, put

MIB = 1 << 20


def blocks(path: Path) -> int:
    """Bytes the file system spends on a file."""
    return path.stat().st_blocks * 512


def members_below(path: Path) -> list[Path]:
    return list(path.rglob("*.seg"))


def remember(rig: Rig, runs: list[Run]) -> list[Segment]:
    return [rig.chunks.segment(segment) for segment in {segment_of(run.id) for run in runs}]


async def test_named_runs_survive_and_unnamed_ones_are_reclaimed(rig: OpenRig) -> None:
    async with rig() as opened:
        (first,) = await put(opened.chunks, pattern(MIB, 1), hint=MIB)
        (unnamed,) = await put(opened.chunks, pattern(MIB, 2), hint=MIB)
        (last,) = await put(opened.chunks, pattern(MIB, 3), hint=MIB)
        await put(opened.chunks, pattern(3 * MIB, 4))
        segments = remember(opened, [first, last])
        paths = opened.members(first)
    named = {segments[0].id: [first, last]}
    async with rig(fresh=False) as opened:
        await opened.chunks.adopt(segments, named)
        assert opened.chunks.sealed(segments[0].id)
        assert await get(opened.chunks, [first, last]) == pattern(MIB, 1) + pattern(MIB, 3)
        with pytest.raises(Unrecoverable):
            await get(opened.chunks, [unnamed])
        size = member_size(segments[0], MIB)
        assert all(path.stat().st_size == 3 * size for path in paths)
        assert all(blocks(path) <= 2 * size + 65_536 for path in paths)
        (later,) = await put(opened.chunks, b"later")
        assert segment_of(later.id) > segments[0].id


async def test_members_of_unknown_segments_are_removed(rig: OpenRig, tmp_path: Path) -> None:
    async with rig() as opened:
        await put(opened.chunks, pattern(MIB))
        assert members_below(tmp_path)
    async with rig(fresh=False) as opened:
        await opened.chunks.adopt([], {})
        assert not members_below(tmp_path)


async def test_a_dead_daemons_segment_is_never_appended_to(rig: OpenRig) -> None:
    seen: set[int] = set()
    kept: list[Run] = []
    segments: list[Segment] = []
    for life in range(4):
        async with rig(fresh=life == 0) as opened:
            named = {
                segment.id: [run for run in kept if segment_of(run.id) == segment.id]
                for segment in segments
            }
            await opened.chunks.adopt(segments, named)
            (run,) = await put(opened.chunks, pattern(50_000, life), hint=50_000)
            assert segment_of(run.id) not in seen
            seen.add(segment_of(run.id))
            kept.append(run)
            segments.append(opened.chunks.segment(segment_of(run.id)))
            for index, each in enumerate(kept):
                assert await get(opened.chunks, [each]) == pattern(50_000, index)


async def test_a_start_with_m_drives_missing_reads_and_writes(rig: OpenRig) -> None:
    body = pattern(2 * MIB)
    async with rig() as opened:
        runs = list(await put(opened.chunks, body))
        segments = remember(opened, runs)
        paths = opened.paths
    for path in paths[:2]:
        path.rename(path.with_suffix(".away"))
    async with rig(fresh=False) as opened:
        await opened.chunks.adopt(segments, {segments[0].id: runs})
        assert await get(opened.chunks, runs) == body
        assert await get(opened.chunks, await put(opened.chunks, body)) == body


async def test_freed_space_comes_back(rig: OpenRig) -> None:
    async with rig() as opened:
        runs = [
            run for i in range(4) for run in await put(opened.chunks, pattern(MIB, i), hint=MIB)
        ]
        paths = opened.members(runs[0])
        before = blocks(paths[0])
        await opened.chunks.free(runs[1:3])
        size = member_size(opened.chunks.segment(segment_of(runs[0].id)), MIB)
        assert all(blocks(path) <= before - 2 * size + 65_536 for path in paths)
        assert await get(opened.chunks, [runs[0], runs[3]]) == pattern(MIB, 0) + pattern(MIB, 3)


async def test_an_abandoned_stream_comes_back(rig: OpenRig) -> None:
    async with rig(segment_bytes=4 * MIB) as opened:
        appender = opened.chunks.appender(Owner())
        await appender.append(pattern(20 * MIB))
        await appender.abandon()
        full = await put(opened.chunks, pattern(9 * MIB))
        assert await get(opened.chunks, full) == pattern(9 * MIB)
        used = sum(blocks(path) for path in members_below(opened.paths[0]))
        assert used < 14 * MIB


async def test_sealed_segments_are_cut_to_size_and_dropped_when_empty(
    rig: OpenRig, tmp_path: Path
) -> None:
    async with rig(segment_bytes=4 * MIB) as opened:
        runs = await put(opened.chunks, pattern(20 * MIB))
        segments = sorted({segment_of(run.id) for run in runs})
        assert len(segments) >= 3
        await opened.chunks.sync(runs)
        first = [run for run in runs if segment_of(run.id) == segments[0]]
        paths = opened.members(first[0])
        assert opened.chunks.sealed(segments[0])
        await opened.chunks.free(first)
        await opened.chunks.drop_segments(segments)
        assert not any(path.exists() for path in paths)
        with pytest.raises(KeyError):
            opened.chunks.segment(segments[0])
        # The one still open was left.
        assert opened.chunks.segment(segments[-1])


async def test_a_segment_is_not_dropped_before_its_runs_can_be_named(rig: OpenRig) -> None:
    body = pattern(9 * MIB)
    async with rig(segment_bytes=4 * MIB, naming_grace_s=3600.0) as opened:
        runs = await put(opened.chunks, body)
        segments = {segment_of(run.id) for run in runs}
        assert not any(opened.chunks.sealed(segment) for segment in segments)
        await opened.chunks.drop_segments(segments)
        assert await get(opened.chunks, runs) == body


async def test_runs_are_few_and_segments_rotate_their_drives(rig: OpenRig) -> None:
    async with rig(segment_bytes=8 * MIB) as opened:
        hinted = await put(opened.chunks, pattern(14 * MIB), hint=14 * MIB)
        assert len(hinted) <= 2
        runs = await put(opened.chunks, pattern(40 * MIB))
        segments = [opened.chunks.segment(segment_of(run.id)) for run in runs]
        assert len(runs) <= 4
        assert len({segment.members[0] for segment in segments}) > 1


def test_ranges_are_joined_and_their_gaps_found() -> None:
    kept = coalesce([(8, 9), (0, 2), (2, 4), (3, 6)])
    assert kept == [(0, 6), (8, 9)]
    assert gaps(kept, 12) == [(6, 8), (9, 12)]
    assert gaps(kept, 9) == [(6, 8)]
    assert gaps([], 5) == [(0, 5)]
