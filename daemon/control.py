"""The control socket: how commands on this machine ask the running daemon.

A Unix stream socket of mode 0600. The client sends one line, `status`, and reads one JSON
document to the end of the stream. The asking side is plain blocking sockets, so that a command
is quick to start.
Concurrency: each connection in a task of its own, a few at once, each with a deadline.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from daemon.report import Report

log = logging.getLogger(__name__)

STATUS = b"status"
_LINE_BYTES_MAX = 256
_ASK_TIMEOUT_S = 10.0
_SERVE_TIMEOUT_S = 5.0
_CONNECTIONS_MAX = 16


class NoDaemon(Exception):
    """Nobody listens on the socket, or not in time. The text is one sentence."""


def ask_status(path: Path) -> Report:
    """The report of the daemon behind `path`. Raises NoDaemon."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(_ASK_TIMEOUT_S)
            peer.connect(os.fspath(path))
            peer.sendall(STATUS + b"\n")
            with peer.makefile("rb") as answer:
                return msgspec.json.decode(answer.read(), type=Report)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoDaemon(f"no daemon is running: nobody listens at {path}") from None
    except PermissionError:
        raise NoDaemon(f"the daemon at {path} does not let this user ask it") from None
    except TimeoutError:
        raise NoDaemon(
            f"the daemon at {path} gave no answer within {_ASK_TIMEOUT_S:.0f} s"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise NoDaemon(f"the daemon at {path} can't be asked: {error}") from None


async def serve_control(path: Path, report: Callable[[], Report]) -> None:
    """Answer on the socket at `path` until cancelled. Raises OSError when it can't be made.

    The caller holds the lock of the state folder, so a socket that is there is a dead one's.
    """
    import trio  # Not at the top: `twofold status` imports this module and needs no loop.

    listener = _listen(path)
    limiter = trio.CapacityLimiter(_CONNECTIONS_MAX)

    async def answer(stream: trio.SocketStream) -> None:
        async with limiter:
            with trio.move_on_after(_SERVE_TIMEOUT_S):
                try:
                    if await _receive_line(stream) == STATUS:
                        await stream.send_all(msgspec.json.encode(report()) + b"\n")
                except trio.BrokenResourceError:
                    return  # The asker is gone; nobody is left to tell.
                except Exception:
                    # A question must not take the store down with it.
                    log.exception("the status could not be told")

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
