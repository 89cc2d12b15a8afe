"""One stripe on its way to its drives: joined, encoded, hashed and written in a single thread.

A hop between threads costs more than writing a shard into the page cache, so the members are
written one after the other, and `position` tells which one it hangs on if it hangs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from store.chunks.codec import codec
from store.chunks.fragment import build_header, identity
from store.chunks.geometry import shard_size
from store.chunks.segment import OpenSegment
from store.chunks.types import Buffer, Owner, RunId

_ZEROS = memoryview(bytes(1 << 17))


def join(pieces: Sequence[Buffer], size: int, padded: int) -> Buffer:
    """The pieces, `size` bytes together, as one buffer fit for encoding, with zeros up to `padded`.

    A piece that is all of it is not copied.
    """
    if size == padded and len(pieces) == 1:
        only = pieces[0]
        if isinstance(only, bytes) or not memoryview(only).readonly:
            return only
    return b"".join([*pieces, _ZEROS[: padded - size]])


class StripeJob:
    """Write stripe `index` of `run` at `offset` to the members `shards`. `run_in_thread` once.

    errors: the members that failed, by shard. position: the shard being written, -1 outside.
    abandoned: set by the loop when it waits no more; nothing further is written then.
    """

    def __init__(
        self,
        open_segment: OpenSegment,
        store: bytes,
        run: RunId,
        index: int,
        offset: int,
        owner: Owner,
        pieces: Sequence[Buffer],
        payload: int,
        shards: Sequence[int],
        growth: tuple[int, int] | None,
    ) -> None:
        self._open = open_segment
        self._store = store
        self._run = run
        self._index = index
        self._offset = offset
        self._owner = owner
        self._pieces = pieces
        self._payload = payload
        self._shards = shards
        self._growth = growth
        self.errors: dict[int, OSError] = {}
        self.position = -1
        self.abandoned = False

    def run_in_thread(self) -> None:
        segment = self._open.segment
        size = shard_size(self._payload, segment.k)
        payload = join(self._pieces, self._payload, segment.k * size)
        encoded = codec(segment.k, segment.m).encode(payload)
        for shard in self._shards:
            known = identity(
                self._store,
                segment,
                self._run,
                self._index,
                shard,
                payload=self._payload,
                size=size,
            )
            header = build_header(known, self._owner, encoded[shard])
            if self.abandoned:
                return
            self.position = shard
            try:
                self._write(shard, [header, encoded[shard]])
            except OSError as error:
                self.errors[shard] = error
        self.position = -1

    def _write(self, shard: int, buffers: Sequence[Buffer]) -> None:
        io = self._open.drives[shard].io
        handle = self._open.handles[shard]
        if self._growth is not None:
            # No room for a large step may still be room for this stripe: the write will tell.
            with contextlib.suppress(OSError):
                io.allocate(handle, *self._growth)
        io.write(handle, buffers, self._offset)
        if self._payload == self._open.segment.stripe_size:
            # A full stripe is likely one of many: what is on its way already when the stream
            # ends, its flush need not wait for (523 -> 765 MB/s for one stream of 10 MiB each).
            io.start_writeback(handle, self._offset, self._open.record)
