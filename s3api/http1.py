"""HTTP/1.1 server for ASGI 3 applications, on trio, parsing with httptools (llhttp)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Limits and time-outs of one server. Times are in seconds, sizes in bytes."""

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


class HttpServer:
    """A running server; what serve() gives to its owner through task_status."""

    def stop(self) -> None:
        """Stop accepting, close idle connections, let requests in flight finish.

        serve() returns when all are done, at the latest after `stop_timeout_s`.
        """
        raise NotImplementedError


async def serve(
    app: Application,
    listeners: Sequence[socket.socket],
    *,
    config: HttpConfig | None = None,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[HttpServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on bound, listening sockets (see open_listeners) until stopped or cancelled.

    The listeners are closed on return. ASGI lifespan is the owner's: see `lifespan()`.
    Extensions: `twofold.stream` in the scope (a RequestStream), and the message
    {"type": "http.response.bodies", "bodies": [...], "more_body": bool} beside http.response.body.
    """
    raise NotImplementedError


async def open_listeners(host: str | None, port: int, *, backlog_count: int = 1024) -> list[socket.socket]:
    """Bind and listen, TCP, on every address of `host` (None: all), non-blocking.

    port 0: one free port, the same for all addresses. Raises OSError.
    """
    raise NotImplementedError
