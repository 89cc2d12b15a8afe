"""Damaged, missing and misplaced fragments: right bytes come back, and the damage is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.chunks.errors import Unrecoverable
from store.chunks.events import FragmentDamaged
from store.chunks.geometry import BLOCK_BYTES, HEADER_BYTES, full_record_size
from store.chunks.types import Run, offset_of, segment_of
from tests.faultrows import FaultRow
from tests.store.chunks.rig import OpenRig, Rig, get, pattern, put

MIB = 1 << 20


def flip(path: Path, offset: int) -> None:
    """Invert one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        assert byte, "the offset is beyond the end"
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))


def damaged(rig: Rig) -> int:
    return sum(status.damaged_fragments for status in rig.chunks.status())


def copy_range(source: Path, start: int, target: Path, place: int, size: int) -> None:
    with source.open("rb") as file:
        file.seek(start)
        piece = file.read(size)
    with target.open("r+b") as file:
        file.seek(place)
        file.write(piece)


REGIONS = {
    "magic": 0,
    "store": 20,
    "owner": 66,
    "hashes": 85,
    "unused header": 3000,
    "header checksum": 4090,
    "first block": HEADER_BYTES,
    "inner block": HEADER_BYTES + 3 * BLOCK_BYTES + 17,
    "last byte": HEADER_BYTES + MIB // 2 - 1,
}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("shard", [0, 1])
async def test_a_flipped_byte_in_a_data_fragment_is_mended_and_counted(
    rig: OpenRig, region: str, shard: int
) -> None:
    body = pattern(2 * MIB)
    async with rig() as opened:
        (run,) = await put(opened.chunks, body, hint=len(body))
        record = full_record_size(opened.chunks.segment(segment_of(run.id)))
        # In the second stripe, so that a header is met that no one has read yet.
        path = opened.members(run)[shard]
        flip(path, offset_of(run.id) + record + REGIONS[region])
        assert opened.chunks.read_nowait(run, 0, run.size) is None
        assert damaged(opened) == 0
        assert await get(opened.chunks, [run]) == body
        assert await get(opened.chunks, [run]) == body
        assert damaged(opened) == 1
        (event,) = opened.events
        assert isinstance(event, FragmentDamaged)
        assert (event.run, event.stripe, event.shard) == (run.id, 1, shard)
        assert event.drive == opened.chunks.segment(segment_of(run.id)).members[shard]


@pytest.mark.parametrize("region", REGIONS)
async def test_damaged_parity_is_not_used_for_mending(rig: OpenRig, region: str) -> None:
    body = pattern(MIB)
    async with rig() as opened:
        (run,) = await put(opened.chunks, body, hint=len(body))
        data, _, parity, _ = opened.members(run)
        flip(data, offset_of(run.id) + HEADER_BYTES)
        flip(parity, offset_of(run.id) + REGIONS[region])
        assert await get(opened.chunks, [run]) == body
        assert damaged(opened) == 2


async def test_a_small_read_mends_its_own_blocks_alone(rig: OpenRig) -> None:
    body = pattern(MIB)
    async with rig() as opened:
        (run,) = await put(opened.chunks, body, hint=len(body))
        place = HEADER_BYTES + 2 * BLOCK_BYTES + 5
        flip(opened.members(run)[0], offset_of(run.id) + place)
        # Other blocks of the parity are damaged too, which doesn't matter here.
        for parity in opened.members(run)[2:]:
            flip(parity, offset_of(run.id) + HEADER_BYTES)
        start = 2 * BLOCK_BYTES + 100
        (piece,) = await opened.chunks.read(run, start, start + 4096)
        assert bytes(piece) == body[start : start + 4096]
        flip(opened.members(run)[1], offset_of(run.id) + HEADER_BYTES)
        flip(opened.members(run)[0], offset_of(run.id) + HEADER_BYTES)
        with pytest.raises(Unrecoverable):
            await opened.chunks.read(run, 0, 10)


async def test_more_than_m_damaged_fragments_are_an_error_never_wrong_bytes(rig: OpenRig) -> None:
    async with rig() as opened:
        (run,) = await put(opened.chunks, pattern(MIB), hint=MIB)
        for path in opened.members(run)[:3]:
            flip(path, offset_of(run.id) + HEADER_BYTES)
        with pytest.raises(Unrecoverable) as caught:
            await get(opened.chunks, [run])
        assert (caught.value.intact, caught.value.needed) == (1, 2)


async def test_a_flipped_byte_in_the_padding_is_found(rig: OpenRig) -> None:
    body = pattern(100)
    async with rig() as opened:
        (run,) = await put(opened.chunks, body, hint=100)
        flip(opened.members(run)[0], offset_of(run.id) + HEADER_BYTES + 200)
        assert await get(opened.chunks, [run]) == body
        assert damaged(opened) == 1


