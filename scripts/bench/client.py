"""A lean HTTP load client: raw sockets, one epoll loop for many connections.

It shares the machine with the server it measures, so it does as little as an honest client can:
a request is one `sendmsg`; a response is read into one reused buffer,
its status and length are checked, and its body is compared with what was put, in place.

Bodies are windows into one pool of random bytes, so no two neighbours are alike and nothing is
generated while the clock runs. The pool's seed is fixed: every target gets the same bytes.

Concurrency: one process owns its connections; `run_clients` forks, and adds nothing else.
Source: RFC 9112 for the framing of responses, epoll(7), tcp(7).
"""

from __future__ import annotations

import multiprocessing
import random
import select
import socket
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from measure import CpuMeter, Tally
from signing import Endpoint

WINDOW_STEP_BYTES = 16
WINDOW_COUNT = 65536
RECEIVE_BYTES = 256 * 1024  # Stays in the second-level cache; larger was not faster.
DISCARD = memoryview(bytearray(4 << 20))  # Never touched, so it never becomes memory.
COMPARE_ALL_BELOW_BYTES = 1 << 20
COMPARE_EVERY = 8  # Of the large bodies only every eighth, as memory bandwidth is shared.
HEAD_MAX_BYTES = 8192
ERRORS_MAX = 100  # A row that fails this often is over.
DRAIN_S = 120.0  # How long the requests in flight at the end may take.


class Pool:
    """Random bytes, of which every body is a window."""

    def __init__(self, size_max_bytes: int) -> None:
        size_bytes = size_max_bytes + WINDOW_COUNT * WINDOW_STEP_BYTES
        self.content = random.Random("bench").randbytes(size_bytes)
        self._view = memoryview(self.content)

    @staticmethod
    def start(index: int) -> int:
        """Where the window of object number `index` starts."""
        return index % WINDOW_COUNT * WINDOW_STEP_BYTES

    def body(self, index: int, size_bytes: int) -> memoryview:
        start = self.start(index)
        return self._view[start : start + size_bytes]


@dataclass(slots=True, kw_only=True)
class Request:
    """One request, and what its response must be.

    length: the Content-Length that a right answer carries; None when any will do.
    pool_start: where in the pool the response's body stands; None when it isn't compared.
    bodiless: the response to HEAD announces a length that never comes.
    keep: hand the response's body to the client (for listings); others are thrown away.
    amount: what a right answer adds to the row: 1 operation, or bytes.
    """

    head: bytes
    body: memoryview | bytes = b""
    length: int | None = None
    pool_start: int | None = None
    bodiless: bool = False
    keep: bool = False
    amount: float = 1.0


# A client yields requests and gets the kept body of each answer (or None) back. One that raises
# ValueError has found a fault in that body.
Client = Generator[Request, bytes | None, None]


class ResponseError(Exception):
    """The answer is wrong in status, length or content."""


