"""Wires: connected sockets with time-outs that cost nothing while bytes flow.

A wire tries the system call first and waits only if it must; a wait records its deadline, and the
server's watchman wakes waits whose deadline has passed. So there is no cancel scope per read or
write.

`SocketWire` speaks to the socket itself; `s3api.httptls` puts TLS around one.

Concurrency: one task receives and one sends, at the same time if they like. Cancelling a receive
loses no byte; cancelling a send leaves the wire fit for closing only.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from math import inf
from typing import Protocol

import trio

from s3api.httpstream import ClientDisconnected, Piece

# Linux takes at most 1,024 buffers per sendmsg (IOV_MAX).
BUFFER_COUNT_MAX = 1024
# After so many calls in a row that didn't have to wait, other tasks get a turn.
STREAK_COUNT_MAX = 16


class WireTimeout(Exception):
    """The peer let the time-out of a receive pass. The wire can still send."""


class Wire(Protocol):
    """What the server needs of a connection. A timeout_s bounds each wait without progress.

    tls_version: as "1.3", "" without TLS.
    """

    scheme: str
    tls_version: str

    async def receive(
        self, size_max_bytes: int, timeout_s: float, *, wait_first: bool = False
    ) -> bytes:
        """At least one byte, or b"" when the peer has finished.

        wait_first: nothing can have come yet, so that trying would be in vain.
        Raises WireTimeout, or ClientDisconnected if the connection broke.
        """
        ...

    async def receive_into(self, buffer: memoryview, timeout_s: float) -> int:
        """As receive(), into a buffer of at least one byte; 0 when the peer has finished."""
        ...

    async def send(self, pieces: Sequence[Piece], timeout_s: float) -> None:
        """Send all pieces. Raises ClientDisconnected, also when the peer takes nothing in time."""
        ...

    def wake_expired(self, now: float) -> None:
        """Let waits end whose deadline is before `now` (trio's clock)."""
        ...

    def interrupt(self) -> None:
        """End the receive that waits right now, if any, as if its time were up."""
        ...

    async def finish_sending(self) -> None:
        """Tell the peer that nothing more comes. Never raises for a broken connection."""
        ...

    def close(self) -> None:
        """Close at once; waits end with ClientDisconnected."""
        ...


class SocketWire:
    """A wire over a connected, non-blocking socket, which it owns."""

    scheme = "http"
    tls_version = ""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._receive_deadline = inf
        self._send_deadline = inf
        self._streak = 0
        self._closed = False

    async def receive(
        self, size_max_bytes: int, timeout_s: float, *, wait_first: bool = False
    ) -> bytes:
        if wait_first:
            await self._wait_readable(timeout_s)
        while True:
            try:
                piece = self._socket.recv(size_max_bytes)
            except BlockingIOError:
                await self._wait_readable(timeout_s)
            except OSError as exc:
                raise ClientDisconnected from exc
            else:
                await self._take_turns()
                return piece

    async def receive_into(self, buffer: memoryview, timeout_s: float) -> int:
        while True:
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                await self._wait_readable(timeout_s)
            except OSError as exc:
                raise ClientDisconnected from exc
            else:
                await self._take_turns()
                return count

    async def send(self, pieces: Sequence[Piece], timeout_s: float) -> None:
        index, rest = 0, memoryview(b"")
        while index < len(pieces):
            try:
                if rest or len(pieces) - index == 1:
                    sent = self._socket.send(rest or pieces[index])
                else:
                    sent = self._socket.sendmsg(pieces[index : index + BUFFER_COUNT_MAX])
            except BlockingIOError:
                await self._wait_writable(timeout_s)
                continue
            except OSError as exc:
                raise ClientDisconnected from exc
            if rest:
                rest = rest[sent:]
                index += not rest
                continue
            while index < len(pieces) and sent >= len(pieces[index]):
                sent -= len(pieces[index])
                index += 1
            if sent:
                rest = memoryview(pieces[index])[sent:]

    def wake_expired(self, now: float) -> None:
        if self._receive_deadline <= now or self._send_deadline <= now:
            trio.lowlevel.notify_closing(self._socket)

    def interrupt(self) -> None:
        if self._receive_deadline < inf:
            self._receive_deadline = -inf
            trio.lowlevel.notify_closing(self._socket)

    async def finish_sending(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # The peer was quicker.

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def _wait_readable(self, timeout_s: float) -> None:
        self._streak = 0
        self._receive_deadline = trio.current_time() + timeout_s
        try:
            await trio.lowlevel.wait_readable(self._socket)
        except trio.ClosedResourceError:
            # Somebody woke all waits of this socket; those that are in time go on.
            if self._closed:
                raise ClientDisconnected from None
            if trio.current_time() >= self._receive_deadline:
                raise WireTimeout from None
        finally:
            self._receive_deadline = inf

    async def _wait_writable(self, timeout_s: float) -> None:
        self._streak = 0
        self._send_deadline = trio.current_time() + timeout_s
        try:
            await trio.lowlevel.wait_writable(self._socket)
        except trio.ClosedResourceError:
            if self._closed or trio.current_time() >= self._send_deadline:
                raise ClientDisconnected from None
        finally:
            self._send_deadline = inf

    async def _take_turns(self) -> None:
        self._streak += 1
        if self._streak > STREAK_COUNT_MAX:
            self._streak = 0
            await trio.lowlevel.checkpoint()