@pytest.mark.parametrize("size", [0, 4096, HEADER_BYTES + 100_000])
async def test_a_truncated_member_is_mended(rig: OpenRig, size: int) -> None:
    body = pattern(3 * MIB)
    async with rig() as opened:
        (run,) = await put(opened.chunks, body, hint=len(body))
        os.truncate(opened.members(run)[0], offset_of(run.id) + size)
        assert await get(opened.chunks, [run]) == body
        assert damaged(opened) == 3


async def test_two_missing_members_are_mended_and_counted_as_errors(rig: OpenRig) -> None:
    body = pattern(2 * MIB + 5)
    async with rig(files_per_drive=0) as opened:
        (run,) = await put(opened.chunks, body, hint=len(body))
        for path in opened.members(run)[:2]:
            path.unlink()
        assert await get(opened.chunks, [run]) == body
        assert sum(status.read_errors for status in opened.chunks.status()) >= 2


async def two_runs(opened: Rig) -> tuple[Run, Run]:
    (first,) = await put(opened.chunks, pattern(MIB, 1), hint=MIB)
    (second,) = await put(opened.chunks, pattern(MIB, 2), hint=MIB)
    assert segment_of(first.id) == segment_of(second.id)
    return first, second


async def test_fragments_swapped_between_runs_are_not_believed(
    rig: OpenRig, fault_row: FaultRow
) -> None:
    async with rig() as opened:
        first, second = await two_runs(opened)
        record = full_record_size(opened.chunks.segment(segment_of(first.id)))
        for path in opened.members(first)[:2]:
            copy_range(path, offset_of(second.id), path, offset_of(first.id), record)
        assert await get(opened.chunks, [first]) == pattern(MIB, 1)
        assert damaged(opened) == 2
    fault_row(
        "fragments land in each other's places (misdirected writes)",
        client="right bytes",
        status="damaged fragments, and then that they were repaired",
    )


async def test_fragments_swapped_between_stripes_are_not_believed(rig: OpenRig) -> None:
    body = pattern(2 * MIB)
    async with rig() as opened:
        (run,) = await put(opened.chunks, body, hint=len(body))
        record = full_record_size(opened.chunks.segment(segment_of(run.id)))
        start = offset_of(run.id)
        for path in opened.members(run)[:2]:
            copy_range(path, start + record, path, start, record)
        assert await get(opened.chunks, [run]) == body


async def test_fragments_swapped_between_drives_are_not_believed(rig: OpenRig) -> None:
    body = pattern(MIB)
    async with rig() as opened:
        (run,) = await put(opened.chunks, body, hint=len(body))
        first, second = opened.members(run)[:2]
        record = full_record_size(opened.chunks.segment(segment_of(run.id)))
        copy_range(second, offset_of(run.id), first, offset_of(run.id), record)
        assert await get(opened.chunks, [run]) == body
        assert damaged(opened) == 1


async def test_a_fragment_of_another_store_at_the_same_place_is_not_believed(
    rig: OpenRig, tmp_path: Path
) -> None:
    bodies = [pattern(MIB, 1), pattern(MIB, 2)]
    async with rig() as opened:
        (run,) = await put(opened.chunks, bodies[0], hint=MIB)
        strangers = [path.read_bytes() for path in opened.members(run)]
    for i in range(4):
        (tmp_path / f"drive{i}").rename(tmp_path / f"old{i}")
    async with rig() as opened:
        (other,) = await put(opened.chunks, bodies[1], hint=MIB)
        assert other.id == run.id
        for path, stranger in zip(opened.members(other)[:2], strangers[:2], strict=True):
            path.write_bytes(stranger)
        assert await get(opened.chunks, [other]) == bodies[1]
        assert damaged(opened) == 2


@pytest.mark.parametrize(
    ("drives", "parity", "geometry"),
    [
        (1, None, (1, 0)),
        (2, None, (1, 1)),
        (3, 2, (1, 2)),
        (3, None, (2, 1)),
        (4, None, (2, 2)),
        (6, 2, (4, 2)),
        pytest.param(16, 4, (12, 4), marks=pytest.mark.slow),
    ],
)
async def test_every_geometry_reads_whole_and_with_m_drives_gone(
    rig: OpenRig, drives: int, parity: int | None, geometry: tuple[int, int]
) -> None:
    async with rig(drives, parity) as opened:
        bodies = [pattern(size, size) for size in (1, 4097, 65_536 * 3 + 1, MIB + 70_000)]
        runs = [await put(opened.chunks, body, hint=len(body)) for body in bodies]
        segment = opened.chunks.segment(segment_of(runs[0][0].id))
        assert (segment.k, segment.m) == geometry
        for path in opened.paths[: segment.m]:
            path.rename(path.with_suffix(".away"))
        await opened.probe()
        for body, each in zip(bodies, runs, strict=True):
            assert await get(opened.chunks, each) == body
            start = len(body) // 3
            pieces = await opened.chunks.read(each[0], start, len(body))
            assert b"".join(pieces) == body[start:]
        assert damaged(opened) == 0
