"""What `twofold undelete` and the daemon say to each other over the control socket.

    asker                      daemon
    undelete              ->
                          <-   Ready
    Question              ->
                          <-   Answer
    Question              ->   ... until the asker hangs up

Each message is one line of JSON. The asking side is plain blocking sockets.
Concurrency: a task per asker, with a deadline for each question; a batch is restored a few at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from daemon.control import NoDaemon, asking, connect
from store.errors import EntryExists, NoSuchBucket, NoSuchVersion, StoreError

if TYPE_CHECKING:
    import trio

    from store.trash import Trash

UNDELETE = b"undelete"
LINE_BYTES_MAX = 4 << 20
PAGE = 500
"""So many keys of 1,024 bytes, as JSON may have to write them, fit in a line."""

_AT_ONCE = 16
_ANSWER_S = 60.0


class Ready(Struct, frozen=True):
    """The daemon listens."""


class Question(Struct, frozen=True, kw_only=True):
    """list: a page of what can be had back below `prefix`, behind the key `after`.

    restore: have `keys` back as they were deleted; with `version` the one key, at that version.
    """

    verb: Literal["list", "restore"]
    bucket: str
    prefix: str = ""
    after: str = ""
    keys: tuple[str, ...] = ()
    version: str | None = None


class LostReport(Struct, frozen=True, kw_only=True):
    """One version that can be had back, as `store.trash.Lost`."""

    key: str
    version: str
    size_bytes: int
    stored_ns: int
    gone_ns: int
    deleted: bool


class Answer(Struct, frozen=True, kw_only=True):
    """error: one sentence without its end, "" if there was none. next: what to go on after.

    refusals: (key, why) of those that could not be restored.
    """

    error: str = ""
    lost: tuple[LostReport, ...] = ()
    next: str | None = None
    refusals: tuple[tuple[str, str], ...] = ()


class UndeleteTalk:
    """The daemon's side. trash: that of the store, None while it is not up."""

    def __init__(self, trash: Callable[[], Trash | None]) -> None:
        self._trash = trash

    async def talk(self, stream: trio.SocketStream) -> None:
        """Answer until the asker hangs up, or is silent for long."""
        import trio  # Not at the top: the asking side needs no loop.

        received = bytearray()
        await stream.send_all(msgspec.json.encode(Ready()) + b"\n")
        while len(received) <= LINE_BYTES_MAX:
            piece = b""
            with trio.move_on_after(_ANSWER_S):
                piece = await stream.receive_some()
            if not piece:
                return
            received += piece
            line, newline, rest = received.partition(b"\n")
            if newline:
                received = rest
                answer = await self._answer(bytes(line))
                await stream.send_all(msgspec.json.encode(answer) + b"\n")

    async def _answer(self, line: bytes) -> Answer:
        try:
            question = msgspec.json.decode(line, type=Question)
        except (ValueError, RecursionError):
            return Answer(error="the daemon is of another version and does not know this question")
        trash = self._trash()
        if trash is None:
            return Answer(error="the store is not up: see twofold status")
        try:
            if question.verb == "list":
                return await _page(trash, question)
            return await _restore(trash, question)
        except NoSuchBucket:
            return Answer(error=f"there is no bucket {question.bucket}")


async def _page(trash: Trash, question: Question) -> Answer:
    lost, after = await trash.lost(question.bucket, question.prefix, question.after, PAGE)
    reports = (
        LostReport(
            key=each.key,
            version=each.version_id,
            size_bytes=each.size,
            stored_ns=each.stored_ns,
            gone_ns=each.gone_ns,
            deleted=each.deleted,
        )
        for each in lost
    )
    return Answer(lost=tuple(reports), next=after)


async def _restore(trash: Trash, question: Question) -> Answer:
    import trio

    limiter = trio.CapacityLimiter(_AT_ONCE)
    refusals: dict[str, str] = {}

    async def restore(key: str) -> None:
        async with limiter:
            try:
                await trash.restore(question.bucket, key, question.version)
            except EntryExists:
                refusals[key] = "it is there; with --version an older content comes back"
            except NoSuchVersion:
                refusals[key] = "there is nothing to be had back"
            except StoreError as error:
                refusals[key] = str(error)

    trash.check(question.bucket)
    async with trio.open_nursery() as nursery:
        for key in question.keys[:PAGE]:
            nursery.start_soon(restore, key)
    return Answer(refusals=tuple(sorted(refusals.items())))


class UndeleteError(Exception):
    """The daemon refused. The text is one sentence."""


Ask = Callable[[Question], Answer]


@contextmanager
def talking(path: Path) -> Iterator[Ask]:
    """Gives the function to ask the daemon behind `path` with, which raises UndeleteError.

    Raises NoDaemon.
    """
    with asking(path, _ANSWER_S), connect(path, _ANSWER_S) as peer:
        peer.sendall(UNDELETE + b"\n")
        with peer.makefile("rb") as answers:

            def ask(question: Question) -> Answer:
                peer.sendall(msgspec.json.encode(question) + b"\n")
                answer = msgspec.json.decode(_line(answers.readline()), type=Answer)
                if answer.error:
                    raise UndeleteError(answer.error)
                return answer

            msgspec.json.decode(_line(answers.readline()), type=Ready)
            yield ask


def _line(received: bytes) -> bytes:
    if not received.endswith(b"\n"):
        raise NoDaemon("the daemon broke off, or knows nothing of undelete: see its log")
    return received
