"""Bodies of requests, as the store and as documents want them.

`PayloadBody` is the `store.types.Body` over a verified `Payload`: small ones in one piece, large
ones in pieces of 1 MiB whose digests are computed in a thread while the next ones are received.

Invariant: `finish` returns only when all that was announced about the body holds.
Concurrency: one task calls `next` and `finish`; never two at once.
"""

from __future__ import annotations

from s3api.checksums import DEFAULT, find_algorithm, parse_promise
from s3api.errors import EntityTooLarge, InvalidRequest, MalformedXML, MissingContentLength
from s3api.payload import Payload, open_payload
from s3api.requests import Request
from store.digests import DigestLane, DigestThreads
from store.types import Buffer, Digests, blank_buffer

# Up to here a body is one piece, and its digests cost less than a thread hop (190 us).
WHOLE_SIZE_BYTES = 128 * 1024
PIECE_SIZE_BYTES = 1 << 20
_CHECKSUMS = (b"x-amz-checksum-", b"x-amz-sdk-checksum-")


class PayloadBody:
    """See `store.types.Body`."""

    def __init__(self, payload: Payload, threads: DigestThreads) -> None:
        self.size = payload.size_bytes
        self._payload = payload
        self._threads = threads
        self._lane: DigestLane | None = None
        self._received = 0
        self._ended = self.size == 0

    async def next(self) -> Buffer | None:
        if self._ended:
            return None
        if self.size is not None and self.size <= WHOLE_SIZE_BYTES:
            self._ended = True
            return await self._payload.read(self.size) or None
        lane = self._lane
        if lane is None:
            lane = self._lane = DigestLane(self._payload.digest, self._threads)
        await lane.room(self._threads.ahead_bytes)
        room = PIECE_SIZE_BYTES
        if self.size is not None:
            room = min(room, self.size - self._received)
        piece = blank_buffer(room)
        count = await self._payload.fill(piece)
        self._received += count
        self._ended = self._received == self.size or count == 0
        if count == 0:
            return None
        if count < room:
            piece = piece[:count]
        lane.feed(piece)
        return piece

    async def finish(self) -> Digests:
        if self.size == 0:
            await self._payload.read(0)
        if self._lane is not None:
            await self._lane.room(0)
        proof = self._payload.verify()
        return Digests(md5=proof.md5.hex(), checksums=proof.checksums)


def open_body(request: Request, threads: DigestThreads) -> PayloadBody:
    """The body of an object, with the checksum that was promised or the default one.

    Raises what `open_payload` raises; nothing has been received yet.
    """
    _check_length(request)
    return PayloadBody(open_payload(request.stream, request.auth, default=DEFAULT), threads)


def open_part(request: Request, threads: DigestThreads, algorithm: str) -> PayloadBody:
    """The body of a part. algorithm: the upload's, "" where it chose none.

    The part gets a checksum of that algorithm, sent or not: Amazon S3 wants it sent where the
    upload is COMPOSITE, which browsers with a presigned URL can't do. Where none was chosen it gets
    the default one, beside the one that was promised. Checksums in the query of a presigned URL
    promise nothing, as Amazon S3 documents it: SDKs put those of an empty body there.

    Raises like `open_body`, and InvalidRequest for another algorithm than the upload's.
    """
    _check_length(request)
    promise = parse_promise(dict(request.stream.headers))
    if algorithm and promise is not None and promise.algorithm.name != algorithm:
        raise InvalidRequest(
            f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.lower()}, "
            f"actual checksum Type: {promise.algorithm.name.lower()}"
        )
    default = find_algorithm(algorithm) if algorithm else DEFAULT
    payload = open_payload(request.stream, request.auth, default=default, always=not algorithm)
    return PayloadBody(payload, threads)


def _check_length(request: Request) -> None:
    if request.stream.content_length == 0 and b"content-length" not in request.headers:
        # HTTP takes this for an empty body; S3 wants an empty object to be meant.
        raise MissingContentLength()


async def read_document(
    request: Request, size_max_bytes: int, *, checksummed: bool = True
) -> bytes:
    """A whole small body, verified. Raises MalformedXML as soon as it is too long.

    checksummed: whether x-amz-checksum-* headers, if any, speak of this body.
    """
    if not checksummed:
        stream = request.stream
        stream.headers = [pair for pair in stream.headers if not pair[0].startswith(_CHECKSUMS)]
    payload = open_payload(request.stream, request.auth)
    if payload.size_bytes is not None and payload.size_bytes > size_max_bytes:
        raise MalformedXML()
    try:
        document = await payload.read(size_max_bytes)
    except EntityTooLarge:
        raise MalformedXML() from None
    payload.verify()
    return document
