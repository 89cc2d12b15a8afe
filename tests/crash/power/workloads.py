"""Short workloads, and the program that does one of them while it is recorded.

    python -m tests.crash.power.workloads NAME FOLDER DRIVES [LAPSE]

FOLDER holds the drives d0, d1, ...; LAPSE: a sync to leave out (tests.crash.power.lapses).
After each step the whole store is looked at, and what is seen is noted in the log of the recorder:
with `kept`, when all of it was promised to outlive a power cut, else as a moment on the way
there. Where several things are done at once, `kept` has the names that were promised.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from daemon.services import OpenStore
from metadb.records import ROOT, InodeId
from store.files import Caller, Changes
from store.types import Doomed, ObjectMeta, PartClaim
from tests.crash.power.lapses import LAPSES
from tests.crash.power.opening import SPARE, opened
from tests.crash.power.world import World, observe
from tests.store.bodies import BytesBody

CALLER = Caller(uid=1000, gid=100)
BOX = "box"
SMALL, SHORT, LONG = 300, 5_000, 200_000
"""In the database; one stripe; two stripes."""


def drives_in(folder: Path, count: int) -> list[Path]:
    """Where the drives stand."""
    return [folder / f"d{number}" for number in range(count)]


class Scene:
    """An open store that is looked at after each step."""

    def __init__(self, store: OpenStore) -> None:
        self.store = store
        self.namespace = store.namespace
        self.files = store.namespace.files
        self._note = ctypes.CDLL(None).recorder_note
        self._seed = 0

    async def note(self, what: str, *, kept: bool | Sequence[str] = True) -> None:
        """Look, and write down what is seen. kept: True for everything, or these entries."""
        self.write(what, await observe(self.namespace), kept=kept)

    def write(self, what: str, world: World, *, kept: bool | Sequence[str]) -> None:
        text = json.dumps({"what": what, "kept": kept, "world": world}).encode()
        self._note(text, ctypes.c_size_t(len(text)))

    def body(self, size: int) -> bytes:
        """Bytes like no others."""
        self._seed += 1
        return random.Random(self._seed).randbytes(size)

    async def put(self, key: str, size: int, **meta: str) -> None:
        """PutObject, not noted."""
        about = ObjectMeta(user=meta)
        await self.namespace.objects.put(BOX, key, BytesBody(self.body(size)), about)

    def directory(self, path: str) -> InodeId:
        """The inode of a path."""
        number = ROOT
        for part in path.strip("/").split("/"):
            number = self.files.lookup(number, part.encode()).id
        return number

    async def write_file(self, path: str, content: bytes, *, sync: bool, offset: int = 0) -> None:
        """open(O_CREAT), pwrite, fsync where asked, close; each noted as a moment."""
        folder, _, name = path.rpartition("/")
        handle, _ = self.files.create(
            self.directory(folder), name.encode(), 0o644, os.O_RDWR, CALLER
        )
        await self.note(f"created {path}", kept=False)
        await handle.write(offset, content)
        await self.note(f"wrote {path}", kept=False)
        if sync:
            await handle.fsync(datasync=False)
            await self.note(f"synced {path}")
        await handle.flush()
        await handle.release()
        await self.note(f"closed {path}", kept=False)

    async def sync_directory(self, path: str) -> None:
        await self.files.fsync_directory(self.directory(path))
        await self.note(f"synced the directory {path}")


async def objects(scene: Scene) -> None:
    """PUT in the database and on drives, overwritten, copied, deleted; the space given back."""
    target = scene.namespace.objects
    await scene.put("a", SMALL, colour="blue")
    await scene.note("put a")
    await scene.put("dir/b", SHORT)
    await scene.note("put dir/b")
    await scene.put("c", LONG)
    await scene.note("put c")
    await scene.put("dir/b", SHORT + 1)
    await scene.note("put dir/b again")
    await scene.put("c", SMALL)
    await scene.note("put c again")
    stat = target.stat(BOX, "dir/b")
    await target.copy((BOX, "dir/b"), (BOX, "copy"), None, source_etag=stat.etag)
    await scene.note("copied dir/b")
    await target.delete(BOX, "dir/b")
    await scene.note("deleted dir/b")
    await _reclaimed(scene)
    await target.delete_many(BOX, [Doomed(key="copy"), Doomed(key="a")])
    await scene.note("deleted two")
    await _reclaimed(scene)
    await scene.put("last", SHORT)
    await scene.note("put last")


async def versions(scene: Scene) -> None:
    """A versioned bucket: new versions, markers, a version deleted for good, a rename."""
    target = scene.namespace.objects
    await scene.put("v", SHORT)
    await scene.note("put v")
    await scene.namespace.buckets.set_versioning(BOX, "enabled")
    await scene.note("versioning")
    await scene.put("v", SMALL)
    await scene.note("put v again")
    first = await target.delete(BOX, "v")
    await scene.note("deleted v")
    await scene.put("v", SHORT)
    await scene.note("put v a third time")
    await target.rename(BOX, "v", "w")
    await scene.note("renamed v")
    await target.delete(BOX, "v", version=first.version_id)
    await scene.note("deleted the marker")
    await target.delete(BOX, "v", version="null")
    await scene.note("deleted the null version")
    await _reclaimed(scene)


async def uploads(scene: Scene) -> None:
    """Multipart: parts, one replaced, completed; another aborted; a bucket made and removed."""
    target = scene.namespace.uploads
    upload = await target.create(BOX, "m", ObjectMeta())
    await scene.note("began m")
    claims: list[PartClaim] = []
    for number, size in ((1, SHORT), (2, SHORT), (1, SHORT + 7), (3, SMALL)):
        part = await target.put_part(BOX, "m", upload, number, BytesBody(scene.body(size)))
        await scene.note(f"part {number}")
        claims = [c for c in claims if c.number != number]
        claims.append(PartClaim(number=number, etag=part.etag, checksums={}))
    await target.complete(BOX, "m", upload, sorted(claims, key=lambda claim: claim.number))
    await scene.note("completed m")
    other = await target.create(BOX, "n", ObjectMeta())
    await scene.note("began n")
    await target.put_part(BOX, "n", other, 1, BytesBody(scene.body(SHORT)))
    await scene.note("part of n")
    await target.abort(BOX, "n", other)
    await scene.note("aborted n")
    await _reclaimed(scene)
    await scene.namespace.buckets.create("other", "owner")
    await scene.note("made a bucket")
    await scene.namespace.buckets.delete("other")
    await scene.note("removed a bucket")


async def files(scene: Scene) -> None:
    """What programs do on the mount: write and fsync, rename over, truncate, append, unlink."""
    mount = scene.files
    box = scene.directory(BOX)
    mount.mkdir(box, b"docs", 0o755, CALLER)
    await scene.note("mkdir", kept=False)
    await scene.write_file(f"{BOX}/docs/a", scene.body(SHORT), sync=True)
    await scene.sync_directory(f"{BOX}/docs")
    await scene.write_file(f"{BOX}/docs/a.new", scene.body(SHORT + 3), sync=True)
    docs = scene.directory(f"{BOX}/docs")
    await mount.rename(docs, b"a.new", docs, b"a", 0)
    await scene.note("renamed over", kept=False)
    await scene.sync_directory(f"{BOX}/docs")
    handle = mount.open(scene.directory(f"{BOX}/docs/a"), os.O_RDWR)
    await handle.write(SHORT + 3, scene.body(SHORT))
    await scene.note("appended", kept=False)
    await handle.write(100, scene.body(700))
    await scene.note("overwrote", kept=False)
    await handle.fsync(datasync=True)
    await scene.note("synced")
    await mount.change(handle.inode, Changes(size=50), handle)
    await scene.note("truncated", kept=False)
    await handle.flush()
    await scene.note("published", kept=False)
    await handle.fsync(datasync=True)
    await scene.note("synced again")
    await handle.release()
    mount.setxattr(scene.directory(f"{BOX}/docs/a"), b"user.colour", b"red", 0)
    await scene.note("setxattr", kept=False)
    mount.link(scene.directory(f"{BOX}/docs/a"), docs, b"hard")
    await scene.note("linked", kept=False)
    mount.symlink(docs, b"soft", b"a", CALLER)
    await scene.note("symlinked", kept=False)
    await mount.rename(box, b"docs", box, b"papers", 0)
    await scene.note("renamed the directory", kept=False)
    await scene.sync_directory(BOX)
    mount.unlink(docs, b"a")
    await scene.note("unlinked a", kept=False)
    mount.unlink(docs, b"hard")
    await scene.note("unlinked the last name", kept=False)
    await scene.sync_directory(f"{BOX}/papers")
    await _reclaimed(scene)


async def unsynced(scene: Scene) -> None:
    """Files that are written and never synced, beside an object that is."""
    for number in range(4):
        await scene.write_file(f"{BOX}/loose{number}", scene.body(LONG), sync=False)
    await trio.sleep(0.05)  # Until their transactions are committed, which nobody asked for.
    await scene.note("lingered", kept=False)
    await scene.write_file(f"{BOX}/tight", scene.body(SHORT), sync=True)
    await scene.write_file(f"{BOX}/loose1", scene.body(SHORT), sync=False, offset=1000)
    await trio.sleep(0.05)
    await scene.note("lingered again", kept=False)
    scene.files.unlink(scene.directory(BOX), b"loose0")
    await scene.note("unlinked loose0", kept=False)
    await _reclaimed(scene)


async def checkpoints(scene: Scene) -> None:
    """The log restarts between puts, with rows in it that nobody synced."""
    engine = scene.store.engine
    for number in range(3):
        await scene.put(f"k{number}", SMALL)
        await scene.note(f"put k{number}")
        await scene.write_file(f"{BOX}/f{number}", scene.body(SHORT), sync=False)
        assert await engine.checkpoint()
        await scene.note("checkpoint")
        await scene.put("same", SHORT + number)
        await scene.note("put same")


async def crowd(scene: Scene) -> None:
    """Several at once: each is answered by itself, in groups that commit together."""

    async def client(number: int) -> None:
        for turn, size in enumerate((SMALL, SHORT)):
            key = f"c{number}-{turn}"
            await scene.put(key, size)
            await scene.note(f"put {key}", kept=[f"key {BOX}/{key}", f"path /{BOX}/{key}"])
        await scene.namespace.objects.delete(BOX, f"c{number}-0")
        await scene.note(f"deleted c{number}-0", kept=[f"key {BOX}/c{number}-0"])

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(client, number)
    await scene.note("all answered")


async def segments(scene: Scene) -> None:
    """Enough bytes that segments are filled, sealed, emptied and removed."""
    for number in range(4):
        await scene.put(f"s{number}", LONG)
        await scene.note(f"put s{number}")
    for number in range(4):
        await scene.namespace.objects.delete(BOX, f"s{number}")
        await scene.note(f"deleted s{number}")
    await _reclaimed(scene)
    await scene.put("after", LONG)
    await scene.note("put after")


async def labels(scene: Scene) -> None:
    """The epoch is raised, as when a drive is lost, between puts."""
    for number in range(2):
        await scene.put(f"l{number}", SHORT)
        await scene.note(f"put l{number}")
        await scene.store.chunks.pool.raise_epoch()
        await scene.note("raised the epoch")


async def heal(scene: Scene) -> None:
    """A drive loses member files and gets them back from the others."""
    await scene.put("h", LONG)
    await scene.note("put h")
    await scene.put("i", SHORT)
    await scene.note("put i")
    chunks = scene.store.chunks
    drive = chunks.pool.drives[-1]
    for drive_left in chunks.pool.drives:
        chunks._placement.drive_left(drive_left)  # Sealed: an open member is not looked at.
    await trio.sleep(0.05)
    for segment in chunks.members.segments():
        if drive.id in segment.members:
            drive.forget_handle(segment.id)
            drive.io.unlink_segment(segment.id)
            os.sync()
    await scene.note("lost members", kept=True)
    with trio.fail_after(60):
        await scene.store.healer.finish()
    await scene.note("healed")
    await scene.put("j", SHORT)
    await scene.note("put j")


async def eject(scene: Scene) -> None:
    """A drive that holds a copy of the metadata fails a sync; the others go on without it."""
    await scene.put("e0", SHORT)
    await scene.note("put e0")
    engine, pool = scene.store.engine, scene.store.chunks.pool
    copy = next(copy for copy in engine._flusher.copies if copy.whole)
    drive = pool.by_id[copy.drive]  # type: ignore[index]
    await engine._flusher.eject(copy, OSError(5, "injected"))
    await scene.note("ejected the copy")
    drive.fence("injected")
    await scene.note("fenced its drive")
    await scene.put("e1", SHORT)
    await scene.note("put e1")
    await scene.put("e2", SMALL)
    await scene.note("put e2")


async def grow(scene: Scene) -> None:
    """A drive more comes to the pool, and new segments stand on it."""
    await scene.put("g0", SHORT)
    await scene.note("put g0")
    drives = scene.store.drives
    first = Path(scene.store.chunks.pool.drives[0].io.path)
    await drives.add(first.with_name(SPARE))
    await scene.note("added a drive")
    await scene.put("g1", SHORT)
    await scene.note("put g1")
    await scene.put("g2", LONG)
    await scene.note("put g2")


async def swap(scene: Scene) -> None:
    """A drive that is well is replaced: its members move, then it leaves the pool."""
    await scene.put("w0", SHORT)
    await scene.note("put w0")
    drives, pool = scene.store.drives, scene.store.chunks.pool
    old = pool.drives[-1]
    await drives.replace(old, Path(old.io.path).with_name(SPARE))
    await scene.note("replacing a drive")
    await scene.put("w1", SHORT)
    await scene.note("put w1")
    with trio.fail_after(120):
        while old in pool.drives:  # noqa: ASYNC110
            await trio.sleep(0.05)
    await scene.note("it left")
    await scene.put("w2", SHORT)
    await scene.note("put w2")


async def _reclaimed(scene: Scene) -> None:
    """Wait until what was freed is given back."""
    from metadb import content

    with trio.fail_after(30):
        while scene.store.engine.read(content.freed_runs, 0, 1):  # noqa: ASYNC110
            await trio.sleep(0.01)
    await scene.note("reclaimed", kept=False)


async def first_start(scene: Scene) -> None:
    """Nothing but a start on fresh drives, and a bucket."""
    await scene.note("started", kept=False)
    await scene.namespace.buckets.create(BOX, "owner")
    await scene.note("made the bucket")


async def base(scene: Scene) -> None:
    """What the other workloads find."""
    await scene.namespace.buckets.create(BOX, "owner")
    await scene.put("old", SMALL)
    await scene.put("old/long", LONG)


async def nothing(scene: Scene) -> None:
    """A start and a stop."""


WORKLOADS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        objects, versions, uploads, files, unsynced, checkpoints, crowd, segments,
        labels, heal, eject, grow, swap, first_start, base, nothing,
    )
}  # fmt: skip
FRESH = frozenset({"first_start"})
"""Those that begin on drives straight from init."""
SEPARATE = frozenset({"crowd"})
"""Where each entry is to be compared by itself, for several clients are at work."""


async def _run(name: str, drives: Sequence[Path]) -> None:
    async with opened(drives, boot=name) as store:
        scene = Scene(store)
        await scene.note("opened", kept=False)
        await WORKLOADS[name](scene)
        world = await observe(scene.namespace)
        scene.write("stopping", world, kept=False)
    scene.write("stopped", world, kept=True)


def main() -> None:
    """See the module's text."""
    name, folder, count, *lapse = sys.argv[1:]
    logging.disable(logging.ERROR)
    for each in lapse:
        LAPSES[each]()
    trio.run(_run, name, drives_in(Path(folder), int(count)))


if __name__ == "__main__":
    main()
