"""What `twofold drive`, `heal` and `scrub` say to the daemon over the control socket.

    asker                      daemon
    drive                 ->
                          <-   Ready
    Order                 ->
                          <-   Done

Each message is one line of JSON. The asking side is plain blocking sockets. What is asked for is
begun when the answer comes; how far it got is in the report of `twofold status`.
Concurrency: a task per asker, with a deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from daemon.control import NoDaemon, asking, connect
from daemon.report import size_text

if TYPE_CHECKING:
    import trio

    from daemon.services import OpenStore
    from store.drainplan import DrainPlan

DRIVE = b"drive"
_LINE_BYTES_MAX = 16384
_ANSWER_S = 90.0
_TALK_S = 120.0


class Ready(Struct, frozen=True):
    """The daemon listens."""


Verb = Literal[
    "add",
    "replace",
    "drain",
    "keep",
    "heal",
    "scrub",
    "pause",
    "even",
    "rewrite",
    "cancel",
    "rest",
]


class Order(Struct, frozen=True, kw_only=True):
    """drive: path or beginning of the id of a drive of the pool; path: of a folder, absolute.

    even, rewrite: rebalance members, or geometries; cancel, rest: give that up, or pause it.
    """

    verb: Verb
    drive: str = ""
    path: str = ""


class Done(Struct, frozen=True, kw_only=True):
    """error: one sentence without its end, "" if there was none. text: what comes of it."""

    error: str = ""
    text: str = ""


class OrderRefused(Exception):
    """The daemon refused. The text is one sentence."""


class DriveTalk:
    """The daemon's side. store: None while it is not up."""

    def __init__(self, store: Callable[[], OpenStore | None]) -> None:
        self._store = store

    async def talk(self, stream: trio.SocketStream) -> None:
        """Carry one order out."""
        import trio  # Not at the top: the asking side needs no loop.

        line = b""
        with trio.move_on_after(_TALK_S):
            await stream.send_all(msgspec.json.encode(Ready()) + b"\n")
            while b"\n" not in line and len(line) < _LINE_BYTES_MAX:
                piece = await stream.receive_some()
                if not piece:
                    return
                line += piece
            done = await self._carry_out(line)
            await stream.send_all(msgspec.json.encode(done) + b"\n")

    async def _carry_out(self, line: bytes) -> Done:
        from daemon.drives import DriveRefused
        from metadb.errors import MetadbError

        try:
            order = msgspec.json.decode(line, type=Order)
        except (ValueError, RecursionError):
            return Done(error="the daemon is of another version and does not know this order")
        store = self._store()
        if store is None:
            return Done(error="the store is not up: see twofold status")
        try:
            return Done(text=await _do(store, order))
        except (DriveRefused, MetadbError) as error:
            return Done(error=str(error))


async def _do(store: OpenStore, order: Order) -> str:
    """What comes of it, for people; "" where there is no more to say."""
    drives = store.drives
    match order.verb:
        case "add":
            await drives.add(Path(order.path))
        case "replace":
            await drives.replace(drives.find(order.drive), Path(order.path))
        case "drain":
            return _plan_text(await drives.drain(drives.find(order.drive)))
        case "keep":
            await drives.keep(drives.find(order.drive))
        case "heal":
            store.healer.wake()
        case "scrub":
            store.scrubber.start()
        case "pause":
            store.scrubber.pause()
        case "even":
            store.rebalancer.order("even")
        case "rewrite":
            store.rebalancer.order("geometry")
        case "cancel":
            store.rebalancer.order("")
        case "rest":
            store.rebalancer.pause()
    return ""


def _plan_text(plan: DrainPlan) -> str:
    parts = []
    if plan.moved_bytes:
        parts.append(f"{size_text(plan.moved_bytes)} are moved to other drives")
    if plan.rewritten_bytes:
        size = size_text(plan.rewritten_bytes)
        parts.append(f"{size} are rewritten as {plan.k} data + {plan.m} parity")
    if plan.m < plan.lost_before:
        drives = "drive" if plan.m == 1 else "drives"
        parts.append(f"{plan.m} {drives} may be lost from then on, not {plan.lost_before}")
    return "; ".join(parts)


def give_order(path: Path, order: Order) -> str:
    """Have the daemon behind the socket `path` do it; what comes of it, for people.

    Raises OrderRefused, NoDaemon.
    """
    with asking(path, _ANSWER_S), connect(path, _ANSWER_S) as peer:
        peer.sendall(DRIVE + b"\n")
        with peer.makefile("rb") as answers:
            msgspec.json.decode(_line(answers.readline()), type=Ready)
            peer.sendall(msgspec.json.encode(order) + b"\n")
            done = msgspec.json.decode(_line(answers.readline()), type=Done)
    if done.error:
        raise OrderRefused(done.error)
    return done.text


def _line(received: bytes) -> bytes:
    if not received.endswith(b"\n"):
        raise NoDaemon("the daemon broke off, or knows nothing of drives: see its log")
    return received
