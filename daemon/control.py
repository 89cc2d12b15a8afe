"""The control socket: how commands on this machine ask the running daemon.

A Unix stream socket of mode 0600. The client sends one line: for `status` it reads one JSON
document to the end of the stream, other words begin a talk (`mount`: daemon/mountwire.py,
`bucket`: daemon/buckettalk.py). The asking side is plain blocking sockets, so that a command is
quick to start.
Concurrency: each connection in a task of its own, a few at once, each with a deadline.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from daemon.report import Report

if TYPE_CHECKING:
    import trio

log = logging.getLogger(__name__)

STATUS = b"status"
MOUNT = b"mount"
BUCKET = b"bucket"
_LINE_BYTES_MAX = 256
_ASK_TIMEOUT_S = 10.0
_SERVE_TIMEOUT_S = 5.0
_CONNECTIONS_MAX = 16


Talk = Callable[["trio.SocketStream"], Awaitable[None]]
"""What follows a word, to its end; it keeps its own deadlines."""


class NoDaemon(Exception):
    """Nobody listens on the socket, or not in time. The text is one sentence."""


def ask_status(path: Path) -> Report:
    """The report of the daemon behind `path`. Raises NoDaemon."""
    with asking(path, _ASK_TIMEOUT_S), connect(path, _ASK_TIMEOUT_S) as peer:
        peer.sendall(STATUS + b"\n")
        with peer.makefile("rb") as answer:
            return msgspec.json.decode(answer.read(), type=Report)


def connect(path: Path, timeout_s: float) -> socket.socket:
    """A connection to the daemon behind `path`. Raises OSError."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.settimeout(timeout_s)
        peer.connect(os.fspath(path))
    except OSError:
        peer.close()
        raise
    return peer


@contextmanager
def asking(path: Path, timeout_s: float) -> Iterator[None]:
    """What goes wrong with the connection while this is entered comes out as NoDaemon."""
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoDaemon(f"no daemon is running: nobody listens at {path}") from None
    except PermissionError:
        raise NoDaemon(f"the daemon at {path} does not let this user ask it") from None
    except TimeoutError:
        raise NoDaemon(f"the daemon at {path} gave no answer within {timeout_s:.0f} s") from None
    except (OSError, ValueError, RecursionError) as error:
        raise NoDaemon(f"the daemon at {path} can't be asked: {error}") from None


async def serve_control(
    path: Path, report: Callable[[], Report], talks: Mapping[bytes, Talk] | None = None
) -> None:
    """Answer on the socket at `path` until cancelled. Raises OSError when it can't be made.

    talks: by the words that begin them.

    The caller holds the lock of the state folder, so a socket that is there is a dead one's.
    """
    import trio  # Not at the top: `twofold status` imports this module and needs no loop.

    listener = _listen(path)
    limiter = trio.CapacityLimiter(_CONNECTIONS_MAX)

    async def answer(stream: trio.SocketStream) -> None:
        async with limiter:
            try:
                word = b""
                with trio.move_on_after(_SERVE_TIMEOUT_S):
                    word = await _receive_line(stream)
                    if word == STATUS:
                        await stream.send_all(msgspec.json.encode(report()) + b"\n")
                talk = (talks or {}).get(word)
                if talk is not None:
                    await talk(stream)
            except trio.BrokenResourceError:
                return  # The asker is gone; nobody is left to tell.
            except Exception:
                # A question must not take the store down with it.
                log.exception("the answer to %r could not be told", word)

    async def _receive_line(stream: trio.SocketStream) -> bytes:
        line = b""
        while b"\n" not in line and len(line) < _LINE_BYTES_MAX:
            piece = await stream.receive_some(_LINE_BYTES_MAX)
            if not piece:
                break
            line += piece
        return line.partition(b"\n")[0].strip()

    try:
        await trio.serve_listeners(
            answer, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
        )
    finally:
        listener.close()
        _remove(path)


def _listen(path: Path) -> socket.socket:
    _remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)  # Before listen: until then nobody can connect.
        listener.listen(_CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
