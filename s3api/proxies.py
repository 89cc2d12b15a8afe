"""Where a request is from: the connection's peer, or whom a trusted proxy names in its stead.

Policies ask for the address (aws:SourceIp), so nobody may choose it: X-Forwarded-For is read only
from a peer that the configuration trusts, and from its end, where each trusted proxy wrote down
whom it heard. What stands before the first address that is not trusted is anybody's claim.

Concurrency: pure. Source: RFC 7239, section 7.4, and 8.1 (trust); AWS global condition keys.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and ranges as "10.0.0.0/8". Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def client_address(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The address that counts. peer: "" if unknown. forwarded: X-Forwarded-For, "" without it."""
    if not trusted or not forwarded or not _is_trusted(peer, trusted):
        return peer
    for hop in reversed(forwarded.split(",")):
        address = hop.strip()
        if not _is_trusted(address, trusted):
            return address if _parsed(address) is not None else peer
        peer = address
    return peer


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(
        parsed in network for network in trusted if network.version == parsed.version
    )


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
