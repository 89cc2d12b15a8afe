"""Moments in time as HTTP, S3's headers and S3's documents write them.

Inside, a moment is nanoseconds since 1970. Pure functions.
Source: RFC 9110 (5.6.7); ISO 8601 as Amazon S3's service model uses it.
"""

from __future__ import annotations

import calendar
import email.utils
import functools
from datetime import UTC, datetime

# In April of 2262; later moments don't fit 64 bits.
TIME_MAX_NS = (1 << 63) - 1
# The end of the year 9999.
_HTTP_DATE_MAX_S = 253_402_300_799
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def http_date(time_ns: int) -> bytes:
    """Sat, 31 Jan 2026 23:59:59 GMT"""
    return _http_date(time_ns // 1_000_000_000)


@functools.lru_cache(maxsize=1024)
def _http_date(time_s: int) -> bytes:
    return email.utils.formatdate(time_s, usegmt=True).encode()


def parse_http_date(value: bytes | None) -> int | None:
    """Seconds since 1970 of an HTTP date; None for what is none."""
    return None if value is None else _parse_http_date(value)


@functools.lru_cache(maxsize=256)
def _parse_http_date(value: bytes) -> int | None:
    parsed = email.utils.parsedate_tz(value.decode("latin-1"))
    if parsed is None:
        return None
    try:
        time_s = calendar.timegm((*parsed[:6], 0, 0, 0)) - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None
    # Hours, minutes and zones of any size were added up.
    return time_s if abs(time_s) <= _HTTP_DATE_MAX_S else None


def parse_iso_time(text: str) -> int | None:
    """Nanoseconds since 1970 of 2026-01-31T23:59:59.5Z and the like; None for what is none.

    UTC where no zone is named. What is beyond TIME_MAX_NS becomes it.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    time_ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    return min(time_ns, TIME_MAX_NS)
