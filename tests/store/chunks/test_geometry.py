"""The arithmetic of shards and places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.chunks.geometry import (
    BLOCK_BYTES,
    choose_shards,
    default_parity,
    member_size,
    shard_size,
    stripe_size,
    windows,
    write_quorum,
)
from store.chunks.types import ALIGN_BYTES, DriveId, Run, Segment, SegmentId, run_id


def segment(k: int, m: int, wanted: int = 1 << 20) -> Segment:
    members = tuple(DriveId(f"{i:032x}") for i in range(k + m))
    return Segment(
        id=SegmentId(3), nonce=9, k=k, m=m, stripe_size=stripe_size(k, wanted), members=members
    )


@pytest.mark.parametrize(
    ("drives", "parity"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3), (8, 4), (40, 4)]
)
def test_default_parity_follows_the_number_of_drives(drives: int, parity: int) -> None:
    assert default_parity(drives) == parity


@pytest.mark.parametrize(
    ("writable", "parity", "shards"),
    [
        (1, 0, (1, 0)),
        (4, 2, (2, 2)),
        (3, 2, (1, 2)),
        (2, 2, (1, 1)),
        (1, 2, (1, 0)),
        (3, 1, (2, 1)),
        (6, 2, (4, 2)),
        (16, 4, (12, 4)),
        (40, 4, (12, 4)),
        (4, 0, (4, 0)),
    ],
)
def test_parity_is_kept_before_width(writable: int, parity: int, shards: tuple[int, int]) -> None:
    assert choose_shards(writable, parity) == shards


def test_a_write_needs_one_member_more_than_a_read_where_there_is_parity() -> None:
    assert [write_quorum(*each) for each in [(2, 2), (1, 1), (1, 0), (4, 0)]] == [3, 2, 1, 4]


@pytest.mark.parametrize("k", range(1, 17))
def test_full_shards_are_whole_blocks(k: int) -> None:
    size = stripe_size(k, 1 << 20)
    assert size >= 1 << 20
    assert size % (k * BLOCK_BYTES) == 0
    assert shard_size(size, k) == size // k


@given(k=st.integers(1, 16), size=st.integers(1, 5 << 20), cut=st.data())
def test_windows_cover_exactly_what_was_asked(k: int, size: int, cut: st.DataObject) -> None:
    start = cut.draw(st.integers(0, size - 1))
    stop = cut.draw(st.integers(start + 1, size))
    found = segment(k, 0)
    run = Run(id=run_id(found.id, 8192), size=size)
    place = start
    for window in windows(found, run, start, stop):
        assert window.index * found.stripe_size + window.start == place
        assert 0 <= window.start < window.stop <= window.payload
        assert window.offset % ALIGN_BYTES == 0
        place += window.stop - window.start
        covered = window.start
        for shard in window.shards():
            low, high = window.columns(shard)
            assert low % BLOCK_BYTES == 0
            assert 0 <= low < high <= window.shard
            assert shard * window.shard + low <= covered
            covered = min(shard * window.shard + high, window.stop)
        assert covered == window.stop
    assert place == stop
    last = windows(found, run, size - 1, size)[0]
    assert last.offset + ALIGN_BYTES + last.shard == 8192 + member_size(found, size)
