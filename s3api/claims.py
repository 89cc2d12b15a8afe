"""Claims: what a request says about its signature, parsed and not yet believed.

Reads the Authorization header, the X-Amz-* query parameters, dates and x-amz-content-sha256 into
typed values. Everything here is syntax; `s3api.sigv4` decides whether a claim holds.

Concurrency: pure functions. Source: as `s3api.signing`.
"""

from __future__ import annotations

import calendar
import enum
import functools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from s3api import signing
from s3api.credentials import ANYONE, NO_FACTS, Account, Facts
from s3api.dates import parse_http_date
from s3api.refusals import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    InvalidArgument,
    UnsupportedSignature,
)
from store.access.evaluate import ANONYMOUS_ACCESS, Access
from store.types import STORE, Maker

EXPIRES_MAX_S = 7 * 24 * 3600

Malformed = type[AuthorizationHeaderMalformed] | type[AuthorizationQueryParametersError]

is_hex64 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII).fullmatch
_is_timestamp = re.compile(r"\d{8}T\d{6}Z", re.ASCII).fullmatch
_is_number = re.compile(r"-?\d{1,9}", re.ASCII).fullmatch
_is_header_list = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z;]+", re.ASCII).fullmatch

_PRESIGNED_NAMES = (b"X-Amz-Algorithm", b"X-Amz-Signature", b"X-Amz-Credential")
_PRESIGNED_REQUIRED = (
    b"X-Amz-Algorithm",
    b"X-Amz-Credential",
    b"X-Amz-Signature",
    b"X-Amz-Date",
    b"X-Amz-SignedHeaders",
    b"X-Amz-Expires",
)


class PayloadMode(enum.Enum):
    """How the body is bound to the signature: the value of x-amz-content-sha256."""

    HASHED = "hash"
    UNSIGNED = "UNSIGNED-PAYLOAD"
    STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


_NAMED_MODES = {mode.value.encode(): mode for mode in PayloadMode if mode is not PayloadMode.HASHED}


# Not frozen: one is made for each request, and freezing it would take as long again.
@dataclass(slots=True, kw_only=True)
class AuthContext:
    """Who signed a request, and what its body must prove. Never changed.

    access_key: "" for an anonymous request. account: whom the key acts for. access, facts, maker:
    as in `Credential`. payload_sha256: 64 lower-case hex digits if payload_mode is HASHED.
    signing_key, seed_signature, timestamp ("20260131T235959Z") and scope
    ("20260131/region/s3/aws4_request") continue into chunk signatures. signed_headers: lower-case.
    """

    access_key: str
    account: Account = ANYONE
    access: Access = ANONYMOUS_ACCESS
    facts: Facts = field(default_factory=lambda: NO_FACTS)
    maker: Maker = STORE
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


@dataclass(slots=True, kw_only=True)
class Claim:
    """timestamp, signed_at_s: the same moment as text and as seconds since the epoch.

    expires_s: 0 unless presigned. payload: the x-amz-content-sha256 that was signed.
    """

    access_key: str
    date: str
    region: str
    scope: str
    service: str = "s3"
    signature: str = ""
    signed_names: Sequence[bytes] = ()
    timestamp: str = ""
    signed_at_s: int = 0
    expires_s: int = 0
    session_token: bytes = b""
    payload: bytes = b""


def is_presigned(query: Sequence[signing.Pair]) -> bool:
    """Whether the query claims a version 4 signature."""
    return any(name in _PRESIGNED_NAMES for name, _ in query)


def parse_authorization(
    authorization: bytes, by_name: Mapping[bytes, bytes], services: Sequence[str] = ("s3",)
) -> Claim:
    """The claim of an Authorization header and the headers that go with it.

    services: what the scope may name.

    Raises UnsupportedSignature, AuthorizationHeaderMalformed or AccessDenied (no usable date).
    """
    text = authorization.decode("latin-1")
    algorithm, _, rest = text.partition(" ")
    if algorithm != signing.ALGORITHM:
        raise UnsupportedSignature()
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in fields:
            raise AuthorizationHeaderMalformed()
        fields[name] = value
    if fields.keys() != {"Credential", "SignedHeaders", "Signature"}:
        raise AuthorizationHeaderMalformed()
    claim = parse_credential(fields["Credential"], AuthorizationHeaderMalformed, services)
    claim.signature = _parse_signature(fields["Signature"], AuthorizationHeaderMalformed)
    claim.signed_names = _parse_signed_names(fields["SignedHeaders"], AuthorizationHeaderMalformed)
    claim.timestamp, claim.signed_at_s = _request_time(by_name)
    claim.session_token = by_name.get(b"x-amz-security-token", b"")
    claim.payload = by_name.get(b"x-amz-content-sha256", b"")
    return claim


