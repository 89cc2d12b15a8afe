"""From an inode's content to bytes: extents, holes, inline, and reading ahead.

A `Content` is a snapshot of where bytes are. Whoever reads from it holds a token of
`State.readers` meanwhile, so that runs freed after the snapshot stay in place.
Invariant: what is returned was verified by the chunk store (C3); holes are zeros.
Concurrency: any task; a window that is not in memory is read by a task of the store's own
nursery while the caller is busy with the one before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

import trio

from metadb import content as rows
from metadb.records import ExtentRow, InodeRow
from metadb.statements import Tx
from store.chunks.types import Buffer, Run, RunId
from store.state import State
from store.translate import translated
from store.types import ObjectStat

WINDOW_BYTES = 2 << 20
ZEROS = memoryview(bytes(1 << 20))


class Content(NamedTuple):
    """Where the bytes of an inode are: inline, or extents in order of start with holes between."""

    size: int
    inline: bytes | None
    extents: Sequence[ExtentRow]


def load(tx: Tx, row: InodeRow) -> Content:
    """The published content of an inode."""
    if row.size == 0:
        return Content(0, b"", ())
    inline = rows.inline_of(tx, row.id)
    if inline is not None:
        return Content(row.size, inline, ())
    return Content(row.size, None, rows.extents_of(tx, row.id))


class Piece(NamedTuple):
    """`size` bytes: [start, start + size) of `run`, or zeros where run is None."""

    run: Run | None
    start: int
    size: int


def pieces(extents: Sequence[ExtentRow], start: int, stop: int) -> Iterator[Piece]:
    """What bytes [start, stop) are made of, in order."""
    index = max(bisect_right(extents, start, key=lambda e: e.start) - 1, 0)
    position = start
    while position < stop:
        while index < len(extents) and extents[index].start + extents[index].size <= position:
            index += 1
        if index == len(extents) or extents[index].start >= stop:
            yield Piece(None, 0, stop - position)
            return
        extent = extents[index]
        if extent.start > position:
            yield Piece(None, 0, extent.start - position)
            position = extent.start
        into = position - extent.start
        size = min(extent.size - into, stop - position)
        run = Run(id=RunId(extent.run), size=extent.run_size, missing=extent.run_missing)
        yield Piece(run, extent.run_start + into, size)
        position += size


def zeros(size: int) -> list[Buffer]:
    """`size` zero bytes, in buffers of up to 1 MiB that share their memory."""
    whole, rest = divmod(size, len(ZEROS))
    buffers: list[Buffer] = [ZEROS] * whole
    if rest:
        buffers.append(ZEROS[:rest])
    return buffers


def read_nowait(state: State, content: Content, start: int, stop: int) -> list[Buffer] | None:
    """Bytes [start, stop) at once if all are in memory, else None. 0 <= start <= stop <= size."""
    if content.inline is not None:
        if start == 0 and stop == len(content.inline):
            return [content.inline]
        return [memoryview(content.inline)[start:stop]]
    found: list[Buffer] = []
    for piece in pieces(content.extents, start, stop):
        if piece.run is None:
            found += zeros(piece.size)
            continue
        buffers = state.chunks.read_nowait(piece.run, piece.start, piece.start + piece.size)
        if buffers is None:
            return None
        found += buffers
    return found


async def read(state: State, content: Content, start: int, stop: int) -> list[Buffer]:
    """Bytes [start, stop). Raises Unrecoverable. Hold a `readers` token around it."""
    found = read_nowait(state, content, start, stop)
    if found is not None:
        return found
    found = []
    with translated():
        for piece in pieces(content.extents, start, stop):
            if piece.run is None:
                found += zeros(piece.size)
            else:
                found += await state.chunks.read(piece.run, piece.start, piece.start + piece.size)
    return found


class _Ahead:
    """One window on its way in, read by a task of the store's nursery."""

    __slots__ = ("_done", "_error", "_found", "_scope")

    def __init__(self, state: State, content: Content, start: int, stop: int) -> None:
        self._done = trio.Event()
        self._scope = trio.CancelScope()
        self._found: list[Buffer] = []
        self._error: Exception | None = None
        state.nursery.start_soon(self._fill, state, content, start, stop)

    async def _fill(self, state: State, content: Content, start: int, stop: int) -> None:
        try:
            with self._scope:
                self._found = await read(state, content, start, stop)
        except Exception as exc:  # handed to whoever waits for the window
            self._error = exc
        finally:
            self._done.set()

    async def result(self) -> list[Buffer]:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._found

    def cancel(self) -> None:
        self._scope.cancel()


async def windows(
    state: State, content: Content, start: int, stop: int
) -> AsyncIterator[list[Buffer]]:
    """Bytes [start, stop) in lists of buffers of up to 2 MiB, the next being read meanwhile.

    Windows end at multiples of their size, so that a long read doesn't cut stripes in two.
    """
    ahead: _Ahead | None = None
    position = start
    try:
        while position < stop:
            end = min(stop, (position // WINDOW_BYTES + 1) * WINDOW_BYTES)
            if ahead is None:
                found = await read(state, content, position, end)
            else:
                found = await ahead.result()
                ahead = None
            if end < stop:
                following = min(stop, end + WINDOW_BYTES)
                # In memory already: reading it when its turn comes costs less than a task.
                if content.inline is None and not _in_memory(state, content, end, following):
                    ahead = _Ahead(state, content, end, following)
            yield found
            position = end
    finally:
        if ahead is not None:
            ahead.cancel()


def _in_memory(state: State, content: Content, start: int, stop: int) -> bool:
    """Whether the first bytes of a window come from memory: the rest most likely does too."""
    return read_nowait(state, content, start, min(stop, start + 4096)) is not None


class ContentReader:
    """An `ObjectReader` over a snapshot of content."""

    __slots__ = ("_content", "_state", "_token", "stat")

    def __init__(self, state: State, stat: ObjectStat, content: Content) -> None:
        self.stat = stat
        self._state = state
        self._content = content
        self._token = state.readers.begin() if content.inline is None else 0

    def stream(self, start: int, stop: int) -> AsyncIterator[Sequence[Buffer]]:
        """See `ObjectReader.stream`."""
        assert 0 <= start <= stop <= self.stat.size, (start, stop, self.stat.size)
        return windows(self._state, self._content, start, stop)

    def read_nowait(self, start: int, stop: int) -> list[Buffer] | None:
        """See `ObjectReader.read_nowait`."""
        return read_nowait(self._state, self._content, start, stop)

    def close(self) -> None:
        """See `ObjectReader.close`."""
        if self._token:
            self._state.readers.end(self._token)
            self._token = 0
