"""Whose address counts: nobody chooses it but a proxy that is trusted."""

from __future__ import annotations

import pytest

from s3api.proxies import client_address, parse_networks

TRUSTED = parse_networks(["10.0.0.0/8", "fd00::/8", "192.0.2.1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "counts"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "10.1.1.1", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "10.9.9.9, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "127.0.0.1,203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
        ("192.0.2.1", "198.51.100.7", "198.51.100.7"),
        ("192.0.2.2", "198.51.100.7", "192.0.2.2"),
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", ",", "10.0.0.1"),
        ("", "203.0.113.9", ""),
    ],
)
def test_the_address_that_counts(peer, forwarded, counts):
    assert client_address(peer, forwarded, TRUSTED) == counts


def test_without_trusted_proxies_nobody_is_believed():
    assert client_address("10.0.0.1", "203.0.113.9", ()) == "10.0.0.1"


def test_a_range_that_is_none_is_refused():
    with pytest.raises(ValueError, match="10"):
        parse_networks(["10.0.0.1/8"])
