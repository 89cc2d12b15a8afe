"""Large contents that never stand in memory, and what happens in the middle of them.

Concurrency: a file is read by one thread at a time; boto3's transfers do that.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Protocol

from tests.crash.content import Piece

_PIECE_BYTES = 8 << 20
Actions = Mapping[int, Callable[[], None]]


class Readable(Protocol):
    """Anything that gives bytes in order."""

    def read(self, size: int, /) -> bytes: ...


class Stream(io.RawIOBase):
    """A file of `size` bytes of noise of `seed`. actions: called when that many bytes were read."""

    def __init__(self, seed: int, size: int, actions: Actions | None = None) -> None:
        self.size = size
        self.seed = seed
        self._at = 0
        self._actions = dict(actions or {})

    def read(self, size: int = -1, /) -> bytes:  # type: ignore[override]
        stop = self.size if size < 0 else min(self._at + size, self.size)
        parts = []
        while self._at < stop:
            number, start = divmod(self._at, _PIECE_BYTES)
            length = min(_PIECE_BYTES - start, stop - self._at)
            parts.append(Piece(self.seed + number, length, start).view())
            self._at += length
        for place in [place for place in self._actions if place <= self._at]:
            self._actions.pop(place)()
        return b"".join(parts)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def difference(found: Readable, wanted: Stream) -> str | None:
    """How what is read from `found` differs from `wanted`, None when it doesn't."""
    done = 0
    while True:
        piece = wanted.read(1 << 20)
        got = _exactly(found, len(piece) or 1)
        if got != piece:
            return f"differs between {done} and {done + len(piece)} of {wanted.size}"
        if not piece:
            return None
        done += len(piece)


def _exactly(found: Readable, size: int) -> bytes:
    parts = []
    while size and (part := found.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
