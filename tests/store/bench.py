"""Drives, metadata and heal together, without names: runs are named by rows and nothing else.

The metadata stands in a folder of its own, so that any drive may be taken away.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing

from metadb import content, segments
from metadb.sqlite import CopyPlace, MetadbConfig, SqliteEngine, open_engine
from store import reclaim
from store.chunks.geometry import HEADER_BYTES, windows
from store.chunks.types import DriveState, Owner, Run, RunId, Segment, SegmentId, segment_of
from store.heal import HealConfig, Healer
from store.state import State
from store.writing import note_runs
from tests.store.chunks.rig import Rig, open_rig, pattern

MIB = 1 << 20


class Bench:
    """A running pool with heal. contents: seed and size of every named run, in order."""

    def __init__(self, rig: Rig, engine: SqliteEngine, state: State, healer: Healer) -> None:
        self.rig = rig
        self.chunks = rig.chunks
        self.engine = engine
        self.state = state
        self.healer = healer
        self.contents: dict[RunId, tuple[int, int, int]] = {}
        """Of each run: seed and size of the body it is part of, and where it starts in it."""

    async def put(self, seed: int, size: int, *, named: bool = True) -> list[Run]:
        """A body of noise; its runs."""
        appender = self.chunks.appender(Owner(inode=seed), size)
        await appender.append(pattern(size, seed))
        runs = list(await appender.finish(durable=True))
        if named:
            await self.name(seed, size, runs)
        return runs

    async def name(self, seed: int, size: int, runs: list[Run]) -> None:
        """Have rows name the runs."""
        self.engine.transact(note_runs, self.state, runs)
        await self.engine.barrier()
        start = 0
        for run in runs:
            self.contents[run.id] = (seed, size, start)
            start += run.size

    async def forget(self, runs: list[Run]) -> None:
        """Free the runs, as the last extent that goes does."""
        self.engine.transact(content.free_unnamed, [run.id for run in runs])
        for run in runs:
            del self.contents[run.id]

    async def reclaim(self) -> None:
        """One round of it."""
        while await reclaim._one_round(self.state):
            pass

    def named(self) -> list[Run]:
        """All runs as the rows say."""
        rows = self.engine.read(segments.runs_between, 0, 1 << 62, 1_000_000)
        return [Run(id=RunId(row[0]), size=row[1], missing=row[2]) for row in rows]

    async def check(self) -> None:
        """Every byte reads right."""
        runs = self.named()
        assert {run.id for run in runs} == set(self.contents)
        for run in runs:
            seed, size, start = self.contents[run.id]
            read = b"".join(await self.chunks.read(run, 0, run.size))
            assert read == pattern(size, seed)[start : start + run.size], run

    async def heal(self, within_s: float = 60.0) -> None:
        """Until nothing is left to be healed."""
        with trio.fail_after(within_s):
            await self.healer.finish()

    async def probe(self) -> None:
        """Look at all drives, and take those back that are behind, as the daemon does."""
        await self.rig.probe()
        await trio.testing.wait_all_tasks_blocked(0.01)
        for drive in self.chunks.pool.drives:
            if drive.stale and drive.state is DriveState.READ_ONLY:
                await self.healer.suspect([drive.id])
                await self.chunks.pool.rejoin(drive)

    def take_away(self, *numbers: int) -> None:
        for number in numbers:
            self.rig.paths[number].rename(away(self.rig.paths[number]))

    def bring_back(self, *numbers: int) -> None:
        for number in numbers:
            away(self.rig.paths[number]).rename(self.rig.paths[number])

    def segment(self, run: Run) -> Segment:
        return self.chunks.segment(segment_of(run.id))

    def rows(self) -> dict[SegmentId, tuple[str, ...]]:
        """The members of all segments as the rows say."""
        rows = self.engine.read(content.segments)
        return {SegmentId(row.id): tuple(row.members.split()) for row in rows}

    def fragments(self) -> list[tuple[Path, int, int]]:
        """Of every fragment of every named run: file, offset, size."""
        found = []
        for run in self.named():
            segment = self.segment(run)
            for path in self.rig.members(run):
                for window in windows(segment, run, 0, run.size):
                    found.append((path, window.offset, HEADER_BYTES + window.shard))
        return found


def away(path: Path) -> Path:
    """Where a drive's folder is while it is away."""
    return path.with_name(path.name + ".away")


def empty(path: Path) -> None:
    """Take everything out of a drive's folder."""
    shutil.rmtree(path)
    path.mkdir()


@asynccontextmanager
async def open_bench(
    folder: Path,
    drives: int = 4,
    parity: int | None = None,
    *,
    fresh: bool = True,
    heals: bool = True,
    wait_s: float = 0.0,
    allow_missing: int | None = None,
    contents: dict[RunId, tuple[int, int, int]] | None = None,
    **config: object,
) -> AsyncIterator[Bench]:
    """A bench on fresh folders; with `fresh=False` on those of an earlier one."""
    meta = CopyPlace(drive="meta", path=folder / "meta")
    async with (
        open_rig(folder, drives, parity, fresh=fresh, allow_missing=allow_missing, **config) as rig,
        open_engine([meta], config=MetadbConfig(copies=1), on_eject=_never, create=fresh) as engine,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(lambda task_status: engine.run(task_status=task_status))
        state = State(engine=engine, chunks=rig.chunks)
        await reclaim.adopt(state)
        if any(drive.label is None for drive in rig.chunks.pool.drives):
            await rig.chunks.pool.raise_epoch()
        healer = Healer(engine, rig.chunks, state.readers, HealConfig(wait_s=wait_s))
        bench = Bench(rig, engine, state, healer)
        bench.contents = {} if contents is None else contents
        if heals:
            await nursery.start(healer.run)
        yield bench
        nursery.cancel_scope.cancel()


async def _never(drive: str) -> None:
    raise AssertionError(f"copy on {drive} was ejected")
