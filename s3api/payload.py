"""The payload of one upload: framing taken off, every promise about it checked.

A PUT carries up to four promises beside its length: Content-MD5, x-amz-content-sha256, one checksum
header or trailer, and chunk signatures. `open_payload()` reads them from the headers once; then

    while count := await payload.fill(buffer):           # on the loop: receive, unframe
        await to_thread(payload.digest, buffer[:count])  # anywhere: MD5 and friends
    proof = payload.verify()                             # raises, or all that was promised holds

or, for a small one, `body = await payload.read(size_max_bytes)` and `payload.verify()`.

Invariants
  1. Whatever is wrong with a body is a Refusal; nothing of it may be published before verify() has
     returned.
  2. fill() of the next buffer, digest() of this one and erasure coding may run at the same time;
     digest() takes the pieces in order, one at a time.

Concurrency: fill, read and verify on the loop; digest in any one thread at a time.
"""

from __future__ import annotations

from collections import deque

import trio

from s3api import signing
from s3api.checksums import Algorithm
from s3api.chunked import STREAMING_MODES, AwsChunkedDecoder
from s3api.claims import AuthContext, PayloadMode
from s3api.httpstream import (
    BodyMalformed,
    BodySource,
    BodyStalled,
    ClientDisconnected,
    Piece,
)
from s3api.promises import BodyDigests, BodyProof, parse_promises
from s3api.refusals import (
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    InvalidRequest,
    MissingContentLength,
    RequestTimeout,
)

# Up to this size read() digests on the loop: about 0.2 ms of MD5, what a hop to a thread costs.
INLINE_DIGEST_SIZE_BYTES = 128 * 1024
_TRAILER_MODES = STREAMING_MODES - {PayloadMode.STREAMING}


class Payload:
    """size_bytes: of the payload itself, without aws-chunked framing; None if nobody said."""

    def __init__(
        self,
        stream: BodySource,
        decoder: AwsChunkedDecoder | None,
        size_bytes: int | None,
        digests: BodyDigests,
    ) -> None:
        self.size_bytes = size_bytes
        self._stream = stream
        self._decoder = decoder
        self._digests = digests
        self._pending: deque[memoryview] = deque()
        self._ended = False
        self._received_bytes = 0

    def digest(self, piece: Piece) -> None:
        """Feed the next piece to all digests. CPU only; releases the GIL for large pieces."""
        self._digests.update(piece)

    async def fill(self, buffer: memoryview) -> int:
        """Receive until `buffer` is full or the payload ends; returns the count, 0 at the end.

        A caller that knows size_bytes may stop there, but must call fill() once even for size 0.
        """
        filled = 0
        while filled < len(buffer):
            count = await self._receive_into(buffer[filled:] if filled else buffer)
            if not count:
                break
            filled += count
        self._received_bytes += filled
        if self._decoder is not None and self._received_bytes == self.size_bytes:
            # Read on through the last chunk and the trailer, so that verify() may follow at once.
            await self._decode(self._decoder)
        return filled

    async def read(self, size_max_bytes: int) -> bytes:
        """Receive, digest and return a whole small payload; verify() it then.

        Raises EntityTooLarge if it is longer than size_max_bytes.
        """
        if self.size_bytes is not None and self.size_bytes > size_max_bytes:
            raise EntityTooLarge()
        pieces: list[bytes | memoryview] = []
        while (piece := await self._receive()) is not None:
            pieces.append(piece)
            self._received_bytes += len(piece)
            if self._received_bytes > size_max_bytes:
                raise EntityTooLarge()
        body = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
        if len(body) <= INLINE_DIGEST_SIZE_BYTES:
            self.digest(body)
        else:
            await trio.to_thread.run_sync(self.digest, body)
        return body

    def verify(self) -> BodyProof:
        """Check all promises, after the end was received and all of it digested.

        Raises IncompleteBody, BadDigest, XAmzContentSHA256Mismatch.
        """
        if self._digests.size_bytes != self._received_bytes:
            raise RuntimeError(
                f"{self._received_bytes} bytes were received, {self._digests.size_bytes} digested"
            )
        # By length alone the end is known; else it must have been seen.
        by_length = self._decoder is None and self._received_bytes == self.size_bytes
        if not (by_length or self._ended):
            raise IncompleteBody()
        return self._digests.prove(None if self._decoder is None else self._decoder.trailer)

    async def _receive_into(self, buffer: memoryview) -> int:
        if self._decoder is None:
            try:
                count = await self._stream.receive_body_into(buffer)
            except (ClientDisconnected, BodyStalled, BodyMalformed) as exc:
                raise _refusal(exc) from exc
            self._ended = not count
            return count
        if not self._pending:
            await self._decode(self._decoder)
            if not self._pending:
                return 0
        view = self._pending[0]
        count = min(len(view), len(buffer))
        buffer[:count] = view[:count]
        if count == len(view):
            self._pending.popleft()
        else:
            self._pending[0] = view[count:]
        return count

    async def _receive(self) -> bytes | memoryview | None:
        """The next piece of the payload, None at its end."""
        if self._decoder is None:
            try:
                piece = await self._stream.receive_body()
            except (ClientDisconnected, BodyStalled, BodyMalformed) as exc:
                raise _refusal(exc) from exc
            self._ended = piece is None
            return piece
        if not self._pending:
            await self._decode(self._decoder)
        return self._pending.popleft() if self._pending else None

    async def _decode(self, decoder: AwsChunkedDecoder) -> None:
        """Receive until some payload is pending, or the body has ended as it should."""
        while not self._pending and not self._ended:
            try:
                piece = await self._stream.receive_body()
            except (ClientDisconnected, BodyStalled, BodyMalformed) as exc:
                raise _refusal(exc) from exc
            if piece is None:
                decoder.finish()
                self._ended = True
            else:
                self._pending.extend(decoder.feed(piece))


