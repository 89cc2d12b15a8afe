"""aws-chunked bodies: the payload of the STREAMING modes, its chunk signatures and trailer.

    size[;chunk-signature=hex] CRLF payload CRLF ... 0[;chunk-signature=hex] CRLF
    [x-amz-checksum-name:value CRLF  [x-amz-trailer-signature:hex CRLF]] CRLF

Trailer lines may end in LF alone, and an empty line may stand before the trailer's signature and
after all: minio-go (mc, warp) writes them so.

Invariants
  1. Each signature covers the one before it; the first follows the request's own (the seed). A
     chunk is given to the caller before its signature is checked, so nothing counts until finish()
     has returned.
  2. No byte beyond x-amz-decoded-content-length is given to the caller.
  3. Truncation anywhere is an error of finish(), never a wait.

Concurrency: one owner; synchronous. Source: Amazon S3 API reference, "Signature Calculations for
the Authorization Header: Transferring Payload in Multiple Chunks" and "... Including Trailing
Headers".
"""

from __future__ import annotations

import hashlib
import hmac

from s3api import signing
from s3api.claims import AuthContext, PayloadMode, is_hex64
from s3api.framing import ChunkFraming, FramingError, TrailerError
from s3api.refusals import (
    IncompleteBody,
    InvalidChunkSize,
    InvalidRequest,
    MalformedTrailer,
    SignatureDoesNotMatch,
)

# As AWS and MinIO have it. Unsigned chunks are only limited by the decoded length.
SIGNED_CHUNK_SIZE_MAX_BYTES = 16 * 1024 * 1024

STREAMING_MODES = frozenset(
    (
        PayloadMode.STREAMING,
        PayloadMode.STREAMING_TRAILER,
        PayloadMode.STREAMING_UNSIGNED_TRAILER,
    )
)

_SIGNATURE_PREFIX = b"chunk-signature="
_TRAILER_SIGNATURE = b"x-amz-trailer-signature"


class AwsChunkedDecoder(ChunkFraming):
    """Decodes one body.

    auth: with a payload_mode of STREAMING_MODES. size_bytes: x-amz-decoded-content-length.
    trailer_name: what x-amz-trailer declared, None if nothing.
    trailer: the declared trailer's value, after finish().
    """

    def __init__(self, auth: AuthContext, *, size_bytes: int, trailer_name: bytes | None) -> None:
        super().__init__()
        assert auth.payload_mode in STREAMING_MODES, auth.payload_mode
        self.trailer: bytes | None = None
        self._auth = auth
        self._signed = auth.payload_mode is not PayloadMode.STREAMING_UNSIGNED_TRAILER
        self._has_trailer = auth.payload_mode is not PayloadMode.STREAMING
        self._trailer_name = trailer_name
        self._size_bytes = size_bytes
        self._announced_bytes = 0
        self._previous = auth.seed_signature
        self._claimed = ""
        self._chunk_sha256 = hashlib.sha256()
        self._trailer_proved = False

    def feed(self, piece: bytes | memoryview) -> list[memoryview]:
        """The payload within `piece`, as views of it. Raises a Refusal; then feed no more."""
        if self.complete:
            self._refuse_leftover(memoryview(piece))
            return []
        try:
            payload = super().feed(piece)
        except TrailerError as exc:
            raise MalformedTrailer(str(exc)) from None
        except FramingError as exc:
            raise InvalidRequest(str(exc)) from None
        if self.leftover:
            self._refuse_leftover(self.leftover)
        return payload

    def finish(self) -> None:
        """The HTTP body has ended: so must this. Raises IncompleteBody or MalformedTrailer."""
        if not self.complete or self._announced_bytes != self._size_bytes:
            raise IncompleteBody(
                f"The body has {self._announced_bytes} of the {self._size_bytes} bytes of "
                "x-amz-decoded-content-length, or its last chunk is missing."
            )

    def _refuse_leftover(self, leftover: memoryview) -> None:
        self._line += bytes(leftover[:3])
        if not b"\r\n".startswith(self._line):
            raise InvalidRequest("The body goes on after its last chunk.")

    def _on_chunk_start(self, size_bytes: int, extension: bytes) -> None:
        if self._signed:
            if size_bytes > SIGNED_CHUNK_SIZE_MAX_BYTES:
                raise InvalidChunkSize()
            self._claimed = extension[len(_SIGNATURE_PREFIX) :].decode("latin-1")
            if not extension.startswith(_SIGNATURE_PREFIX) or not is_hex64(self._claimed):
                raise InvalidRequest("A chunk has no valid chunk-signature.")
        elif extension:
            raise InvalidRequest("A chunk has an extension, which this payload mode has not.")
        self._announced_bytes += size_bytes
        if self._announced_bytes > self._size_bytes:
            raise IncompleteBody("The body is longer than x-amz-decoded-content-length.")

    def _on_payload(self, part: memoryview) -> None:
        if self._signed:
            self._chunk_sha256.update(part)

    def _on_chunk_end(self) -> None:
        if not self._signed:
            return
        auth = self._auth
        chunk_sha256 = self._chunk_sha256.hexdigest()
        self._chunk_sha256 = hashlib.sha256()
        self._previous = signing.chunk_signature(
            auth.signing_key, auth.timestamp, auth.scope, self._previous, chunk_sha256
        )
        if not hmac.compare_digest(self._previous, self._claimed):
            raise SignatureDoesNotMatch("A chunk-signature does not match the chunk.")

    def _on_trailer_line(self, line: bytes) -> None:
        self._count_trailer()
        text = line.rstrip(b"\r\n")
        if len(line) - len(text) > 2 or b"\r" in text:
            raise MalformedTrailer()
        if text:
            self._read_trailer(text)
        elif self._needs_more_trailer():
            # minio-go sets the signature apart from the headers by an empty line.
            if self.trailer is None:
                raise MalformedTrailer("The declared trailer is missing.")
        else:
            self._finish()

    def _needs_more_trailer(self) -> bool:
        if not self._has_trailer:
            return False
        if self._trailer_name is not None and self.trailer is None:
            return True
        return self._signed and not self._trailer_proved

    def _read_trailer(self, text: bytes) -> None:
        name, colon, value = text.partition(b":")
        name, value = name.strip(b" \t").lower(), value.strip(b" \t")
        if not colon or not self._has_trailer or self._trailer_proved:
            raise MalformedTrailer()
        if name == _TRAILER_SIGNATURE and self._signed:
            self._prove_trailer(value.decode("latin-1"))
        elif name != self._trailer_name:
            raise MalformedTrailer("A trailer was not declared by x-amz-trailer.")
        elif self.trailer is not None:
            raise MalformedTrailer("A trailer is given twice.")
        else:
            self.trailer = value

    def _prove_trailer(self, claimed: str) -> None:
        """Check the trailer's signature, which covers the `name:value` lines before it."""
        auth = self._auth
        lines = b""
        if self._trailer_name is not None:
            if self.trailer is None:
                raise MalformedTrailer("The declared trailer is missing.")
            lines = self._trailer_name + b":" + self.trailer + b"\n"
        expected = signing.trailer_signature(
            auth.signing_key, auth.timestamp, auth.scope, self._previous, lines
        )
        if not is_hex64(claimed) or not hmac.compare_digest(expected, claimed):
            raise SignatureDoesNotMatch("The x-amz-trailer-signature does not match the trailer.")
        self._trailer_proved = True
