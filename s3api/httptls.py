"""TLS around a SocketWire, with OpenSSL working on memory.

trio.SSLStream gives one record (16 KiB) per call; here one wake-up decrypts all records that have
come, straight into the caller's buffer. Measured: 1.31-1.38 GB of body per second of CPU received,
against 0.76-0.81 through SSLStream; sending costs the same.

Invariants
  1. Encrypted bytes leave in the order OpenSSL made them: only _flush() sends, one at a time.
  2. At most CIPHER_SIZE_BYTES of a response wait encrypted, whatever its size.
  3. A missing close_notify is an end like any other: HTTP's own framing tells whether bytes are
     missing.

Concurrency: as every wire. Source: Python's ssl module, "Memory BIO Support"; RFC 8446.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from socket import socket
from typing import cast

import trio

from s3api.httpstream import ClientDisconnected, Piece
from s3api.httpwire import SocketWire

CIPHER_SIZE_BYTES = 256 * 1024
# Up to one record, pieces are joined so that they share it.
JOIN_SIZE_BYTES = 16 * 1024


class TlsWire:
    """A wire through TLS. Call handshake() first."""

    scheme = "https"

    def __init__(self, connected: socket, context: ssl.SSLContext) -> None:
        self._wire = SocketWire(connected)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._flushing = trio.Lock()
        self.tls_version = ""

    async def handshake(self, timeout_s: float) -> None:
        """Raises WireTimeout or ClientDisconnected (no TLS, no common ground, gone)."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush(timeout_s)
                await self._take_in(timeout_s, wait_first=False)
            except ssl.SSLError as exc:
                # The alert tells the peer why.
                await self._flush(timeout_s)
                raise ClientDisconnected from exc
            else:
                self.tls_version = (self._tls.version() or "").removeprefix("TLSv")
                await self._flush(timeout_s)
                return

    async def receive(
        self, size_max_bytes: int, timeout_s: float, *, wait_first: bool = False
    ) -> bytes:
        buffer = bytearray(min(size_max_bytes, CIPHER_SIZE_BYTES))
        with memoryview(buffer) as view:
            count = self._decrypt(view)
            while count is None:
                await self._take_in(timeout_s, wait_first=wait_first)
                wait_first = False
                count = self._decrypt(view)
            return bytes(view[:count])

    async def receive_into(self, buffer: memoryview, timeout_s: float) -> int:
        while (count := self._decrypt(buffer)) is None:
            await self._take_in(timeout_s, wait_first=False)
        return count

    async def send(self, pieces: Sequence[Piece], timeout_s: float) -> None:
        if len(pieces) > 1 and sum(map(len, pieces)) <= JOIN_SIZE_BYTES:
            pieces = (b"".join(pieces),)
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), CIPHER_SIZE_BYTES):
                try:
                    self._tls.write(view[start : start + CIPHER_SIZE_BYTES])
                except ssl.SSLError as exc:
                    raise ClientDisconnected from exc
                await self._flush(timeout_s)

    def wake_expired(self, now: float) -> None:
        self._wire.wake_expired(now)

    def interrupt(self) -> None:
        self._wire.interrupt()

    async def finish_sending(self) -> None:
        await self._wire.finish_sending()

    def close(self) -> None:
        self._wire.close()

    def _decrypt(self, buffer: memoryview) -> int | None:
        """Decrypt what has come into `buffer`; 0 at the end, None if nothing is there yet."""
        count = 0
        try:
            while count < len(buffer):
                # With a buffer, read() returns a count; typeshed says bytes.
                size = cast(int, self._tls.read(len(buffer) - count, buffer[count:]))
                if not size:
                    break
                count += size
        except ssl.SSLWantReadError:
            return count or None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return count
        except ssl.SSLError as exc:
            raise ClientDisconnected from exc
        return count

    async def _take_in(self, timeout_s: float, *, wait_first: bool) -> None:
        piece = await self._wire.receive(CIPHER_SIZE_BYTES, timeout_s, wait_first=wait_first)
        if piece:
            self._incoming.write(piece)
        else:
            self._incoming.write_eof()

    async def _flush(self, timeout_s: float) -> None:
        async with self._flushing:
            while self._outgoing.pending:
                await self._wire.send((self._outgoing.read(),), timeout_s)
