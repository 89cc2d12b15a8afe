"""The sending half of an exchange: status, headers and body, framed and written without joining.

Invariants
  1. The head leaves with the first piece, in one system call; pieces are never joined.
  2. What Content-Length promises is sent exactly, or the connection is cut.
  3. No header can smuggle another: CR, LF and NUL in names and values are refused.

Concurrency: one task. Source: RFC 9110 (6.4, 8.6), RFC 9112 (6, 7.1, 9).
"""

from __future__ import annotations

import email.utils
import enum
import functools
import http
import time
from collections.abc import Sequence

import trio

from s3api.httpconfig import HttpConfig
from s3api.httphead import RequestHead
from s3api.httpstream import BodyError, ClientDisconnected, Header, Piece
from s3api.httpwire import Wire

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}
# We decide these; what an application says about them is read, not repeated.
_OURS = frozenset((b"content-length", b"connection", b"transfer-encoding"))


class ResponseMisuse(RuntimeError):
    """The application broke the order of a response, or sent another length than it promised."""


class _Framing(enum.Enum):
    """How the response tells where its body ends."""

    NONE = 1
    LENGTH = 2
    CHUNKED = 3
    CLOSE = 4


class ResponseSender:
    """reusable: whether the connection may carry another request after this exchange.

    failure: ClientDisconnected once a send has failed.
    """

    def __init__(self, wire: Wire, head: RequestHead, config: HttpConfig) -> None:
        self.response_started = False
        self.response_ended = False
        self.reusable = head.keep_alive
        self.failure: BodyError | ClientDisconnected | None = None
        self._wire = wire
        self._config = config
        self._is_head = head.method == "HEAD"
        self._is_1_1 = head.http_version == "1.1"
        self._framing = _Framing.NONE
        self._unsent_head = b""
        self._left_to_send_bytes = 0

    async def respond(
        self, status: int, headers: Sequence[Header], body: Piece | Sequence[Piece] = b""
    ) -> None:
        pieces = [body] if isinstance(body, bytes | bytearray | memoryview) else list(body)
        self._begin(status, headers, sum(map(len, pieces)))
        await self._emit(pieces, last=True)

    async def start_response(self, status: int, headers: Sequence[Header]) -> None:
        self._begin(status, headers, None)

    async def send_body(self, *pieces: Piece) -> None:
        await self._emit(list(pieces), last=False)

    async def end_response(self) -> None:
        await self._emit([], last=True)

    def _begin(self, status: int, headers: Sequence[Header], size_bytes: int | None) -> None:
        """Settle the framing and build the head. size_bytes: of the body, None if not known yet."""
        if self.response_started:
            raise ResponseMisuse("The response was started before.")
        self.response_started = True
        lines = [_status_line(status), _common_lines(int(time.time()), self._config.server_name)]
        for name, value in headers:
            if name not in _OURS:
                lines.append(b"%b: %b\r\n" % (name, value))
            elif name == b"content-length":
                size_bytes = int(value)
            elif name == b"connection" and value.lower() == b"close":
                self.reusable = False
        lines.append(self._frame(status, size_bytes))
        head = b"".join(lines)
        # Each line we wrote ends in one CRLF: one more, or a lone one, came in through a header.
        line_count = len(lines) + 1 + lines[-1].count(b"\n") - 1
        if head.count(b"\n") != line_count or head.count(b"\r") != line_count or b"\0" in head:
            raise ResponseMisuse("A response header contains CR, LF or NUL.")
        self._unsent_head = head

    def _frame(self, status: int, size_bytes: int | None) -> bytes:
        """Choose the framing; returns the closing lines of the head."""
        lines = b""
        has_body = not (self._is_head or status in (204, 304))
        if size_bytes is not None and status != 204:
            lines = b"content-length: %d\r\n" % size_bytes
            if has_body:
                self._framing = _Framing.LENGTH
                self._left_to_send_bytes = size_bytes
        elif has_body and self._is_1_1:
            lines = b"transfer-encoding: chunked\r\n"
            self._framing = _Framing.CHUNKED
        elif has_body:
            self._framing = _Framing.CLOSE
            self.reusable = False
        if not self.reusable:
            lines += b"connection: close\r\n"
        elif not self._is_1_1:
            lines += b"connection: keep-alive\r\n"
        return lines + b"\r\n"

    async def _emit(self, pieces: list[Piece], *, last: bool) -> None:
        """Send the head, unless it is gone already, and pieces; `last` completes the response."""
        if not self.response_started or self.response_ended:
            raise ResponseMisuse("No response is open.")
        out = [piece for piece in pieces if len(piece)]
        if self._framing is _Framing.NONE:
            out = []
        elif self._framing is _Framing.LENGTH:
            self._left_to_send_bytes -= sum(map(len, out))
            if self._left_to_send_bytes < 0 or (last and self._left_to_send_bytes):
                self.reusable = False
                raise ResponseMisuse("The body has another size than content-length promised.")
        elif self._framing is _Framing.CHUNKED:
            if out:
                out = [b"%x\r\n" % sum(map(len, out)), *out, b"\r\n"]
            if last:
                out.append(b"0\r\n\r\n")
        if self._unsent_head:
            out.insert(0, self._unsent_head)
            self._unsent_head = b""
        if out:
            try:
                await self._wire.send(out, self._config.write_stall_timeout_s)
            except ClientDisconnected as exc:
                self.failure = exc
                raise
            except trio.Cancelled:
                # The peer has part of it, nobody knows how much: this connection is over.
                self.reusable = False
                raise
        self.response_ended = last


@functools.lru_cache(maxsize=2)
def _common_lines(now_s: int, server_name: bytes) -> bytes:
    """The headers every response has; they change once a second."""
    date = email.utils.formatdate(now_s, usegmt=True).encode()
    return b"date: %b\r\nserver: %b\r\n" % (date, server_name)


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
