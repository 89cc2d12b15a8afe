"""The x-amz-object-lock-* headers: what an upload asks for, and what a GET or HEAD shows.

Pure functions, but for the clock. Source: Amazon S3 user guide, "Locking objects with Object Lock";
API reference, PutObject.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from s3api.claims import PayloadMode
from s3api.dates import parse_iso_time
from s3api.errors import InvalidArgument, InvalidRequest
from s3api.httpstream import Header
from s3api.requests import Headers, Request, decode_header
from s3api.xml import timestamp
from store.types import ObjectMeta

MODES = ("GOVERNANCE", "COMPLIANCE")
_MODE = b"x-amz-object-lock-mode"
_UNTIL = b"x-amz-object-lock-retain-until-date"
_LEGAL_HOLD = b"x-amz-object-lock-legal-hold"
LOCK_HEADERS = frozenset((_MODE, _UNTIL, _LEGAL_HOLD))


class Lock(NamedTuple):
    """What an upload's headers say; the names are those of `ObjectMeta`."""

    lock_mode: str
    lock_until_ns: int
    legal_hold: bool


def parse_lock(headers: Headers) -> Lock:
    """What is asked for by these headers, at least one of LOCK_HEADERS being there.

    Raises InvalidArgument.
    """
    mode = decode_header(headers.get(_MODE, b""))
    until = decode_header(headers.get(_UNTIL, b""))
    hold = decode_header(headers.get(_LEGAL_HOLD, b"OFF"))
    if bool(mode) != bool(until):
        raise InvalidArgument(
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
        )
    if mode and mode not in MODES:
        raise _invalid(_MODE, mode, "Unknown wormMode directive.")
    if hold not in ("ON", "OFF"):
        raise _invalid(_LEGAL_HOLD, hold, "Legal Hold must be either of 'ON' or 'OFF'")
    until_ns = 0
    if until:
        parsed = parse_iso_time(until)
        if parsed is None:
            raise _invalid(
                _UNTIL, until, "The retain until date must be provided in ISO 8601 format"
            )
        until_ns = check_future(parsed)
    return Lock(mode, until_ns, hold == "ON")


def _invalid(name: bytes, value: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, (("ArgumentName", name.decode()), ("ArgumentValue", value)))


def check_future(until_ns: int) -> int:
    """The time itself, if it is yet to come. Raises InvalidArgument."""
    if until_ns <= time.time_ns():
        raise InvalidArgument("The retain until date must be in the future!")
    return until_ns


def require_digest(request: Request) -> None:
    """What is locked can't be put right later, so S3 wants a digest with it.

    A signed hash of the body will do, too: some SDKs send nothing else. Raises InvalidRequest.
    """
    headers = request.headers
    if b"content-md5" in headers or request.auth.payload_mode is not PayloadMode.UNSIGNED:
        return
    if not any(name.startswith(b"x-amz-checksum-") for name in headers):
        raise InvalidRequest(
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with "
            "Object Lock parameters"
        )


def lock_headers(meta: ObjectMeta) -> list[Header]:
    """The headers that a GET or HEAD shows of a locked object."""
    headers: list[Header] = []
    if meta.lock_mode:
        headers.append((_MODE, meta.lock_mode.encode()))
        headers.append((_UNTIL, timestamp(meta.lock_until_ns).encode()))
    if meta.legal_hold:
        headers.append((_LEGAL_HOLD, b"ON"))
    return headers
