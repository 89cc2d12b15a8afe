"""Moments in time, as headers and documents write them."""

from __future__ import annotations

import pytest

from s3api.dates import TIME_MAX_NS, http_date, parse_http_date, parse_iso_time

MOMENT_S = 1_769_903_999
MOMENT_NS = MOMENT_S * 10**9


def test_http_date_and_back():
    assert http_date(MOMENT_NS + 999) == b"Sat, 31 Jan 2026 23:59:59 GMT"
    assert parse_http_date(http_date(MOMENT_NS)) == MOMENT_S


@pytest.mark.parametrize("value", [None, b"", b"soon", b"Sat, 99 Foo 2026 99:99:99 GMT"])
def test_what_is_no_http_date_is_none(value):
    assert parse_http_date(value) is None


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2026-01-31T23:59:59Z", MOMENT_NS),
        ("2026-01-31T23:59:59.000Z", MOMENT_NS),
        (" 2026-01-31T23:59:59.25Z\n", MOMENT_NS + 250_000_000),
        ("2026-02-01T01:59:59+02:00", MOMENT_NS),
        ("2026-01-31T23:59:59", MOMENT_NS),
        ("20260131T235959Z", MOMENT_NS),
        ("1970-01-01", 0),
        ("9999-12-31T23:59:59Z", TIME_MAX_NS),
        ("", None),
        ("soon", None),
        ("2026-02-30T00:00:00Z", None),
    ],
)
def test_iso_times(text, time_ns):
    assert parse_iso_time(text) == time_ns
