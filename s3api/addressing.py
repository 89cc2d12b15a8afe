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
