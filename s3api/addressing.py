"""Virtual-host addressing: which bucket a request's host names.

Concurrency: pure. Source: Amazon S3 user guide, "Virtual hosting of buckets".
"""

from __future__ import annotations

from collections.abc import Sequence


def virtual_bucket(host: bytes, domains: Sequence[bytes]) -> bytes:
    """The bucket that a host `<bucket>.<domain>[:port]` names, b"" for another host.

    domains: lower case.
    """
    host = host.lower()
    name, colon, port = host.rpartition(b":")
    if colon and port.isdigit():
        host = name
    for domain in domains:
        if host.endswith(domain) and host[-len(domain) - 1 : -len(domain)] == b".":
            return host[: -len(domain) - 1]
    return b""


def is_website(headers: Sequence[tuple[bytes, bytes]], domains: Sequence[bytes]) -> bool:
    """Whether a request is for a bucket as a website; domains: those of websites, lower case."""
    return any(name == b"host" and virtual_bucket(value, domains) for name, value in headers)
