"""A whole store on real folders, as the daemon opens it, with every fault at hand.

The store runs in a trio thread of its own, since Hypothesis drives from outside of any loop. It is
put together by `daemon.services.opened_store`, so heal, scrub and the taking back of drives run
beside what is asked of it; only sizes and waits are small (`patched`).

A crash is the end of the process as far as the drives can tell: from one moment on no system call
changes a drive any more, no barrier succeeds, and what SQLite has not committed is gone. With
`power` the machine was started anew, too.

The budget says which faults are survivable, so that the right answer is always known: of the
members of each segment, and of each damaged stripe, no more than its m are impaired at once, and
one whole copy of the metadata stands on a sound drive. What is impaired stays so until `mend`.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import outcome
import pytest
import trio
import trio.testing

import daemon.drives
import daemon.rejoin
import daemon.services
import metadb.sqlite
import metadb.upgrade
import metadb.upkeep
import store.chunks.placement
import store.chunks.segment
import store.drafts
import store.heal
import store.rebuild
import store.reclaim
import store.scrub
import store.uploads
from daemon.events import History
from daemon.services import OpenStore
from daemon.settings import (
    HealSettings,
    MetadataSettings,
    PoolSettings,
    Settings,
    StateSettings,
)
from metadb import content as content_rows
from metadb.errors import PrimaryLost
from metadb.journal import Journal
from metadb.mirror import DATABASE, LOG
from store.access.sealed import Keyring, MasterKey, Secret
from store.chunks.config import ChunkConfig
from store.chunks.drive import Drive
from store.chunks.drive_io import Handle, Probe
from store.chunks.geometry import HEADER_BYTES, windows
from store.chunks.label import format_drives
from store.chunks.pool import Pool, open_drives
from store.chunks.types import DriveId, DriveState, Segment, SegmentId
from store.inspection import Inspection, all_segments, named_runs
from store.scrub import ScrubRecord
from tests.store.bench import away, empty
from tests.store.chunks.rig import FaultyIO

T = TypeVar("T")
Damage = tuple[SegmentId, int]
"""A stripe: its segment, and where its record begins in each member."""

KEYS = Keyring(keys=(MasterKey(id=bytes(8), key=Secret(bytes(32))),))
DRIVE_BYTES = 1 << 30
STRIPE_BYTES = 64 << 10
SEGMENT_BYTES = 3 << 20
HELD_BYTES = 100_000
_CALL_S = 120.0
WHOLE_S = 60.0


class Ended(Exception):
    """The store's life ended while it was asked: by a crash, or because its primary was lost."""


@dataclass(frozen=True)
class Geometry:
    """A pool: so many drives with so much parity."""

    drives: int
    parity: int

    def __str__(self) -> str:
        return f"{self.drives}-drives-m{self.parity}"


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """One shard of one stripe on its drive (by number). missing: its row knows that it isn't."""

    path: Path
    offset: int
    size_bytes: int
    stripe: Damage
    drive: int
    missing: bool


@dataclass
class World:
    """What outlives the store: its drives and what is wrong with them, by the drive's number."""

    geometry: Geometry
    paths: list[Path]
    boots: int = 0
    dead: bool = False
    journal: Journal = field(default_factory=Journal)
    gone: set[int] = field(default_factory=set)
    full: set[int] = field(default_factory=set)
    impaired: set[int] = field(default_factory=set)
    damaged: dict[Damage, set[int]] = field(default_factory=dict)
    failing: dict[int, tuple[str, int]] = field(default_factory=dict)

    def number(self, path: Path) -> int:
        return self.paths.index(path)


