"""One request and its response on a connection of our own server.

`Exchange` is the RequestStream of `s3api.http1`. Its `asgi_receive` and `asgi_send` are the ASGI 3
view of the same thing; an application may use either.

Concurrency: one task receives, one sends. Source: ASGI specification 3.0, "HTTP & WebSocket".
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any
from urllib.parse import unquote

import trio

from s3api.httpbody import BodyReceiver
from s3api.httpconfig import HttpConfig
from s3api.httphead import RequestHead
from s3api.httpresponse import ResponseMisuse, ResponseSender
from s3api.httpstream import EXTENSION, BodyError, ClientDisconnected, Header, Piece
from s3api.httpwire import Wire

Scope = dict[str, Any]
Message = dict[str, Any]
Address = tuple[str, int] | None

# So much of pipelined requests is taken in while looking out for a disconnect.
_LOOKOUT_SIZE_BYTES = 64 * 1024


class Exchange(BodyReceiver, ResponseSender):
    """See s3api.httpstream.RequestStream, which this is."""

    def __init__(self, wire: Wire, head: RequestHead, rest: bytes, config: HttpConfig) -> None:
        BodyReceiver.__init__(self, wire, head, rest, config)
        ResponseSender.__init__(self, wire, head, config)
        self.method = head.method
        self.raw_path = head.raw_path
        self.query_string = head.query_string
        self.headers = head.headers
        self.content_length = head.content_length
        self._start: tuple[int, Sequence[Header]] | None = None
        self._end_told = False
        self._ended: trio.Event | None = None

    @property
    def tls_version(self) -> str:
        return self._wire.tls_version

    def _begin(self, status: int, headers: Sequence[Header], size_bytes: int | None) -> None:
        # A body that stays unread would be taken for the next request.
        if not self.body_drainable:
            self.reusable = False
        super()._begin(status, headers, size_bytes)

    async def asgi_receive(self) -> Message:
        """http.request with the next piece of the body, or http.disconnect.

        A body that can't be had to its end is a disconnect here; `failure` tells the server why.
        """
        if self.response_ended or self.failure is not None:
            return {"type": "http.disconnect"}
        if self._end_told:
            await self._wait_disconnect()
            return {"type": "http.disconnect"}
        try:
            piece = await self.receive_body()
        except (BodyError, ClientDisconnected):
            return {"type": "http.disconnect"}
        self._end_told = self.body_complete
        return {
            "type": "http.request",
            "body": bytes(piece or b""),
            "more_body": not self._end_told,
        }

    async def asgi_send(self, message: Message) -> None:
        """http.response.start, http.response.body, or http.response.bodies with pieces."""
        kind = message["type"]
        if kind == "http.response.body":
            pieces = [message.get("body", b"")]
        elif kind == "http.response.bodies":
            pieces = message["bodies"]
        elif kind == "http.response.start":
            if self._start is not None or self.response_started:
                raise ResponseMisuse("The response was started before.")
            self._start = (
                message["status"],
                [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())],
            )
            return
        else:
            raise ResponseMisuse(f"{kind} is not a message of an HTTP response.")
        await self._send_pieces(pieces, last=not message.get("more_body", False))

    async def _send_pieces(self, pieces: Sequence[Piece], *, last: bool) -> None:
        if self._start is not None:
            status, headers = self._start
            self._start = None
            # Only a body that comes in one message has a size that we can promise.
            self._begin(status, headers, sum(map(len, pieces)) if last else None)
        await self._emit(list(pieces), last=last)

    async def _emit(self, pieces: list[Piece], *, last: bool) -> None:
        await super()._emit(pieces, last=last)
        if last and self._ended is not None:
            self._ended.set()

    async def _wait_disconnect(self) -> None:
        """Return when the peer is gone or the response has ended, whichever is first."""
        while len(self.rest) < _LOOKOUT_SIZE_BYTES:
            try:
                piece = await self._wire.receive(_LOOKOUT_SIZE_BYTES, inf)
            except ClientDisconnected as exc:
                self.failure = exc
                return
            if not piece:
                self.failure = ClientDisconnected("The peer closed before it was answered.")
                return
            self.rest += piece
        self._ended = trio.Event()
        await self._ended.wait()

    def build_scope(self, head: RequestHead, client: Address, server: Address) -> Scope:
        """The ASGI connection scope of this exchange."""
        raw_path = self.raw_path
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.http_version,
            "method": self.method,
            "scheme": self._wire.scheme,
            "path": unquote(raw_path) if b"%" in raw_path else raw_path.decode("latin-1"),
            "raw_path": raw_path,
            "query_string": self.query_string,
            "root_path": "",
            "headers": self.headers,
            "client": client,
            "server": server,
            "extensions": {EXTENSION: self, "http.response.bodies": {}},
        }
