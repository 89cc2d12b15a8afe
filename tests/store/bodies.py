"""Bodies for tests: bytes that arrive in pieces, as a face would hand them over."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from store.types import Buffer, Digests


class BytesBody:
    """A `Body` of known bytes, cut into pieces; `error` is raised in place of its end."""

    def __init__(
        self,
        content: bytes,
        *,
        piece_bytes: int = 64 * 1024,
        sized: bool = True,
        error: Exception | None = None,
        checksums: dict[str, str] | None = None,
    ) -> None:
        self.size: int | None = len(content) if sized else None
        self._content = content
        self._piece_bytes = piece_bytes
        self._position = 0
        self._error = error
        self._checksums = checksums or {}

    async def next(self) -> Buffer | None:
        piece = self._content[self._position : self._position + self._piece_bytes]
        self._position += len(piece)
        return piece or None

    async def finish(self) -> Digests:
        if self._error is not None:
            raise self._error
        return Digests(
            md5=hashlib.md5(self._content, usedforsecurity=False).hexdigest(),
            checksums=self._checksums,
        )


def join(buffers: Sequence[Buffer]) -> bytes:
    """All bytes of a list of buffers."""
    return b"".join(bytes(b) for b in buffers)
