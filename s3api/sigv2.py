"""AWS Signature Version 2 for S3: what unmodified SDKs still presign URLs with.

`s3api.sigv4.Verifier` decides which version a request claims; here are the claim's syntax and the
text that is signed. The payload is not bound to the signature.

Invariants
  1. Every x-amz-* header is signed; so is every x-amz-* parameter of a presigned URL, which
     counts as the header it stands for, a header of that name going before it (as in
     `requests.adopt_query_headers`).
  2. Every parameter that selects an operation, a version or a part, or that sets a header of the
     response is signed. This covers more than was known in the days of version 2: a client that
     leaves a newer subresource unsigned is refused. What only narrows a listing isn't signed.
  3. The text can be read in one way only. Decoded parameters could forge a line break or a
     further parameter; such ones are refused.

Concurrency: pure functions. Source: Amazon S3 developer guide, "Signing and authenticating REST
requests (AWS signature version 2)".
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping, Sequence

from s3api import signing
from s3api.addressing import virtual_bucket
from s3api.claims import Claim, parse_timestamp
from s3api.dates import parse_http_date
from s3api.refusals import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    SeveralAuthMechanisms,
    SignatureDoesNotMatch,
)

# fmt: off
SIGNED_PARAMETERS = frozenset((
    b"abac", b"accelerate", b"acl", b"analytics", b"annotation", b"append", b"attributes", b"cors",
    b"delete", b"encryption", b"intelligent-tiering", b"inventory", b"lambdaArn", b"legal-hold",
    b"lifecycle", b"location", b"logging", b"metadataConfiguration", b"metadataInventoryTable",
    b"metadataJournalTable", b"metadataTable", b"metrics", b"notification", b"object-lock",
    b"ownershipControls", b"partNumber", b"policy", b"policyStatus", b"publicAccessBlock",
    b"renameObject", b"replication", b"replication-metrics", b"replication-reset",
    b"requestPayment", b"response-cache-control", b"response-content-disposition",
    b"response-content-encoding", b"response-content-language", b"response-content-type",
    b"response-expires", b"restore", b"retention", b"select", b"select-type", b"session",
    b"tagging", b"torrent", b"uploadId", b"uploads", b"versionId", b"versioning", b"versions",
    b"website",
))
# fmt: on
_QUERY_NAMES = (b"AWSAccessKeyId", b"Signature", b"Expires")
_SCHEME = b"AWS "

_is_amz_name = re.compile(rb"x-amz-[a-z0-9\-._]+").fullmatch
_is_digits = re.compile(rb"\d{1,12}").fullmatch


def is_claimed(query: Sequence[signing.Pair], authorization: bytes | None) -> bool:
    """Whether a request, which isn't presigned with version 4, claims a version 2 signature."""
    if authorization is not None and authorization.startswith(_SCHEME):
        return True
    return bool(query) and {b"AWSAccessKeyId", b"Signature"} <= {name for name, _ in query}


def parse_claim(query: Sequence[signing.Pair], by_name: Mapping[bytes, bytes]) -> Claim:
    """What the request says of its signature; `timestamp` is the text that is signed as its date.

    A presigned URL has its end as `expires_s` (seconds since the epoch), and `signed_at_s` 0.
    Raises an AuthError.
    """
    authorization = by_name.get(b"authorization")
    fields = [pair for pair in query if pair[0] in _QUERY_NAMES[:2]]
    if fields and authorization is not None:
        raise SeveralAuthMechanisms()
    token = amz_headers(query, by_name, presigned=authorization is None).get(
        b"x-amz-security-token", b""
    )
    if authorization is None:
        return _parse_presigned(query, token)
    access_key, _, proof = authorization[len(_SCHEME) :].strip().rpartition(b":")
    if not access_key or not proof:
        raise AuthorizationHeaderMalformed()
    timestamp, signed_at_s = _request_time(by_name)
    return _claim(access_key, proof, token, timestamp, signed_at_s=signed_at_s)


def amz_headers(
    query: Sequence[signing.Pair], by_name: Mapping[bytes, bytes], *, presigned: bool
) -> dict[bytes, bytes]:
    """The x-amz-* headers that count (invariant 1), in lower case.

    Raises AuthorizationQueryParametersError for a parameter that could be read in two ways.
    """
    found = {}
    for name, value in query if presigned else ():
        lower = name.lower()
        if lower.startswith(b"x-amz-"):
            if lower in found or not _is_amz_name(lower) or b"\n" in value or b"\r" in value:
                raise AuthorizationQueryParametersError(
                    f"The parameter {lower.decode('latin-1')} is given twice or is malformed."
                )
            found[lower] = value
    for name, value in by_name.items():
        if name.startswith(b"x-amz-"):
            found[name] = value.strip()
    return found


