"""One HTTP exchange as operations see it: a head, a body to receive, a response to send.

`RequestStream` is the seam between the object plane and the server. Two things speak it: the
exchange of our own server (`s3api.http1`), found at `scope["extensions"]["twofold.stream"]`, and
`AsgiStream`, which wraps the three arguments of any other ASGI server. `stream_of()` picks.

Concurrency: one task receives and one task sends; they may differ. Errors are those of this module
and carry no S3 code: `s3api.payload` translates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

Header = tuple[bytes, bytes]
Piece = bytes | bytearray | memoryview

EXTENSION = "twofold.stream"


class ClientDisconnected(ConnectionError):
    """The peer is gone or its connection is broken; nobody will read an answer."""


class BodyError(Exception):
    """The body can't be received to its end. The connection closes after the answer."""


class BodyStalled(BodyError):
    """No byte of the body came for `body_idle_s`."""


class BodyMalformed(BodyError):
    """The chunked transfer coding is broken."""


class BodySource(Protocol):
    """What an upload comes from: the body of a request, or the file in a form.

    headers: what is said of it, names in lower case. content_length: None where nobody said.
    """

    headers: list[Header]
    content_length: int | None

    async def receive_body(self) -> bytes | memoryview | None:
        """The next piece, never empty, or None at the end (then always None)."""
        ...

    async def receive_body_into(self, buffer: memoryview) -> int:
        """Receive 1..len(buffer) bytes into `buffer`; 0 at the end, as receive_body."""
        ...


class RequestStream(BodySource, Protocol):
    """One request and its response.

    method: upper case. raw_path: the path of the target, byte for byte, undecoded. query_string:
    the bytes after "?", undecoded. headers: names in lower case, in the order they came, values
    stripped. content_length: size of the body as framed by HTTP, 0 without a body, None when
    chunked. tls_version: of the connection, as "1.3", "" without TLS.
    """

    method: str
    raw_path: bytes
    query_string: bytes
    headers: list[Header]
    content_length: int | None
    response_started: bool

    @property
    def tls_version(self) -> str: ...

    async def receive_body(self) -> bytes | memoryview | None:
        """The next piece of the body, never empty, or None at its end (then always None).

        Sends "100 Continue" first if the client waits for it.
        Raises ClientDisconnected, BodyStalled or BodyMalformed.
        """
        ...

    async def receive_body_into(self, buffer: memoryview) -> int:
        """Receive 1..len(buffer) bytes of the body into `buffer`; 0 at its end, as receive_body."""
        ...

    async def respond(
        self, status: int, headers: Sequence[Header], body: Piece | Sequence[Piece] = b""
    ) -> None:
        """Send a whole response. content-length is added unless given.

        To HEAD give content-length yourself; a body is not sent.
        """
        ...

    async def start_response(self, status: int, headers: Sequence[Header]) -> None:
        """Begin a response whose body follows. Without content-length it goes out chunked.

        The head is held back until the first piece, so that both leave together.
        """
        ...

    async def send_body(self, *pieces: Piece) -> None:
        """Send pieces without joining them. They must not change until this returns.

        With no pieces: send the head now. Raises ClientDisconnected (also when the peer stalls).
        """
        ...

    async def end_response(self) -> None:
        """Finish the response. Fewer bytes than content-length promised: the connection is cut."""
        ...


def stream_of(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> RequestStream:
    """The stream of an ASGI call: our server's own, or a wrapping of the three arguments."""
    stream: RequestStream | None = scope.get("extensions", {}).get(EXTENSION)
    return stream if stream is not None else AsgiStream(scope, receive, send)


# As the TLS extension of ASGI has them: the numbers of RFC 8446 and its forebears.
_TLS_VERSIONS = {0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}


class AsgiStream:
    """A RequestStream on any ASGI 3 server."""

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"].partition(b"?")[0]
        self.query_string: bytes = scope["query_string"]
        self.headers: list[Header] = list(scope["headers"])
        self.content_length: int | None = 0
        self.response_started = False
        self._tls_version = scope.get("extensions", {}).get("tls", {}).get("tls_version")
        self._receive = receive
        self._send = send
        self._body_ended = False
        self._pending = memoryview(b"")
        for name, value in self.headers:
            if name == b"content-length":
                self.content_length = int(value)
            elif name == b"transfer-encoding" or (
                name == b":authority" and self.content_length == 0
            ):
                self.content_length = None

    @property
    def tls_version(self) -> str:
        return _TLS_VERSIONS.get(self._tls_version, "")

    async def receive_body(self) -> bytes | memoryview | None:
        if self._pending:
            piece, self._pending = self._pending, memoryview(b"")
            return piece
        while not self._body_ended:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected("The peer closed before the end of its body.")
            self._body_ended = not message.get("more_body", False)
            body: bytes = message.get("body", b"")
            if body:
                return body
        return None

    async def receive_body_into(self, buffer: memoryview) -> int:
        piece = await self.receive_body()
        if piece is None:
            return 0
        count = min(len(piece), len(buffer))
        view = memoryview(piece)
        buffer[:count] = view[:count]
        self._pending = view[count:]
        return count

    async def respond(
        self, status: int, headers: Sequence[Header], body: Piece | Sequence[Piece] = b""
    ) -> None:
        pieces = [body] if isinstance(body, bytes | bytearray | memoryview) else list(body)
        if not any(name == b"content-length" for name, _ in headers) and status not in (204, 304):
            length = b"%d" % sum(map(len, pieces))
            headers = [*headers, (b"content-length", length)]
        await self.start_response(status, headers)
        if self.method != "HEAD":
            await self.send_body(*pieces)
        await self.end_response()

    async def start_response(self, status: int, headers: Sequence[Header]) -> None:
        self.response_started = True
        await self._send(
            {"type": "http.response.start", "status": status, "headers": list(headers)}
        )

    async def send_body(self, *pieces: Piece) -> None:
        for piece in pieces or (b"",):
            await self._send(
                {"type": "http.response.body", "body": bytes(piece), "more_body": True}
            )

    async def end_response(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
