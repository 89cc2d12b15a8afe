"""rename(2), case by case, with S3 looking on."""

from __future__ import annotations

import os
import stat

import pytest

from metadb.records import ROOT, InodeId
from store import errors
from store.files import Files
from store.renames import RENAME_EXCHANGE, RENAME_NOREPLACE
from store.types import ObjectMeta
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import CALLER, box, broken, contents, listed, made, object_bytes

KINDS = ("nothing", "file", "link", "directory", "full", "with body", "fifo")


async def _make(opened: Opened, name: bytes, kind: str) -> InodeId | None:
    """Something of this kind; `full` has an entry, `with body` an object of its own key (R1)."""
    files, parent = opened.namespace.files, box(opened.namespace.files)
    if kind == "file":
        return await made(files, parent, name, b"content of " + name)
    if kind == "link":
        return files.symlink(parent, name, b"elsewhere", CALLER).id
    if kind == "fifo":
        return files.mknod(parent, name, stat.S_IFIFO | 0o600, 0, CALLER).id
    if kind == "nothing":
        return None
    row = files.mkdir(parent, name, 0o755, CALLER)
    if kind == "full":
        await made(files, row.id, b"below", b"below " + name)
    if kind == "with body":
        await made(files, row.id, b"%tf.data", b"body of " + name)
    return row.id


def _outcome(source: str, target: str) -> type[errors.StoreError] | None:
    """What rename(2) says of flags 0; None: it works."""
    if source == "nothing":
        return errors.NoSuchEntry
    is_directory = source in ("directory", "full", "with body")
    if target in ("nothing",):
        return None
    if target in ("directory", "full", "with body"):
        if not is_directory:
            return errors.IsDirectory
        return None if target == "directory" else errors.DirectoryNotEmpty
    return errors.NotDirectory if is_directory else None


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
async def test_a_rename_does_what_the_man_page_says(
    opened: Opened, source: str, target: str
) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    moved = await _make(opened, b"s", source)
    kept = await _make(opened, b"t", target)
    expected = _outcome(source, target)
    if expected is not None:
        before = listed(files, parent)
        with pytest.raises(expected):
            await files.rename(parent, b"s", parent, b"t", 0)
        assert listed(files, parent) == before
    else:
        await files.rename(parent, b"s", parent, b"t", 0)
        assert listed(files, parent) == [b"t"]
        assert files.lookup(parent, b"t").id == moved
        if kept is not None:
            with pytest.raises(errors.NoSuchEntry):
                files.attributes(kept)
        if source == "file":
            assert await object_bytes(opened.namespace, "t") == b"content of s"
        if source == "full":
            assert await object_bytes(opened.namespace, "t/below") == b"below s"
        if source == "with body":
            assert await object_bytes(opened.namespace, "t") == b"body of s"
            assert moved is not None
            assert listed(files, moved) == [b"%tf.data"]
    assert not broken(opened.namespace)


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
async def test_an_exchange_swaps_whatever_is_there(
    opened: Opened, source: str, target: str
) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    one = await _make(opened, b"s", source)
    below = files.mkdir(parent, b"d", 0o755, CALLER).id
    other = await _make(opened, b"t", target)
    if "nothing" not in (source, target):
        await files.rename(parent, b"t", below, b"t", 0)
    if one is None or other is None:
        with pytest.raises(errors.NoSuchEntry):
            await files.rename(parent, b"s", below, b"t", RENAME_EXCHANGE)
    else:
        await files.rename(parent, b"s", below, b"t", RENAME_EXCHANGE)
        assert files.lookup(parent, b"s").id == other
        assert files.lookup(below, b"t").id == one
        if source == "with body":
            assert await object_bytes(opened.namespace, "d/t") == b"body of s"
    assert not broken(opened.namespace)


@pytest.mark.parametrize("target", KINDS)
async def test_noreplace_leaves_what_is_there(opened: Opened, target: str) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    await _make(opened, b"s", "file")
    kept = await _make(opened, b"t", target)
    if kept is None:
        await files.rename(parent, b"s", parent, b"t", RENAME_NOREPLACE)
    else:
        with pytest.raises(errors.EntryExists):
            await files.rename(parent, b"s", parent, b"t", RENAME_NOREPLACE)
        assert files.lookup(parent, b"t").id == kept


@pytest.mark.parametrize("flags", [RENAME_NOREPLACE | RENAME_EXCHANGE, 4, 128])
async def test_other_flags_are_refused(opened: Opened, flags: int) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    await _make(opened, b"s", "file")
    with pytest.raises(errors.InvalidArgument):
        await files.rename(parent, b"s", parent, b"t", flags)


