"""A header is believed only when every bit of it is as written and it stands where it belongs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.chunks.fragment import (
    MAX_SHARD_BYTES,
    build_header,
    identity,
    read_owner,
    verify_blocks,
    verify_header,
)
from store.chunks.geometry import BLOCK_BYTES, HEADER_BYTES
from store.chunks.types import Owner, RunId
from tests.store.chunks.rig import pattern
from tests.store.chunks.test_geometry import segment

STORE = bytes(range(16))
SEGMENT = segment(2, 2)
SHARD = pattern(3 * BLOCK_BYTES + 4096)
KNOWN = identity(STORE, SEGMENT, RunId(77), 5, 1, payload=400_000, size=len(SHARD))
HEADER = build_header(KNOWN, Owner(inode=12, offset=34), SHARD)


def test_a_header_gives_its_checksums_and_owner() -> None:
    assert len(HEADER) == HEADER_BYTES
    table = verify_header(HEADER, KNOWN)
    assert table is not None
    assert verify_blocks(table, 0, memoryview(SHARD))
    assert verify_blocks(table, BLOCK_BYTES, memoryview(SHARD)[BLOCK_BYTES : 2 * BLOCK_BYTES])
    owned = read_owner(HEADER)
    assert owned is not None
    assert owned.owner == Owner(inode=12, offset=34)
    assert owned.payload == 400_000


@given(place=st.integers(0, HEADER_BYTES - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_header_is_found(place: int, bit: int) -> None:
    flipped = bytearray(HEADER)
    flipped[place] ^= 1 << bit
    assert verify_header(flipped, KNOWN) is None


@given(place=st.integers(0, len(SHARD) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_shard_is_found(place: int, bit: int) -> None:
    table = verify_header(HEADER, KNOWN)
    assert table is not None
    flipped = bytearray(SHARD)
    flipped[place] ^= 1 << bit
    assert not verify_blocks(table, 0, memoryview(flipped))


@pytest.mark.parametrize(
    "other",
    [
        identity(bytes(16), SEGMENT, RunId(77), 5, 1, payload=400_000, size=len(SHARD)),
        identity(
            STORE, replace(SEGMENT, nonce=1), RunId(77), 5, 1, payload=400_000, size=len(SHARD)
        ),
        identity(STORE, segment(3, 1), RunId(77), 5, 1, payload=400_000, size=len(SHARD)),
        identity(STORE, SEGMENT, RunId(78), 5, 1, payload=400_000, size=len(SHARD)),
        identity(STORE, SEGMENT, RunId(77), 4, 1, payload=400_000, size=len(SHARD)),
        identity(STORE, SEGMENT, RunId(77), 5, 0, payload=400_000, size=len(SHARD)),
        identity(STORE, SEGMENT, RunId(77), 5, 1, payload=400_001, size=len(SHARD)),
        identity(STORE, SEGMENT, RunId(77), 5, 1, payload=400_000, size=len(SHARD) + 4096),
    ],
    ids=["store", "nonce", "geometry", "run", "stripe", "shard", "payload", "size"],
)
def test_a_header_of_another_place_is_not_believed(other: bytes) -> None:
    assert verify_header(HEADER, other) is None


def test_the_longest_shard_fits() -> None:
    shard = bytes(MAX_SHARD_BYTES)
    known = identity(STORE, SEGMENT, RunId(1), 0, 0, payload=1, size=len(shard))
    table = verify_header(build_header(known, Owner(), shard), known)
    assert table is not None
    assert verify_blocks(table, 0, memoryview(shard))


def test_what_is_no_header_has_no_owner() -> None:
    assert read_owner(bytes(HEADER_BYTES)) is None
    assert read_owner(HEADER[:100] + b"\1" + HEADER[101:]) is None
