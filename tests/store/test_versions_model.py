"""Random work from both doors on a versioned bucket, compared in full with plain Python.

TWOFOLD_MODEL_EXAMPLES=1000 (and --timeout=0) runs it for long.
The store runs in a trio thread of its own, since Hypothesis drives from outside of any loop.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from metadb.check import find_violations
from metadb.records import ROOT, InodeId
from store.errors import StoreError
from store.handles import Handle
from store.renames import RENAME_EXCHANGE
from store.types import ObjectMeta, ObjectStat, PartClaim, VersionEntry
from tests.fakes.memory_chunks import MemoryChunks
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened, open_namespace
from tests.store.posix import CALLER, box, broken, version_bytes
from tests.store.versionmodel import ENABLED, OFF, SUSPENDED, Model, Node, Token

T = TypeVar("T")

KEYS = ("a", "a/", "a/a", "a/b", "a/b/c", "b", "b/a", "b/b", "c/a/a", "d é")
DIRECTORIES = ("a/", "a/b/", "b/", "c/", "c/a/", "e/")
# The second is beyond what is kept inline.
SIZES = st.sampled_from([0, 1, 40, 20_000])
WHICH = st.integers(0, 1 << 16)
key_of_any = st.sampled_from(KEYS)
directories = st.sampled_from(DIRECTORIES)


class Life:
    """A running namespace on a thread of its own."""

    def __init__(self, folder: Path, chunks: MemoryChunks) -> None:
        started: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(folder, chunks, started))
        self._thread.start()
        failure = started.get()
        if failure is not None:
            raise failure

    def _run(
        self, folder: Path, chunks: MemoryChunks, started: SimpleQueue[BaseException | None]
    ) -> None:
        async def main() -> None:
            async with open_namespace(folder, chunks) as opened:
                self.opened = opened
                self._token = trio.lowlevel.current_trio_token()
                self._ended = trio.Event()
                started.put(None)
                await self._ended.wait()

        try:
            trio.run(main)
        except BaseException as failure:
            started.put(failure)
            raise

    def do(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    def end(self) -> None:
        trio.from_thread.run_sync(self._ended.set, trio_token=self._token)
        self._thread.join()


class Kernel:
    """An `Invalidator` that still has every inode it was told of, until it forgets them all."""

    def __init__(self) -> None:
        self.forgot: set[InodeId] = set()
        self.asked: set[InodeId] = set()

    def knows(self, parent: InodeId, name: bytes) -> bool:
        return True

    def holds(self, inode: InodeId) -> bool:
        self.asked.add(inode)
        return inode not in self.forgot

    async def invalidate(
        self, entries: Sequence[tuple[InodeId, bytes]], inodes: Sequence[InodeId]
    ) -> None:
        await trio.lowlevel.checkpoint()


class Versions(RuleBasedStateMachine):
    """Both doors against `Model`."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.chunks = MemoryChunks()
        self.model = Model()
        self.handles: list[tuple[Node, Handle]] = []
        self.ids: dict[Token, str] = {None: "null"}
        self.written = 0
        self.kernel: Kernel | None = None
        self.life = self._open()

    def _open(self) -> Life:
        return Life(Path(self.folder.name) / "meta", self.chunks)

    def teardown(self) -> None:
        try:
            assert self.life.do(find_violations, self.life.opened.engine) == []
        finally:
            self.life.end()
            self.folder.cleanup()

    # -- words -------------------------------------------------------------------------

    def _content(self, size: int) -> bytes:
        self.written += 1
        return (b"%d." % self.written * (size // 2 + 1))[:size]

    def _do(self, call: Callable[[Opened], Awaitable[T]]) -> T:
        return self.life.do(call, self.life.opened)

    def _leaf(self, which: int, *, published: bool = False) -> str | None:
        model = self.model
        keys = sorted(model.leaves)
        if published:
            keys = [key for key in keys if model.object(key)]
        return keys[which % len(keys)] if keys else None

    def _place(self, opened: Opened, key: str) -> tuple[InodeId, bytes]:
        """Where the mount shows a leaf."""
        path = self.model.parent_shown(key)
        parent = self._directory(opened, path)
        if path == key + "/":
            return parent, b"%tf.data"
        return parent, key[len(path) :].encode() or b"%tf.empty"

    def _directory(self, opened: Opened, path: str) -> InodeId:
        number = box(opened.namespace.files)
        for name in path.split("/")[:-1]:
            number = opened.namespace.files.lookup(number, name.encode()).id
        return number

    def _refused(self, call: Callable[[Opened], Awaitable[object]]) -> None:
        with pytest.raises(StoreError):
            self._do(call)

    # -- settings ----------------------------------------------------------------------

    @initialize(versioning=st.sampled_from([OFF, ENABLED, ENABLED, SUSPENDED]))
    def begin(self, versioning: str) -> None:
        if versioning != OFF:
            self.set_versioning(versioning)

    @rule(versioning=st.sampled_from([ENABLED, SUSPENDED]))
    def set_versioning(self, versioning: str) -> None:
        self._do(lambda o: o.namespace.buckets.set_versioning("box", versioning))
        self.model.versioning = versioning

    @rule()
    def restart(self) -> None:
        self.life.end()
        self.handles.clear()
        self.model.sessions.clear()
        self.kernel = None
        self.life = self._open()

    @rule(held=st.booleans())
    def the_kernel_looks_or_forgets(self, held: bool) -> None:
        async def change(opened: Opened) -> None:
            if held and self.kernel is None:
                self.kernel = Kernel()
                opened.namespace.set_invalidator(self.kernel)
            elif not held and self.kernel is not None:
                self.kernel.forgot |= self.kernel.asked
                opened.namespace.files.forgotten(list(self.kernel.asked))
                self.kernel = None
                opened.namespace.set_invalidator(None)

        self._do(change)

    # -- S3 ----------------------------------------------------------------------------

    @rule(key=key_of_any, size=SIZES)
    def put(self, key: str, size: int) -> None:
        content = self._content(size)
        self._do(lambda o: o.namespace.objects.put("box", key, BytesBody(content), ObjectMeta()))
        self.model.put(key, content)

    @rule(key=key_of_any)
    def upload(self, key: str) -> None:
        content = self._content(30_000)

        async def complete(opened: Opened) -> None:
            uploads = opened.namespace.uploads
            upload = await uploads.create("box", key, ObjectMeta())
            part = await uploads.put_part("box", key, upload, 1, BytesBody(content))
            claim = PartClaim(number=1, etag=part.etag, checksums={})
            first = await uploads.complete("box", key, upload, [claim])
            again = await uploads.complete("box", key, upload, [claim])
            assert again == first

        self._do(complete)
        self.model.put(key, content)

    @rule(key=key_of_any)
    def delete(self, key: str) -> None:
        self._do(lambda o: o.namespace.objects.delete("box", key))
        self.model.delete(key)

    @rule(which=WHICH)
    def delete_version(self, which: int) -> None:
        listed = self.model.listed()
        if listed:
            key, version = listed[which % len(listed)]
            said = self.ids[version.id]
            self._do(lambda o: o.namespace.objects.delete("box", key, version=said))
            self.model.delete_version(key, version)

    @rule(which=WHICH, to=key_of_any)
    def copy(self, which: int, to: str) -> None:
        listed = [(key, v) for key, v in self.model.listed() if v.content is not None]
        if not listed:
            return
        key, version = listed[which % len(listed)]
        said = self.ids[version.id]

        async def copy(opened: Opened) -> None:
            objects = opened.namespace.objects
            etag = objects.stat("box", key, said).etag
            await objects.copy(
                ("box", key), ("box", to), None, source_etag=etag, source_version=said
            )

        self._do(copy)
        assert version.content is not None
        self.model.put(to, version.content)

    @rule(which=WHICH, to=key_of_any)
    def rename_object(self, which: int, to: str) -> None:
        source = self._leaf(which, published=True)
        if source is not None:
            self._do(lambda o: o.namespace.objects.rename("box", source, to))
            self.model.rename_object(source, to)

    # -- the mount ---------------------------------------------------------------------

    @rule(key=key_of_any, size=SIZES)
    def write_whole(self, key: str, size: int) -> None:
        handle, node = self._opened(key, os.O_WRONLY | os.O_TRUNC)
        if handle is None or node is None:
            return
        if self.model.sessions[node].content:
            self.model.truncate(node)
        content = self._content(size)
        self._do(lambda _: handle.write(0, content))
        self.model.write(node, 0, content)
        self._do(lambda _: handle.flush())
        self.model.flush(node)
        self._do(lambda _: handle.release())
        self.model.release(node)

    @rule(key=key_of_any)
    def open(self, key: str) -> None:
        handle, node = self._opened(key, os.O_RDWR)
        if handle is not None and node is not None:
            self.handles.append((node, handle))

    def _opened(self, key: str, flags: int) -> tuple[Handle | None, Node | None]:
        model = self.model
        parent = model.parent_shown(key)
        if not model.exists(parent):
            return None, None

        async def create(opened: Opened) -> Handle:
            files = opened.namespace.files
            return files.create(*self._place(opened, key), 0o644, flags, CALLER)[0]

        handle = self._do(create)
        node = model.create(key)
        model.open(node)
        return handle, node

    @precondition(lambda self: self.handles)
    @rule(which=WHICH, how=st.sampled_from(["write", "fsync", "flush", "release"]), size=SIZES)
    def use_handle(self, which: int, how: str, size: int) -> None:
        index = which % len(self.handles)
        node, handle = self.handles[index]
        if how == "write":
            content, offset = self._content(size), len(self.model.sessions[node].content) // 2
            self._do(lambda _: handle.write(offset, content))
            self.model.write(node, offset, content)
        elif how == "fsync":
            self._do(lambda _: handle.fsync(False))
            self.model.publish(node)
        elif how == "flush":
            self._do(lambda _: handle.flush())
            self.model.flush(node)
        else:
            del self.handles[index]
            self._do(lambda _: handle.release())
            self.model.release(node)

    @rule(which=WHICH)
    def unlink(self, which: int) -> None:
        key = self._leaf(which)
        if key is not None:

            async def unlink(opened: Opened) -> None:
                opened.namespace.files.unlink(*self._place(opened, key))

            self._do(unlink)
            self.model.unlink(key)

    @rule(which=WHICH, to=key_of_any, exchange=st.booleans())
    def rename(self, which: int, to: str, exchange: bool) -> None:
        source, model = self._leaf(which), self.model
        if source is None or not model.exists(model.parent_shown(to)):
            return
        if exchange and to not in model.leaves:
            return
        flags = RENAME_EXCHANGE if exchange else 0
        self._do(
            lambda o: o.namespace.files.rename(*self._place(o, source), *self._place(o, to), flags)
        )
        (model.exchange if exchange else model.rename)(source, to)

    @rule(which=WHICH, to=key_of_any)
    def link(self, which: int, to: str) -> None:
        source, model = self._leaf(which), self.model
        parent = model.parent_shown(to)
        if source is None or not model.exists(parent) or to in model.leaves:
            return

        async def link(opened: Opened) -> None:
            files = opened.namespace.files
            number = files.lookup(*self._place(opened, source)).id
            files.link(number, *self._place(opened, to))

        self._do(link)
        model.link(source, to)

    @rule(path=directories)
    def mkdir(self, path: str) -> None:
        model = self.model
        parent, _, name = path[:-1].rpartition("/")
        if not model.exists(parent + "/" * bool(parent)):
            return

        async def mkdir(opened: Opened) -> None:
            number = self._directory(opened, path[: -len(name) - 1])
            opened.namespace.files.mkdir(number, name.encode(), 0o755, CALLER)

        if path in model.directories or path[:-1] in model.leaves:
            self._refused(mkdir)
        else:
            self._do(mkdir)
            model.mkdir(path)

    @rule(path=directories)
    def rmdir(self, path: str) -> None:
        model = self.model
        if path not in model.directories:
            return
        name = path[:-1].rpartition("/")[2]

        async def rmdir(opened: Opened) -> None:
            number = self._directory(opened, path[: -len(name) - 1])
            opened.namespace.files.rmdir(number, name.encode())

        if model.may_rmdir(path):
            self._do(rmdir)
            model.rmdir(path)
        else:
            self._refused(rmdir)

    @rule(old=directories, new=directories)
    def rename_directory(self, old: str, new: str) -> None:
        model = self.model
        above = new[:-1].rpartition("/")[0]
        if old not in model.directories or not model.exists(above + "/" * bool(above)):
            return
        if new.startswith(old) or old.startswith(new):
            return

        async def rename(opened: Opened) -> None:
            name, new_name = (path[:-1].rpartition("/")[2] for path in (old, new))
            await opened.namespace.files.rename(
                self._directory(opened, old[: -len(name) - 1]),
                name.encode(),
                self._directory(opened, new[: -len(new_name) - 1]),
                new_name.encode(),
                0,
            )

        if model.may_rename_directory(old, new):
            self._do(rename)
            model.rename_directory(old, new)
        else:
            self._refused(rename)

    # -- comparing ---------------------------------------------------------------------

    @invariant()
    def both_hold_the_same_versions(self) -> None:
        self._do(self._compare)

    async def _compare(self, opened: Opened) -> None:
        namespace, model = opened.namespace, self.model
        page = await namespace.listing.versions("box", limit=10_000)
        assert page.next is None
        expected = model.listed()
        assert [entry.key for entry in entries(page.entries)] == [key for key, _ in expected]
        last = None
        for entry, (key, version) in zip(entries(page.entries), expected, strict=True):
            self._bind(version.id, entry.version_id)
            assert entry.latest == (key != last), entry
            last = key
            assert (entry.stat is None) == (version.content is None), (entry, version)
            if version.content is not None:
                found = await version_bytes(namespace, key, entry.version_id)
                assert found == version.content, entry
        objects = await namespace.listing.objects("box", limit=10_000)
        found_keys = [one.key for one in objects.entries if isinstance(one, ObjectStat)]
        assert found_keys == [
            key for key in sorted(model.leaves, key=str.encode) if model.object(key)
        ]
        assert not broken(namespace)
        assert namespace.buckets.usage("box").bytes == model.held_bytes()
        assert tree_of(opened) == model.directories

    def _bind(self, token: Token, said: str) -> None:
        if token not in self.ids:
            assert said not in self.ids.values(), said
            self.ids[token] = said
        assert self.ids[token] == said, (token, said)

    @rule(
        limit=st.integers(1, 5),
        prefix=st.sampled_from(["", "a", "a/", "a/b", "b/", "c/a", "x", "d "]),
        delimiter=st.sampled_from(["", "/", "a", "a/"]),
    )
    def page(self, limit: int, prefix: str, delimiter: str) -> None:
        async def pages(opened: Opened) -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            after: tuple[str, str] | None = ("", "")
            while after is not None:
                page = await opened.namespace.listing.versions(
                    "box", prefix=prefix, delimiter=delimiter, after=after, limit=limit
                )
                assert len(page.entries) == limit or page.next is None
                found += [
                    (one, "") if isinstance(one, str) else (one.key, one.version_id)
                    for one in page.entries
                ]
                after = page.next
            return found

        assert self._do(pages) == self._rolled_up(prefix, delimiter)

    def _rolled_up(self, prefix: str, delimiter: str) -> list[tuple[str, str]]:
        expected: dict[tuple[str, str], None] = {}
        for key, version in self.model.listed():
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                expected[key, self.ids[version.id]] = None
            else:
                expected[key[: cut + len(delimiter)], ""] = None
        return list(expected)


def entries(found: Sequence[VersionEntry | str]) -> list[VersionEntry]:
    return [entry for entry in found if isinstance(entry, VersionEntry)]


def tree_of(opened: Opened) -> dict[str, bool]:
    """Every directory below the bucket: its path, and whether it is implicit."""

    def below(tx: object, number: int, path: str) -> dict[str, bool]:
        found: dict[str, bool] = {}
        sql = """SELECT name, inode, flags FROM dentry d JOIN inode i ON i.id = d.inode
            WHERE d.parent = ?"""
        for name, inode, flags in list(tx._execute(sql, (number,))):  # type: ignore[attr-defined]
            if name.endswith(b"/"):
                found[path + name.decode()] = bool(flags & 1)
                found |= below(tx, inode, path + name.decode())
        return found

    number = opened.namespace.files.lookup(ROOT, b"box").id
    return opened.engine.read(below, number, "")


@pytest.mark.slow
def test_both_doors_keep_the_versions_that_plain_python_keeps() -> None:
    examples = int(os.environ.get("TWOFOLD_MODEL_EXAMPLES", "25"))
    Machine = Versions.TestCase
    Machine.settings = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    Machine("runTest").runTest()