class Connection:
    """One keep-alive connection and the client that speaks through it."""

    def __init__(self, endpoint: Endpoint, client: Client, pool: Pool) -> None:
        self._client = client
        self._pool = pool
        self._address = (endpoint.host, endpoint.port)
        self._answered = 0
        self.closing = False
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(self._address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def begin(self, reply: bytes | None) -> bool:
        """Send the next request, as far as the socket takes it. False when the client is done."""
        try:
            # A generator takes its first value only after its first yield.
            self.request = self._client.send(reply) if self._answered else next(self._client)
        except StopIteration:
            return False
        self._answered += 1
        self._head: bytes | None = b""
        self._left = 0
        self._kept: list[bytes] = []
        self._chunked = False
        self._compare_at: int | None = None
        self.started_ns = time.perf_counter_ns()
        self._unsent: list[memoryview | bytes] = [self.request.head, self.request.body]
        return True

    def send_more(self) -> bool:
        """Send what is left. True when all of the request has gone out."""
        while self._unsent:
            try:
                sent = self.socket.sendmsg(self._unsent)
            except BlockingIOError:
                return False
            while self._unsent and sent >= len(self._unsent[0]):
                sent -= len(self._unsent.pop(0))
            if sent:
                self._unsent[0] = memoryview(self._unsent[0])[sent:]
        return True

    def receive(self, buffer: memoryview) -> bool:
        """Take what has come. True when the response is whole; raises ResponseError or OSError."""
        try:
            if self._head is None and self._compare_at is None and not self.request.keep:
                # tcp(7): MSG_TRUNC throws received bytes away without copying them.
                buffer = DISCARD
                received = self.socket.recv_into(buffer, 0, socket.MSG_TRUNC)
            else:
                received = self.socket.recv_into(buffer)
        except BlockingIOError:
            return False
        if received == 0:
            raise ConnectionResetError("the server closed the connection")
        if self._head is None:
            self._take(buffer[:received])
        else:
            seen = len(self._head)
            self._head += bytes(buffer[: min(received, HEAD_MAX_BYTES)])
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) >= HEAD_MAX_BYTES:
                    raise ResponseError("a response head without an end")
                return False
            self._parse(self._head[: end + 2].lower())
            body_start = end + 4 - seen
            if body_start < received:
                self._take(buffer[body_start:received])
        return self._left == 0

    def reply(self) -> bytes | None:
        """The kept body of a whole response, after a last look at it."""
        body = b"".join(self._kept)
        if self._status != b"200" and self._status != b"204":
            raise ResponseError(f"status {self._status.decode()}: {body[:300].decode('latin-1')}")
        if self.request.length is not None and self._length != self.request.length:
            raise ResponseError(f"length {self._length}, expected {self.request.length}")
        return body if self.request.keep else None

    def _parse(self, head: bytes) -> None:
        """Status and framing. `head` is in lower case and ends with the last line's CR LF."""
        self._head = None
        self._status = head[9:12]
        self.closing = b"\r\nconnection: close\r\n" in head
        at = head.find(b"\r\ncontent-length:")
        self._length = int(head[at + 17 : head.index(b"\r\n", at + 17)]) if at >= 0 else 0
        if not self._status.startswith(b"2"):
            # Errors are rare: their text is kept to be shown.
            self.request.keep = True
        elif self.request.pool_start is not None and (
            self._length < COMPARE_ALL_BELOW_BYTES or self._answered % COMPARE_EVERY == 1
        ):
            self._compare_at = self.request.pool_start
        self._chunked = at < 0 and b"\r\ntransfer-encoding: chunked\r\n" in head
        if self._chunked:
            if not self.request.keep:
                raise ResponseError("a chunked body, where a Content-Length is expected")
            self._left = -1
        else:
            self._left = 0 if self.request.bodiless else self._length

    def _take(self, piece: memoryview) -> None:
        """Account for a piece of body."""
        if self._compare_at is not None:
            if not self._pool.content.startswith(piece, self._compare_at):
                raise ResponseError(f"other bytes than were put, before {self._left} from the end")
            self._compare_at += len(piece)
        if self.request.keep:
            self._kept.append(bytes(piece))
        if not self._chunked:
            if len(piece) > self._left:
                raise ResponseError("more body than announced")
            self._left -= len(piece)
        elif b"".join(self._kept[-2:]).endswith(b"\r\n0\r\n\r\n"):
            self._kept = [_unchunk(b"".join(self._kept))]
            self._left = 0


