"""HTTP/1.1 server for ASGI 3 applications, on trio, parsing with httptools (llhttp).

Moving objects over HTTP is what this program exists for, so the server is ours, and short:

    http1         listeners, connections, stop                this file
    httpwire      sockets and their time-outs
    httptls       TLS around a socket
    httphead      request line and headers -> RequestHead
    httpbody      request bodies
    httpresponse  response heads and bodies
    httpexchange  one request and its response, ASGI

Invariants
  1. Requests of a connection are served one after the other; the next head is read when the last
     response has ended.
  2. Whatever makes the place of the next request doubtful closes the connection.
  3. Every wait on a peer has a deadline; every buffer a bound.

Concurrency: one task per connection, one per listener, one watchman for time-outs; all in serve().
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from s3api.httpconfig import HttpConfig
from s3api.httpexchange import Address, Exchange, Message, Scope
from s3api.httphead import NO_HEAD, HeadParser, HeadRefused, RequestHead
from s3api.httpresponse import ResponseSender
from s3api.httpstream import BodyError, BodyStalled, ClientDisconnected
from s3api.httptls import TlsWire
from s3api.httpwire import SocketWire, Wire, WireTimeout

__all__ = ["HttpConfig", "HttpServer", "ServerStatistics", "open_listeners", "serve"]

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEAD_RECEIVE_SIZE_BYTES = 32 * 1024
# accept() may fail for want of these; they come back, so the listener waits instead of ending.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHORTAGE_PAUSE_S = 0.1
# So often, in a time-out's length, the watchman looks: a time-out is late by an eighth at most.
_WATCHES_PER_TIMEOUT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """connections: open now, of which idle. requests, refusals: since the start."""

    connection_count: int
    idle_connection_count: int
    request_count: int
    refusal_count: int


class HttpServer:
    """A running server; what serve() gives to its owner through task_status."""

    def __init__(self, app: Application, config: HttpConfig, tls: ssl.SSLContext | None) -> None:
        self.app = app
        self.config = config
        self.tls = tls
        self.stopping = False
        self.request_count = 0
        self.refusal_count = 0
        self.connections: set[Connection] = set()
        self._accepting = trio.CancelScope()
        self._slots = trio.Semaphore(config.connection_count_max)

    def stop(self) -> None:
        """Stop accepting, close idle connections, let requests in flight finish.

        serve() returns when all are done, at the latest after `stop_timeout_s`.
        """
        self.stopping = True
        self._accepting.cancel()
        for connection in self.connections:
            connection.interrupt_if_idle()

    def statistics(self) -> ServerStatistics:
        return ServerStatistics(
            connection_count=len(self.connections),
            idle_connection_count=sum(connection.idle for connection in self.connections),
            request_count=self.request_count,
            refusal_count=self.refusal_count,
        )

    async def run(self, listeners: Sequence[socket.socket], started: Callable[[], None]) -> None:
        """Accept until stop(), then see the open connections to their end."""
        async with trio.open_nursery() as services:
            services.start_soon(self._watch)
            async with trio.open_nursery() as connections:
                try:
                    with self._accepting:
                        async with trio.open_nursery() as accepting:
                            for listener in listeners:
                                accepting.start_soon(self._accept, listener, connections)
                            started()
                finally:
                    for listener in listeners:
                        listener.close()
                deadline = trio.current_time() + self.config.stop_timeout_s
                connections.cancel_scope.deadline = deadline
            services.cancel_scope.cancel()

    async def _accept(self, listener: socket.socket, connections: trio.Nursery) -> None:
        while True:
            await self._slots.acquire()
            try:
                await trio.lowlevel.wait_readable(listener)
                connected, _ = listener.accept()
            except OSError as exc:
                self._slots.release()
                # Anything else concerns a connection that failed before it was accepted.
                if exc.errno in _SHORTAGES:
                    logger.error("accepting pauses: %s", exc)
                    await trio.sleep(_SHORTAGE_PAUSE_S)
                continue
            except trio.Cancelled:
                self._slots.release()
                raise
            connected.setblocking(False)
            connections.start_soon(self._serve, connected)

    async def _serve(self, connected: socket.socket) -> None:
        try:
            connection = Connection(self, connected)
            self.connections.add(connection)
            try:
                await connection.run()
            finally:
                self.connections.discard(connection)
        finally:
            connected.close()
            self._slots.release()

    async def _watch(self) -> None:
        """Wake the waits whose time is up."""
        config = self.config
        shortest_s = min(
            config.head_timeout_s,
            config.keep_alive_timeout_s,
            config.body_idle_timeout_s,
            config.write_stall_timeout_s,
            config.linger_s,
        )
        while True:
            await trio.sleep(shortest_s / _WATCHES_PER_TIMEOUT)
            now = trio.current_time()
            for connection in self.connections:
                connection.wire.wake_expired(now)


class Connection:
    """One accepted connection, served from its first head to its close.

    idle: waiting for the first byte of a head.
    """

    def __init__(self, server: HttpServer, connected: socket.socket) -> None:
        self.idle = False
        self._server = server
        self._config = server.config
        self._rest = b""
        # A client sends its next request when it has the answer, so there is no use in looking.
        self._answered = False
        self._client, self._local = _settle(connected)
        self._tls = TlsWire(connected, server.tls) if server.tls is not None else None
        self.wire: Wire = self._tls or SocketWire(connected)

    def interrupt_if_idle(self) -> None:
        if self.idle:
            self.wire.interrupt()

    async def run(self) -> None:
        """Never raises but for cancellation."""
        try:
            if self._tls is not None:
                await self._tls.handshake(self._config.head_timeout_s)
            while await self._serve_one():
                pass
        except (ClientDisconnected, WireTimeout):
            pass  # Nobody is left to be told.
        except Exception:
            # A mistake of ours met on one connection must not end the others.
            logger.exception("a connection failed")
        finally:
            self.wire.close()

    async def _serve_one(self) -> bool:
        """Serve one request; returns whether another may follow."""
        try:
            head = await self._receive_head()
        except HeadRefused as refused:
            await self._refuse(refused)
            return False
        if head is None:
            return False
        server = self._server
        server.request_count += 1
        exchange = Exchange(self.wire, head, self._rest, self._config)
        exchange.reusable = head.keep_alive and not server.stopping
        scope = exchange.build_scope(head, self._client, self._local)
        try:
            await server.app(scope, exchange.asgi_receive, exchange.asgi_send)
        except ClientDisconnected:
            return False
        except BodyError:
            pass  # The body's fault, not the application's; answered below if it hasn't answered.
        except Exception:
            if isinstance(exchange.failure, ClientDisconnected):
                return False
            logger.exception("%s %r failed", head.method, head.raw_path)
        if not exchange.response_started:
            await self._answer_instead(exchange)
        if not exchange.response_ended:
            return False
        if not exchange.reusable:
            if not exchange.body_complete:
                await self._linger()
            return False
        try:
            await exchange.drain()
        except BodyError:
            return False
        self._rest = exchange.rest
        self._answered = True
        return not server.stopping

    async def _receive_head(self) -> RequestHead | None:
        """The next head, or None if the peer closed instead, or its idle time was up.

        Raises HeadRefused.
        """
        config = self._config
        received = await self._receive_first()
        if not received:
            return None
        parser = HeadParser(
            header_count_max=config.header_count_max,
            target_size_max_bytes=config.target_size_max_bytes,
        )
        fed = 0
        deadline = trio.current_time() + config.head_timeout_s
        while True:
            end = received.find(b"\r\n\r\n", max(0, fed - 3))
            stop = end + 4 if end >= 0 else len(received)
            if stop > config.head_size_max_bytes:
                raise HeadRefused(431, "The request's headers are too large.")
            parser.feed(received[fed:stop])
            fed = stop
            if end >= 0:
                self._rest = received[stop:]
                return parser.finish(received[:stop])
            try:
                piece = await self.wire.receive(
                    _HEAD_RECEIVE_SIZE_BYTES, deadline - trio.current_time()
                )
            except WireTimeout:
                raise HeadRefused(408, "The request's headers took too long.") from None
            if not piece:
                raise ClientDisconnected("The peer closed within a request head.")
            received += piece

    async def _receive_first(self) -> bytes:
        """The first bytes of a head, or b"" if none will come. Skips empty lines."""
        received = self._rest.lstrip(b"\r\n")
        if received:
            # The peer pipelines; it must not keep the loop to itself.
            await trio.lowlevel.checkpoint()
        self.idle = True
        try:
            while not received and not self._server.stopping:
                piece = await self.wire.receive(
                    _HEAD_RECEIVE_SIZE_BYTES,
                    self._config.keep_alive_timeout_s,
                    wait_first=self._answered,
                )
                if not piece:
                    break
                received = piece.lstrip(b"\r\n")
        except WireTimeout:
            return b""
        finally:
            self.idle = False
        return received

    async def _answer_instead(self, exchange: Exchange) -> None:
        """Answer for an application that ended without having begun a response."""
        if isinstance(exchange.failure, ClientDisconnected):
            return
        status, reason = 500, "The server met an unexpected condition."
        if isinstance(exchange.failure, BodyError):
            status = 408 if isinstance(exchange.failure, BodyStalled) else 400
            reason = str(exchange.failure)
        exchange.reusable = False
        headers, body = self._config.render_error(status, reason)
        await exchange.respond(status, headers, body)

    async def _refuse(self, refused: HeadRefused) -> None:
        """Answer a head that can't be served, and close."""
        self._server.refusal_count += 1
        sender = ResponseSender(self.wire, NO_HEAD, self._config)
        headers, body = self._config.render_error(refused.status, refused.reason)
        await sender.respond(refused.status, headers, body)
        await self._linger()

    async def _linger(self) -> None:
        """Let the peer read the answer: closing on unread bytes would send a reset after it."""
        await self.wire.finish_sending()
        end = trio.current_time() + self._config.linger_s
        dropped = memoryview(bytearray(self._config.receive_size_bytes))
        while (left_s := end - trio.current_time()) > 0:
            if not await self.wire.receive_into(dropped, left_s):
                return


