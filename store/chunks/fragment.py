"""The record on a drive: a 4 KiB header, then the shard. All numbers are little-endian.

    offset  bytes  field
         0      8  magic "2foldfrg"
         8      2  format version, 1
        10      1  k
        11      1  m
        12      1  shard index, 0 <= index < k + m
        13      3  zero
        16     16  store id
        32      8  segment nonce
        40      8  run id
        48      4  stripe index
        52      4  payload bytes of the stripe
        56      4  bytes of the shard, padding in: a multiple of 4096
        60      4  zero
        64      8  owner inode, 0 where unknown (for salvage alone)
        72      8  owner offset: place of the stripe in the file (for salvage alone)
        80    16n  xxh3-128 of each 64 KiB block of the shard (the last may be shorter)
         .      .  zero
      4080     16  xxh3-128 of bytes [0, 4080)

A reader knows everything in [0, 64) beforehand, so a record that stands in the wrong place, in
the wrong file or comes from another life of the store is never taken for the right one.
xxh3 finds accidents, not attackers; those are the business of encryption.
Pure functions; safe in any thread.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from xxhash import xxh3_128_digest

from store.chunks.geometry import BLOCK_BYTES, HEADER_BYTES, MAX_SHARDS
from store.chunks.types import Buffer, Owner, RunId, Segment

MAGIC = b"2foldfrg"
FORMAT_VERSION = 1
HASH_BYTES = 16

_IDENTITY = struct.Struct("<8sHBBB3x16sQQIII4x")
_OWNER = struct.Struct("<QQ")
_TABLE_OFFSET = _IDENTITY.size + _OWNER.size
_CHECKSUM_OFFSET = HEADER_BYTES - HASH_BYTES
assert _IDENTITY.size == 64
assert _TABLE_OFFSET == 80

_FILE_BYTES_MAX = (1 << 63) - 1
MAX_SHARD_BYTES = (_CHECKSUM_OFFSET - _TABLE_OFFSET) // HASH_BYTES * BLOCK_BYTES
"""Longest shard whose checksums fit the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """What a header says of its stripe's owner, for salvage."""

    owner: Owner
    payload: int


def identity(
    store: bytes, segment: Segment, run: RunId, stripe: int, shard: int, *, payload: int, size: int
) -> bytes:
    """The first 64 bytes of a header: what a reader knows beforehand."""
    return _IDENTITY.pack(
        MAGIC,
        FORMAT_VERSION,
        segment.k,
        segment.m,
        shard,
        store,
        segment.nonce,
        run,
        stripe,
        payload,
        size,
    )


def block_hashes(shard: Buffer) -> bytes:
    """The checksums of the shard's blocks, one after the other."""
    if len(shard) <= BLOCK_BYTES:
        return xxh3_128_digest(shard)
    view = memoryview(shard)
    return b"".join(
        [
            xxh3_128_digest(view[start : start + BLOCK_BYTES])
            for start in range(0, len(view), BLOCK_BYTES)
        ]
    )


def build_header(known: bytes, owner: Owner, shard: Buffer) -> bytes:
    """The header of `shard`, whose identity is `known`."""
    assert 0 < len(shard) <= MAX_SHARD_BYTES, len(shard)
    body = known + _OWNER.pack(owner.inode, owner.offset) + block_hashes(shard)
    body = body.ljust(_CHECKSUM_OFFSET, b"\0")
    return body + xxh3_128_digest(body)


def verify_header(header: Buffer, known: bytes) -> bytes | None:
    """The table of block checksums, or None when this isn't the intact header of `known`."""
    view = memoryview(header)
    if view[: _IDENTITY.size] != known:
        return None
    if xxh3_128_digest(view[:_CHECKSUM_OFFSET]) != view[_CHECKSUM_OFFSET:]:
        return None
    size: int = _IDENTITY.unpack(known)[-1]
    blocks = -(-size // BLOCK_BYTES)
    return bytes(view[_TABLE_OFFSET : _TABLE_OFFSET + blocks * HASH_BYTES])


def verify_blocks(table: bytes, start: int, blocks: memoryview) -> bool:
    """Whether `blocks`, which stand at `start` (a multiple of 64 KiB) in the shard, are intact."""
    place = start // BLOCK_BYTES * HASH_BYTES
    for offset in range(0, len(blocks), BLOCK_BYTES):
        digest = xxh3_128_digest(blocks[offset : offset + BLOCK_BYTES])
        if digest != table[place : place + HASH_BYTES]:
            return False
        place += HASH_BYTES
    return True


def read_owner(header: Buffer) -> Owned | None:
    """Whose bytes stand behind an intact header of any store, for salvage; else None."""
    view = memoryview(header)
    if view[: len(MAGIC)] != MAGIC:
        return None
    if xxh3_128_digest(view[:_CHECKSUM_OFFSET]) != view[_CHECKSUM_OFFSET:]:
        return None
    payload: int = _IDENTITY.unpack_from(view)[-2]
    inode, offset = _OWNER.unpack_from(view, _IDENTITY.size)
    return Owned(owner=Owner(inode=inode, offset=offset), payload=payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """All that an intact header says. payload: bytes of the stripe; size: of the shard."""

    store: bytes
    k: int
    m: int
    shard: int
    nonce: int
    run: RunId
    stripe: int
    payload: int
    size: int
    owner: Owner
    table: bytes


def read_fragment(header: Buffer) -> Fragment | None:
    """What an intact header of any store says, where nothing is known beforehand; else None."""
    owned = read_owner(header)
    if owned is None:
        return None
    _, version, k, m, shard, store, nonce, run, stripe, payload, size = _IDENTITY.unpack_from(
        header
    )
    blocks = -(-size // BLOCK_BYTES)
    table = bytes(memoryview(header)[_TABLE_OFFSET : _TABLE_OFFSET + blocks * HASH_BYTES])
    sound = 1 <= k <= k + m <= MAX_SHARDS and shard < k + m and 0 < size <= MAX_SHARD_BYTES
    if version != FORMAT_VERSION or not sound or not 0 < payload <= k * size:
        return None
    if owned.owner.offset + payload > _FILE_BYTES_MAX:
        return None
    return Fragment(
        store=store,
        k=k,
        m=m,
        shard=shard,
        nonce=nonce,
        run=RunId(run),
        stripe=stripe,
        payload=payload,
        size=size,
        owner=owned.owner,
        table=table,
    )
