"""`RunningMd5`: the MD5 of a file that is written from front to back, as it is written (R5).

Small pieces are hashed on the loop; larger ones in a thread beside the writing of their stripes
(hashlib lets go of the GIL), one at a time and in order, with a bounded number of bytes waiting.
Concurrency: one trio loop; one task feeds at a time.
"""

from __future__ import annotations

import hashlib

import outcome
import trio

from store.chunks.types import Buffer

_ON_LOOP_BYTES = 64 << 10
_WAITING_BYTES_MAX = 8 << 20
EMPTY_MD5 = hashlib.md5(usedforsecurity=False).hexdigest()


class RunningMd5:
    """MD5 of the `position` bytes fed so far."""

    __slots__ = ("_done", "_md5", "_waiting", "_waiting_bytes", "position")

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._waiting: list[Buffer] = []
        self._waiting_bytes = 0
        # Set while a thread hashes; fires whenever it comes back.
        self._done: trio.Event | None = None
        self.position = 0

    def feed(self, piece: Buffer) -> None:
        """The next bytes; they must not change. Wait for `room` before the next ones."""
        self.position += len(piece)
        if self._done is None and len(piece) < _ON_LOOP_BYTES:
            self._md5.update(piece)
            return
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._done is None:
            self._start()

    @property
    def settled(self) -> bool:
        """Whether `hexdigest` answers at once."""
        return self._done is None

    @property
    def full(self) -> bool:
        """Whether `room` would wait."""
        return self._waiting_bytes > _WAITING_BYTES_MAX

    async def room(self) -> None:
        """Wait until few enough bytes are waiting."""
        while self._done is not None and self.full:
            await self._done.wait()

    async def settle(self) -> None:
        """Wait until everything fed is hashed."""
        while self._done is not None:
            await self._done.wait()

    def hexdigest(self) -> str:
        """The digest of everything fed. Only when `settled`."""
        assert self._done is None
        return self._md5.hexdigest()

    def _start(self) -> None:
        self._done = trio.Event()
        pieces, self._waiting = self._waiting, []
        token = trio.lowlevel.current_trio_token()
        size = sum(map(len, pieces))

        def hash_in_thread() -> None:
            for piece in pieces:
                self._md5.update(piece)

        def deliver(result: outcome.Outcome[None]) -> None:
            try:
                token.run_sync_soon(self._come_back, size, result)
            except trio.RunFinishedError:
                return  # The loop has ended: nobody asks for the digest any more.

        trio.lowlevel.start_thread_soon(hash_in_thread, deliver)

    def _come_back(self, size: int, result: outcome.Outcome[None]) -> None:
        done, self._done = self._done, None
        assert done is not None
        self._waiting_bytes -= size
        if self._waiting:
            self._start()
        done.set()
        result.unwrap()
