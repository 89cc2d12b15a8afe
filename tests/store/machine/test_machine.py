"""Random work from both doors, and faults, against a plain reference, on pools of many shapes.

Whatever was acknowledged is read back equal after every fault that the budget of `rig` allows;
of what was not, either all or nothing is there. At the end of every sequence the store is made
whole, with nothing found wrong, nothing impaired and nothing left over.

TWOFOLD_FULL=1 runs thousands of sequences; TWOFOLD_MACHINE_EXAMPLES=N so many of each pool.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from daemon.services import OpenStore
from metadb.errors import PrimaryLost
from metadb.records import InodeId
from store.errors import (
    KeyDeleted,
    NoSpace,
    NoSuchKey,
    PreconditionFailed,
    StoreError,
    Unavailable,
)
from store.files import Changes
from store.handles import Handle
from store.inspection import Inspection
from store.renames import RENAME_EXCHANGE
from store.scrub import ScrubRecord
from store.types import ANY, ObjectMeta, PartClaim, Precondition, VersionEntry
from tests.store.bodies import BytesBody
from tests.store.machine.model import Whole, twin
from tests.store.machine.rig import SEGMENT_BYTES, Ended, Geometry, Rig, flip_bit
from tests.store.machine.seen import Ids, difference, look
from tests.store.posix import CALLER, box, joined
from tests.store.test_uploads import Md5Digester
from tests.store.versionmodel import ENABLED, OFF, SUSPENDED, Node

T = TypeVar("T")
Call = Callable[[OpenStore], Awaitable[T]]
Trace = list[tuple[str, dict[str, Any]]]
"""Names of rules, and what they were called with."""

FULL = bool(os.environ.get("TWOFOLD_FULL"))
EXAMPLES = int(os.environ.get("TWOFOLD_MACHINE_EXAMPLES", "0"))
STEPS = int(os.environ.get("TWOFOLD_MACHINE_STEPS", "40"))

GEOMETRIES = [
    Geometry(1, 0),
    Geometry(2, 1),
    Geometry(2, 0),
    Geometry(4, 2),
    Geometry(4, 1),
    Geometry(5, 1),
    Geometry(16, 4),
    Geometry(16, 3),
]
KEYS = ("a", "a/", "a/a", "a/b", "a/b/c", "b", "b/a", "c/a/a", "d é")
DIRECTORIES = ("a/", "a/b/", "b/", "c/", "c/a/", "e/")
KIB = 1 << 10
# Around what is inline, blocks, what a draft holds, stripes (64 KiB to 832 KiB) and segments.
EDGES = [16 * KIB, 64 * KIB, 100_000, 128 * KIB, 256 * KIB, 768 * KIB, 832 * KIB]
SIZES = st.one_of(
    st.sampled_from([0, 1, 100, 5000]),
    st.builds(int.__add__, st.sampled_from(EDGES), st.integers(-1, 1)),
    st.sampled_from([300_000, 1_700_000, SEGMENT_BYTES + 12_345]),
)
PIECES = st.one_of(
    st.sampled_from([1, 100, 5000]),
    st.builds(int.__add__, st.sampled_from(EDGES[:5]), st.integers(-1, 1)),
)
WHICH = st.integers(0, 1 << 16)
BITS = st.integers(0, 1 << 40)
TURNS = st.one_of(st.integers(0, 12), st.integers(0, 200))
keys_of_any = st.sampled_from(KEYS)
directories = st.sampled_from(DIRECTORIES)


class Skip(Exception):
    """The rest of a rule has no sense any more: the store ended, or refused for a good reason."""


def excusable(function: Callable[..., None]) -> Callable[..., None]:
    """A rule that may be left in the middle."""

    @functools.wraps(function)
    def run(self: Machine, **drawn: Any) -> None:
        self.trace.append((function.__name__, drawn))
        try:
            function(self, **drawn)
        except Skip:
            pass
        except Ended:
            self.revive()
        except BaseException as error:
            error.add_note(f"after {self.trace}")
            # Hypothesis runs it once more, and where threads come out differently tells of that.
            traceback.print_exception(error)
            raise

    return run


class Machine(RuleBasedStateMachine):
    """geometry and base are set by the test; base: a folder of the test's own."""

    geometry: Geometry
    base: Path
    numbers: Iterator[int]

    def __init__(self) -> None:
        super().__init__()
        folder, template = self.base / "drives", self.base / "template"
        if not template.exists():
            Rig(folder, self.geometry, None).close()
            folder.rename(template)
        self.rig = Rig(folder, self.geometry, template)
        self.model = Whole()
        # What a crash may lead to, oldest first: all since the last barrier.
        self.states = [twin(self.model)[0]]
        self.handles: list[tuple[Node, Handle]] = []
        self.ids: Ids = {None: "null"}
        self.written = 0
        self.crash_after: int | None = None
        self.killed = False
        self.trace: Trace = []
        next(self.numbers)

    def teardown(self) -> None:
        self.end()

    @excusable
    def end(self) -> None:
        try:
            self.crash_after = None
            self.check()
            self.mend()
            self.check()
            self.rig.life.stop()
            self.rig.reopen()
            self.forget_open()
            self.check()
            self.tidy()
        finally:
            self.rig.close()

    # -- doing -------------------------------------------------------------------------

    def act(
        self,
        call: Call[T],
        change: Callable[[Whole, Any], object] = lambda model, node: None,
        node: Node | None = None,
        *,
        durable: bool = False,
    ) -> T:
        """Do it in the store, then in the model. durable: a crash does not take it back.

        Raises Skip where the store ended meanwhile (it is on its feet again then), or refused.
        """
        after, self.crash_after = self.crash_after, None
        self.killed = self.killed or after is not None
        try:
            found = self.rig.do(call, crash_after=after)
        except Ended:
            # It may have come to be, or not.
            done, its_node = twin(self.model, node)
            change(done, its_node)
            self.revive(done)
            raise Skip from None
        except (NoSpace, Unavailable) as refused:
            self.excuse(refused)
            raise Skip from None
        change(self.model, node)
        self.note(durable=durable)
        return found

    def note(self, *, durable: bool) -> None:
        """The model changed."""
        now = twin(self.model)[0]
        self.states = [now] if durable else [*self.states, now]

    def excuse(self, refused: StoreError) -> None:
        """A refusal is right only when drives are too few, or too full."""
        placeable, full = self.rig.placeable()
        needed = min(2, self.geometry.drives)
        if isinstance(refused, NoSpace):
            assert full and placeable < needed, refused
        else:
            assert placeable < needed, refused

    def revive(self, *under_way: Whole) -> None:
        """A new life after a sudden end; the model becomes what of it there is.

        Where only the primary was lost, the process goes on, and takes nothing back.
        """
        self.rig.life.join()
        if not self.killed:
            self.states = self.states[-1:]
        self.states += under_way
        self.rig.reopen()
        self.choose()

    def choose(self) -> None:
        """Find out which of the possible states it is."""
        self.handles.clear()
        self.killed = False
        seen = self.rig.do(lambda opened: look(opened, set()))
        wrong = []
        for state in reversed(self.states):
            state.crash()
            wrong.append(difference(seen, state, self.ids))
            if not wrong[-1]:
                self.model = state
                self.note(durable=True)
                return
        raise AssertionError("\n".join(dict.fromkeys(wrong)))

    def forget_open(self) -> None:
        self.handles.clear()
        self.model.crash()
        self.note(durable=False)

    def check(self) -> None:
        """Everything reads back equal, by both doors."""
        skip = {key for key, node in self.model.leaves.items() if node in self.model.sessions}
        try:
            seen = self.rig.do(lambda opened: look(opened, skip))
        except Ended:
            self.revive()
            return
        wrong = difference(seen, self.model, self.ids)
        assert not wrong, wrong

    def mend(self) -> None:
        """Everything is whole again."""
        try:
            fenced = self.rig.is_fenced()
        except Ended:
            self.revive()
            fenced = False
        if fenced:
            self.rig.life.stop()
            self.rig.reopen()
            self.forget_open()
        try:
            self.rig.mend()
        except Ended:
            self.revive()
            self.rig.mend()

    def tidy(self) -> None:
        """Right after a start, drives hold what rows name, and nothing else."""
        findings = self.rig.do(
            lambda opened: Inspection(opened.engine, opened.chunks.pool, live=opened.chunks).run()
        )
        assert findings == []

    @invariant()
    def nothing_is_amiss(self) -> None:
        if self.rig.life.is_over():
            self.revive()

    # -- words -------------------------------------------------------------------------

    def content(self, size: int) -> bytes:
        self.written += 1
        return (b"%d." % self.written * (size // 2 + 1))[:size]

    def leaf(self, which: int, *, published: bool = False) -> str:
        keys = sorted(self.model.leaves)
        if published:
            keys = [key for key in keys if self.model.object(key)]
        if not keys:
            raise Skip
        return keys[which % len(keys)]

    def place(self, opened: OpenStore, key: str) -> tuple[InodeId, bytes]:
        """Where the mount shows a leaf."""
        path = self.model.parent_shown(key)
        parent = self.directory(opened, path)
        if path == key + "/":
            return parent, b"%tf.data"
        return parent, key[len(path) :].encode() or b"%tf.empty"

    def directory(self, opened: OpenStore, path: str) -> InodeId:
        number = box(opened.namespace.files)
        for name in path.split("/")[:-1]:
            number = opened.namespace.files.lookup(number, name.encode()).id
        return number

    def refused(self, call: Call[object]) -> None:
        with pytest.raises(StoreError):
            self.rig.do(call)

    def upload(self, which: int) -> int:
        """The index of an upload."""
        if not self.model.uploads:
            raise Skip
        return which % len(self.model.uploads)

    def readable(self, which: int) -> tuple[str, str, bytes]:
        """Key, version id and bytes of one of all versions that are no markers."""
        found = [(key, v) for key, v in self.model.listed() if v.content is not None]
        if not found:
            raise Skip
        key, version = found[which % len(found)]
        assert version.content is not None
        if version.id not in self.ids:
            self.check()  # Binds it.
        return key, self.ids[version.id], version.content

    # -- S3 ----------------------------------------------------------------------------

    @initialize(versioning=st.sampled_from([OFF, OFF, ENABLED, SUSPENDED]))
    @excusable
    def begin(self, versioning: str) -> None:
        if versioning != OFF:
            self._set_versioning(versioning)

    @rule(versioning=st.sampled_from([ENABLED, SUSPENDED]))
    @excusable
    def set_versioning(self, versioning: str) -> None:
        if self.model.versioning != OFF:
            self._set_versioning(versioning)

    def _set_versioning(self, versioning: str) -> None:
        self.act(
            lambda o: o.namespace.buckets.set_versioning("box", versioning),
            lambda model, _: setattr(model, "versioning", versioning),
            durable=True,
        )

    @rule(key=keys_of_any, size=SIZES, condition=st.sampled_from(["", "", "", "match", "none"]))
    @excusable
    def put(self, key: str, size: int, condition: str) -> None:
        content, node = self.content(size), self.model.object(key)
        wanted = ANY
        if condition == "match":
            etag = "nothing"
            if node is not None:
                etag = self.act(self._etag(key))
            wanted = Precondition(if_match=(etag,))
        elif condition == "none":
            wanted = Precondition(if_none_match=("*",))

        async def put(opened: OpenStore) -> object:
            body = BytesBody(content)
            return await opened.namespace.objects.put(
                "box", key, body, ObjectMeta(), precondition=wanted
            )

        try:
            self.act(put, lambda model, _: model.put(key, content), durable=True)
        except (PreconditionFailed, NoSuchKey):
            assert (condition == "none") == (node is not None)
            assert condition
        else:
            assert not condition or (condition == "match") == (node is not None)

    def _etag(self, key: str) -> Call[str]:
        async def etag(opened: OpenStore) -> str:
            return opened.namespace.objects.stat("box", key).etag

        return etag

    @rule(key=keys_of_any)
    @excusable
    def delete(self, key: str) -> None:
        self.act(
            lambda o: o.namespace.objects.delete("box", key),
            lambda model, _: model.delete(key),
            durable=True,
        )

    @rule(which=WHICH)
    @excusable
    def delete_version(self, which: int) -> None:
        listed = self.model.listed()
        if not listed:
            return
        key, version = listed[which % len(listed)]
        if version.id not in self.ids:
            self.check()
        said = self.ids[version.id]
        self.act(
            lambda o: o.namespace.objects.delete("box", key, version=said),
            lambda model, _: model.delete_version(key, version),
            durable=True,
        )

    @rule(which=WHICH, to=keys_of_any)
    @excusable
    def copy(self, which: int, to: str) -> None:
        key, said, content = self.readable(which)

        async def copy(opened: OpenStore) -> None:
            objects = opened.namespace.objects
            etag = objects.stat("box", key, said).etag
            await objects.copy(
                ("box", key), ("box", to), None, source_etag=etag, source_version=said
            )

        self.act(copy, lambda model, _: model.copy(content, to), durable=True)

    @rule(which=WHICH, to=keys_of_any)
    @excusable
    def rename_object(self, which: int, to: str) -> None:
        source = self.leaf(which, published=True)
        self.act(
            lambda o: o.namespace.objects.rename("box", source, to),
            lambda model, _: model.rename_object(source, to),
            durable=True,
        )

    @rule(which=WHICH, name=st.sampled_from("xy"), door=st.sampled_from(["S3", "mount"]))
    @excusable
    def tag(self, which: int, name: str, door: str) -> None:
        key, value = self.leaf(which, published=True), str(which % 100)

        async def tag(opened: OpenStore) -> None:
            objects, files = opened.namespace.objects, opened.namespace.files
            if door == "S3":
                meta = objects.stat("box", key).meta
                changed = replace(meta, tags={**meta.tags, name: value})
                await objects.set_meta("box", key, changed)
            else:
                number = files.lookup(*self.place(opened, key)).id
                files.setxattr(number, f"user.s3.tag.{name}".encode(), value.encode(), 0)

        self.act(tag, lambda model, _: model.set_tag(key, name, value), durable=door == "S3")

    @rule(which=WHICH, mode=st.sampled_from([0o600, 0o644, 0o755]))
    @excusable
    def chmod(self, which: int, mode: int) -> None:
        key = self.leaf(which)

        async def chmod(opened: OpenStore) -> None:
            files = opened.namespace.files
            number = files.lookup(*self.place(opened, key)).id
            await files.change(number, Changes(mode=mode))

        self.act(chmod, lambda model, _: model.set_mode(key, mode))

    @rule(which=WHICH, start=WHICH, size=PIECES)
    @excusable
    def get_range(self, which: int, start: int, size: int) -> None:
        key, said, content = self.readable(which)
        first = start * 37 % (len(content) + 1)
        stop = min(first + size, len(content))

        async def get(opened: OpenStore) -> bytes:
            with closing(opened.namespace.objects.open("box", key, said)) as reader:
                found = bytearray()
                if first < stop:
                    async with aclosing(reader.stream(first, stop)) as stream:  # type: ignore[type-var]
                        async for buffers in stream:
                            found += b"".join(buffers)
                return bytes(found)

        assert self.act(get) == content[first:stop]

    @rule(key=keys_of_any)
    @excusable
    def get(self, key: str) -> None:
        node = self.model.object(key)

        async def stat(opened: OpenStore) -> int | None:
            try:
                return opened.namespace.objects.stat("box", key).size
            except (NoSuchKey, KeyDeleted):
                return None

        assert self.act(stat) == (None if node is None else len(node.content))

    # -- uploads -----------------------------------------------------------------------

    @rule(key=keys_of_any)
    @excusable
    def begin_upload(self, key: str) -> None:
        if len(self.model.uploads) >= 3:
            return
        number = self.act(
            lambda o: o.namespace.uploads.create("box", key, ObjectMeta()),
            lambda model, _: model.begin_upload(key, ""),
        )
        self.model.uploads[-1].id = number
        self.note(durable=True)

    @rule(which=WHICH, number=st.integers(1, 4), size=SIZES)
    @excusable
    def put_part(self, which: int, number: int, size: int) -> None:
        index = self.upload(which)
        upload, content = self.model.uploads[index], self.content(size)
        self.act(
            lambda o: o.namespace.uploads.put_part(
                "box", upload.key, upload.id, number, BytesBody(content)
            ),
            lambda model, _: model.put_part(index, number, content),
            durable=True,
        )

    @rule(which=WHICH, number=st.integers(1, 4), source=WHICH, start=WHICH, size=PIECES)
    @excusable
    def copy_part(self, which: int, number: int, source: int, start: int, size: int) -> None:
        index = self.upload(which)
        upload = self.model.uploads[index]
        key, said, content = self.readable(source)
        first = start * 37 % (len(content) + 1)
        stop = min(first + size, len(content))

        async def copy(opened: OpenStore) -> None:
            etag = opened.namespace.objects.stat("box", key, said).etag
            await opened.namespace.uploads.copy_part(
                "box",
                upload.key,
                upload.id,
                number,
                ("box", key),
                first,
                stop,
                source_etag=etag,
                source_version=said,
                digester=Md5Digester(),
            )

        piece = content[first:stop]
        self.act(copy, lambda model, _: model.put_part(index, number, piece), durable=True)

    @rule(which=WHICH, mask=st.integers(1, 15))
    @excusable
    def complete(self, which: int, mask: int) -> None:
        index = self.upload(which)
        upload = self.model.uploads[index]
        numbers = [n for n in sorted(upload.parts) if mask >> (n - 1) & 1] or sorted(upload.parts)
        if not numbers:
            return

        async def complete(opened: OpenStore) -> None:
            uploads = opened.namespace.uploads
            etags = {p.number: p.etag for p in uploads.parts("box", upload.key, upload.id)}
            claims = [PartClaim(number=n, etag=etags[n], checksums={}) for n in numbers]
            await uploads.complete("box", upload.key, upload.id, claims)

        self.act(complete, lambda model, _: model.complete(index, numbers), durable=True)

    @rule(which=WHICH)
    @excusable
    def abort(self, which: int) -> None:
        index = self.upload(which)
        upload = self.model.uploads[index]
        self.act(
            lambda o: o.namespace.uploads.abort("box", upload.key, upload.id),
            lambda model, _: model.abort(index),
            durable=True,
        )

    # -- the mount ---------------------------------------------------------------------

    @rule(key=keys_of_any)
    @excusable
    def open(self, key: str) -> None:
        model = self.model
        if len(self.handles) >= 4 or not model.exists(model.parent_shown(key)):
            return

        async def create(opened: OpenStore) -> Handle:
            files = opened.namespace.files
            return files.create(*self.place(opened, key), 0o644, os.O_RDWR, CALLER)[0]

        handle = self.act(create, lambda model, _: model.open(model.create(key)))
        self.handles.append((self.model.leaves[key], handle))

    def opened(self, which: int) -> tuple[Node, Handle]:
        if not self.handles:
            raise Skip
        return self.handles[which % len(self.handles)]

    @rule(which=WHICH, at=st.sampled_from(["start", "middle", "end", "beyond"]), size=PIECES)
    @excusable
    def write(self, which: int, at: str, size: int) -> None:
        node, handle = self.opened(which)
        length = len(self.model.sessions[node].content)
        if length > 4 << 20:
            return
        offset = {"start": 0, "middle": length // 2, "end": length, "beyond": length + 70_000}[at]
        content = self.content(size)
        self.act(
            lambda _: handle.write(offset, content),
            lambda model, its: model.write(its, offset, content),
            node,
        )

    @rule(which=WHICH, start=WHICH, size=PIECES)
    @excusable
    def read(self, which: int, start: int, size: int) -> None:
        node, handle = self.opened(which)
        content = self.model.sessions[node].content
        first = start * 37 % (len(content) + 1)
        assert joined(self.act(lambda _: handle.read(first, size))) == content[first : first + size]

    @rule(which=WHICH, size=st.one_of(SIZES, st.integers(0, 200_000)))
    @excusable
    def truncate(self, which: int, size: int) -> None:
        node, handle = self.opened(which)

        async def change(opened: OpenStore) -> object:
            return await opened.namespace.files.change(handle.inode, Changes(size=size), handle)

        self.act(change, lambda model, its: model.resize(its, size), node)

    @rule(which=WHICH, durable=st.booleans())
    @excusable
    def publish(self, which: int, durable: bool) -> None:
        node, handle = self.opened(which)
        if durable:
            self.act(
                lambda _: handle.fsync(False),
                lambda model, its: model.publish(its),
                node,
                durable=True,
            )
        else:
            self.act(lambda _: handle.flush(), lambda model, its: model.flush(its), node)

    @rule(which=WHICH)
    @excusable
    def close(self, which: int) -> None:
        node, handle = self.opened(which)
        # What can't be published with the last handle is lost by the rules, so not now.
        self.act(lambda _: handle.flush(), lambda model, its: model.flush(its), node)
        self.handles.remove((node, handle))
        self.act(lambda _: handle.release(), lambda model, its: model.release(its), node)

    @rule(which=WHICH, size=st.one_of(SIZES, st.integers(0, 200_000)))
    @excusable
    def truncate_closed(self, which: int, size: int) -> None:
        key = self.leaf(which)

        async def change(opened: OpenStore) -> object:
            files = opened.namespace.files
            number = files.lookup(*self.place(opened, key)).id
            return await files.change(number, Changes(size=size))

        self.act(change, lambda model, _: model.truncate_closed(key, size))

    @rule(which=WHICH)
    @excusable
    def unlink(self, which: int) -> None:
        key = self.leaf(which)

        async def unlink(opened: OpenStore) -> None:
            opened.namespace.files.unlink(*self.place(opened, key))

        self.act(unlink, lambda model, _: model.unlink(key))

    @rule(which=WHICH, to=keys_of_any, exchange=st.booleans())
    @excusable
    def rename(self, which: int, to: str, exchange: bool) -> None:
        source, model = self.leaf(which), self.model
        if not model.exists(model.parent_shown(to)) or (exchange and to not in model.leaves):
            return
        flags = RENAME_EXCHANGE if exchange else 0
        self.act(
            lambda o: o.namespace.files.rename(*self.place(o, source), *self.place(o, to), flags),
            lambda model, _: (model.exchange if exchange else model.rename)(source, to),
        )

    @rule(which=WHICH, to=keys_of_any)
    @excusable
    def link(self, which: int, to: str) -> None:
        source, model = self.leaf(which), self.model
        if not model.exists(model.parent_shown(to)) or to in model.leaves:
            return

        async def link(opened: OpenStore) -> None:
            files = opened.namespace.files
            number = files.lookup(*self.place(opened, source)).id
            files.link(number, *self.place(opened, to))

        self.act(link, lambda model, _: model.link(source, to))

    @rule(path=directories)
    @excusable
    def mkdir(self, path: str) -> None:
        model = self.model
        parent, _, name = path[:-1].rpartition("/")
        if not model.exists(parent + "/" * bool(parent)):
            return

        async def mkdir(opened: OpenStore) -> None:
            number = self.directory(opened, path[: -len(name) - 1])
            opened.namespace.files.mkdir(number, name.encode(), 0o755, CALLER)

        if path in model.directories or path[:-1] in model.leaves:
            self.refused(mkdir)
        else:
            self.act(mkdir, lambda model, _: model.mkdir(path))

    @rule(path=directories)
    @excusable
    def rmdir(self, path: str) -> None:
        if path not in self.model.directories:
            return
        name = path[:-1].rpartition("/")[2]

        async def rmdir(opened: OpenStore) -> None:
            number = self.directory(opened, path[: -len(name) - 1])
            opened.namespace.files.rmdir(number, name.encode())

        if self.model.may_rmdir(path):
            self.act(rmdir, lambda model, _: model.rmdir(path))
        else:
            self.refused(rmdir)

    @rule(old=directories, new=directories)
    @excusable
    def rename_directory(self, old: str, new: str) -> None:
        model = self.model
        above = new[:-1].rpartition("/")[0]
        if old not in model.directories or not model.exists(above + "/" * bool(above)):
            return
        if new.startswith(old) or old.startswith(new):
            return

        async def rename(opened: OpenStore) -> None:
            name, new_name = (path[:-1].rpartition("/")[2] for path in (old, new))
            await opened.namespace.files.rename(
                self.directory(opened, old[: -len(name) - 1]),
                name.encode(),
                self.directory(opened, new[: -len(new_name) - 1]),
                new_name.encode(),
                0,
            )

        if model.may_rename_directory(old, new):
            self.act(rename, lambda model, _: model.rename_directory(old, new))
        else:
            self.refused(rename)

    # -- listing -----------------------------------------------------------------------

    @rule(
        limit=st.integers(1, 5),
        prefix=st.sampled_from(["", "a", "a/", "a/b", "b/", "c/a", "x", "d "]),
        delimiter=st.sampled_from(["", "/", "a", "a/"]),
    )
    @excusable
    def page(self, limit: int, prefix: str, delimiter: str) -> None:
        async def pages(opened: OpenStore) -> tuple[list[str], list[str]]:
            versions: list[str] = []
            after: tuple[str, str] | None = ("", "")
            while after is not None:
                page = await opened.namespace.listing.versions(
                    "box", prefix=prefix, delimiter=delimiter, after=after, limit=limit
                )
                versions += [
                    one.key if isinstance(one, VersionEntry) else one for one in page.entries
                ]
                after = page.next
            objects: list[str] = []
            behind: str | None = ""
            while behind is not None:
                found = await opened.namespace.listing.objects(
                    "box", prefix=prefix, delimiter=delimiter, after=behind, limit=limit
                )
                objects += [one if isinstance(one, str) else one.key for one in found.entries]
                behind = found.next
            return versions, objects

        versions, objects = self.act(pages)
        names = [key for key, _ in self.model.listed()]
        assert versions == rolled_up(names, prefix, delimiter)
        keys = [key for key in sorted(self.model.leaves, key=str.encode) if self.model.object(key)]
        wanted = rolled_up(keys, prefix, delimiter)
        # A directory that was made is a common prefix, also when it is empty (rule R4).
        made = [path for path in objects if path in self.model.directories]
        assert [one for one in objects if one in wanted or one not in made] == wanted

    # -- the end of the process --------------------------------------------------------

    @rule(power=st.booleans())
    @excusable
    def crash(self, power: bool) -> None:
        self.killed = True
        self.rig.life.crash()
        if power:
            self.rig.boot()
        self.rig.reopen()
        self.choose()

    @rule(turns=TURNS)
    @excusable
    def crash_soon(self, turns: int) -> None:
        """In the middle of what is done next."""
        self.crash_after = turns

    @rule(wait_s=st.sampled_from([0.0, 3600.0]))
    @excusable
    def restart(self, wait_s: float) -> None:
        self.rig.life.stop()
        self.rig.reopen(wait_s=wait_s)
        self.choose()

    # -- drives ------------------------------------------------------------------------

    def victim(self, which: int) -> int:
        """A drive that may go, or Skip."""
        number = which % self.geometry.drives
        try:
            possible = number not in self.rig.world.gone and self.rig.may_impair(number)
        except Ended:
            self.revive()
            raise Skip from None
        if not possible:
            raise Skip
        return number

    @rule(which=WHICH, noticed=st.booleans())
    @excusable
    def drive_goes(self, which: int, noticed: bool) -> None:
        self.rig.take_away(self.victim(which))
        self.noticed(noticed)

    @rule(which=WHICH, noticed=st.booleans())
    @excusable
    def drive_returns(self, which: int, noticed: bool) -> None:
        gone = sorted(self.rig.world.gone)
        if not gone:
            return
        self.rig.bring_back(gone[which % len(gone)])
        self.noticed(noticed)

    @rule(which=WHICH, noticed=st.booleans())
    @excusable
    def drive_is_emptied(self, which: int, noticed: bool) -> None:
        self.rig.empty(self.victim(which))
        self.noticed(noticed)

    @rule(
        which=WHICH,
        call=st.sampled_from(["write", "flush", "create", "read", "punch", "write_label"]),
        code=st.sampled_from([errno.EIO, errno.EIO, errno.ENOSPC]),
    )
    @excusable
    def drive_fails(self, which: int, call: str, code: int) -> None:
        number = self.victim(which)
        self.rig.world.impaired.add(number)
        self.rig.world.failing[number] = (call, code)

    @rule(which=WHICH, full=st.booleans())
    @excusable
    def drive_fills(self, which: int, full: bool) -> None:
        number = which % self.geometry.drives
        (self.rig.world.full.add if full else self.rig.world.full.discard)(number)
        self.noticed(True)

    def noticed(self, now: bool) -> None:
        """The store looks at its drives, and still gives everything back."""
        if now:
            self.act(self.rig._probe)
        self.check()

    @rule()
    @excusable
    def drives_are_looked_at(self) -> None:
        self.act(self.rig._probe)

    # -- rot ---------------------------------------------------------------------------

    @rule(which=WHICH, count=st.integers(1, 4), bit=BITS)
    @excusable
    def bits_flip(self, which: int, count: int, bit: int) -> None:
        try:
            fragments = self.rig.fragments()
            for turn in range(count if fragments else 0):
                self.rig.flip(fragments[(which + turn * 7919) % len(fragments)], bit + turn)
        except Ended:
            self.revive()
        self.check()

    @rule(which=WHICH)
    @excusable
    def member_is_deleted(self, which: int) -> None:
        try:
            fragments = self.rig.fragments()
            found = fragments[which % len(fragments)] if fragments else None
        except Ended:
            self.revive()
            return
        if found is None or not found.path.exists():
            return
        number = self.victim(found.drive)
        self.rig.world.impaired.add(number)
        found.path.unlink()
        self.check()

    @rule(which=WHICH, bit=BITS)
    @excusable
    def metadata_rots(self, which: int, bit: int) -> None:
        """A copy's: what the primary holds is in use."""
        try:
            copies = self.rig.copies()
        except Ended:
            self.revive()
            return
        if not copies:
            return
        number, path = copies[which % len(copies)]
        self.rig.world.impaired.add(self.victim(number))
        flip_bit(path, bit % (8 * path.stat().st_size))

    # -- the store's own work ----------------------------------------------------------

    @rule()
    @excusable
    def everything_mends(self) -> None:
        self.crash_after = None
        self.mend()
        self.check()

    @rule()
    @excusable
    def heal(self) -> None:
        self.act(lambda opened: opened.healer.finish())

    @rule()
    @excusable
    def scrub(self) -> None:
        if not self.rig.world.gone:
            record = self.act(_scrub)
            assert record is None or (record.lost_stripes, record.violations) == (0, 0)

    @rule()
    @excusable
    def reclaim(self) -> None:
        self.act(self.rig.reclaim)

    @rule()
    @excusable
    def checkpoint(self) -> None:
        self.act(lambda opened: opened.engine.checkpoint(), durable=False)

    @rule()
    @excusable
    def look_at_everything(self) -> None:
        self.check()


def replay(geometry: Geometry, trace: Trace) -> None:
    """What a failure's note says, once more."""
    with scratch() as base:
        attributes = {"geometry": geometry, "base": base, "numbers": itertools.count()}
        machine = type("Replay", (Machine,), attributes)()
        try:
            for name, drawn in trace:
                getattr(machine, name)(**drawn)
                machine.nothing_is_amiss()
        except BaseException:
            machine.rig.close()
            raise
        machine.teardown()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as base:
        yield Path(base)


async def _scrub(opened: OpenStore) -> ScrubRecord | None:
    """A pass; none where the primary is gone and nobody has noticed, as nothing is flushed."""
    try:
        opened.engine._primary.probe()
    except PrimaryLost:
        return None
    return await opened.scrubber.finish()


def rolled_up(keys: list[str], prefix: str, delimiter: str) -> list[str]:
    """Keys and common prefixes as a listing gives them."""
    found: list[str] = []
    for key in keys:
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            found.append(key)
        elif key[: cut + len(delimiter)] not in found:
            found.append(key[: cut + len(delimiter)])
    return found


def examples() -> int:
    if EXAMPLES:
        return EXAMPLES
    return 400 if FULL else 3


@pytest.mark.slow
@pytest.mark.timeout(0 if EXAMPLES or FULL else 300)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_whatever_happens_nothing_is_lost(geometry: Geometry) -> None:
    with scratch() as base:
        counter = itertools.count()
        attributes = {"geometry": geometry, "base": base, "numbers": counter}
        try:
            run_state_machine_as_test(
                type("Sequence", (Machine,), attributes),
                settings=settings(
                    max_examples=examples(),
                    stateful_step_count=STEPS,
                    derandomize=not EXAMPLES,
                    # A failure's note has what led to it; threads make shrinking vain.
                    phases=[Phase.generate],
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            print(f"{geometry}: {next(counter)} sequences")  # noqa: T201
