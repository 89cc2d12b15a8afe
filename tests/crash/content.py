"""Bytes that say where they come from: what a test wrote is told by a few numbers.

A `Piece` is a slice of one block of noise, found by its seed; a `Content` is a row of pieces.
So a file that was appended to, overwritten in the middle or cut off is still known exactly, and
nothing of it has to be kept. Two pieces of different seeds differ nearly everywhere, and so do
two places of one piece: bytes that are torn, mixed or moved don't compare equal.
Everything here is immutable; any thread may use it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

_BLOCK = memoryview(random.Random("noise").randbytes(40 << 20))
PIECE_BYTES_MAX = 24 << 20
_PLACES = len(_BLOCK) - PIECE_BYTES_MAX
_STRIDE = 5_000_011


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, start + size) of the noise of `seed`."""

    seed: int
    size: int
    start: int = 0

    def view(self) -> memoryview:
        """The bytes themselves, shared."""
        at = self.seed * _STRIDE % _PLACES + self.start
        return _BLOCK[at : at + self.size]

    def cut(self, start: int, stop: int) -> Piece:
        """The part [start, stop) of it."""
        return Piece(self.seed, stop - start, self.start + start)


@dataclass(frozen=True)
class Content:
    """All bytes of an object. etag: what S3 must say, None where a test can't know it."""

    pieces: tuple[Piece, ...] = ()
    etag: str | None = None

    @cached_property
    def size(self) -> int:
        """In bytes."""
        return sum(piece.size for piece in self.pieces)

    @cached_property
    def md5(self) -> str:
        """In hex."""
        digest = hashlib.md5(usedforsecurity=False)
        for piece in self.pieces:
            digest.update(piece.view())
        return digest.hexdigest()

    def join(self) -> bytes:
        """The bytes in one piece."""
        return b"".join(piece.view() for piece in self.pieces)

    def fault(self, found: Iterable[bytes]) -> str | None:
        """How bytes that were read differ from these, None when they don't."""
        held = b"".join(found)
        if len(held) != self.size:
            return f"{len(held)} bytes instead of {self.size}"
        view, at = memoryview(held), 0
        for piece in self.pieces:
            if view[at : at + piece.size] != piece.view():
                first = _first_difference(view[at : at + piece.size], piece.view())
                return f"wrong byte at {at + first} of {self.size}"
            at += piece.size
        return None

    def etag_fault(self, etag: str) -> str | None:
        """Why this can't be the ETag (without quotes), None when it can."""
        wanted = self.etag or (None if "-" in etag else self.md5)
        return None if wanted in (None, etag) else f"ETag {etag} instead of {wanted}"

    # -- what the mount can do to a file; the ETag is open then -----------------------------

    def replaced(self, offset: int, piece: Piece) -> Content:
        """With `piece` written over [offset, offset + piece.size); 0 <= offset <= size."""
        assert 0 <= offset <= self.size
        rest = self._slice(offset + piece.size, self.size)
        return Content((*self._slice(0, offset), piece, *rest))

    def truncated(self, size: int) -> Content:
        """Its first `size` bytes; 0 <= size <= self.size."""
        return Content(tuple(self._slice(0, size)))

    def _slice(self, start: int, stop: int) -> Iterator[Piece]:
        at = 0
        for piece in self.pieces:
            first, last = max(start - at, 0), min(stop - at, piece.size)
            if first < last:
                yield piece.cut(first, last)
            at += piece.size


def whole(piece: Piece) -> Content:
    """What a single PUT of `piece` makes."""
    digest = hashlib.md5(piece.view(), usedforsecurity=False).hexdigest()
    return Content((piece,), digest)


def multipart(pieces: Iterable[Piece]) -> Content:
    """What a multipart upload of `pieces` makes: its ETag is of the parts' MD5s, with a count."""
    parts = tuple(pieces)
    digests = [hashlib.md5(part.view(), usedforsecurity=False).digest() for part in parts]
    joined = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return Content(parts, f"{joined}-{len(parts)}")


def _first_difference(found: memoryview, wanted: memoryview) -> int:
    start, stop = 0, len(wanted)
    while stop - start > 1:
        middle = (start + stop) // 2
        if found[start:middle] != wanted[start:middle]:
            stop = middle
        else:
            start = middle
    return start