class WorldIO(FaultyIO):
    """System calls that fail as the world has it. `world` is set by `patched`."""

    world: World

    def _meet(self, call: str) -> None:
        if self.world.dead and call not in ("probe", "read", "read_nowait"):
            raise OSError(errno.EIO, "the process is dead")
        number = self.world.number(self.path)
        wanted = self.world.failing.get(number)
        if wanted is not None and wanted[0] == call:
            del self.world.failing[number]
            raise OSError(wanted[1], os.strerror(wanted[1]))
        super()._meet(call)

    def probe(self) -> Probe:
        seen = super().probe()
        free = 0 if self.world.number(self.path) in self.world.full else DRIVE_BYTES // 2
        return Probe(
            label=seen.label,
            attached=seen.attached,
            device=seen.device,
            read_only=seen.read_only,
            total_bytes=DRIVE_BYTES,
            free_bytes=free,
        )

    def finish_segment(self, segment: SegmentId) -> None:
        self._meet("rename")
        super().finish_segment(segment)

    def unlink_segment(self, segment: SegmentId, *, draft: bool = False) -> None:
        self._meet("unlink")
        super().unlink_segment(segment, draft=draft)

    def truncate(self, handle: Handle, size: int) -> None:
        self._meet("truncate")
        super().truncate(handle, size)


@contextlib.contextmanager
def patched(world: World) -> Iterator[None]:
    """Everything small and quick, and this world's drives, for the length of the context."""
    io = type("ThisWorldIO", (WorldIO,), {"world": world})

    def open_ours(paths: tuple[str, ...], **_: object) -> Pool:
        return open_drives(paths, io=io)

    def configure(settings: Settings) -> ChunkConfig:
        return ChunkConfig(
            stripe_bytes=settings.pool.stripe_bytes,
            segment_bytes=settings.pool.segment_bytes,
            naming_grace_s=0.0,
            probe_interval_s=3600.0,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon.services, "open_drives", open_ours)
        patch.setattr(daemon.services, "_chunk_config", configure)
        for module in (metadb.sqlite, metadb.upgrade):
            patch.setattr(module, "boot_id", lambda: f"boot-{world.boots}")
        for module, name, value in (
            (daemon.rejoin, "_LOOK_EVERY_S", 0.02),
            (daemon.rejoin, "_AGAIN_AFTER_S", 0.1),
            (metadb.upkeep, "_VERIFY_PAUSE_S", 0.0),
            (store.chunks.placement, "_SMALLEST_SEGMENT_BYTES", 1 << 20),
            (store.chunks.segment, "_MAX_STEP_BYTES", 1 << 20),
            (store.drafts, "HELD_BYTES_MAX", HELD_BYTES),
            (store.heal, "_AGAIN_AFTER_S", 0.05),
            (store.heal, "_GATHER_S", 0.0),
            (store.rebuild, "_LEFT_S", 0.05),
            (store.rebuild, "_READERS_POLL_S", 0.005),
            (store.scrub, "_AGAIN_AFTER_S", 0.05),
            (store.scrub, "_LOOK_EVERY_S", 0.02),
            (store.uploads, "PART_BYTES_MIN", 0),
        ):
            assert hasattr(module, name), (module, name)
            patch.setattr(module, name, value)
        yield


