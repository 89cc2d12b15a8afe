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
     digest() takes the pieces in order, one at a time. Its lanes may run at the same time as each
     other.

Concurrency: fill, read and verify on the loop; digest and each lane in any one thread at a time.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import trio

from s3api import signing
from s3api.checksums import (
    Algorithm,
    ChecksumPromise,
    Digest,
    find_algorithm,
    parse_content_md5,
    parse_promise,
)
from s3api.chunked import STREAMING_MODES, AwsChunkedDecoder
from s3api.claims import AuthContext, PayloadMode
from s3api.httpstream import (
    BodyMalformed,
    BodyStalled,
    ClientDisconnected,
    Piece,
    RequestStream,
)
from s3api.refusals import (
    BadDigest,
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    InvalidRequest,
    MissingContentLength,
    RequestTimeout,
    XAmzContentSHA256Mismatch,
)

# Up to this size read() digests on the loop: about 0.2 ms of MD5, what a hop to a thread costs.
INLINE_DIGEST_SIZE_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadProof:
    """What verify() established.

    md5: 16 bytes, for the ETag. checksum_algorithm: None if the client promised none and none was
    asked for; checksum: its digest (see checksums.encode), b"" with None.
    """

    size_bytes: int
    md5: bytes
    checksum_algorithm: Algorithm | None
    checksum: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promises:
    content_md5: bytes | None
    sha256: str
    checksum: ChecksumPromise | None


class Payload:
    """size_bytes: of the payload itself, without aws-chunked framing; None if nobody said."""

    def __init__(
        self,
        stream: RequestStream,
        decoder: AwsChunkedDecoder | None,
        size_bytes: int | None,
        promises: _Promises,
        algorithm: Algorithm | None,
    ) -> None:
        self.size_bytes = size_bytes
        self._stream = stream
        self._decoder = decoder
        self._promises = promises
        self._algorithm = algorithm
        self._pending: deque[memoryview] = deque()
        self._ended = False
        self._received_bytes = 0
        self._digested_bytes = 0
        self._md5: Digest = hashlib.md5(usedforsecurity=False)
        self._sha256: Digest | None = hashlib.sha256() if promises.sha256 else None
        self._checksum = self._choose_checksum(algorithm)

    def _choose_checksum(self, algorithm: Algorithm | None) -> Digest | None:
        """A digest for the checksum, one of the others where that is the same."""
        if algorithm is None:
            return None
        if algorithm.name == "MD5":
            return self._md5
        if algorithm.name == "SHA256" and self._sha256 is not None:
            return self._sha256
        return algorithm.new()

    @property
    def lanes(self) -> tuple[Callable[[Piece], None], ...]:
        """The digests' update functions, for callers that run them in parallel instead of digest().

        The caller then gives every piece to every lane, and the sizes to count_digested().
        """
        digests = {id(d): d for d in (self._md5, self._sha256, self._checksum) if d is not None}
        return tuple(digest.update for digest in digests.values())

    def digest(self, piece: Piece) -> None:
        """Feed the next piece to all digests. CPU only; releases the GIL for large pieces."""
        self._md5.update(piece)
        if self._sha256 is not None:
            self._sha256.update(piece)
        if (
            self._checksum is not None
            and self._checksum is not self._md5
            and self._checksum is not self._sha256
        ):
            self._checksum.update(piece)
        self._digested_bytes += len(piece)

    def count_digested(self, size_bytes: int) -> None:
        """All lanes have taken a piece of this size."""
        self._digested_bytes += size_bytes

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

    def verify(self) -> PayloadProof:
        """Check all promises, after the end was received and all of it digested.

        Raises IncompleteBody, BadDigest, XAmzContentSHA256Mismatch, InvalidRequest.
        """
        if self._digested_bytes != self._received_bytes:
            raise RuntimeError(
                f"{self._received_bytes} bytes were received, {self._digested_bytes} digested"
            )
        # By length alone the end is known; else it must have been seen.
        by_length = self._decoder is None and self._received_bytes == self.size_bytes
        if not (by_length or self._ended):
            raise IncompleteBody()
        promises, md5 = self._promises, self._md5.digest()
        if promises.content_md5 is not None and promises.content_md5 != md5:
            raise BadDigest("The Content-MD5 you specified did not match what we received.")
        if self._sha256 is not None and self._sha256.digest().hex() != promises.sha256:
            raise XAmzContentSHA256Mismatch(
                extras=(
                    ("ClientComputedContentSHA256", promises.sha256),
                    ("S3ComputedContentSHA256", self._sha256.digest().hex()),
                )
            )
        checksum = self._checksum.digest() if self._checksum is not None else b""
        if promises.checksum is not None:
            promises.checksum.check(checksum, self._expected_checksum(promises.checksum))
        return PayloadProof(
            size_bytes=self._received_bytes,
            md5=md5,
            checksum_algorithm=self._algorithm,
            checksum=checksum,
        )

    def _expected_checksum(self, promise: ChecksumPromise) -> bytes:
        if promise.expected is not None:
            return promise.expected
        # A promised trailer that is missing has been refused by the decoder.
        trailer = self._decoder.trailer if self._decoder is not None else None
        return promise.algorithm.parse((trailer or b"").decode("latin-1"))

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
    stream: RequestStream,
    auth: AuthContext,
    *,
    default_algorithm: str = "",
    size_required: bool = True,
) -> Payload:
    """Read the promises from the headers and prepare to receive.

    default_algorithm: checksum to compute even if the client promised none, "" for none.
    size_required: refuse a body whose size nobody said (chunked, without
    x-amz-decoded-content-length). Raises InvalidDigest, InvalidRequest, InvalidArgument,
    MissingContentLength.
    """
    headers = signing.join_headers(stream.headers)
    checksum = parse_promise(headers)
    promises = _Promises(
        content_md5=parse_content_md5(headers),
        sha256=auth.payload_sha256 if auth.payload_mode is PayloadMode.HASHED else "",
        checksum=checksum,
    )
    size_bytes = stream.content_length
    decoder = None
    in_trailer = checksum is not None and checksum.expected is None
    if auth.payload_mode in STREAMING_MODES:
        size_bytes = _parse_decoded_length(headers.get(b"x-amz-decoded-content-length"))
        trailer_name = checksum.algorithm.header if checksum is not None and in_trailer else None
        decoder = AwsChunkedDecoder(auth, size_bytes=size_bytes, trailer_name=trailer_name)
    if in_trailer and auth.payload_mode in (
        PayloadMode.HASHED,
        PayloadMode.UNSIGNED,
        PayloadMode.STREAMING,
    ):
        raise InvalidRequest("x-amz-trailer needs a payload mode with a trailer.")
    if size_bytes is None and size_required:
        raise MissingContentLength()
    algorithm = checksum.algorithm if checksum is not None else None
    if algorithm is None and default_algorithm:
        algorithm = find_algorithm(default_algorithm)
    return Payload(stream, decoder, size_bytes, promises, algorithm)


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