def parse_presigned(query: Sequence[signing.Pair], by_name: Mapping[bytes, bytes]) -> Claim:
    """The claim of X-Amz-* query parameters. Raises as parse_authorization, for the query."""
    malformed = AuthorizationQueryParametersError
    fields: dict[bytes, str] = {}
    for name, value in query:
        if name.startswith(b"X-Amz-"):
            if name in fields:
                raise malformed(f"{name.decode('latin-1')} is given twice.")
            fields[name] = value.decode("latin-1")
    if not all(fields.get(name) for name in _PRESIGNED_REQUIRED):
        raise malformed(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
            "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
    if fields[b"X-Amz-Algorithm"] != signing.ALGORITHM:
        raise malformed(f'X-Amz-Algorithm only supports "{signing.ALGORITHM}"')
    claim = parse_credential(fields[b"X-Amz-Credential"], malformed)
    claim.signature = _parse_signature(fields[b"X-Amz-Signature"], malformed)
    claim.signed_names = _parse_signed_names(fields[b"X-Amz-SignedHeaders"], malformed)
    claim.timestamp = fields[b"X-Amz-Date"]
    signed_at_s = parse_timestamp(claim.timestamp)
    if signed_at_s is None:
        raise malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    claim.signed_at_s = signed_at_s
    claim.expires_s = _parse_expires(fields[b"X-Amz-Expires"])
    claim.session_token = fields.get(b"X-Amz-Security-Token", "").encode("latin-1")
    in_query = fields.get(b"X-Amz-Content-Sha256", "").encode("latin-1")
    claim.payload = by_name.get(b"x-amz-content-sha256") or in_query or b"UNSIGNED-PAYLOAD"
    return claim


def parse_credential(
    credential: str, malformed: Malformed, services: Sequence[str] = ("s3",)
) -> Claim:
    """Split access-key/date/region/s3/aws4_request; the access key may contain slashes."""
    parts = _split_credential(credential)
    if parts is None:
        raise malformed(
            "The Credential is mal-formed; expecting "
            '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
    access_key, date, region, service, terminator, scope = parts
    if service not in services:
        raise malformed(f'incorrect service "{service}". This endpoint belongs to "{services[0]}".')
    if terminator != "aws4_request":
        raise malformed(f'incorrect terminal "{terminator}". This endpoint uses "aws4_request".')
    return Claim(access_key=access_key, date=date, region=region, scope=scope, service=service)


# A client's requests have their credential and their signed names in common, for a day. Too small
# for all who come in turns, it misses every time.
@functools.lru_cache(maxsize=4096)
def _split_credential(credential: str) -> tuple[str, str, str, str, str, str] | None:
    """Access key, date, region, service, terminator and scope."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or not parts[0]:
        return None
    access_key, date, region, service, terminator = parts
    scope = credential[len(access_key) + 1 :]
    return access_key, date, region, service, terminator, scope


@functools.lru_cache(maxsize=1024)
def parse_timestamp(timestamp: str) -> int | None:
    """Seconds since the epoch of 20260131T235959Z, or None if that isn't what it is."""
    if not _is_timestamp(timestamp):
        return None
    try:
        return calendar.timegm(time.strptime(timestamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return None


def parse_payload_mode(payload: bytes) -> tuple[PayloadMode, str]:
    """The meaning of x-amz-content-sha256, and the digest it carries ("" unless HASHED).

    Raises InvalidArgument for anything unknown, such as the ECDSA modes.
    """
    mode = _NAMED_MODES.get(payload)
    if mode is not None:
        return mode, ""
    text = payload.decode("latin-1")
    if not is_hex64(text):
        raise InvalidArgument(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER "
            "or a valid sha256 value."
        )
    return PayloadMode.HASHED, text.lower()


def _request_time(by_name: Mapping[bytes, bytes]) -> tuple[str, int]:
    """x-amz-date, or Date in its place, as text for the signature and in seconds."""
    header = by_name.get(b"x-amz-date") or by_name.get(b"date") or b""
    timestamp = header.decode("latin-1")
    signed_at_s = parse_timestamp(timestamp)
    if signed_at_s is None and b"x-amz-date" not in by_name:
        signed_at_s = parse_http_date(header)
        if signed_at_s is not None:
            timestamp = signing.format_timestamp(signed_at_s)
    if signed_at_s is None:
        raise AccessDenied("AWS authentication requires a valid Date or x-amz-date header")
    return timestamp, signed_at_s


def _parse_signature(signature: str, malformed: Malformed) -> str:
    if not is_hex64(signature):
        raise malformed("The signature is not 64 hexadecimal digits.")
    return signature.lower()


@functools.lru_cache(maxsize=256)
def _parse_signed_names(text: str, malformed: Malformed) -> tuple[bytes, ...]:
    names = tuple(text.encode("latin-1").split(b";"))
    if not _is_header_list(text) or b"" in names or len(set(names)) != len(names):
        raise malformed("SignedHeaders must be distinct lower-case names joined by semicolons.")
    return names


def _parse_expires(text: str) -> int:
    """Raises AuthorizationQueryParametersError for no number, AccessDenied for no such lifetime.

    Amazon S3 documents the former for both; the conformance suites want the latter.
    """
    if not _is_number(text):
        raise AuthorizationQueryParametersError("X-Amz-Expires should be a number")
    expires_s = int(text)
    if not 1 <= expires_s <= EXPIRES_MAX_S:
        raise AccessDenied(f"X-Amz-Expires must be between 1 and {EXPIRES_MAX_S} seconds")
    return expires_s
