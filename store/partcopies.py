"""A part that is a range of another object: read once for its digests, then shared by reference.

Invariant: extents are shared only in a transaction that finds the source's inode as it was read, so
that each run named is one that still has a reference. Where the source changed meanwhile, or is
inline, its bytes are written anew from the snapshot, whose runs stay while the token is held.
Concurrency: any task, with a `State.readers` token held all the while. Source: Amazon S3 API
reference, UploadPartCopy.
"""

from __future__ import annotations

from metadb import inodes
from metadb.records import InodeRow
from metadb.statements import Tx
from store import reading
from store.state import State
from store.types import Buffer, Digester, Digests


async def digest(
    state: State, source: reading.Content, start: int, stop: int, digester: Digester
) -> Digests:
    """Read bytes [start, stop) window by window. Raises Unrecoverable."""
    for position in range(start, stop, reading.WINDOW_BYTES):
        end = min(stop, position + reading.WINDOW_BYTES)
        await digester.update(await reading.read(state, source, position, end))
    return digester.finish()


def shared_extents(
    tx: Tx, source: InodeRow, start: int, stop: int
) -> list[tuple[int, int, int, int]] | None:
    """Rows (start, size, run, run_start) of a new inode that has the source's [start, stop).

    None if the source is not what it was, or has its bytes inline.
    """
    row = inodes.get(tx, source.id)
    if row is None or row.content_version != source.content_version:
        return None
    found = reading.load(tx, row)
    if found.inline is not None:
        return None
    extents: list[tuple[int, int, int, int]] = []
    position = 0
    for piece in reading.pieces(found.extents, start, stop):
        if piece.run is not None:
            extents.append((position, piece.size, piece.run.id, piece.start))
        position += piece.size
    return extents


class CopiedBody:
    """A `Body` read from another object's content, whose digests are known."""

    def __init__(
        self, state: State, source: reading.Content, start: int, stop: int, digests: Digests
    ) -> None:
        self.size: int | None = stop - start
        self._state = state
        self._source = source
        self._position = start
        self._stop = stop
        self._digests = digests
        self._waiting: list[Buffer] = []

    async def next(self) -> Buffer | None:
        if not self._waiting:
            end = min(self._stop, self._position + reading.WINDOW_BYTES)
            if end == self._position:
                return None
            self._waiting = await reading.read(self._state, self._source, self._position, end)
            self._waiting.reverse()
            self._position = end
        return self._waiting.pop()

    async def finish(self) -> Digests:
        return self._digests
