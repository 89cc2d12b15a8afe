"""What `twofold bucket` and the daemon say to each other over the control socket.

    asker                      daemon
    bucket                ->
                          <-   Ready
    Question              ->
                          <-   Answer
    Question              ->   ... until the asker hangs up

Each message is one line of JSON. The asking side is plain blocking sockets.
Concurrency: a task per asker, with a deadline for the whole talk; answers are of their moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from daemon.control import BUCKET, NoDaemon, asking, connect
from store.errors import NoSuchBucket, StoreError

if TYPE_CHECKING:
    import trio

    from store.buckets import Buckets
    from store.types import Bucket

LINE_BYTES_MAX = 1 << 20
PAGE = 500
"""So many buckets of 63 letters, with all that is told of them, fit in a line."""

_ANSWER_S = 30.0
_TALK_S = 120.0


class Ready(Struct, frozen=True):
    """The daemon listens."""


class Question(Struct, frozen=True, kw_only=True):
    """list: a page of the buckets behind `bucket`. show: one bucket. quota: set it, None for none.

    trash: set its days, None for none. All are answered with how the buckets are then.
    """

    verb: Literal["list", "show", "quota", "trash"]
    bucket: str = ""
    quota_bytes: int | None = None
    trash_days: int | None = None


class BucketReport(Struct, frozen=True, kw_only=True):
    """One bucket. inodes: files, directories and versions that it holds.

    owner: the account's name, or its id where the configuration has it no more.
    """

    name: str
    owner: str
    created: str
    versioning: str
    object_lock: bool
    used_bytes: int
    inodes: int
    quota_bytes: int | None
    trash_days: int | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """error: one sentence without its end, "" if there was none."""

    error: str = ""
    buckets: tuple[BucketReport, ...] = ()


class BucketTalk:
    """The daemon's side. buckets: those of the store, None while it is not up.

    owners: names of accounts by what a bucket keeps as its owner.
    """

    def __init__(self, buckets: Callable[[], Buckets | None], owners: Mapping[str, str]) -> None:
        self._buckets = buckets
        self._owners = owners

    async def talk(self, stream: trio.SocketStream) -> None:
        """Answer until the asker hangs up."""
        import trio  # Not at the top: the asking side needs no loop.

        received = bytearray()
        with trio.move_on_after(_TALK_S):
            await stream.send_all(msgspec.json.encode(Ready()) + b"\n")
            while len(received) <= LINE_BYTES_MAX:
                line, newline, rest = received.partition(b"\n")
                if newline:
                    received = rest
                    answer = await self._answer(bytes(line))
                    await stream.send_all(msgspec.json.encode(answer) + b"\n")
                    continue
                piece = await stream.receive_some()
                if not piece:
                    return
                received += piece

    async def _answer(self, line: bytes) -> Answer:
        try:
            question = msgspec.json.decode(line, type=Question)
        except (ValueError, RecursionError):
            return Answer(error="the daemon is of another version and does not know this question")
        buckets = self._buckets()
        if buckets is None:
            return Answer(error="the store is not up: see twofold status")
        try:
            if question.verb == "list":
                found = buckets.page(question.bucket, PAGE)
                return Answer(buckets=tuple(self._report(buckets, each) for each in found))
            if question.verb == "quota":
                await buckets.set_quota(question.bucket, question.quota_bytes)
            if question.verb == "trash":
                await buckets.set_trash(question.bucket, question.trash_days)
            return Answer(buckets=(self._report(buckets, buckets.get(question.bucket)),))
        except NoSuchBucket:
            return Answer(error=f"there is no bucket {question.bucket}")
        except StoreError as error:
            return Answer(error=str(error))

    def _report(self, buckets: Buckets, bucket: Bucket) -> BucketReport:
        usage = buckets.usage(bucket.name)
        created_s = bucket.created_ns // 1_000_000_000
        return BucketReport(
            name=bucket.name,
            owner=self._owners.get(bucket.owner, bucket.owner),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created_s)),
            versioning=bucket.versioning,
            object_lock=bucket.lock,
            used_bytes=usage.bytes,
            inodes=usage.inodes,
            quota_bytes=bucket.quota_bytes,
            trash_days=bucket.trash_days,
        )


class BucketError(Exception):
    """The daemon refused. The text is one sentence."""


Ask = Callable[[Question], tuple[BucketReport, ...]]


@contextmanager
def talking(path: Path) -> Iterator[Ask]:
    """Gives the function to ask the daemon behind `path` with, which raises BucketError.

    Raises NoDaemon.
    """
    with asking(path, _ANSWER_S), connect(path, _ANSWER_S) as peer:
        peer.sendall(BUCKET + b"\n")
        with peer.makefile("rb") as answers:

            def ask(question: Question) -> tuple[BucketReport, ...]:
                peer.sendall(msgspec.json.encode(question) + b"\n")
                answer = msgspec.json.decode(_line(answers.readline()), type=Answer)
                if answer.error:
                    raise BucketError(answer.error)
                return answer.buckets

            msgspec.json.decode(_line(answers.readline()), type=Ready)
            yield ask


def _line(received: bytes) -> bytes:
    if not received.endswith(b"\n"):
        raise NoDaemon("the daemon broke off, or knows nothing of buckets: see its log")
    return received
