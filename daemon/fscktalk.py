"""What `twofold fsck` and the daemon say to each other over the control socket.

    asker                      daemon
    fsck                  ->
                          <-   an empty line
    Wish                  ->
                          <-   an empty line now and then, while it looks
                          <-   Verdict (store.fsck)

Each message is one line of JSON.
Concurrency: one look at a time; it reads headers at the side of what clients do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from daemon.control import NoDaemon, asking, connect
from store.fsck import Finding, Verdict

if TYPE_CHECKING:
    import trio

    from daemon.services import OpenStore

FSCK = b"fsck"
_LINE_BYTES_MAX = 4096
_WISH_S = 10.0
_ALIVE_EVERY_S = 10.0
_ANSWER_S = 60.0
_HEAL_S = 120.0


class Wish(Struct, frozen=True, kw_only=True):
    """repair: mend what may be mended while the store serves, and have heal do the rest."""

    repair: bool = False


def settle(
    before: list[Finding], after: list[Finding], *, segments: int, fragments: int
) -> Verdict:
    """What came of two looks, one before repairs and one after."""
    left = set(after)
    repaired = [each for each in before if each not in left]
    return Verdict(repaired=repaired, left=after, segments=segments, fragments=fragments)


class FsckTalk:
    """The daemon's side. store: None while it is not up."""

    def __init__(self, store: Callable[[], OpenStore | None]) -> None:
        self._store = store
        self._looking = False

    async def talk(self, stream: trio.SocketStream) -> None:
        """Look, and tell."""
        import trio

        line = b""
        with trio.fail_after(_WISH_S):
            await stream.send_all(b"\n")
            while b"\n" not in line and len(line) < _LINE_BYTES_MAX:
                piece = await stream.receive_some()
                if not piece:
                    return
                line += piece
        wish = msgspec.json.decode(line, type=Wish)
        store = self._store()
        if store is None or self._looking:
            cause = "another fsck is under way" if store else "the store is not up"
            await stream.send_all(_line(Verdict(error=cause)))
            return
        self._looking = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stay_alive, stream)
                verdict = await look_while_serving(store, repair=wish.repair)
                nursery.cancel_scope.cancel()
            await stream.send_all(b"\n" + _line(verdict))
        finally:
            self._looking = False


async def look_while_serving(store: OpenStore, *, repair: bool) -> Verdict:
    """Look at a running store; with `repair` mend, have heal mend, and look again."""
    import trio

    from store import inspection

    def look() -> inspection.Inspection:
        return inspection.Inspection(store.engine, store.chunks.pool, live=store.chunks)

    first = look()
    found = await first.run()
    after = found
    if repair and found:
        await inspection.repair(store.engine, store.chunks.pool, serving=True)
        store.healer.hint(first.absent)
        with trio.move_on_after(_HEAL_S):
            await store.healer.finish()
        after = await look().run()
    return settle(found, after, segments=first.segment_count, fragments=first.fragment_count)


async def _stay_alive(stream: trio.SocketStream) -> None:
    import trio

    while True:
        await trio.sleep(_ALIVE_EVERY_S)
        await stream.send_all(b"\n")


def ask_fsck(path: Path, wish: Wish) -> Verdict:
    """Have the daemon behind the socket `path` look. Raises NoDaemon."""
    with asking(path, _ANSWER_S), connect(path, _ANSWER_S) as peer:
        peer.sendall(FSCK + b"\n")
        with peer.makefile("rb") as answers:
            if answers.readline() == b"\n":
                peer.sendall(msgspec.json.encode(wish) + b"\n")
            for line in answers:
                if line.strip():
                    return msgspec.json.decode(line, type=Verdict)
    raise NoDaemon("the daemon broke off, or knows nothing of fsck: see its log")


def _line(verdict: Verdict) -> bytes:
    return msgspec.json.encode(verdict) + b"\n"
