"""Checksums of bytes that are copied here and never pass through a request.

A part that is copied gets the checksum of its upload's algorithm; an object that is copied with
x-amz-checksum-algorithm gets a new one. Both read the bytes once, hashing in threads.

Concurrency: one task each; the threads are those that hash request bodies. Source: Amazon S3 API
reference, UploadPartCopy, CopyObject.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from typing import cast

import trio

from s3api.checksums import DEFAULT, Algorithm, encode, find_algorithm
from s3api.promises import NOTHING_PROMISED, BodyDigests
from store.types import Buffer, Digests, ObjectReader

# Fewer bytes are hashed on the loop, for what a hop to a thread costs.
_ON_LOOP_BYTES = 128 * 1024


class CopyDigests:
    """See `store.types.Digester`. algorithm: by name, "" for the default one."""

    def __init__(self, limiter: trio.CapacityLimiter, algorithm: str = "") -> None:
        self._limiter = limiter
        chosen = find_algorithm(algorithm) if algorithm else DEFAULT
        self._digests = BodyDigests(NOTHING_PROMISED, default=chosen)

    async def update(self, pieces: Sequence[Buffer]) -> None:
        if sum(map(len, pieces)) <= _ON_LOOP_BYTES:
            self._feed(pieces)
        else:
            await trio.to_thread.run_sync(self._feed, pieces, limiter=self._limiter)

    def _feed(self, pieces: Sequence[Buffer]) -> None:
        for piece in pieces:
            self._digests.update(piece)

    def finish(self) -> Digests:
        proof = self._digests.prove()
        return Digests(md5=proof.md5.hex(), checksums=proof.checksums)


async def checksum_of(
    reader: ObjectReader, algorithm: Algorithm, limiter: trio.CapacityLimiter
) -> str:
    """The base64 checksum of an open object's bytes; closes the reader. Raises Unrecoverable."""
    digest = algorithm.new()

    def feed(pieces: Sequence[Buffer]) -> None:
        for piece in pieces:
            digest.update(piece)

    with closing(reader):
        # A generator, though the protocol only says that it can be iterated and closed.
        found = reader.stream(0, reader.stat.size)
        async with aclosing(cast("AsyncGenerator[Sequence[Buffer]]", found)) as lists:
            async for pieces in lists:
                await trio.to_thread.run_sync(feed, pieces, limiter=limiter)
    return encode(digest.digest())
