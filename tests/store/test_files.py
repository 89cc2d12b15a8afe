"""Making, changing and removing through the mount's side, and what S3 sees of it."""

from __future__ import annotations

import os
import stat

import pytest

from metadb import changes
from metadb.records import IMPLICIT, ROOT
from store import errors
from store.files import Caller, Changes
from store.types import ObjectMeta
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import CALLER, box, broken, contents, listed, made, object_bytes


async def test_a_bucket_is_a_directory_of_the_root(opened: Opened) -> None:
    files, buckets = opened.namespace.files, opened.namespace.buckets
    row = files.mkdir(ROOT, b"made-here", 0o700, CALLER)
    assert (stat.S_IMODE(row.mode), row.uid, row.gid) == (0o700, 1000, 100)
    assert buckets.get("made-here").id == row.id
    with pytest.raises(errors.BucketExists):
        files.mkdir(ROOT, b"made-here", 0o700, CALLER)
    for name in (b"Bad_Name", b"x", b"\xff\xff\xff", b"%tf.data"):
        with pytest.raises(errors.InvalidBucketName):
            files.mkdir(ROOT, name, 0o700, CALLER)
    inner = files.mkdir(row.id, b"d", 0o755, CALLER)
    with pytest.raises(errors.BucketNotEmpty):
        files.rmdir(ROOT, b"made-here")
    files.rmdir(row.id, b"d")
    files.rmdir(ROOT, b"made-here")
    with pytest.raises(errors.NoSuchBucket):
        buckets.get("made-here")
    with pytest.raises(errors.NoSuchEntry):
        files.attributes(inner.id)
    with pytest.raises(errors.NoSuchEntry):
        files.rmdir(ROOT, b"made-here")
    assert not broken(opened.namespace)


