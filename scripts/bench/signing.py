"""Signed S3 request heads, cheaply: one string, one SHA-256 and one HMAC a request.

Source: "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

PAYLOAD = "UNSIGNED-PAYLOAD"
SIGNED_HEADERS = "host;x-amz-content-sha256;x-amz-date"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where to connect, and as whom. `address` is host and port as in the Host header."""

    host: str
    port: int
    address: str
    access_key: str
    secret_key: str

    @classmethod
    def parse(cls, url: str, access_key: str, secret_key: str) -> Endpoint:
        """`http://[KEY:SECRET@]HOST[:PORT]`. Raises ValueError, with a sentence, for others."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"{url!r} is not of the form http://HOST:PORT (TLS isn't offered)")
        access_key = parts.username or access_key
        secret_key = parts.password or secret_key
        if not access_key or not secret_key:
            raise ValueError(f"no access key and secret key for {parts.hostname}")
        port = parts.port or 80
        address = parts.hostname if port == 80 else f"{parts.hostname}:{port}"
        return cls(
            host=parts.hostname,
            port=port,
            address=address,
            access_key=access_key,
            secret_key=secret_key,
        )


class Signer:
    """Makes signed request heads, all with the time the signer was made.

    Servers allow 15 minutes, so a signer serves one row. Paths must hold only unreserved
    characters and `/`, queries must be encoded and sorted already: nothing is escaped here.
    """

    def __init__(self, endpoint: Endpoint, now_s: float | None = None) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
        key = b"AWS4" + endpoint.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key
        self._canonical_end = (
            f"\nhost:{endpoint.address}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{stamp}\n\n"
            f"{SIGNED_HEADERS}\n{PAYLOAD}"
        )
        self._to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n"
        self._fixed = (
            f" HTTP/1.1\r\nHost: {endpoint.address}\r\nx-amz-date: {stamp}\r\n"
            f"x-amz-content-sha256: {PAYLOAD}\r\nAuthorization: AWS4-HMAC-SHA256 "
            f"Credential={endpoint.access_key}/{scope}, SignedHeaders={SIGNED_HEADERS}, Signature="
        )

    def head(self, method: str, path: str, query: str = "", extra: str = "") -> bytes:
        """The request up to its body. `extra` holds unsigned header lines, each with CR LF."""
        canonical = f"{method}\n{path}\n{query}{self._canonical_end}"
        to_sign = self._to_sign + hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(self._key, to_sign.encode(), "sha256").hex()
        target = f"{path}?{query}" if query else path
        return f"{method} {target}{self._fixed}{signature}\r\n{extra}\r\n".encode()
