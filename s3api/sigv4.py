"""AWS Signature Version 4 for S3: verification of requests signed in headers or in the query."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from s3api.credentials import Credentials


class PayloadMode(enum.Enum):
    """How the body is bound to the signature: the value of x-amz-content-sha256."""

    HASHED = "hash"
    UNSIGNED = "UNSIGNED-PAYLOAD"
    STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthContext:
    """Who signed a request, and what its body must prove.

    access_key: "" for an anonymous request. payload_sha256: 64 hex digits if payload_mode is HASHED.
    signing_key, seed_signature, timestamp ("20260131T235959Z") and scope ("20260131/region/s3/aws4_request")
    continue into chunk signatures. signed_headers: lower case names.
    """

    access_key: str
    presigned: bool = False
    payload_mode: PayloadMode = PayloadMode.UNSIGNED
    payload_sha256: str = ""
    signed_headers: frozenset[bytes] = frozenset()
    timestamp: str = ""
    scope: str = ""
    seed_signature: str = ""
    signing_key: bytes = field(default=b"", repr=False)

    @property
    def anonymous(self) -> bool:
        return not self.access_key


class Verifier:
    """Verifies requests against `credentials`.

    region: what the scope must name; None accepts every region. Synchronous; call it on the loop.
    """

    def __init__(self, credentials: Credentials, *, region: str | None = "us-east-1") -> None:
        raise NotImplementedError

    def authenticate(
        self,
        method: str,
        raw_path: bytes,
        query_string: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        now_s: float,
    ) -> AuthContext:
        """The identity behind a request, anonymous if it claims none.

        now_s: seconds since the epoch. Raises AuthError; then nothing of the request may be acted on.
        """
        raise NotImplementedError


def parse_query(query_string: bytes) -> list[tuple[str, str]]:
    """Decoded (name, value) pairs in their order, "+" and "%20" both a space.

    The same function feeds the signature, so what is verified is what is acted on.
    Raises InvalidRequest for bad UTF-8.
    """
    raise NotImplementedError
