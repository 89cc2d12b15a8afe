"""What `twofold user`, `group`, `role`, `key`, `policy` and `provider` say to the daemon.

    asker                      daemon
    identity              ->
                          <-   Ready
    Question              ->
                          <-   Answer

Each message is one line of JSON on the control socket, which only the daemon's user can open: an
answer may hold a secret that was made just now. The asking side is plain blocking sockets.
Concurrency: a task per asker, with a deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from daemon.control import NoDaemon, asking, connect

if TYPE_CHECKING:
    import trio

IDENTITY = b"identity"
LINE_BYTES_MAX = 8 << 20
_ANSWER_S = 60.0
_TALK_S = 120.0


class Ready(Struct, frozen=True):
    """The daemon listens."""


class Question(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to do. what: user, group, role, key, policy or provider. account: "" for the root's.

    name: of what it is done to. other: what is attached, joined or asked for; the rest as the
    command of that name takes it.
    """

    what: str
    verb: str
    account: str = ""
    name: str = ""
    other: str = ""
    resource: str = ""
    document: str = ""
    description: str = ""
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    context: tuple[tuple[str, str], ...] = ()
    expires_s: int | None = None
    duration_s: int = 3600
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    forced: bool = False


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A table, then lines of text. error: one sentence without its end, "" if there was none.

    failed: it was answered, and the answer is no (a simulation that ends in a denial).
    """

    error: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()
    failed: bool = False


class IdentityRefused(Exception):
    """The daemon refused. The text is one sentence."""


class IdentityTalk:
    """The daemon's side."""

    def __init__(self, answer: Callable[[Question], Awaitable[Answer]]) -> None:
        self._answer = answer

    async def talk(self, stream: trio.SocketStream) -> None:
        """Answer one question."""
        import trio  # Not at the top: the asking side needs no loop.

        line = bytearray()
        with trio.move_on_after(_TALK_S):
            await stream.send_all(msgspec.json.encode(Ready()) + b"\n")
            while b"\n" not in line and len(line) < LINE_BYTES_MAX:
                piece = await stream.receive_some()
                if not piece:
                    return
                line += piece
            try:
                question = msgspec.json.decode(bytes(line), type=Question)
            except msgspec.MsgspecError:
                answer = Answer(error="the daemon is of another version")
            else:
                answer = await self._answer(question)
            await stream.send_all(msgspec.json.encode(answer) + b"\n")


def ask_identity(path: Path, question: Question) -> Answer:
    """What the daemon behind the socket `path` says. Raises IdentityRefused, NoDaemon."""
    with asking(path, _ANSWER_S), connect(path, _ANSWER_S) as peer:
        peer.sendall(IDENTITY + b"\n")
        with peer.makefile("rb") as answers:
            msgspec.json.decode(_line(answers.readline()), type=Ready)
            peer.sendall(msgspec.json.encode(question) + b"\n")
            answer = msgspec.json.decode(_line(answers.readline()), type=Answer)
    if answer.error:
        raise IdentityRefused(answer.error)
    return answer


def _line(received: bytes) -> bytes:
    if not received.endswith(b"\n"):
        raise NoDaemon("the daemon broke off, or knows nothing of identities: see its log")
    return received