def open_payload(
    stream: BodySource,
    auth: AuthContext,
    *,
    default: Algorithm | None = None,
    always: bool = False,
    size_required: bool = True,
) -> Payload:
    """Read the promises from the headers and prepare to receive.

    default, always: see `BodyDigests`. size_required: refuse a body whose size nobody said
    (chunked, without x-amz-decoded-content-length). Raises InvalidDigest, InvalidRequest,
    InvalidArgument, BadDigest, MissingContentLength.
    """
    headers = signing.join_headers(stream.headers)
    mode = auth.payload_mode
    promises = parse_promises(headers, auth.payload_sha256 if mode is PayloadMode.HASHED else "")
    checksum = promises.checksum
    in_trailer = checksum is not None and checksum.expected is None
    if in_trailer and mode not in _TRAILER_MODES:
        raise InvalidRequest("x-amz-trailer needs a payload mode with a trailer.")
    size_bytes = stream.content_length
    decoder = None
    if mode in STREAMING_MODES:
        size_bytes = _parse_decoded_length(headers.get(b"x-amz-decoded-content-length"))
        trailer_name = checksum.algorithm.header if checksum is not None and in_trailer else None
        decoder = AwsChunkedDecoder(auth, size_bytes=size_bytes, trailer_name=trailer_name)
    if size_bytes is None and size_required:
        raise MissingContentLength()
    digests = BodyDigests(promises, default=default, always=always)
    return Payload(stream, decoder, size_bytes, digests)


def _parse_decoded_length(value: bytes | None) -> int:
    if value is None:
        raise MissingContentLength()
    if not value.isdigit() or len(value) > 18:
        raise InvalidArgument("x-amz-decoded-content-length is not a length.")
    return int(value)


def _refusal(
    exc: ClientDisconnected | BodyStalled | BodyMalformed,
) -> IncompleteBody | RequestTimeout | InvalidRequest:
    """What the client is told, if it can still be told anything."""
    if isinstance(exc, BodyStalled):
        return RequestTimeout()
    if isinstance(exc, BodyMalformed):
        return InvalidRequest(str(exc))
    return IncompleteBody()