class Life:
    """A running store on a thread of its own, from its start to its end."""

    def __init__(self, world: World, *, wait_s: float) -> None:
        self.world = world
        self.store: OpenStore
        self.failure: BaseException | None = None
        started: SimpleQueue[BaseException | None] = SimpleQueue()
        settings = Settings(
            pool=PoolSettings(
                drives=tuple(str(path) for path in world.paths),
                stripe_bytes=STRIPE_BYTES,
                segment_bytes=SEGMENT_BYTES,
            ),
            metadata=MetadataSettings(flush_interval_s=3600.0),
            heal=HealSettings(wait_s=wait_s),
            state=StateSettings(folder=str(world.paths[0].parent)),
        )
        self._thread = threading.Thread(target=self._run, args=(settings, started))
        self._thread.start()
        failure = started.get()
        if failure is not None:
            self._thread.join()
            raise failure

    def _run(self, settings: Settings, started: SimpleQueue[BaseException | None]) -> None:
        async def main() -> None:
            history = History(Path(settings.state.folder))
            journal = self.world.journal
            opening = daemon.services.opened_store(settings, KEYS, history, journal)
            async with opening as opened:
                self.store = opened
                self._token = trio.lowlevel.current_trio_token()
                self._ended = trio.Event()
                if not opened.namespace.buckets.page():
                    await opened.namespace.buckets.create("box", "owner")
                async with trio.open_nursery() as self._calls:
                    started.put(None)
                    await self._ended.wait()
                    self._calls.cancel_scope.cancel()

        try:
            trio.run(main)
        except BaseException as failure:
            self.failure = failure
            started.put(failure)

    def do(self, call: Callable[[OpenStore], Awaitable[T]], *, crash_after: int | None = None) -> T:
        """What `call` returns. crash_after: kill the process so many turns of the loop later.

        Raises Ended when the life ended before the call did.
        """

        results: SimpleQueue[outcome.Outcome[T]] = SimpleQueue()

        async def run() -> None:
            try:
                with trio.fail_after(_CALL_S):
                    results.put(outcome.Value(await call(self.store)))
            except trio.Cancelled:
                results.put(outcome.Error(Ended()))
                raise
            except BaseException as error:
                results.put(outcome.Error(error))

        def start() -> None:
            self._calls.start_soon(run)
            if crash_after is not None:
                self._calls.start_soon(self._crash_in, crash_after)

        try:
            trio.from_thread.run_sync(start, trio_token=self._token)
            answer = self._wait(results).unwrap()
        except Exception as error:
            if self.is_over():
                raise Ended from error
            raise
        if self.world.dead:
            raise Ended  # Nobody hears what a dead process answers.
        return answer

    def _wait(self, results: SimpleQueue[outcome.Outcome[T]]) -> outcome.Outcome[T]:
        while True:
            try:
                return results.get(timeout=1.0)
            except Empty:
                if not self._thread.is_alive():
                    raise Ended from None

    async def _crash_in(self, turns: int) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        self._kill()

    def _kill(self) -> None:
        self.world.dead = True
        self.store.engine._flusher.lose(PrimaryLost("killed"))

    def is_over(self) -> bool:
        if not self._thread.is_alive():
            return True
        return self.store.engine._flusher.lost is not None

    def crash(self) -> None:
        """End as `kill -9` does."""
        with contextlib.suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self._kill, trio_token=self._token)
        self.join()

    def stop(self) -> None:
        """End in order."""
        with contextlib.suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self._ended.set, trio_token=self._token)
        self.join()

    def join(self) -> None:
        """Wait for the end; raises what ended it, unless that is a crash or a lost primary."""
        self._thread.join(_CALL_S)
        assert not self._thread.is_alive(), "the store does not end"
        failure, self.failure = self.failure, None
        self.__dict__.pop("store", None)
        gc.collect()
        if failure is not None and not self.world.dead and not _is_lost(failure):
            raise failure
        if self.world.dead:
            # Another process has nothing of this one's memory.
            self.world.journal = Journal()
        self.world.dead = False


def _is_lost(failure: BaseException) -> bool:
    """Whether the daemon would go on, on a copy: it does for PrimaryLost and what falls with it."""
    if isinstance(failure, BaseExceptionGroup):
        lost, rest = failure.split(PrimaryLost)
        return lost is not None and isinstance(rest, ExceptionGroup | None)
    return isinstance(failure, PrimaryLost)