def _unchunk(framed: bytes) -> bytes:
    pieces: list[bytes] = []
    at = 0
    while True:
        line_end = framed.index(b"\r\n", at)
        size = int(framed[at:line_end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(framed[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2


class Loop:
    """Runs the connections of one process until the deadline, or until their clients are done."""

    def __init__(
        self,
        connections: Sequence[Connection],
        *,
        warmup_s: float,
        seconds: float,
        server_pids: Sequence[int],
    ) -> None:
        self.tally = Tally(cpu=CpuMeter(server_pids))
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._count_from_ns = time.perf_counter_ns() + int(warmup_s * 1e9)
        self._stop_ns = self._count_from_ns + int(seconds * 1e9)
        for connection in connections:
            self._add(connection)

    def run(self) -> Tally:
        """Serve until no request is in flight; requests that end after the stop don't count."""
        give_up_s = self._stop_ns / 1e9 + DRAIN_S
        metering = False
        while self._connections:
            if not metering and time.perf_counter_ns() >= self._count_from_ns:
                metering = True
                self.tally.cpu.start()
            events = self._epoll.poll(1.0)
            for descriptor, event in events:
                self._serve(self._connections[descriptor], event)
            if time.perf_counter() > give_up_s:
                self.tally.fail(f"{len(self._connections)} requests without an answer")
                break
        ended_ns = min(time.perf_counter_ns(), self._stop_ns)
        self.tally.seconds = max(ended_ns - self._count_from_ns, 1) / 1e9
        if metering:
            self.tally.cpu.stop(len(self.tally.latencies_ns))
        return self.tally

    def _serve(self, connection: Connection, event: int) -> None:
        try:
            if event & select.EPOLLOUT and connection.send_more():
                self._epoll.modify(connection.socket, select.EPOLLIN)
            if event & ~select.EPOLLOUT and connection.receive(self._buffer):
                reply = connection.reply()
                self._count(connection)
                if connection.closing:
                    self._reopen(connection, reply)
                else:
                    self._begin(connection, reply)
        except (OSError, ResponseError, ValueError) as fault:
            # The framing is lost, so the next request goes out on a new connection.
            self.tally.fail(f"{type(fault).__name__}: {fault}")
            self._reopen(connection, None)

    def _count(self, connection: Connection) -> None:
        now_ns = time.perf_counter_ns()
        if self._count_from_ns <= now_ns < self._stop_ns:
            self.tally.latencies_ns.append(now_ns - connection.started_ns)
            self.tally.amount += connection.request.amount

    def _begin(self, connection: Connection, reply: bytes | None) -> None:
        over = time.perf_counter_ns() >= self._stop_ns or self.tally.errors >= ERRORS_MAX
        if over or not connection.begin(reply):
            self._drop(connection)
        elif not connection.send_more():
            self._epoll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _add(self, connection: Connection, reply: bytes | None = None) -> None:
        self._epoll.register(connection.socket, select.EPOLLIN)
        self._connections[connection.socket.fileno()] = connection
        self._begin(connection, reply)

    def _drop(self, connection: Connection) -> None:
        self._connections.pop(connection.socket.fileno(), None)
        connection.socket.close()

    def _reopen(self, connection: Connection, reply: bytes | None) -> None:
        self._drop(connection)
        try:
            connection.open()
        except OSError as fault:
            self.tally.fail(f"{type(fault).__name__}: {fault}")
            return
        self._add(connection, reply)


def run_clients(
    endpoint: Endpoint,
    pool: Pool,
    clients: Sequence[Callable[[], Client]],
    *,
    processes: int,
    warmup_s: float,
    seconds: float,
    server_pids: Sequence[int] = (),
) -> list[Tally]:
    """Run all `clients` at once, spread over `processes` forked ones, and wait for them."""
    fork = multiprocessing.get_context("fork")

    def work(index: int, pipe: Pipe) -> None:
        share = clients[index::processes]
        # The servers are watched by one worker only, or they would count twice.
        pids = server_pids if index == 0 else ()
        try:
            connections = [Connection(endpoint, client(), pool) for client in share]
            loop = Loop(connections, warmup_s=warmup_s, seconds=seconds, server_pids=pids)
            tally = loop.run()
        except OSError as fault:
            tally = Tally()
            tally.fail(f"{endpoint.address}: {fault}")
        pipe.send(tally)

    workers = []
    for index in range(min(processes, len(clients))):
        ours, theirs = fork.Pipe(duplex=False)
        worker = fork.Process(target=work, args=(index, theirs), daemon=True)
        worker.start()
        theirs.close()
        workers.append((worker, ours))
    tallies = []
    for worker, pipe in workers:
        try:
            tallies.append(pipe.recv())
        except EOFError:
            # The worker has died, and its traceback is on stderr.
            failed = Tally()
            failed.fail("a client process died")
            tallies.append(failed)
        worker.join()
    return tallies
