"""Whatever clients do, while drives are drained and kept and all is rewritten again and again.

TWOFOLD_FULL=1: many more steps.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio

from store import rewrite
from store.errors import NoSuchEntry
from store.files import Changes
from store.handles import Handle
from tests.store.posix import CALLER, box, joined
from tests.store.wholestore import WholeStore, open_whole

STEPS = 3000 if os.environ.get("TWOFOLD_FULL") else 150
KEYS = 8


class Clients:
    """Operations of both sides, and what has to come of them.

    files: open handles with what they show.
    """

    def __init__(self, store: WholeStore, seed: int) -> None:
        self.store = store
        self.noise = random.Random(seed)
        self.files: dict[str, tuple[Handle, bytearray]] = {}

    async def step(self) -> None:
        key = f"k{self.noise.randrange(KEYS)}"
        name = f"f{self.noise.randrange(4)}"
        does = [self.put, self.put, self.delete, self.copy, self.read]
        does += [self.write, self.write, self.write, self.cut, self.look, self.flush, self.close]
        do = self.noise.choice(does)
        file = do in (self.write, self.cut, self.look, self.flush, self.close)
        await do(name if file else key)

    async def put(self, key: str) -> None:
        await self.store.put(key, self.noise.randrange(17_000, 600_000))

    async def delete(self, key: str) -> None:
        await self.store.namespace.objects.delete("box", key)
        self.store.objects.pop(key, None)

    async def copy(self, key: str) -> None:
        if key in self.store.objects:
            to = f"k{self.noise.randrange(KEYS)}"
            objects = self.store.namespace.objects
            etag = objects.stat("box", key).etag
            await objects.copy(("box", key), ("box", to), None, source_etag=etag)
            self.store.objects[to] = self.store.objects[key]

    async def read(self, key: str) -> None:
        if key in self.store.objects:
            assert await self.store.get(key) == self.store.objects[key]

    def open(self, name: str) -> tuple[Handle, bytearray]:
        files = self.store.namespace.files
        if name not in self.files:
            try:
                inode = files.lookup(box(files), name.encode()).id
                handle = files.open(inode, os.O_RDWR)
            except NoSuchEntry:
                handle, _ = files.create(box(files), name.encode(), os.O_RDWR, 0o644, CALLER)
                self.store.objects.pop(name, None)
            self.files[name] = handle, bytearray(self.store.objects.get(name, b""))
        return self.files[name]

    async def write(self, name: str) -> None:
        handle, shown = self.open(name)
        start = self.noise.randrange(1_500_000)
        piece = self.noise.randbytes(self.noise.choice([500, 30_000, 700_000, 2_500_000]))
        await handle.write(start, piece)
        shown.extend(bytes(max(0, start + len(piece) - len(shown))))
        shown[start : start + len(piece)] = piece

    async def cut(self, name: str) -> None:
        handle, shown = self.open(name)
        size = self.noise.randrange(len(shown) + 1000)
        await self.store.namespace.files.change(handle.inode, Changes(size=size))
        shown.extend(bytes(max(0, size - len(shown))))
        del shown[size:]

    async def look(self, name: str) -> None:
        handle, shown = self.open(name)
        start = self.noise.randrange(len(shown) + 1)
        found = joined(await handle.read(start, 300_000))
        assert found == bytes(shown[start : start + 300_000]), name

    async def flush(self, name: str) -> None:
        handle, shown = self.open(name)
        await handle.flush()
        self.store.objects[name] = bytes(shown)

    async def close(self, name: str) -> None:
        if name not in self.files:
            return
        handle, shown = self.files[name]
        files = self.store.namespace.files
        gone = self.noise.random() < 0.3
        if gone:
            files.unlink(box(files), name.encode())
            self.store.objects.pop(name, None)
            assert joined(await handle.read(0, len(shown) + 1)) == bytes(shown)
        del self.files[name]
        await handle.release()
        if not gone:
            self.store.objects[name] = bytes(shown)


async def turn_over(store: WholeStore, noise: random.Random) -> None:
    """Drain a drive and keep it again, rewriting everything both times, for ever."""
    while True:
        drive = noise.choice(store.drives)
        await store.drain(store.drives.index(drive))
        with trio.move_on_after(noise.choice([0.1, 0.5, 3.0])):
            await store.left(drive)
        store.chunks.keep(drive)
        await store.healer.drain(drive, draining=False)
        store.rebalancer.order("geometry")
        await trio.sleep(noise.random())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_that_clients_do_gets_lost_or_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(rewrite, "_BATCH_COPIES", 3)
    monkeypatch.setattr(rewrite, "_PAGE_ROWS", 4)
    monkeypatch.setattr(rewrite, "_SWITCHED_AT_ONCE", 2)
    async with open_whole(tmp_path, 4, segment_bytes=4 << 20) as store:
        clients = Clients(store, seed)
        async with store.watched(), trio.open_nursery() as nursery:
            nursery.start_soon(turn_over, store, random.Random(seed))
            for _ in range(STEPS):
                await clients.step()
                await trio.sleep(clients.noise.choice([0, 0, 0.01]))
            nursery.cancel_scope.cancel()
        for name in list(clients.files):
            await clients.close(name)
        for drive in store.drives:
            store.chunks.keep(drive)
        store.rebalancer.order("geometry")
        await store.settled()
        assert store.geometries() == {(2, 2)}
        assert sum(each.rewritten_bytes for each in store.rebalancer.report().history) > 0
        await store.check()
        await store.scrub()
