"""One HTTP exchange as operations see it: a head, a body to receive, a response to send.

`RequestStream` is the seam between the object plane and the server. Two things speak it: the
exchange of our own server (`s3api.http1`), found at `scope["extensions"]["twofold.stream"]`, and
`AsgiStream`, which wraps the three arguments of any other ASGI server. `stream_of()` picks.

Concurrency: one task receives and one task sends; they may differ. Errors are those of this module
and carry no S3 code: `s3api.payload` translates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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


class RequestStream(Protocol):
    """One request and its response.

    method: upper case. raw_path: the path of the target, byte for byte, undecoded. query_string:
    the bytes after "?", undecoded. headers: names in lower case, in the order they came, values
    stripped. content_length: size of the body as framed by HTTP, 0 without a body, None when
    chunked.
    """

    method: str
    raw_path: bytes
    query_string: bytes
    headers: list[Header]
    content_length: int | None
    response_started: bool

    async def receive_body(self) -> bytes | None:
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
