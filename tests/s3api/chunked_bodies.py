"""Encodes aws-chunked bodies, as a client would."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from s3api import signing
from s3api.claims import AuthContext, PayloadMode

TIMESTAMP = "20260131T235959Z"
SCOPE = "20260131/us-east-1/s3/aws4_request"


def context(mode: PayloadMode) -> AuthContext:
    """What verification of a request in this mode would have returned."""
    return AuthContext(
        access_key="AKID",
        payload_mode=mode,
        timestamp=TIMESTAMP,
        scope=SCOPE,
        seed_signature="5" * 64,
        signing_key=signing.signing_key("secret", "20260131", "us-east-1"),
    )


def encode(
    auth: AuthContext,
    chunks: Sequence[bytes],
    trailer: tuple[bytes, bytes] | None = None,
    *,
    like_minio: bool = False,
) -> bytes:
    """The body of `chunks` and `trailer`. like_minio: with minio-go's line ends in the trailer."""
    signed = auth.payload_mode is not PayloadMode.STREAMING_UNSIGNED_TRAILER
    previous = auth.seed_signature
    out = []
    for chunk in [*chunks, b""]:
        line = b"%x" % len(chunk)
        if signed:
            previous = signing.chunk_signature(
                auth.signing_key, TIMESTAMP, SCOPE, previous, hashlib.sha256(chunk).hexdigest()
            )
            line += b";chunk-signature=" + previous.encode()
        out.append(line + b"\r\n" + chunk + (b"\r\n" if chunk else b""))
    if auth.payload_mode is not PayloadMode.STREAMING:
        lines = trailer[0] + b":" + trailer[1] + b"\n" if trailer else b""
        out.append(lines if like_minio else lines.replace(b"\n", b"\r\n"))
        if signed:
            proof = signing.trailer_signature(auth.signing_key, TIMESTAMP, SCOPE, previous, lines)
            out.append(b"\r\n" if like_minio else b"")
            out.append(b"x-amz-trailer-signature:" + proof.encode() + b"\r\n")
        elif like_minio:
            out.append(b"\r\n")
    return b"".join([*out, b"\r\n"])