def strings_to_sign(
    claim: Claim,
    method: str,
    raw_path: bytes,
    query: Sequence[signing.Pair],
    by_name: Mapping[bytes, bytes],
    domains: Sequence[bytes],
) -> tuple[bytes, ...]:
    """The text of a request whose claim this is. domains: as in `addressing`.

    There are two for a bucket: the path as it was sent and, as SDKs have it, with a slash behind.
    Both name the same bucket.
    """
    amz = amz_headers(query, by_name, presigned=claim.expires_s > 0)
    # The date has its place among the x-amz-* headers when it is given there.
    date = b"" if not claim.expires_s and b"x-amz-date" in amz else claim.timestamp.encode()
    lines = [
        method.encode(),
        by_name.get(b"content-md5", b"").strip(),
        by_name.get(b"content-type", b"").strip(),
        date,
        *(name + b":" + amz[name] for name in sorted(amz)),
    ]
    bucket = virtual_bucket(by_name.get(b"host", b""), domains) if domains else b""
    path = b"/" + bucket + raw_path if bucket else raw_path
    paths = (path, path + b"/") if path.find(b"/", 1) == -1 and path != b"/" else (path,)
    signed = _signed_query(query)
    return tuple(b"\n".join((*lines, each + signed)) for each in paths)


def signature(secret_key: str, text: bytes) -> bytes:
    """Base64 of HMAC-SHA1."""
    return base64.b64encode(hmac.digest(secret_key.encode(), text, "sha1"))


def _signed_query(query: Sequence[signing.Pair]) -> bytes:
    """`?name&name=value` of the parameters that are signed, decoded, sorted by name."""
    signed = sorted((pair for pair in query if pair[0] in SIGNED_PARAMETERS), key=lambda p: p[0])
    if not signed:
        return b""
    text = b"&".join([name + b"=" + value if value else name for name, value in signed])
    # Invariant 3: a value "1&uploadId=x" would look like two parameters.
    names = [part.partition(b"=")[0] for part in text.split(b"&")]
    if sum(name in SIGNED_PARAMETERS for name in names) != len(signed):
        raise SignatureDoesNotMatch()
    return b"?" + text


def _parse_presigned(query: Sequence[signing.Pair], token: bytes) -> Claim:
    fields = {name: value for name, value in query if name in _QUERY_NAMES}
    given = sum(name in _QUERY_NAMES for name, _ in query)
    if given != len(_QUERY_NAMES) or not all(fields.get(name) for name in _QUERY_NAMES):
        raise AccessDenied(
            "Query-string authentication requires the Signature, Expires and "
            "AWSAccessKeyId parameters"
        )
    access_key, proof, expires = (fields[name] for name in _QUERY_NAMES)
    if not _is_digits(expires) or not int(expires):
        raise AccessDenied("Invalid date (should be seconds since epoch)")
    return _claim(access_key, proof, token, expires.decode(), expires_s=int(expires))


def _claim(
    access_key: bytes,
    proof: bytes,
    token: bytes,
    timestamp: str,
    *,
    signed_at_s: int = 0,
    expires_s: int = 0,
) -> Claim:
    return Claim(
        access_key=access_key.decode("latin-1"),
        date="",
        region="",
        scope="",
        signature=proof.decode("latin-1"),
        timestamp=timestamp,
        signed_at_s=signed_at_s,
        expires_s=expires_s,
        session_token=token,
    )


def _request_time(by_name: Mapping[bytes, bytes]) -> tuple[str, int]:
    """x-amz-date, or Date where it is missing, as it stands and in seconds since the epoch."""
    text = by_name.get(b"x-amz-date", by_name.get(b"date", b"")).decode("latin-1").strip()
    signed_at_s = parse_timestamp(text)
    if signed_at_s is None:
        signed_at_s = parse_http_date(text.encode("latin-1"))
    if signed_at_s is None or signed_at_s < 0:
        raise AccessDenied("AWS authentication requires a valid Date or x-amz-date header")
    return text, signed_at_s