async def test_nothing_but_buckets_stands_in_the_root(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f")
    with pytest.raises(errors.Denied):
        files.create(ROOT, b"file", 0o644, os.O_WRONLY, CALLER)
    with pytest.raises(errors.Denied):
        files.symlink(ROOT, b"link", b"box", CALLER)
    with pytest.raises(errors.Denied):
        files.mknod(ROOT, b"fifo", stat.S_IFIFO, 0, CALLER)
    with pytest.raises(errors.Denied):
        files.link(inode, ROOT, b"file")
    with pytest.raises(errors.IsDirectory):
        files.unlink(ROOT, b"box")


async def test_create_opens_what_is_there_unless_told_not_to(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    inode = await made(files, parent, b"f", b"abc")
    with pytest.raises(errors.EntryExists):
        files.create(parent, b"f", 0o644, os.O_WRONLY | os.O_EXCL, CALLER)
    handle, row = files.create(parent, b"f", 0o600, os.O_RDWR, CALLER)
    assert (row.id, row.size, stat.S_IMODE(row.mode)) == (inode, 3, 0o644)
    await handle.release()
    handle, row = files.create(parent, b"f", 0o600, os.O_RDWR | os.O_TRUNC, CALLER)
    assert row.size == 0
    await handle.release()
    assert await object_bytes(opened.namespace, "f") == b""
    files.mkdir(parent, b"d", 0o755, CALLER)
    with pytest.raises(errors.IsDirectory):
        files.create(parent, b"d", 0o600, os.O_WRONLY, CALLER)


async def test_owner_and_mode_of_new_entries(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    caller = Caller(uid=7, gid=8, umask=0o027)
    shared = files.mkdir(parent, b"shared", 0o777, caller)
    assert stat.S_IMODE(shared.mode) == 0o750
    await files.change(shared.id, Changes(mode=0o2775, gid=55))
    handle, row = files.create(shared.id, b"f", 0o666, os.O_WRONLY, caller)
    await handle.release()
    assert (row.uid, row.gid, stat.S_IMODE(row.mode)) == (7, 55, 0o640)
    below = files.mkdir(shared.id, b"d", 0o755, caller)
    assert (below.gid, stat.S_IMODE(below.mode)) == (55, 0o2750)


async def test_a_change_of_owner_clears_the_set_id_bits(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    inode = await made(files, parent, b"f")
    await files.change(inode, Changes(mode=0o6755))
    assert stat.S_IMODE((await files.change(inode, Changes(uid=5))).mode) == 0o755
    await files.change(inode, Changes(mode=0o2644))
    assert stat.S_IMODE((await files.change(inode, Changes(gid=5))).mode) == 0o2644
    row = await files.change(inode, Changes(mode=0o4755, uid=6))
    assert (stat.S_IMODE(row.mode), row.uid, row.gid) == (0o4755, 6, 5)
    directory = files.mkdir(parent, b"d", 0o755, CALLER).id
    await files.change(directory, Changes(mode=0o2755))
    assert stat.S_IMODE((await files.change(directory, Changes(gid=9))).mode) == 0o2755


async def test_times_are_set_to_the_nanosecond(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f")
    await files.change(inode, Changes(atime_ns=-1, mtime_ns=1_234_567_890_123_456_789))
    row = files.attributes(inode)
    assert (row.atime_ns, row.mtime_ns) == (-1, 1_234_567_890_123_456_789)
    assert row.ctime_ns > row.mtime_ns
    assert (await files.change(inode, Changes(ctime_ns=42))).ctime_ns == 42


async def test_special_files_are_no_keys(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    kinds = {b"fifo": stat.S_IFIFO, b"socket": stat.S_IFSOCK, b"null": stat.S_IFCHR}
    for name, kind in kinds.items():
        row = files.mknod(parent, name, kind | 0o600, 259, CALLER)
        assert (stat.S_IFMT(row.mode), row.rdev) == (kind, 259)
        with pytest.raises(errors.NoSuchKey):
            opened.namespace.objects.stat("box", name.decode())
        with pytest.raises(errors.InvalidArgument):
            files.open(row.id, os.O_RDONLY)
    with pytest.raises(errors.InvalidArgument):
        files.mknod(parent, b"d", stat.S_IFDIR | 0o755, 0, CALLER)
    files.mknod(parent, b"plain", stat.S_IFREG | 0o600, 0, CALLER)
    assert opened.namespace.objects.stat("box", "plain").size == 0


async def test_a_symbolic_link_is_read_back(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    await made(files, parent, b"f", b"abc")
    row = files.symlink(parent, b"l", b"f", CALLER)
    assert (files.readlink(row.id), row.size) == (b"f", 1)
    assert await object_bytes(opened.namespace, "l") == b"abc"
    with pytest.raises(errors.InvalidArgument):
        files.readlink(files.lookup(parent, b"f").id)
    with pytest.raises(errors.NameTooLong):
        files.symlink(parent, b"m", b"x" * 4096, CALLER)


async def test_hard_links_are_keys_that_share_their_bytes(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    inode = await made(files, parent, b"a", b"one")
    assert files.link(inode, parent, b"b").nlink == 2
    handle = files.open(inode, os.O_WRONLY)
    await handle.write(0, b"two")
    await handle.release()
    stats = [opened.namespace.objects.stat("box", key) for key in "ab"]
    assert stats[0].etag == stats[1].etag
    assert await object_bytes(opened.namespace, "b") == b"two"
    await opened.namespace.objects.put("box", "a", BytesBody(b"three"), ObjectMeta())
    assert await object_bytes(opened.namespace, "b") == b"two"
    files.unlink(parent, b"b")
    with pytest.raises(errors.NoSuchEntry):
        files.attributes(inode)
    with pytest.raises(errors.Denied):
        files.link(files.mkdir(parent, b"d", 0o755, CALLER).id, parent, b"e")
    assert not broken(opened.namespace)


async def test_what_the_mount_notices_is_not_pruned(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    parent = box(files)
    for key in ("plain/x", "moded/x", "filled/x", "emptied/x", "made/x"):
        await objects.put("box", key, BytesBody(b"x"), ObjectMeta())
    row = files.lookup(parent, b"moded")
    assert row.flags & IMPLICIT
    assert not (await files.change(row.id, Changes(mode=0o700))).flags & ~IMPLICIT
    await made(files, files.lookup(parent, b"filled").id, b"y")
    files.unlink(files.lookup(parent, b"filled").id, b"y")
    files.unlink(files.lookup(parent, b"emptied").id, b"x")
    sub = files.mkdir(files.lookup(parent, b"made").id, b"sub", 0o755, CALLER)
    files.rmdir(files.lookup(parent, b"made").id, b"sub")
    assert sub.parent == files.lookup(parent, b"made").id
    for key in ("plain/x", "moded/x", "filled/x", "made/x"):
        await objects.delete("box", key)
    assert listed(files, parent) == [b"emptied", b"filled", b"made", b"moded"]


async def test_missing_names_and_inodes(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    for call in (files.lookup, files.unlink, files.rmdir):
        with pytest.raises(errors.NoSuchEntry):
            call(parent, b"missing")
        with pytest.raises(errors.NameTooLong):
            call(parent, b"x" * 256)
    with pytest.raises(errors.NoSuchEntry):
        await files.rename(parent, b"missing", parent, b"x", 0)
    await made(files, parent, b"f")
    with pytest.raises(errors.NotDirectory):
        files.rmdir(parent, b"f")
    assert files.lookup(parent, b".").id == parent
    assert files.lookup(parent, b"..").id == ROOT
    assert files.lookup(ROOT, b"..").id == ROOT


async def test_every_mutation_is_in_the_outbox(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    before = opened.engine.read(changes.last)
    inode = await made(files, parent, b"f", b"x")
    files.link(inode, parent, b"g")
    files.symlink(parent, b"l", b"f", CALLER)
    directory = files.mkdir(parent, b"d", 0o755, CALLER).id
    await files.rename(parent, b"l", directory, b"m", 0)
    await files.change(directory, Changes(mode=0o700))
    files.unlink(directory, b"m")
    files.rmdir(parent, b"d")
    files.setxattr(inode, b"user.a", b"1", 0)
    rows = [(row[2], row[5]) for row in opened.engine.read(changes.since, before, 100)]
    assert rows == [
        ("create", b"f"),
        ("publish", b"f"),
        ("link", b"g"),
        ("symlink", b"l"),
        ("mkdir", b"d"),
        ("rename", b"m"),
        ("attributes", b"d"),
        ("delete", b"m"),
        ("rmdir", b"d"),
        ("attributes", b"f"),
        ("attributes", b"g"),
    ]


async def test_long_names_and_their_directory_twins(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    long = "z" * 300
    await objects.put("box", long + "/below", BytesBody(b"below"), ObjectMeta())
    (name,) = listed(files, box(files))
    directory = files.lookup(box(files), name)
    assert listed(files, directory.id) == [b"below"]
    files.unlink(directory.id, b"below")
    files.rmdir(box(files), name)
    with pytest.raises(errors.NoSuchEntry):
        files.lookup(box(files), name)
    assert not broken(opened.namespace)


async def test_the_object_and_the_directory_of_one_long_name(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    long = "z" * 300
    await objects.put("box", long, BytesBody(b"body"), ObjectMeta())
    await objects.put("box", long + "/below", BytesBody(b"below"), ObjectMeta())
    (name,) = listed(files, box(files))
    directory = files.lookup(box(files), name).id
    assert listed(files, directory) == [b"%tf.data", b"below"]
    assert await contents(files, files.lookup(directory, b"%tf.data").id) == b"body"


async def test_capacity_counts_what_is_stored(opened: Opened) -> None:
    files = opened.namespace.files
    before = files.statfs()
    await made(files, box(files), b"f", bytes(1 << 20))
    after = files.statfs()
    assert before.blocks_free - after.blocks_free == (1 << 20) // after.block_bytes
    assert (after.block_bytes, after.name_bytes_max) == (4096, 255)
    assert after.files - after.files_free == before.files - before.files_free + 1


async def test_set_id_bits_are_cleared_where_that_is_left_to_us(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"x")
    for before, after in ((0o6777, 0o777), (0o4644, 0o644), (0o2755, 0o755), (0o2644, 0o2644)):
        await files.change(inode, Changes(mode=before))
        files.clear_set_id(inode)
        assert stat.S_IMODE(files.attributes(inode).mode) == after
        await files.change(inode, Changes(mode=before))
        await files.open(inode, os.O_WRONLY | os.O_TRUNC).release()
        assert stat.S_IMODE(files.attributes(inode).mode) == before
        await files.open(inode, os.O_WRONLY | os.O_TRUNC, clear_set_id=True).release()
        assert stat.S_IMODE(files.attributes(inode).mode) == after