class Rig:
    """A store with its faults. Methods are for Hypothesis' thread."""

    def __init__(self, folder: Path, geometry: Geometry, template: Path | None) -> None:
        """template: what a store that was just made looks like in `folder`; None to make one."""
        self.world = World(geometry, [folder / f"d{i}" for i in range(geometry.drives)])
        if folder.exists():
            shutil.rmtree(folder)
        if template is None:
            folder.mkdir()
            format_drives(self.world.paths, geometry.parity)
        else:
            shutil.copytree(template, folder)
        self._patches = contextlib.ExitStack()
        self._patches.enter_context(patched(self.world))
        self.life = Life(self.world, wait_s=3600.0)

    def close(self) -> None:
        try:
            self.life.stop()
        finally:
            self._patches.close()

    def do(self, call: Callable[[OpenStore], Awaitable[T]], *, crash_after: int | None = None) -> T:
        return self.life.do(call, crash_after=crash_after)

    # -- lives -------------------------------------------------------------------------

    def reopen(self, *, wait_s: float = 3600.0) -> None:
        """A new life after one that ended; primaries that turn out lost are passed over."""
        for _ in range(1 + len(self.world.paths)):
            try:
                self.life = Life(self.world, wait_s=wait_s)
            except BaseException as failure:
                if not _is_lost(failure):
                    raise
            else:
                return
        raise AssertionError("every primary was lost")

    def boot(self) -> None:
        self.world.boots += 1

    # -- the budget --------------------------------------------------------------------

    def may_impair(self, *numbers: int) -> bool:
        """Whether these drives may become impaired with all that is already."""
        return self.do(lambda store: self._survives(store, self.world.impaired | {*numbers}, {}))

    async def _survives(
        self, opened: OpenStore, impaired: set[int], more: dict[Damage, set[int]]
    ) -> bool:
        world, pool = self.world, opened.chunks.pool
        if len(impaired) > world.geometry.parity:
            return False
        ids = [drive.id for drive in pool.drives]
        holders = {opened.engine.primary_drive, *opened.engine.copy_drives}
        if holders <= {ids[number] for number in impaired}:
            return False
        segments = {each.id: each for each in self._segments(opened)}
        for segment in segments.values():
            if len(_on(segment, impaired, ids)) > segment.m:
                return False
        for stripe in {*world.damaged, *more}:
            held = segments.get(stripe[0])
            if held is not None:
                lost = _on(held, impaired, ids)
                lost |= world.damaged.get(stripe, set()) | more.get(stripe, set())
                if len(lost) > held.m:
                    return False
        return True

    def _segments(self, opened: OpenStore) -> list[Segment]:
        """Those of rows, and those that are being written to (their rows may be to come)."""
        found = {segment.id: segment for segment in opened.chunks.members.segments()}
        found |= {segment.id: segment for segment in all_segments(opened.engine)}
        return list(found.values())

    # -- faults ------------------------------------------------------------------------

    def take_away(self, number: int) -> None:
        """The drive is gone, with all that is on it."""
        path = self.world.paths[number]
        path.rename(away(path))
        self.world.gone.add(number)
        self.world.impaired.add(number)

    def bring_back(self, number: int) -> None:
        away(self.world.paths[number]).rename(self.world.paths[number])
        self.world.gone.discard(number)

    def empty(self, number: int) -> None:
        empty(self.world.paths[number])
        self.world.impaired.add(number)

    def fragments(self) -> list[Fragment]:
        """All that rows name on drives that are there."""

        async def look(opened: OpenStore) -> list[Fragment]:
            numbers = {drive.id: i for i, drive in enumerate(opened.chunks.pool.drives)}
            found: list[Fragment] = []
            for segment in all_segments(opened.engine):
                for run in named_runs(opened.engine, segment.id):
                    for window in windows(segment, run, 0, run.size):
                        for shard, member in enumerate(segment.members):
                            if member in numbers and numbers[member] not in self.world.gone:
                                fragment = Fragment(
                                    path=self.member_path(numbers[member], segment.id),
                                    offset=window.offset,
                                    size_bytes=HEADER_BYTES + window.shard,
                                    stripe=(segment.id, window.offset),
                                    drive=numbers[member],
                                    missing=bool(run.missing >> shard & 1),
                                )
                                found.append(fragment)
            return found

        return self.do(look)

    def member_path(self, number: int, segment: SegmentId) -> Path:
        digits = f"{segment:09x}"
        folder = self.world.paths[number] / "twofold" / "segments" / digits[-2:]
        return folder / f"{digits}.seg"

    def flip(self, fragment: Fragment, bit: int) -> bool:
        """Invert a bit of a fragment, if that can be survived; whether it was done."""
        more = {fragment.stripe: {fragment.drive}}
        if not self.do(lambda opened: self._survives(opened, self.world.impaired, more)):
            return False
        self.world.damaged.setdefault(fragment.stripe, set()).add(fragment.drive)
        if not fragment.path.exists():
            return False  # An impaired drive has yet to get it.
        flip_bit(fragment.path, fragment.offset * 8 + bit % (fragment.size_bytes * 8))
        return True

    def copies(self) -> list[tuple[int, Path]]:
        """The files of whole copies of the metadata that are no primary, with their drives."""

        async def look(opened: OpenStore) -> list[tuple[int, Path]]:
            drives = opened.chunks.pool.drives
            return [
                (i, drive.io.meta_path / name)
                for i, drive in enumerate(drives)
                if drive.id in opened.engine.copy_drives
                for name in (DATABASE, LOG)
            ]

        return [found for found in self.do(look) if found[1].exists()]

    def primary(self) -> int:
        """The number of the primary's drive."""

        async def look(opened: OpenStore) -> int:
            ids = [drive.id for drive in opened.chunks.pool.drives]
            return ids.index(DriveId(opened.engine.primary_drive))

        return self.do(look)

    # -- the store's own steps ---------------------------------------------------------

    async def _probe(self, opened: OpenStore) -> None:
        pool = opened.chunks.pool
        for drive in pool.drives:
            await drive.check(pool.epoch)

    def probe(self) -> None:
        """Have the store look at all of its drives now."""
        self.do(self._probe)

    def placeable(self) -> tuple[int, int]:
        """How many drives take new segments, and how many would if they weren't full."""

        async def look(opened: OpenStore) -> tuple[int, int]:
            drives = opened.chunks.pool.drives
            full = sum(drive.state is DriveState.FULL for drive in drives)
            return sum(drive.placeable for drive in drives), full

        return self.do(look)

    async def reclaim(self, opened: OpenStore) -> None:
        """Until nothing is left to be given back."""
        state = opened.namespace._state
        while opened.engine.read(content_rows.freed_runs, 0, 1):
            await store.reclaim._one_round(state)

    def is_fenced(self) -> bool:
        async def look(opened: OpenStore) -> bool:
            return any(d.state is DriveState.FENCED for d in opened.chunks.pool.drives)

        return self.do(look)

    def mend(self) -> None:
        """Everything is brought back, and the store makes itself whole: nothing is impaired then.

        Fails when it doesn't within a minute, or when anything is found wrong afterwards.
        """
        for number in sorted(self.world.gone):
            self.bring_back(number)
        self.world.failing.clear()
        self.world.full.clear()
        self.do(self._become_whole)
        self.world.impaired.clear()
        self.world.damaged.clear()

    async def _become_whole(self, opened: OpenStore) -> None:
        pool = opened.chunks.pool
        await self._probe(opened)
        with trio.fail_after(WHOLE_S):
            while not self._all_there(opened):
                await trio.sleep(0.01)
                await self._probe(opened)
            await opened.healer.finish()
            await opened.engine._upkeep.verify()
            await opened.scrubber.finish()
            await opened.healer.finish()
            while not self._all_there(opened):  # noqa: ASYNC110 (copies are built in threads)
                await trio.sleep(0.01)
            await self.reclaim(opened)
            record = await opened.scrubber.finish()
        assert (record.damaged, record.lost_stripes, record.violations) == (0, 0, 0), record
        report = opened.healer.report()
        assert (report.state, report.suspects) == ("idle", []), report
        assert all(
            run.missing == 0
            for segment in all_segments(opened.engine)
            for run in named_runs(opened.engine, segment.id)
        )
        findings = await Inspection(opened.engine, pool, live=opened.chunks).run()
        assert findings == [], findings

    def _all_there(self, opened: OpenStore) -> bool:
        drives = opened.chunks.pool.drives
        copies = 1 + len(opened.engine.copy_drives)
        wanted = daemon.drives.copies_wanted(opened.chunks.pool)
        return copies >= wanted and all(_is_well(drive) for drive in drives)

    def scrub(self) -> ScrubRecord:
        return self.do(lambda opened: opened.scrubber.finish())


def _is_well(drive: Drive) -> bool:
    return drive.state is DriveState.ONLINE and not drive.stale


def _on(segment: Segment, impaired: set[int], ids: list[DriveId]) -> set[int]:
    """The members of a segment on impaired drives, and those on no drive at all (below -1)."""
    lost = {number for number in impaired if ids[number] in segment.members}
    return lost | {-1 - i for i, member in enumerate(segment.members) if member not in ids}


def flip_bit(path: Path, bit: int) -> None:
    """Invert one bit of a file."""
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, bit // 8)
        if byte:
            os.pwrite(file.fileno(), bytes([byte[0] ^ 1 << bit % 8]), bit // 8)
