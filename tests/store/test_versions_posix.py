"""Rule R14: what programs on the mount do is what versions are made of."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import pytest

from metadb.check import find_violations
from metadb.records import ROOT, InodeId
from store.errors import (
    BucketNotEmpty,
    CrossBucket,
    Denied,
    DirectoryNotEmpty,
    NoSuchAttribute,
    NoSuchEntry,
    QuotaExceeded,
)
from store.files import Changes
from store.renames import RENAME_EXCHANGE
from store.types import ObjectMeta
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import (
    CALLER,
    box,
    broken,
    contents,
    listed,
    made,
    object_bytes,
    read_back,
    version_bytes,
)
from tests.store.versioned import (
    MARKER,
    enable,
    entries,
    history,
    ids,
    keys,
    put,
    put_id,
    suspend,
)

LARGE = 40_000  # Beyond what is kept inline.


@pytest.fixture
async def opened(opened: Opened) -> AsyncIterator[Opened]:
    """A versioned namespace, whose tables are sound when the test is over."""
    await enable(opened)
    yield opened
    assert not broken(opened.namespace)
    assert await find_violations(opened.engine) == []


class Kernel:
    """An `Invalidator` that still has these inodes."""

    def __init__(self, held: Iterable[InodeId]) -> None:
        self.held = set(held)

    def knows(self, parent: InodeId, name: bytes) -> bool:
        return True

    def holds(self, inode: InodeId) -> bool:
        return inode in self.held

    async def invalidate(self, entries: object, inodes: object) -> None:
        pass


async def overwrite(opened: Opened, inode: InodeId, value: bytes) -> None:
    """open(O_TRUNC), write, close."""
    handle = opened.namespace.files.open(inode, os.O_WRONLY | os.O_TRUNC)
    await handle.write(0, value)
    await handle.flush()
    await handle.release()


# -- writing -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, LARGE])
async def test_each_open_write_close_is_one_version(opened: Opened, size: int) -> None:
    files = opened.namespace.files
    values = [random.Random(number).randbytes(size) for number in range(3)]
    inode = await made(files, box(files), b"f", values[0])
    for value in values[1:]:
        await overwrite(opened, inode, value)
    assert files.lookup(box(files), b"f").id == inode
    assert await history(opened, "f") == values[::-1]
    assert "null" not in await ids(opened, "f")
    if size == LARGE:
        assert opened.chunks.held_bytes == 3 * LARGE


async def test_an_edit_in_the_middle_shares_the_rest_with_the_version_before(
    opened: Opened,
) -> None:
    files = opened.namespace.files
    before = random.Random(1).randbytes(1 << 20)
    inode = await made(files, box(files), b"f", before)
    runs = opened.chunks.run_ids
    handle = files.open(inode, os.O_RDWR)
    await handle.write(500_000, b"edit")
    await handle.release()
    assert await history(opened, "f") == [before[:500_000] + b"edit" + before[500_004:], before]
    assert runs < opened.chunks.run_ids
    assert opened.chunks.held_bytes < (1 << 20) + 100_000


async def test_a_first_close_makes_one_version_and_a_look_none(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f")
    assert await history(opened, "f") == [b""]
    before = await ids(opened, "f")
    assert await contents(files, inode) == b""
    handle = files.open(inode, os.O_RDWR)
    await handle.flush()
    await handle.fsync(False)
    await handle.release()
    await files.change(inode, Changes(mode=0o600, mtime_ns=1))
    files.setxattr(inode, b"user.note", b"1", 0)
    assert await ids(opened, "f") == before


async def test_many_fsyncs_of_one_session_are_one_version(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"before")
    handle = files.open(inode, os.O_WRONLY | os.O_TRUNC)
    seen = set()
    for number in range(5):
        await handle.write(number, b"x")
        await handle.fsync(False)
        seen.add((await ids(opened, "f"))[0])
        assert await history(opened, "f") == [b"x" * (number + 1), b"before"]
    assert len(seen) == 5
    await handle.flush()
    # The next write through the handle that stays is another version.
    await handle.write(5, b"y")
    await handle.release()
    assert await history(opened, "f") == [b"xxxxxy", b"xxxxx", b"before"]


async def test_with_object_lock_every_publication_is_a_version(opened: Opened) -> None:
    await opened.namespace.buckets.create("vault", "owner", lock=True)
    files = opened.namespace.files
    vault = files.lookup(ROOT, b"vault").id
    handle, _ = files.create(vault, b"f", 0o644, os.O_WRONLY, CALLER)
    for number in range(3):
        await handle.write(number, b"x")
        await handle.fsync(False)
    await handle.release()
    assert await history(opened, "f", "vault") == [b"xxx", b"xx", b"x"]


@pytest.mark.parametrize("size", [3, LARGE])
async def test_a_session_that_began_before_versioning_keeps_what_was_there(
    opened: Opened, size: int
) -> None:
    await opened.namespace.buckets.create("later", "owner")
    files = opened.namespace.files
    directory = files.lookup(ROOT, b"later").id
    handle, _ = files.create(directory, b"f", 0o644, os.O_RDWR, CALLER)
    await handle.write(0, b"1" * size)
    await handle.fsync(False)
    await enable(opened, "later")
    await handle.write(0, b"2")
    await handle.fsync(False)
    assert await ids(opened, "f", "later") == [(await ids(opened, "f", "later"))[0], "null"]
    await suspend(opened, "later")
    await handle.write(0, b"3")
    await handle.release()
    rest = b"1" * (size - 1)
    assert await history(opened, "f", "later") == [b"3" + rest, b"2" + rest]
    assert (await ids(opened, "f", "later"))[0] == "null"


async def test_an_open_file_goes_on_while_versions_are_made_of_it(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    inode = await made(files, box(files), b"f", b"1" * LARGE)
    reader, writer = files.open(inode, os.O_RDONLY), files.open(inode, os.O_RDWR)
    await put(opened, "f", b"put")
    (old,) = (await ids(opened, "f"))[1:]
    assert await read_back(reader, LARGE) == b"1" * LARGE
    # V2: what the handle writes now goes to a file without a name, not to the version.
    await writer.write(0, b"2" * LARGE)
    await writer.fsync(False)
    assert await read_back(reader, LARGE) == b"2" * LARGE
    assert await version_bytes(opened.namespace, "f", old) == b"1" * LARGE
    await objects.delete("box", "f", version=old)
    assert await read_back(reader, LARGE) == b"2" * LARGE
    await writer.release()
    await reader.release()
    assert await history(opened, "f") == [b"put"]


async def test_a_version_that_came_back_while_its_old_file_is_still_open(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    inode = await made(files, box(files), b"f", b"old")
    handle = files.open(inode, os.O_RDWR)
    marker = await objects.delete("box", "f")
    await handle.write(0, b"unseen")
    await objects.delete("box", "f", version=marker.version_id)
    await handle.release()
    assert files.lookup(box(files), b"f").id != inode
    assert await history(opened, "f") == [b"old"]


@pytest.mark.parametrize("state", [enable, suspend])
async def test_what_the_kernel_holds_does_not_become_the_version_itself(
    opened: Opened, state: Callable[[Opened], Awaitable[None]]
) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"1" * LARGE)
    kernel = Kernel([inode])
    opened.namespace.set_invalidator(kernel)
    await state(opened)
    runs = opened.chunks.run_ids
    await put(opened, "f", b"put")
    assert await history(opened, "f") == [b"put", b"1" * LARGE]
    handle = files.open(inode, os.O_RDWR)
    await handle.write(0, b"2")
    await handle.release()
    kernel.held.clear()
    files.forgotten([inode])
    with pytest.raises(NoSuchEntry):
        files.attributes(inode)
    assert await history(opened, "f") == [b"put", b"1" * LARGE]
    assert runs <= opened.chunks.run_ids
    opened.namespace.set_invalidator(None)


@pytest.mark.parametrize("size", [3, LARGE])
async def test_truncating_by_path_makes_a_version(opened: Opened, size: int) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"x" * size)
    runs = opened.chunks.run_ids
    await files.change(inode, Changes(size=1))
    await files.change(inode, Changes(size=0))
    await files.change(inode, Changes(size=2))
    await files.change(inode, Changes(size=2))
    assert await history(opened, "f") == [b"\0\0", b"", b"x", b"x" * size]
    assert opened.chunks.run_ids == runs


async def test_emptying_at_open_is_a_version_at_close(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"full")
    handle = files.open(inode, os.O_WRONLY | os.O_TRUNC)
    assert await history(opened, "f") == [b"full"]
    await handle.release()
    assert await history(opened, "f") == [b"", b"full"]


async def test_mknod_is_a_version_also_where_a_null_marker_stands(opened: Opened) -> None:
    files = opened.namespace.files
    await put(opened, "f", b"1")
    await suspend(opened)
    await opened.namespace.objects.delete("box", "f")
    files.mknod(box(files), b"f", stat.S_IFREG | 0o644, 0, CALLER)
    assert await history(opened, "f") == [b"", b"1"]
    assert (await ids(opened, "f"))[0] == "null"


async def test_attributes_belong_to_the_version(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"1")
    files.setxattr(inode, b"user.note", b"first", 0)
    files.setxattr(inode, b"user.s3.meta.colour", b"blue", 0)
    old = (await ids(opened, "f"))[0]
    assert files.getxattr(inode, b"user.s3.version-id") == old.encode()
    await overwrite(opened, inode, b"2")
    files.setxattr(inode, b"user.note", b"second", 0)
    files.setxattr(inode, b"user.s3.meta.colour", b"red", 0)
    objects = opened.namespace.objects
    assert objects.stat("box", "f", old).meta.user == {"colour": "blue"}
    await objects.delete("box", "f", version=(await ids(opened, "f"))[0])
    back = files.lookup(box(files), b"f").id
    assert files.getxattr(back, b"user.note") == b"first"
    assert files.getxattr(back, b"user.s3.version-id") == old.encode()


async def test_the_version_id_is_read_only_and_there_only_with_versions(opened: Opened) -> None:
    files = opened.namespace.files
    await opened.namespace.buckets.create("plain", "owner")
    plain = await made(files, files.lookup(ROOT, b"plain").id, b"f", b"1")
    with pytest.raises(NoSuchAttribute):
        files.getxattr(plain, b"user.s3.version-id")
    await enable(opened, "plain")
    assert files.getxattr(plain, b"user.s3.version-id") == b"null"
    with pytest.raises(Denied):
        files.setxattr(plain, b"user.s3.version-id", b"mine", 0)
    with pytest.raises(Denied):
        files.removexattr(plain, b"user.s3.version-id")


# -- unlink, link --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, LARGE])
async def test_unlink_leaves_a_version_under_a_marker(opened: Opened, size: int) -> None:
    files = opened.namespace.files
    await made(files, box(files), b"f", b"x" * size)
    runs = opened.chunks.run_ids
    files.unlink(box(files), b"f")
    assert await history(opened, "f") == [MARKER, b"x" * size]
    assert listed(files, box(files)) == []
    assert opened.chunks.run_ids == runs
    await made(files, box(files), b"f", b"again")
    assert await history(opened, "f") == [b"again", MARKER, b"x" * size]


async def test_unlink_of_a_file_never_published_leaves_nothing(opened: Opened) -> None:
    files = opened.namespace.files
    handle, _ = files.create(box(files), b"f", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, b"x")
    files.unlink(box(files), b"f")
    await handle.release()
    assert await entries(opened.namespace) == []


async def test_unlink_while_suspended_takes_the_null_version(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"kept")
    await suspend(opened)
    await overwrite(opened, inode, b"null")
    files.unlink(box(files), b"f")
    assert await history(opened, "f") == [MARKER, b"kept"]
    await made(files, box(files), b"f", b"null again")
    assert await history(opened, "f") == [b"null again", b"kept"]


async def test_a_write_is_a_version_of_every_hard_link(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"a", b"1" * LARGE)
    files.link(inode, box(files), b"b")
    assert await ids(opened, "a") == await ids(opened, "b")
    runs = opened.chunks.run_ids
    await overwrite(opened, inode, b"2")
    for key in ("a", "b"):
        assert await history(opened, key) == [b"2", b"1" * LARGE]
    assert opened.chunks.run_ids == runs
    files.unlink(box(files), b"a")
    assert await history(opened, "a") == [MARKER, b"2", b"1" * LARGE]
    assert await history(opened, "b") == [b"2", b"1" * LARGE]
    # Removing versions of one takes nothing from the other.
    for version_id in await ids(opened, "a"):
        await opened.namespace.objects.delete("box", "a", version=version_id)
    assert await history(opened, "b") == [b"2", b"1" * LARGE]


async def test_a_link_to_where_the_same_version_was_gets_another_id(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"a", b"1")
    files.link(inode, box(files), b"b")
    files.unlink(box(files), b"b")
    files.link(inode, box(files), b"b")
    assert await history(opened, "b") == [b"1", MARKER, b"1"]
    assert len(set(await ids(opened, "b"))) == 3
    assert await object_bytes(opened.namespace, "a") == b"1"


async def test_more_than_a_thousand_hard_links_all_get_their_version(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"1")
    for number in range(1005):
        files.link(inode, box(files), b"l%04d" % number)
    await overwrite(opened, inode, b"2")
    found = await entries(opened.namespace)
    assert len(found) == 2 * 1006


# -- rename --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, LARGE])
async def test_rename_leaves_a_marker_and_makes_a_version(opened: Opened, size: int) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"s", b"s" * size)
    old = await ids(opened, "s")
    runs = opened.chunks.run_ids
    await files.rename(box(files), b"s", box(files), b"t", 0)
    assert files.lookup(box(files), b"t").id == inode
    assert await history(opened, "s") == [MARKER, b"s" * size]
    assert (await ids(opened, "s"))[1:] == old
    assert await history(opened, "t") == [b"s" * size]
    assert await ids(opened, "t") != old
    assert opened.chunks.run_ids == runs


async def test_rename_over_a_file_keeps_it_as_a_version(opened: Opened) -> None:
    files = opened.namespace.files
    await made(files, box(files), b"t", b"old")
    for number in range(3):
        await made(files, box(files), b"t.new", b"%d" % number)
        await files.rename(box(files), b"t.new", box(files), b"t", 0)
    assert await history(opened, "t") == [b"2", b"1", b"0", b"old"]
    assert await history(opened, "t.new") == [MARKER, b"2", MARKER, b"1", MARKER, b"0"]
    assert await keys(opened) == ["t"]


async def test_rename_of_an_open_file_publishes_it_and_what_follows_is_a_version(
    opened: Opened,
) -> None:
    files = opened.namespace.files
    handle, _ = files.create(box(files), b"s", 0o644, os.O_RDWR, CALLER)
    await handle.write(0, b"1")
    await files.rename(box(files), b"s", box(files), b"t", 0)
    assert await history(opened, "t") == [b"1"]
    await handle.write(0, b"2")
    await handle.release()
    assert await history(opened, "t") == [b"2", b"1"]
    assert await history(opened, "s") == [MARKER, b"1"]


async def test_rename_while_suspended_moves_the_null_version(opened: Opened) -> None:
    files = opened.namespace.files
    await put(opened, "t", b"kept")
    await suspend(opened)
    await made(files, box(files), b"s", b"null")
    await files.rename(box(files), b"s", box(files), b"t", 0)
    assert await history(opened, "s") == [MARKER]
    assert await history(opened, "t") == [b"null", b"kept"]
    assert (await ids(opened, "t"))[0] == "null"


@pytest.mark.parametrize("held", [False, True])
async def test_rename_to_a_bucket_of_other_settings(opened: Opened, held: bool) -> None:
    files = opened.namespace.files
    await opened.namespace.buckets.create("plain", "owner")
    plain = files.lookup(ROOT, b"plain").id
    inode = await made(files, box(files), b"f", b"1")
    if held:
        opened.namespace.set_invalidator(Kernel([inode]))
    await files.rename(box(files), b"f", plain, b"f", 0)
    assert await history(opened, "f") == [MARKER, b"1"]
    assert await history(opened, "f", "plain") == [b"1"]
    assert await ids(opened, "f", "plain") == ["null"]
    await made(files, box(files), b"g", b"old")
    await files.rename(plain, b"f", box(files), b"g", 0)
    assert await history(opened, "g") == [b"1", b"old"]
    assert "null" not in await ids(opened, "g")
    assert await entries(opened.namespace, bucket="plain") == []
    opened.namespace.set_invalidator(None)


async def test_a_hard_link_renamed_keeps_the_bytes_under_each_key(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"a", b"1")
    files.link(inode, box(files), b"b")
    await files.rename(box(files), b"a", box(files), b"c", 0)
    assert await history(opened, "a") == [MARKER, b"1"]
    assert (await history(opened, "b"))[0] == b"1"
    assert await history(opened, "c") == [b"1"]
    # Two names of one inode: nothing happens.
    before = await entries(opened.namespace)
    await files.rename(box(files), b"b", box(files), b"c", 0)
    assert await entries(opened.namespace) == before


async def test_an_exchange_is_a_version_of_both(opened: Opened) -> None:
    files = opened.namespace.files
    await made(files, box(files), b"a", b"1")
    await made(files, box(files), b"b", b"2")
    await files.rename(box(files), b"a", box(files), b"b", RENAME_EXCHANGE)
    assert await history(opened, "a") == [b"2", b"1"]
    assert await history(opened, "b") == [b"1", b"2"]


async def test_an_exchange_of_a_directory_is_left_to_programs(opened: Opened) -> None:
    files = opened.namespace.files
    await made(files, box(files), b"a", b"1")
    files.mkdir(box(files), b"d", 0o755, CALLER)
    with pytest.raises(CrossBucket):
        await files.rename(box(files), b"a", box(files), b"d", RENAME_EXCHANGE)


async def test_a_link_renamed_over_an_object_hides_its_history(opened: Opened) -> None:
    files = opened.namespace.files
    await made(files, box(files), b"f", b"1")
    files.symlink(box(files), b"l", b"nowhere", CALLER)
    await files.rename(box(files), b"l", box(files), b"f", 0)
    assert await keys(opened) == []
    assert await history(opened, "f") == [b"1"]
    await files.rename(box(files), b"f", box(files), b"l", 0)
    assert await history(opened, "f") == [MARKER, b"1"]


@pytest.mark.parametrize("name", ["d", "dé", "d%"])
async def test_a_directory_takes_the_history_below_along(opened: Opened, name: str) -> None:
    files = opened.namespace.files
    for value in (b"1", b"2"):
        await put(opened, f"{name}/x", value)
        await put(opened, f"{name}/e/y", value)
    await opened.namespace.objects.delete("box", f"{name}/e/y")
    await put(opened, f"{name}0", b"beside")
    before = [await ids(opened, f"{name}/x"), await ids(opened, f"{name}/e/y")]
    await files.rename(box(files), name.encode(), box(files), "née".encode(), 0)
    assert await history(opened, "née/x") == [b"2", b"1"]
    assert await history(opened, "née/e/y") == [MARKER, b"2", b"1"]
    assert [await ids(opened, "née/x"), await ids(opened, "née/e/y")] == before
    assert [entry.key for entry in await entries(opened.namespace, f"{name}/x")] == []
    assert await history(opened, f"{name}0") == [b"beside"]


async def test_the_object_of_a_directorys_own_key_makes_a_version_when_it_moves(
    opened: Opened,
) -> None:
    files = opened.namespace.files
    await put(opened, "d", b"body")
    await put(opened, "d/x", b"below")
    await files.rename(box(files), b"d", box(files), b"e", 0)
    assert await history(opened, "d") == [MARKER, b"body"]
    assert await history(opened, "e") == [b"body"]
    assert await history(opened, "e/x") == [b"below"]


async def test_a_directory_joins_the_history_left_at_its_new_name(opened: Opened) -> None:
    files = opened.namespace.files
    await put(opened, "new/x", b"1")
    await opened.namespace.objects.delete("box", "new/x")
    await put(opened, "old/x", b"2")
    await put(opened, "old/x", b"3")
    await files.rename(box(files), b"old", box(files), b"new", 0)
    assert await history(opened, "new/x") == [b"3", b"2", MARKER, b"1"]


async def test_a_directory_does_not_give_a_key_two_null_versions(opened: Opened) -> None:
    files = opened.namespace.files
    await suspend(opened)
    for key in ("new/x", "old/x"):
        await put(opened, key, key.encode())
    await enable(opened)
    await opened.namespace.objects.delete("box", "new/x")
    with pytest.raises(CrossBucket):
        await files.rename(box(files), b"old", box(files), b"new", 0)
    assert await history(opened, "new/x") == [MARKER, b"new/x"]
    assert await history(opened, "old/x") == [b"old/x"]


# -- directories and buckets ---------------------------------------------------------------


async def test_rmdir_leaves_the_history_and_a_restored_key_brings_its_directory(
    opened: Opened,
) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    directory = files.mkdir(box(files), b"d", 0o755, CALLER).id
    await made(files, directory, b"f", b"1")
    with pytest.raises(DirectoryNotEmpty):
        files.rmdir(box(files), b"d")
    files.unlink(directory, b"f")
    files.rmdir(box(files), b"d")
    marker = (await ids(opened, "d/f"))[0]
    await objects.delete("box", "d/f", version=marker)
    back = files.lookup(files.lookup(box(files), b"d").id, b"f").id
    assert await contents(files, back) == b"1"
    await objects.delete("box", "d/f")
    assert listed(files, box(files)) == []


async def test_the_marker_of_a_directory_that_goes_is_a_version(opened: Opened) -> None:
    files = opened.namespace.files
    old = await put_id(opened, "d/", b"")
    files.rmdir(box(files), b"d")
    assert await history(opened, "d/") == [MARKER, b""]
    assert (await ids(opened, "d/"))[1] == old


async def test_a_bucket_with_history_is_not_empty(opened: Opened) -> None:
    files = opened.namespace.files
    await made(files, box(files), b"f", b"1")
    files.unlink(box(files), b"f")
    with pytest.raises(BucketNotEmpty):
        files.rmdir(ROOT, b"box")
    for version_id in await ids(opened, "f"):
        await opened.namespace.objects.delete("box", "f", version=version_id)
    files.rmdir(ROOT, b"box")


async def test_nothing_of_versions_shows_as_a_name(opened: Opened) -> None:
    files = opened.namespace.files
    await made(files, box(files), b"f", b"1")
    await put(opened, "f", b"2")
    await opened.namespace.objects.delete("box", "gone")
    await opened.namespace.uploads.create("box", "u", ObjectMeta())
    assert listed(files, box(files)) == [b"f"]
    assert listed(files, ROOT) == [b"box"]


async def test_a_file_without_a_name_never_takes_a_version_with_it(opened: Opened) -> None:
    """A PUT that is undone leaves the inode it would have replaced in memory as nameless."""
    files, buckets = opened.namespace.files, opened.namespace.buckets
    inode = await made(files, box(files), b"f", b"1")
    kernel = Kernel([inode])
    opened.namespace.set_invalidator(kernel)
    await buckets.set_quota("box", 10)
    body = BytesBody(b"x" * 20, sized=False)
    with pytest.raises(QuotaExceeded):
        await opened.namespace.objects.put("box", "f", body, ObjectMeta())
    assert await history(opened, "f") == [b"1"]
    await buckets.set_quota("box", None)
    kernel.held.clear()
    await put(opened, "f", b"2")
    files.forgotten([inode])
    assert await history(opened, "f") == [b"2", b"1"]
    opened.namespace.set_invalidator(None)
