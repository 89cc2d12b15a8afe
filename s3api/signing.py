"""AWS Signature Version 4 for S3: canonical requests, keys and signatures, for both ends.

The verifier (`s3api.sigv4`) and whoever signs (tests, the console's presigned links, replication)
share these functions, so there is one canonical form. S3 differs from other services: the path is
encoded once and never normalised (`//`, `.` and `..` are ordinary key bytes), and the payload hash
is what x-amz-content-sha256 says.

Pure functions, any thread. All canonical text is bytes; header names are lower case.

Source: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)": header, query,
streaming upload and POST policy variants.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote_from_bytes, unquote_to_bytes

from s3api.credentials import Credential

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256().hexdigest()
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_UNRESERVED = re.compile(rb"[A-Za-z0-9\-._~]*").fullmatch
_UNRESERVED_PATH = re.compile(rb"[A-Za-z0-9\-._~/]*").fullmatch

Pair = tuple[bytes, bytes]


def canonical_path(raw_path: bytes) -> bytes:
    """The path percent-encoded once, whatever way the client chose to encode it."""
    if _UNRESERVED_PATH(raw_path):
        return raw_path or b"/"
    return quote_from_bytes(unquote_to_bytes(raw_path), safe="/-_.~").encode()


def split_query(query_string: bytes) -> list[Pair]:
    """Decoded (name, value) pairs in their order; "+" is a space; empty parts are skipped."""
    pairs = []
    for part in query_string.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((_unquote_plus(name), _unquote_plus(value)))
    return pairs


def canonical_query(pairs: Iterable[Pair]) -> bytes:
    """Pairs encoded, sorted by encoded name, then by encoded value; duplicates stay."""
    encoded = sorted((_quote(name), _quote(value)) for name, value in pairs)
    return b"&".join([name + b"=" + value for name, value in encoded])


def canonical_request(
    method: str,
    path: bytes,
    query: bytes,
    headers: Mapping[bytes, bytes],
    signed_names: Sequence[bytes],
    payload_hash: bytes,
) -> bytes:
    """The text whose hash is signed. path and query are canonical already.

    headers: name -> value, values of a repeated name joined by commas. Raises KeyError for a signed
    name that `headers` lacks.
    """
    lines = [method.encode(), path, query]
    for name in signed_names:
        value = headers[name]
        if b"  " in value or b"\t" in value:
            value = b" ".join(value.split())
        lines.append(name + b":" + value.strip())
    lines += (b"", b";".join(signed_names), payload_hash)
    return b"\n".join(lines)


def string_to_sign(timestamp: str, scope: str, request: bytes) -> str:
    """What a canonical request becomes before HMAC. timestamp: 20260131T235959Z."""
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(request).hexdigest()}"


def signing_key(secret_key: str, date: str, region: str, service: str = "s3") -> bytes:
    """The key of one scope. date: 20260131. Cache it: four HMACs."""
    key = ("AWS4" + secret_key).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(key: bytes, text: str) -> str:
    """64 lower-case hex digits."""
    return hmac.digest(key, text.encode(), "sha256").hex()


def chunk_signature(
    key: bytes, timestamp: str, scope: str, previous_signature: str, chunk_sha256: str
) -> str:
    """The signature of one aws-chunked chunk, chained to the one before (first: the seed)."""
    return signature(
        key,
        f"{ALGORITHM}-PAYLOAD\n{timestamp}\n{scope}\n{previous_signature}\n{EMPTY_SHA256}\n"
        f"{chunk_sha256}",
    )


def trailer_signature(
    key: bytes, timestamp: str, scope: str, previous_signature: str, trailer: bytes
) -> str:
    """The signature of the trailing headers. trailer: their `name:value\\n` lines."""
    trailer_sha256 = hashlib.sha256(trailer).hexdigest()
    return signature(
        key,
        f"AWS4-HMAC-SHA256-TRAILER\n{timestamp}\n{scope}\n{previous_signature}\n{trailer_sha256}",
    )


def sign_headers(
    credential: Credential,
    method: str,
    raw_path: bytes,
    query_string: bytes,
    headers: Sequence[Pair],
    *,
    region: str,
    now_s: float,
    payload_hash: str = UNSIGNED_PAYLOAD,
    service: str = "s3",
) -> list[Pair]:
    """The headers to add to a request: x-amz-date, x-amz-content-sha256, (token,) authorization.

    headers: lower-case names, `host` among them; all of them get signed.
    """
    timestamp = format_timestamp(now_s)
    added = [(b"x-amz-content-sha256", payload_hash.encode()), (b"x-amz-date", timestamp.encode())]
    if credential.session_token:
        added.append((b"x-amz-security-token", credential.session_token.encode()))
    by_name = join_headers([*headers, *added])
    signed_names = sorted(by_name)
    request = canonical_request(
        method,
        canonical_path(raw_path),
        canonical_query(split_query(query_string)),
        by_name,
        signed_names,
        payload_hash.encode(),
    )
    scope = format_scope(timestamp, region, service)
    key = signing_key(credential.secret_key, timestamp[:8], region, service)
    authorization = (
        f"{ALGORITHM} Credential={credential.access_key}/{scope}, "
        f"SignedHeaders={b';'.join(signed_names).decode()}, "
        f"Signature={signature(key, string_to_sign(timestamp, scope, request))}"
    )
    return [*added, (b"authorization", authorization.encode())]


def presign(
    credential: Credential,
    method: str,
    raw_path: bytes,
    query_string: bytes,
    headers: Sequence[Pair],
    *,
    region: str,
    now_s: float,
    expires_s: int,
) -> bytes:
    """The query string of a presigned URL: `query_string` and the X-Amz-* parameters.

    headers: those the holder of the URL must send as they are, `host` among them.
    """
    timestamp = format_timestamp(now_s)
    scope = format_scope(timestamp, region)
    by_name = join_headers(headers)
    signed_names = sorted(by_name)
    pairs = split_query(query_string)
    pairs += [
        (b"X-Amz-Algorithm", ALGORITHM.encode()),
        (b"X-Amz-Credential", f"{credential.access_key}/{scope}".encode()),
        (b"X-Amz-Date", timestamp.encode()),
        (b"X-Amz-Expires", str(expires_s).encode()),
        (b"X-Amz-SignedHeaders", b";".join(signed_names)),
    ]
    if credential.session_token:
        pairs.append((b"X-Amz-Security-Token", credential.session_token.encode()))
    query = canonical_query(pairs)
    request = canonical_request(
        method, canonical_path(raw_path), query, by_name, signed_names, UNSIGNED_PAYLOAD.encode()
    )
    key = signing_key(credential.secret_key, timestamp[:8], region)
    proof = signature(key, string_to_sign(timestamp, scope, request))
    return query + b"&X-Amz-Signature=" + proof.encode()


def sign_policy(
    credential: Credential, policy: str, *, region: str, now_s: float
) -> dict[str, str]:
    """The form fields that accompany a POST `policy` (base64 of its JSON, which must name them)."""
    timestamp = format_timestamp(now_s)
    scope = format_scope(timestamp, region)
    fields = {
        "policy": policy,
        "x-amz-algorithm": ALGORITHM,
        "x-amz-credential": f"{credential.access_key}/{scope}",
        "x-amz-date": timestamp,
        "x-amz-signature": signature(
            signing_key(credential.secret_key, timestamp[:8], region), policy
        ),
    }
    if credential.session_token:
        fields["x-amz-security-token"] = credential.session_token
    return fields


def join_headers(headers: Iterable[Pair]) -> dict[bytes, bytes]:
    """Name -> value; values of a repeated name joined by commas in their order."""
    by_name: dict[bytes, bytes] = {}
    for name, value in headers:
        known = by_name.get(name)
        by_name[name] = value if known is None else known + b"," + value
    return by_name


def format_timestamp(now_s: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))


def format_scope(timestamp: str, region: str, service: str = "s3") -> str:
    return f"{timestamp[:8]}/{region}/{service}/aws4_request"


def _quote(part: bytes) -> bytes:
    return part if _UNRESERVED(part) else quote_from_bytes(part, safe="-_.~").encode()


def _unquote_plus(part: bytes) -> bytes:
    if b"+" in part:
        part = part.replace(b"+", b" ")
    return unquote_to_bytes(part) if b"%" in part else part
