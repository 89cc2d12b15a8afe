"""Limits and time-outs of the HTTP server, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s3api.httpstream import Header


def render_plain(status: int, reason: str) -> tuple[list[Header], bytes]:
    """The answer to a request that never reached the application: one line of text."""
    return [(b"content-type", b"text/plain; charset=utf-8")], (reason + "\n").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Limits and time-outs of one server. Times are in seconds, sizes in bytes.

    head_size_max_bytes: request line and headers together; S3 itself allows 8 KiB of headers.
    target_size_max_bytes: a key of 1,024 bytes, percent-encoded, and a presigned query.
    connection_count_max: above it, connections wait in the listen queue of `backlog_count`.
    receive_size_bytes: the largest piece of a body that receive_body() gives.
    drain_size_max_bytes: an unread body up to this size is read and dropped to keep the connection.
    head_timeout_s: from a head's first byte to its last, and for the TLS handshake.
    keep_alive_timeout_s: how long an idle connection stays.
    body_idle_timeout_s, write_stall_timeout_s: how long a transfer may stand still.
    linger_s: how long an unwanted body is read and dropped before the connection is cut, so that
    the client sees the answer instead of a reset.
    stop_timeout_s: how long requests in flight may take after stop().
    render_error: (status, reason) -> headers and body, for what the application never sees.
    """

    head_size_max_bytes: int = 16 * 1024
    target_size_max_bytes: int = 8 * 1024
    header_count_max: int = 128
    connection_count_max: int = 4096
    backlog_count: int = 1024
    receive_size_bytes: int = 256 * 1024
    drain_size_max_bytes: int = 256 * 1024
    head_timeout_s: float = 20.0
    keep_alive_timeout_s: float = 75.0
    body_idle_timeout_s: float = 30.0
    write_stall_timeout_s: float = 60.0
    linger_s: float = 2.0
    stop_timeout_s: float = 30.0
    server_name: bytes = b"twofold"
    render_error: Callable[[int, str], tuple[list[Header], bytes]] = render_plain
