"""The payload of one upload: framing taken off, every promise about it checked.

A PUT carries up to four promises beside its length: Content-MD5, x-amz-content-sha256, one checksum header
or trailer, and chunk signatures. `open_payload()` reads them from the headers once; then

    while count := await payload.fill(buffer):          # on the loop: receive, unframe, copy
        await to_thread(payload.digest, buffer[:count])  # anywhere: MD5 and friends, in order
    proof = payload.verify()                            # raises, or everything promised holds

`fill` of the next buffer, `digest` of this one and erasure coding may run at the same time; `digest` calls
must come in order and one at a time. Every failure is a Refusal (s3api.refusals), but ClientDisconnected.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3api.httpstream import RequestStream
from s3api.sigv4 import AuthContext


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadProof:
    """What verify() established. md5: 16 bytes, for the ETag.

    checksum_algorithm: "CRC32" ... or "" if the client sent none; checksum: its base64 form, as S3 shows it.
    """

    size_bytes: int
    md5: bytes
    checksum_algorithm: str
    checksum: str


class Payload:
    """size_bytes: of the payload itself, without aws-chunked framing; None if the client didn't say."""

    size_bytes: int | None

    async def fill(self, buffer: memoryview) -> int:
        """Receive until `buffer` is full or the payload ends; returns the count, 0 at the end."""
        raise NotImplementedError

    async def read(self, size_max_bytes: int) -> bytes:
        """Receive, digest and return a whole small payload (call verify() after it).

        Raises EntityTooLarge if it is longer than size_max_bytes.
        """
        raise NotImplementedError

    def digest(self, piece: bytes | bytearray | memoryview) -> None:
        """Feed the next piece to all digests. CPU only, releases the GIL for large pieces."""
        raise NotImplementedError

    def verify(self) -> PayloadProof:
        """Check all promises. Needs fill() to have returned 0 and all of it to have been digested."""
        raise NotImplementedError


def open_payload(stream: RequestStream, auth: AuthContext, *, default_algorithm: str = "") -> Payload:
    """Read the promises from the headers and prepare to receive.

    default_algorithm: checksum to compute even if the client named none ("" for none).
    Raises InvalidDigest, InvalidRequest, MissingContentLength.
    """
    raise NotImplementedError