async def test_two_names_of_one_inode_both_stay(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    inode = await made(files, parent, b"s", b"x")
    files.link(inode, parent, b"t")
    await files.rename(parent, b"s", parent, b"t", 0)
    assert listed(files, parent) == [b"s", b"t"]
    assert files.attributes(inode).nlink == 2


async def test_a_directory_does_not_go_below_itself(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    a = files.mkdir(parent, b"a", 0o755, CALLER).id
    b = files.mkdir(a, b"b", 0o755, CALLER).id
    for below in (a, b):
        with pytest.raises(errors.LinkLoop):
            await files.rename(parent, b"a", below, b"x", 0)
    with pytest.raises(errors.LinkLoop):
        await files.rename(parent, b"a", a, b"b", RENAME_EXCHANGE)
    with pytest.raises(errors.LinkLoop):
        await files.rename(a, b"b", parent, b"a", RENAME_EXCHANGE)
    with pytest.raises(errors.DirectoryNotEmpty):
        await files.rename(a, b"b", parent, b"a", 0)
    assert not broken(opened.namespace)


async def test_a_directory_moves_with_all_below_and_its_body(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    parent = box(files)
    await objects.put("box", "a", BytesBody(b"body"), ObjectMeta())
    await objects.put("box", "a/b/c", BytesBody(b"deep"), ObjectMeta())
    other = files.mkdir(parent, b"other", 0o755, CALLER).id
    await files.rename(parent, b"a", other, b"z", 0)
    page = await opened.namespace.listing.objects("box")
    assert [entry if isinstance(entry, str) else entry.key for entry in page.entries] == [
        "other/z",
        "other/z/b/c",
    ]
    assert listed(files, parent) == [b"other"]
    assert files.attributes(other).nlink == 3
    assert files.lookup(files.lookup(other, b"z").id, b"..").id == other
    assert not broken(opened.namespace)


async def test_the_body_can_be_renamed_by_itself(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    parent = box(files)
    await objects.put("box", "a", BytesBody(b"body"), ObjectMeta())
    await objects.put("box", "a/b", BytesBody(b"b"), ObjectMeta())
    directory = files.lookup(parent, b"a").id
    await files.rename(directory, b"%tf.data", parent, b"x", 0)
    assert await object_bytes(opened.namespace, "x") == b"body"
    with pytest.raises(errors.NoSuchKey):
        objects.stat("box", "a")
    await files.rename(parent, b"x", directory, b"%tf.data", 0)
    assert await object_bytes(opened.namespace, "a") == b"body"
    files.mkdir(parent, b"d", 0o755, CALLER)
    with pytest.raises(errors.NotDirectory):
        await files.rename(parent, b"d", directory, b"%tf.data", 0)
    files.unlink(directory, b"%tf.data")
    with pytest.raises(errors.InvalidName):
        await files.rename(parent, b"d", directory, b"%tf.data", 0)


async def test_a_plain_file_goes_to_another_bucket_a_directory_does_not(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    await opened.namespace.buckets.create("other", "owner")
    other = files.lookup(ROOT, b"other").id
    inode = await made(files, parent, b"f", b"x" * 20_000)
    files.mkdir(parent, b"d", 0o755, CALLER)
    with pytest.raises(errors.CrossBucket):
        await files.rename(parent, b"d", other, b"d", 0)
    await files.rename(parent, b"f", other, b"f", 0)
    assert await object_bytes(opened.namespace, "f", "other") == b"x" * 20_000
    assert files.attributes(inode).bucket == other
    files.link(inode, other, b"g")
    with pytest.raises(errors.CrossBucket):
        await files.rename(other, b"g", parent, b"g", 0)
    with pytest.raises(errors.CrossBucket):
        files.link(inode, parent, b"h")
    assert not broken(opened.namespace)


async def test_buckets_are_not_renamed_and_nothing_becomes_one(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    files.mkdir(parent, b"dir", 0o755, CALLER)
    await made(files, parent, b"file")
    for arguments in ((ROOT, b"box", ROOT, b"new"), (parent, b"dir", ROOT, b"new")):
        with pytest.raises(errors.Denied):
            await files.rename(*arguments, 0)
    with pytest.raises(errors.Denied):
        await files.rename(parent, b"file", ROOT, b"new", 0)


async def test_the_source_is_published_by_the_rename(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    await made(files, parent, b"t", b"old")
    handle, _ = files.create(parent, b"s", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, b"new")
    await files.rename(parent, b"s", parent, b"t", 0)
    assert await object_bytes(opened.namespace, "t") == b"new"
    await handle.release()


async def test_an_open_file_that_was_replaced_keeps_its_bytes(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    old = await made(files, parent, b"t", b"o" * 20_000)
    handle = files.open(old, os.O_RDONLY)
    await made(files, parent, b"s", b"new")
    await files.rename(parent, b"s", parent, b"t", 0)
    assert await contents(files, files.lookup(parent, b"t").id) == b"new"
    found = await handle.read(0, 20_000)
    assert b"".join(found) == b"o" * 20_000
    await handle.release()
    assert not broken(opened.namespace)


async def test_an_implicit_directory_that_lost_its_last_entry_stays(opened: Opened) -> None:
    files: Files = opened.namespace.files
    await opened.namespace.objects.put("box", "a/b", BytesBody(b"x"), ObjectMeta())
    a = files.lookup(box(files), b"a").id
    await files.rename(a, b"b", box(files), b"b", 0)
    assert listed(files, box(files)) == [b"a", b"b"]
    await opened.namespace.objects.put("box", "a/c", BytesBody(b"x"), ObjectMeta())
    await opened.namespace.objects.delete("box", "a/c")
    assert listed(files, box(files)) == [b"a", b"b"]
