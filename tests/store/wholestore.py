"""A whole store without faces: namespace, real drives, heal and rebalance.

The metadata stands in a folder of its own, so that any drive may be taken away or drained.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path

import trio

from metadb import content, relocation
from metadb.check import find_violations
from metadb.sqlite import CopyPlace, MetadbConfig, SqliteEngine, open_engine
from store.chunks.drive import Drive
from store.chunks.fragment import identity, verify_blocks, verify_header
from store.chunks.geometry import HEADER_BYTES, windows
from store.chunks.types import Run, RunId, SegmentId, segment_of
from store.heal import HealConfig, Healer
from store.namespace import Namespace
from store.rebalance import Rebalancer
from store.scrub import Scrubber, ScrubConfig
from store.state import StoreConfig
from store.types import ObjectMeta
from tests.store.bodies import BytesBody, join
from tests.store.chunks.rig import Rig, open_rig

KIB = 1 << 10
MIB = 1 << 20


class WholeStore:
    """A running store. objects: what each key of the bucket `box` holds."""

    def __init__(
        self, rig: Rig, engine: SqliteEngine, namespace: Namespace, healer: Healer
    ) -> None:
        self.rig = rig
        self.chunks = rig.chunks
        self.engine = engine
        self.namespace = namespace
        self.healer = healer
        self.rebalancer = Rebalancer(namespace.state, rig.chunks, healer)
        self.objects: dict[str, bytes] = {}

    @property
    def drives(self) -> tuple[Drive, ...]:
        return self.chunks.pool.drives

    async def put(self, key: str, size: int) -> None:
        """An object of noise."""
        body = random.Random(key).randbytes(size)
        await self.namespace.objects.put("box", key, BytesBody(body), ObjectMeta())
        self.objects[key] = body

    async def fill(self, count: int = 6, size: int = 700_000) -> None:
        for number in range(count):
            await self.put(f"k{number}", size + number * 50_000)

    async def get(self, key: str, version: str | None = None) -> bytes:
        with closing(self.namespace.objects.open("box", key, version)) as reader:
            parts = []
            async with aclosing(reader.stream(0, reader.stat.size)) as found:  # type: ignore[type-var]
                async for buffers in found:
                    parts.append(join(buffers))
            return b"".join(parts)

    async def check(self) -> None:
        """Every byte reads right, and no row breaks an invariant."""
        for key, body in self.objects.items():
            assert await self.get(key) == body, key
        assert await find_violations(self.engine) == []

    async def drain(self, *numbers: int) -> None:
        for number in numbers:
            await self.healer.drain(self.drives[number])
        self.rebalancer.wake()

    async def settled(self, within_s: float = 60.0) -> None:
        """Until neither heal nor rebalance has anything to do."""
        with trio.fail_after(within_s):
            await self.healer.finish()
            await self.rebalancer.finish()

    async def left(self, drive: Drive, within_s: float = 60.0) -> None:
        """Until the drive holds no member."""
        with trio.fail_after(within_s):
            while self.chunks.holds_members(drive):  # noqa: ASYNC110
                await trio.sleep(0.01)

    async def scrub(self) -> None:
        """A pass finds every fragment there, and no bytes that nothing names."""
        readers = self.namespace.readers
        config = ScrubConfig(first_after_s=0)
        scrubber = Scrubber(self.engine, self.chunks, readers, self.healer, config)
        async with trio.open_nursery() as nursery:
            await nursery.start(scrubber.run)
            with trio.fail_after(60):
                record = await scrubber.finish()
            nursery.cancel_scope.cancel()
        assert (record.damaged, record.lost_stripes, record.violations) == (0, 0, 0)

    # -- redundancy --------------------------------------------------------------------

    def named(self) -> list[Run]:
        """All runs as the rows say."""
        rows = self.engine.read(content.runs_page, 0, 1_000_000)
        return [Run(id=RunId(row[0]), size=row[1], missing=row[2]) for row in rows]

    def geometries(self) -> set[tuple[int, int]]:
        """(k, m) of all segments with a run."""
        found = {segment_of(run.id) for run in self.named()}
        return {(s.k, s.m) for s in map(self.chunks.segment, found)}

    def sharing(self) -> dict[int, int]:
        """How many extents name each run."""
        held = self.engine.read(relocation.holdings, 0, -1, 1_000_000)
        return {each.run: each.refs for each in held}

    def assert_whole(self) -> None:
        """Every fragment of every named run stands on its drive and verifies. At this moment."""
        folders = {drive.id: drive.io.path for drive in self.drives}
        for run in self.named():
            segment = self.chunks.segment(SegmentId(run.id >> 28))
            assert len(set(segment.members)) == segment.k + segment.m, segment
            assert not run.missing, run
            digits = f"{segment.id:09x}"
            for shard, member in enumerate(segment.members):
                path = folders[member] / "twofold" / "segments" / digits[-2:] / f"{digits}.seg"
                with path.open("rb") as file:
                    for window in windows(segment, run, 0, run.size):
                        file.seek(window.offset)
                        header = file.read(HEADER_BYTES)
                        body = file.read(window.shard)
                        known = identity(
                            bytes.fromhex(self.chunks.pool.store),
                            segment,
                            run.id,
                            window.index,
                            shard,
                            payload=window.payload,
                            size=window.shard,
                        )
                        table = verify_header(header, known)
                        assert table is not None, (path, window)
                        assert verify_blocks(table, 0, body), (path, window)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Redundancy is looked at again and again meanwhile, and at the end."""

        async def watch() -> None:
            while True:
                began_s = trio.current_time()
                self.assert_whole()
                await trio.sleep(0.02 + 3 * (trio.current_time() - began_s))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            yield
            nursery.cancel_scope.cancel()
        self.assert_whole()


@asynccontextmanager
async def open_whole(
    folder: Path,
    drives: int = 4,
    parity: int | None = None,
    *,
    fresh: bool = True,
    balances: bool = True,
    **config: object,
) -> AsyncIterator[WholeStore]:
    """A store with a bucket `box` on fresh folders; with `fresh=False` on an earlier one's."""
    meta = CopyPlace(drive="meta", path=folder / "meta")
    settings = {"stripe_bytes": 256 * KIB, **config}
    async with (
        open_rig(folder, drives, parity, fresh=fresh, **settings) as rig,
        open_engine([meta], config=MetadbConfig(copies=1), on_eject=_never, create=fresh) as engine,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(lambda task_status: engine.run(task_status=task_status))
        namespace = Namespace(engine, rig.chunks, "store-id", StoreConfig(reclaim_interval_s=0.01))
        await nursery.start(lambda task_status: namespace.run(task_status=task_status))
        if not namespace.buckets.page():
            await namespace.buckets.create("box", "owner")
        healer = Healer(engine, rig.chunks, namespace.readers, HealConfig(wait_s=3600.0))
        await nursery.start(healer.run)
        store = WholeStore(rig, engine, namespace, healer)
        if balances:
            await nursery.start(store.rebalancer.run)
        yield store
        nursery.cancel_scope.cancel()


async def _never(drive: str) -> None:
    raise AssertionError(f"copy on {drive} was ejected")
