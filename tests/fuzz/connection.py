"""A whole connection: several requests, one behind the other, through the server itself.

What another parser makes of the same bytes is asked too: where both accept, they have to see the
same requests, or one of them could be smuggled past the other.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import h11
import trio

from s3api.http1 import Connection, HttpServer
from s3api.httpconfig import HttpConfig
from s3api.httpstream import BodyError, ClientDisconnected, Piece, stream_of
from tests.fuzz.registry import cut, pieces, target

CONFIG = HttpConfig(head_size_max_bytes=1024, target_size_max_bytes=512, header_count_max=16)
REQUESTS_MAX = 8
_statuses = re.compile(rb"^HTTP/1\.1 (\d{3})", re.MULTILINE).findall
_nobody, _connected = socket.socketpair()


class Seen(NamedTuple):
    """A request as the application saw it. body: None where it broke off."""

    method: bytes
    target: bytes
    body: bytes | None


class _Wire:
    """A peer that sends these pieces and then no more, and takes whatever is answered."""

    scheme = "http"

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.answered = bytearray()
        self._parts = [part for part in parts if part]

    async def receive(
        self, size_max_bytes: int, timeout_s: float, *, wait_first: bool = False
    ) -> bytes:
        if not self._parts:
            return b""
        part = self._parts.pop(0)
        if len(part) > size_max_bytes:
            self._parts.insert(0, part[size_max_bytes:])
        return part[:size_max_bytes]

    async def receive_into(self, buffer: memoryview, timeout_s: float) -> int:
        part = await self.receive(len(buffer), timeout_s)
        buffer[: len(part)] = part
        return len(part)

    async def send(self, sent: Sequence[Piece], timeout_s: float) -> None:
        for piece in sent:
            self.answered += piece

    async def finish_sending(self) -> None:
        pass

    def wake_expired(self, now: float) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Faults(logging.Handler):
    """What is logged as a fault of ours is one."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage()) from (record.exc_info or (None, None))[1]


_LOGGER = logging.getLogger("s3api.http1")
_FAULTS = _Faults(logging.ERROR)


def _serve(parts: Sequence[bytes]) -> tuple[list[Seen], list[bytes]]:
    """The requests that the application got, and the final statuses that were answered."""
    seen: list[Seen] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        stream = stream_of(scope, receive, send)
        address = stream.raw_path + (b"?" + stream.query_string if stream.query_string else b"")
        body = bytearray()
        try:
            while (piece := await stream.receive_body()) is not None:
                body += piece
        except (BodyError, ClientDisconnected):
            seen.append(Seen(stream.method.encode(), address, None))
            raise
        seen.append(Seen(stream.method.encode(), address, bytes(body)))
        await stream.respond(200, [], b"")

    wire = _Wire(parts)
    connection = Connection(HttpServer(application, CONFIG, None), _connected)
    connection.wire = wire
    # Only here: other tests have servers of their own, some of which fail on purpose.
    _LOGGER.addHandler(_FAULTS)
    try:
        trio.run(connection.run)
    finally:
        _LOGGER.removeHandler(_FAULTS)
    # Whether 100 is sent depends on how much has come, and is meant to.
    return seen, [status for status in _statuses(wire.answered) if status != b"100"]


def _seen_by_h11(raw: bytes) -> list[Seen] | None:
    """The same by another parser; None where it refuses something."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=4096)
    seen: list[Seen] = []
    peer.receive_data(raw)
    peer.receive_data(b"")
    head: h11.Request | None = None
    body = b""
    try:
        while True:
            event = peer.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                seen.append(Seen(head.method, head.target, body))
                peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                peer.send(h11.EndOfMessage())
                if peer.our_state is h11.MUST_CLOSE:
                    return seen
                peer.start_next_cycle()
            else:
                return seen
    except h11.RemoteProtocolError:
        return None


@target(rounds=20)
def http_connection(raw: bytes) -> None:
    """However the bytes come, the same requests are served; and no other than h11 sees."""
    size, raw = cut(raw)
    if raw.count(b"\r\n\r\n") > REQUESTS_MAX:
        return
    served = seen, _ = _serve([raw])
    assert _serve(pieces(raw, size)) == served
    whole = [request for request in seen if request.body is not None]
    known = _seen_by_h11(raw)
    if known is not None and not any(b"://" in request.target for request in known):
        bodies = [(request.method, request.body) for request in known]
        assert [(request.method, request.body) for request in whole] == bodies[: len(whole)]
