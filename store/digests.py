"""Digests of bytes on their way in, computed in threads ahead of whoever needs them.

`DigestLane` feeds pieces to a digest in order, while the next ones are received and written.
`RunningMd5` is the MD5 of a file that is written from front to back, as it is written (R5): small
pieces are hashed on the loop, larger ones in a lane (hashlib lets go of the GIL).

A lane's thread takes whatever waits, so a stream that comes faster than it is hashed costs no hop
between threads a piece. How far that may go is for whoever feeds it: see `room`.
Concurrency: one trio loop; one task feeds a lane at a time, one thread hashes for it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from weakref import WeakSet

import outcome
import trio

from store.chunks.threads import NoMemory
from store.chunks.types import Buffer

_ON_LOOP_BYTES = 64 << 10
_WAITING_BYTES_MAX = 8 << 20
# After so many bytes a thread makes way for the lane that has waited longest.
_TURN_BYTES = 8 << 20
EMPTY_MD5 = hashlib.md5(usedforsecurity=False).hexdigest()


class DigestThreads:
    """How many threads hash at once, and how far their lanes may fall behind.

    ahead_bytes: for each lane, between `least` and `most`, so that all together stay below
    `total`, but for the least of each.
    """

    __slots__ = ("_least", "_most", "_total", "lanes", "limiter")

    def __init__(
        self, count: int, *, least: int = 1 << 20, most: int = 4 << 20, total: int = 32 << 20
    ) -> None:
        self.limiter = trio.CapacityLimiter(count)
        # Those that live; one that nobody feeds any more is collected, whatever became of it.
        self.lanes: WeakSet[DigestLane] = WeakSet()
        self._least, self._most, self._total = least, most, total

    @property
    def ahead_bytes(self) -> int:
        return max(self._least, min(self._total // max(1, len(self.lanes)), self._most))


class DigestLane:
    """Feeds `update` in order. threads: shared with others, None for a thread of one's own."""

    __slots__ = (
        "__weakref__",
        "_error",
        "_fed",
        "_hashed",
        "_moved",
        "_running",
        "_threads",
        "_update",
        "_waiting",
        "_wanted",
    )

    def __init__(
        self, update: Callable[[Buffer], object], threads: DigestThreads | None = None
    ) -> None:
        self._update = update
        self._threads = threads
        self._waiting: deque[Buffer] = deque()
        self._fed = 0
        # The thread's: nobody else writes these two.
        self._hashed = 0
        self._error: BaseException | None = None
        self._running = False
        # Set by `room`: how far it waits to get, and what it waits on.
        self._wanted: int | None = None
        self._moved = trio.Event()
        if threads is not None:
            threads.lanes.add(self)

    @property
    def behind_bytes(self) -> int:
        """How much was fed and is not hashed yet. With 0, nobody touches the digest."""
        return self._fed - self._hashed

    def feed(self, piece: Buffer) -> None:
        """The next bytes; they must not change. Wait for `room` before the next ones."""
        self._waiting.append(piece)
        self._fed += len(piece)
        if not self._running:
            self._start_if_free()

    async def room(self, behind_max_bytes: int) -> None:
        """Wait until no more than that is fed and not hashed; 0: all is."""
        while self.behind_bytes > behind_max_bytes:
            if self._threads is not None and not self._running:
                await self._threads.limiter.acquire_on_behalf_of(self)
                self._start()
            self._moved = moved = trio.Event()
            # Half of it at once: who waits for each piece is woken for each.
            self._wanted = self._fed - behind_max_bytes // 2
            if self._hashed < self._wanted and self._running:
                await moved.wait()
            self._wanted = None
        if self._error is not None:
            raise self._error

    def _start_if_free(self) -> None:
        try:
            if self._threads is not None:
                self._threads.limiter.acquire_on_behalf_of_nowait(self)
        except trio.WouldBlock:
            return  # `room` waits for its turn.
        self._start()

    def _start(self) -> None:
        self._running = True
        token = trio.lowlevel.current_trio_token()

        def deliver(result: outcome.Outcome[None]) -> None:
            try:
                token.run_sync_soon(self._come_back, result)
            except trio.RunFinishedError:
                return  # The loop has ended: nobody asks for the digest any more.

        try:
            trio.lowlevel.start_thread_soon(lambda: self._hash(token), deliver)
        except (RuntimeError, MemoryError):  # threading's words for a thread that can't be made
            self._come_back(outcome.Error(NoMemory()))

    def _hash(self, token: trio.lowlevel.TrioToken) -> None:
        """In the thread: hash what waits, and what comes to wait meanwhile."""
        waiting, stop = self._waiting, self._hashed + _TURN_BYTES
        while self._hashed < stop:
            try:
                piece = waiting.popleft()
            except IndexError:
                return
            self._update(piece)
            self._hashed += len(piece)
            wanted = self._wanted
            if wanted is not None and self._hashed >= wanted:
                self._wanted = None
                try:
                    token.run_sync_soon(self._wake)
                except trio.RunFinishedError:
                    return

    def _wake(self) -> None:
        self._moved.set()

    def _come_back(self, result: outcome.Outcome[None]) -> None:
        self._running = False
        if self._threads is not None:
            self._threads.limiter.release_on_behalf_of(self)
        if isinstance(result, outcome.Error):
            # Whoever waits next is told; nothing more is hashed.
            self._error, self._hashed = result.error, self._fed
            self._waiting.clear()
        elif self._waiting:
            self._start_if_free()
        self._moved.set()


class RunningMd5:
    """MD5 of the `position` bytes fed so far."""

    __slots__ = ("_lane", "_md5", "position")

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._lane = DigestLane(self._md5.update)
        self.position = 0

    def feed(self, piece: Buffer) -> None:
        """The next bytes; they must not change. Wait for `room` before the next ones."""
        self.position += len(piece)
        if len(piece) < _ON_LOOP_BYTES and self.settled:
            self._md5.update(piece)
        else:
            self._lane.feed(piece)

    @property
    def settled(self) -> bool:
        """Whether `hexdigest` answers at once."""
        return self._lane.behind_bytes == 0

    @property
    def full(self) -> bool:
        """Whether `room` would wait."""
        return self._lane.behind_bytes > _WAITING_BYTES_MAX

    async def room(self) -> None:
        """Wait until few enough bytes are waiting."""
        await self._lane.room(_WAITING_BYTES_MAX)

    async def settle(self) -> None:
        """Wait until everything fed is hashed."""
        await self._lane.room(0)

    def hexdigest(self) -> str:
        """The digest of everything fed. Only when `settled`."""
        assert self.settled
        return self._md5.hexdigest()
