"""The receiving half of an exchange: the request body, by length or chunked, when it is asked for.

Invariants
  1. Nothing is received ahead of the caller: what nobody asks for stays in the kernel, and the peer
     waits.
  2. With a Content-Length, receive_body_into() lets the kernel write into the caller's buffer.
  3. `rest` holds what came after the body; it belongs to the next request.

Concurrency: one task. Source: RFC 9112, sections 6 and 7; RFC 9110, 10.1.1 (Expect).
"""

from __future__ import annotations

from collections import deque

from s3api.framing import ChunkFraming, FramingError
from s3api.httpconfig import HttpConfig
from s3api.httphead import RequestHead
from s3api.httpstream import BodyError, BodyMalformed, BodyStalled, ClientDisconnected
from s3api.httpwire import Wire, WireTimeout

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyReceiver:
    """failure: why the body can't be had to its end, once that is known."""

    def __init__(self, wire: Wire, head: RequestHead, rest: bytes, config: HttpConfig) -> None:
        self.rest = rest
        self.failure: BodyError | ClientDisconnected | None = None
        self._wire = wire
        self._config = config
        self._owes_continue = head.expects_continue
        self._left_bytes = head.content_length or 0
        self._chunks = ChunkFraming() if head.content_length is None else None
        # Views of a received piece that the caller has not taken yet, the first one first.
        self._pending: deque[memoryview] = deque()

    @property
    def body_complete(self) -> bool:
        """All of the body was taken by the caller."""
        if self._pending:
            return False
        return self._chunks.complete if self._chunks is not None else not self._left_bytes

    @property
    def body_drainable(self) -> bool:
        """What is left of the body is small enough to be read and dropped."""
        if self._owes_continue or self.failure is not None:
            return False
        if self._chunks is not None:
            return self._chunks.complete
        return self._left_bytes <= self._config.drain_size_max_bytes

    async def receive_body(self) -> bytes | memoryview | None:
        if self._owes_continue:
            await self._send_continue()
        if self._pending:
            return self._pending.popleft()
        if self._chunks is not None:
            return await self._receive_chunk(self._chunks)
        if not self._left_bytes:
            return None
        if self.rest:
            piece = self.rest[: self._left_bytes]
            self.rest = self.rest[len(piece) :]
        else:
            piece = await self._receive(min(self._left_bytes, self._config.receive_size_bytes))
        self._left_bytes -= len(piece)
        return piece

    async def receive_body_into(self, buffer: memoryview) -> int:
        if self._owes_continue:
            await self._send_continue()
        if not self._pending:
            if self._chunks is None and not self.rest:
                return await self._receive_into(buffer[: self._left_bytes])
            piece = await self.receive_body()
            if piece is None:
                return 0
            # receive_body() may have left further views, which come after this one.
            self._pending.appendleft(memoryview(piece))
        view = self._pending[0]
        count = min(len(view), len(buffer))
        buffer[:count] = view[:count]
        if count < len(view):
            self._pending[0] = view[count:]
        else:
            self._pending.popleft()
        return count

    async def drain(self) -> None:
        """Read and drop what is left, so that the next request can be read."""
        while await self.receive_body() is not None:
            pass

    async def _receive_chunk(self, chunks: ChunkFraming) -> memoryview | None:
        while not self._pending:
            if chunks.complete:
                return None
            piece = self.rest or await self._receive(self._config.receive_size_bytes)
            self.rest = b""
            try:
                self._pending.extend(chunks.feed(piece))
            except FramingError as exc:
                self.failure = BodyMalformed(str(exc))
                raise self.failure from None
            if chunks.complete:
                self.rest = bytes(chunks.leftover)
        return self._pending.popleft()

    async def _receive(self, size_max_bytes: int) -> bytes:
        try:
            piece = await self._wire.receive(size_max_bytes, self._config.body_idle_timeout_s)
        except WireTimeout:
            raise self._stalled() from None
        except ClientDisconnected as exc:
            self.failure = exc
            raise
        if not piece:
            raise self._disconnected()
        return piece

    async def _receive_into(self, buffer: memoryview) -> int:
        if not buffer:
            return 0
        try:
            count = await self._wire.receive_into(buffer, self._config.body_idle_timeout_s)
        except WireTimeout:
            raise self._stalled() from None
        except ClientDisconnected as exc:
            self.failure = exc
            raise
        if not count:
            raise self._disconnected()
        self._left_bytes -= count
        return count

    async def _send_continue(self) -> None:
        self._owes_continue = False
        # A client that sends its body unasked has stopped waiting.
        if not self.rest:
            await self._wire.send((_CONTINUE,), self._config.write_stall_timeout_s)

    def _stalled(self) -> BodyStalled:
        self.failure = BodyStalled(
            f"No byte of the body came for {self._config.body_idle_timeout_s:g} s."
        )
        return self.failure

    def _disconnected(self) -> ClientDisconnected:
        self.failure = ClientDisconnected("The peer closed before the end of its body.")
        return self.failure
