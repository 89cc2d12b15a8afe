"""Erasure coding of one stripe, by pyeclib's `isa_l_rs_cauchy` (safe for every k + m <= 16).

Data shards are slices of the stripe: reading them intact needs no decoding. k = 1 is plain
copies and m = 0 plain striping; neither calls the library.

The library puts a header of 80 bytes in front of every shard and wants it back for rebuilding.
It isn't stored: it depends on k, m, the shard's index and length alone, so it is taken from the
encoding of zeros when it is needed. The code works byte by byte, so any range of columns (the
same range of all shards) can be rebuilt by itself.

Parity is made by ISA-L itself where it is at hand (store.chunks.isal), and rebuilding is
pyeclib's.

Concurrency: any thread. The GIL is kept meanwhile (some 40 us per MiB).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from pyeclib.ec_iface import ECDriver

from store.chunks import isal
from store.chunks.geometry import MAX_SHARDS
from store.chunks.types import Buffer

_LIBRARY_HEADER_BYTES = 80


class Codec:
    """The code of one geometry."""

    def __init__(self, k: int, m: int) -> None:
        assert 1 <= k <= k + m <= MAX_SHARDS, (k, m)
        self.k = k
        self.m = m
        coded = k > 1 and m > 0
        self._library = ECDriver(ec_type="isa_l_rs_cauchy", k=k, m=m) if coded else None
        self._library_headers = lru_cache(maxsize=64)(self._make_library_headers)
        make = isal.parity_maker(k, m) if coded else None
        if make is None or not isal.agrees(make, k, self._parity_by_library):
            make = self._parity_by_library
        self._make_parity = make

    def encode(self, payload: Buffer) -> list[Buffer]:
        """All k + m shards of `payload`, whose length is a multiple of k * 4096.

        payload: `bytes`, or a writable buffer that nobody changes meanwhile nor afterwards; the
        data shards are views of it.
        """
        size, rest = divmod(len(payload), self.k)
        assert not rest, (len(payload), self.k)
        if self.k == 1:
            return [payload] * (1 + self.m)
        view = memoryview(payload)
        shards: list[Buffer] = [view[i * size : (i + 1) * size] for i in range(self.k)]
        if self._library is not None:
            shards += self._make_parity(payload)
        return shards

    def _parity_by_library(self, payload: Buffer) -> list[Buffer]:
        assert self._library is not None
        coded = self._library.encode(bytes(payload))[self.k :]
        return [memoryview(shard)[_LIBRARY_HEADER_BYTES:] for shard in coded]

    def rebuild(self, intact: Mapping[int, Buffer], wanted: Sequence[int]) -> dict[int, Buffer]:
        """The shards `wanted`, none of them intact, from k intact ones of equal length."""
        assert len(intact) >= self.k, intact.keys()
        assert not intact.keys() & set(wanted), (intact.keys(), wanted)
        if self.k == 1:
            copy = next(iter(intact.values()))
            return dict.fromkeys(wanted, copy)
        assert self._library is not None, "without parity nothing can be rebuilt"
        headers = self._library_headers(len(next(iter(intact.values()))))
        pieces = [b"".join((headers[i], intact[i])) for i in sorted(intact)[: self.k]]
        ordered = sorted(wanted)
        rebuilt = self._library.reconstruct(pieces, ordered)
        return {
            i: memoryview(shard)[_LIBRARY_HEADER_BYTES:]
            for i, shard in zip(ordered, rebuilt, strict=True)
        }

    def _make_library_headers(self, shard_size: int) -> list[bytes]:
        assert self._library is not None
        coded = self._library.encode(bytes(self.k * shard_size))
        return [shard[:_LIBRARY_HEADER_BYTES] for shard in coded]


@cache
def codec(k: int, m: int) -> Codec:
    """The codec of a geometry; at most 136 of them exist."""
    return Codec(k, m)
