"""What the mount program and the daemon say to each other over the control socket.

    asker                      daemon
    mount                 ->
                          <-   Terms        who holds the turn now, until the asker hangs up
    Handover + descriptor ->                only where the terms name no root
                          <-   Outcome

Each message is one line of JSON; the descriptor of /dev/fuse travels with its line (SCM_RIGHTS).
The asking side is plain blocking sockets, the daemon's is `daemon.mounting`.
Source: unix(7), cmsg(3).
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from daemon.control import MOUNT, NoDaemon, asking, connect

LINE_BYTES_MAX = 16384
ANSWER_S = 60.0
"""How long the asker waits: others may have their turn first, and the store may be starting."""


class Terms(Struct, frozen=True, kw_only=True):
    """What the daemon offers, or why it doesn't (error, one sentence without its end).

    root, device: where all of the store is mounted already, "" where it is not and the asker
    has to hand a descriptor over. allow_other, owners: of the session that is there; else what
    the configuration says, to be overruled. read_only, readahead_bytes, background_max: likewise.
    """

    error: str = ""
    root: str = ""
    device: str = ""
    allow_other: bool = False
    read_only: bool = False
    owners: tuple[str, ...] = ()
    readahead_bytes: int = 0
    background_max: int = 1


class Handover(Struct, frozen=True, kw_only=True):
    """A session for the daemon to serve: where it is mounted, and how."""

    root: str
    device: str
    allow_other: bool
    owners: tuple[str, ...]


class Outcome(Struct, frozen=True, kw_only=True):
    """error: "" when the session is served."""

    error: str = ""


Message = TypeVar("Message", Terms, Outcome)


class MountTalk:
    """The asker's turn with the daemon at the control socket `path`. All of it raises NoDaemon."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with asking(path, ANSWER_S):
            self._peer = connect(path, ANSWER_S)

    def ask(self) -> Terms:
        """Begin; waits for the turn."""
        with asking(self._path, ANSWER_S):
            self._peer.sendall(MOUNT + b"\n")
            return self._receive(Terms)

    def hand_over(self, handover: Handover, descriptor: int) -> Outcome:
        """Have the daemon serve what was mounted with `descriptor`, which stays open here."""
        with asking(self._path, ANSWER_S):
            socket.send_fds(self._peer, [msgspec.json.encode(handover) + b"\n"], [descriptor])
            return self._receive(Outcome)

    def close(self) -> None:
        """End the turn."""
        self._peer.close()

    def _receive(self, kind: type[Message]) -> Message:
        line = b""
        while not line.endswith(b"\n"):
            piece = self._peer.recv(LINE_BYTES_MAX)
            if not piece:
                raise NoDaemon(f"the daemon at {self._path} hung up: see its log")
            line += piece
        return msgspec.json.decode(line, type=kind)
