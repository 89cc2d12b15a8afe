"""A client that says exactly what a test wants, and a server to say it to."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import trio
import trio.testing

from s3api.http1 import Application, HttpConfig, HttpServer, open_listeners, serve

# Long enough to never pass in a test that doesn't ask for time-outs.
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[bytes, bytes]
    body: bytes
    # The peer keeps the connection, as far as its headers say.
    keeps: bool


class Client:
    """One connection. h11 reads the responses, so ours are held to another's reading."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._rest = b""

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.stream.send_all(piece)

    async def response(self, method: bytes = b"GET") -> Response:
        """The next final response; interim ones are skipped."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"h")]))
        parser.send(h11.EndOfMessage())
        if self._rest:
            parser.receive_data(self._rest)
        head: h11.Response | None = None
        body = b""
        with trio.fail_after(PATIENCE_S):
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(await self.stream.receive_some())
                elif isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    assert isinstance(event, h11.InformationalResponse), event
        assert head is not None
        self._rest = bytes(parser.trailing_data[0])
        keeps = parser.their_state is not h11.MUST_CLOSE
        return Response(head.status_code, dict(head.headers), body, keeps)

    async def ask(self, request: bytes) -> Response:
        await self.send(request)
        return await self.response(request.split(b" ", 1)[0])

    async def closed(self) -> bytes:
        """Wait until the peer closes; returns what it still said."""
        said = self._rest
        with trio.fail_after(PATIENCE_S):
            try:
                while piece := await self.stream.receive_some():
                    said += piece
            except trio.BrokenResourceError:
                pass
        return said


class Running:
    """A server that runs for the length of a test."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port

    async def connect(self) -> Client:
        return Client(await trio.open_tcp_stream("127.0.0.1", self.port))

    async def wait_no_connection(self) -> None:
        """Wait until the server has let go of its last connection."""
        with trio.fail_after(PATIENCE_S):
            while self.server.statistics().connection_count:
                await trio.testing.wait_all_tasks_blocked(0.001)

    async def connect_tls(self, context: ssl.SSLContext) -> Client:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        return Client(
            trio.SSLStream(stream, context, server_hostname="127.0.0.1", https_compatible=True)
        )


@asynccontextmanager
async def running(
    app: Application, *, config: HttpConfig | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Running]:
    listeners = await open_listeners("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[HttpServer]) -> None:
            await serve(app, listeners, config=config, tls=tls, task_status=task_status)

        yield Running(await nursery.start(run), port)
        nursery.cancel_scope.cancel()