def _settle(connected: socket.socket) -> tuple[Address, Address]:
    """Set the options of a fresh socket; returns both ends' addresses (None for Unix sockets)."""
    if connected.family not in (socket.AF_INET, socket.AF_INET6):
        return None, None
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected.getpeername()[:2], connected.getsockname()[:2]
    except OSError:
        return None, None  # The peer has left already; the first receive will say so.


async def serve(
    app: Application,
    listeners: Sequence[socket.socket],
    *,
    config: HttpConfig | None = None,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[HttpServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on bound, listening sockets (see open_listeners) until stopped or cancelled.

    The listeners are closed on return. ASGI lifespan is the owner's: see s3api.lifespan.
    Extensions: `twofold.stream` in the scope (a RequestStream), and the message
    {"type": "http.response.bodies", "bodies": [...], "more_body": bool} beside http.response.body.
    """
    server = HttpServer(app, config or HttpConfig(), tls)
    await server.run(listeners, lambda: task_status.started(server))


async def open_listeners(
    host: str | None, port: int, *, backlog_count: int = 1024
) -> list[socket.socket]:
    """Bind and listen, TCP, on every address of `host` (None: all), non-blocking.

    port 0: one free port, the same for all addresses. Raises OSError.
    """
    addresses = await trio.socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in addresses:
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # IPv4 has a socket of its own, so that both may listen on one port.
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            port = port or listener.getsockname()[1]
            listener.listen(backlog_count)
            listener.setblocking(False)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners
