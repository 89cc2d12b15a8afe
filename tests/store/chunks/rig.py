"""Pools of real folders, a drive that misbehaves on demand, and the two chunk stores.

Concurrency: each test gets its own folders and its own service task.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import trio

from store.chunks.config import ChunkConfig
from store.chunks.drive_io import DriveIO, Handle, Probe
from store.chunks.events import ChunkEvent
from store.chunks.label import Label, format_drives
from store.chunks.local import LocalChunks
from store.chunks.pool import open_drives
from store.chunks.types import Buffer, ChunkStore, Owner, Run, SegmentId


class FaultyIO(DriveIO):
    """A `DriveIO` whose calls fail or hang as told.

    faults: error by name of the call; raised each time, or once when it is in `once`.
    hanging: names of calls that wait until `let_go` is set (which the fixture does at the end).
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.faults: dict[str, OSError] = {}
        self.once: set[str] = set()
        self.hanging: set[str] = set()
        self.let_go = threading.Event()
        self.calls: dict[str, int] = {}

    def fail(self, call: str, code: int, *, once: bool = False) -> None:
        self.faults[call] = OSError(code, os.strerror(code))
        if once:
            self.once.add(call)

    def _meet(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1
        if call in self.hanging:
            self.let_go.wait()
        error = self.faults.get(call)
        if error is not None:
            if call in self.once:
                del self.faults[call]
            raise error

    def probe(self) -> Probe:
        self._meet("probe")
        return super().probe()

    def write_label(self, label: Label) -> None:
        self._meet("write_label")
        super().write_label(label)

    def try_write(self) -> None:
        self._meet("try_write")
        super().try_write()

    def create_segment(self, segment: SegmentId, size: int, *, draft: bool = False) -> Handle:
        self._meet("create")
        return super().create_segment(segment, size, draft=draft)

    def write(self, handle: Handle, buffers: Sequence[Buffer], offset: int) -> None:
        self._meet("write")
        super().write(handle, buffers, offset)

    def read(self, handle: Handle, buffers: Sequence[Buffer], offset: int) -> int:
        self._meet("read")
        return super().read(handle, buffers, offset)

    def read_nowait(self, handle: Handle, buffers: Sequence[Buffer], offset: int) -> int:
        self._meet("read_nowait")
        return super().read_nowait(handle, buffers, offset)

    def flush(self, handle: Handle) -> None:
        self._meet("flush")
        super().flush(handle)

    def punch(self, handle: Handle, offset: int, size: int) -> None:
        self._meet("punch")
        super().punch(handle, offset, size)


class Rig:
    """A running `LocalChunks` and what a test needs around it."""

    def __init__(self, chunks: LocalChunks, paths: list[Path], events: list[ChunkEvent]) -> None:
        self.chunks = chunks
        self.paths = paths
        self.events = events

    def io(self, index: int) -> FaultyIO:
        """The system calls of the drive given as number `index`."""
        io = self.chunks.pool.drives[index].io
        assert isinstance(io, FaultyIO)
        return io

    async def probe(self) -> None:
        """Look at all drives now instead of within a second."""
        for drive in self.chunks.pool.drives:
            await drive.check(self.chunks.pool.epoch)

    def members(self, run: Run) -> list[Path]:
        """The member files of the run's segment, in shard order."""
        segment = self.chunks.segment(SegmentId(run.id >> 28))
        folders = {drive.id: drive.io.path for drive in self.chunks.pool.drives}
        digits = f"{segment.id:09x}"
        return [
            folders[member] / "twofold" / "segments" / digits[-2:] / f"{digits}.seg"
            for member in segment.members
        ]


QUIET = {
    "probe_interval_s": 3600.0,
    "naming_grace_s": 0.0,
    "io_deadline_s": 20.0,
    "flush_deadline_s": 20.0,
}
"""Settings under which nothing happens by itself while a test runs."""

OpenRig = Callable[..., AbstractAsyncContextManager[Rig]]


@asynccontextmanager
async def open_rig(
    folder: Path,
    drives: int = 4,
    parity: int | None = None,
    *,
    fresh: bool = True,
    allow_missing: int | None = None,
    **config: object,
) -> AsyncIterator[Rig]:
    """A running store on fresh folders; with `fresh=False` on those of an earlier one."""
    paths = [folder / f"drive{i}" for i in range(drives)]
    if fresh:
        format_drives(paths, parity)
    pool = open_drives(paths, io=FaultyIO, allow_missing=allow_missing)
    events: list[ChunkEvent] = []
    chunks = LocalChunks(
        pool,
        ChunkConfig(**{**QUIET, **config}),  # type: ignore[arg-type]
        events.append,
    )
    opened = Rig(chunks, paths, events)
    try:
        async with trio.open_nursery() as service:
            await service.start(chunks.run)
            yield opened
            service.cancel_scope.cancel()
    finally:
        for drive in pool.drives:
            assert isinstance(drive.io, FaultyIO)
            drive.io.let_go.set()
        pool.close()


def pattern(size: int, seed: int = 1) -> bytes:
    """Random bytes, the same each time."""
    return random.Random(seed).randbytes(size)


async def put(
    chunks: ChunkStore,
    body: bytes,
    *,
    durable: bool = True,
    hint: int | None = None,
    piece: int = 100_000,
) -> tuple[Run, ...]:
    """Append `body` in pieces."""
    appender = chunks.appender(Owner(inode=7), hint)
    for start in range(0, len(body), piece):
        await appender.append(memoryview(body)[start : start + piece])
    return await appender.finish(durable=durable)


async def get(chunks: ChunkStore, runs: Sequence[Run]) -> bytes:
    """All bytes of the runs, read the slow way."""
    return b"".join([piece for run in runs for piece in await chunks.read(run, 0, run.size)])


EIO, EROFS, ENOSPC = errno.EIO, errno.EROFS, errno.ENOSPC
