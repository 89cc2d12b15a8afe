"""Listing on the mount: what is shown, and cookies that hold."""

from __future__ import annotations

import os

import pytest

from metadb.records import ROOT
from store import directories, errors
from store.types import ObjectMeta
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import CALLER, box, broken, contents, listed, made, object_bytes


async def _put(opened: Opened, key: str, content: bytes = b"x") -> None:
    await opened.namespace.objects.put("box", key, BytesBody(content), ObjectMeta())


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_give_every_name_once_in_listing_order(opened: Opened, limit: int) -> None:
    files = opened.namespace.files
    for key in ("b", "a", "d/x", "d", "a.b", "c/y"):
        await _put(opened, key)
    assert listed(files, box(files), limit) == [b"a", b"a.b", b"b", b"c", b"d"]
    d = files.lookup(box(files), b"d").id
    assert listed(files, d, limit) == [b"%tf.data", b"x"]
    assert listed(files, ROOT, limit) == [b"box"]


async def test_names_that_posix_can_not_hold_are_shown_mapped(opened: Opened) -> None:
    files = opened.namespace.files
    long = "y" * 300
    for key in ("a//b", "a/./c", "a/../d", "a/%tf.data", long):
        await _put(opened, key, key.encode())
    assert opened.namespace.objects.stat("box", long).size == 300
    names = listed(files, box(files))
    assert names[1].startswith(b"%tf.long.")
    assert await contents(files, files.lookup(box(files), names[1]).id) == long.encode()
    a = files.lookup(box(files), b"a").id
    assert sorted(listed(files, a)) == [b"%tf.dot", b"%tf.dotdot", b"%tf.empty", b"%tf.lit.data"]
    for name, key in ((b"%tf.empty", b"b"), (b"%tf.dot", b"c"), (b"%tf.dotdot", b"d")):
        assert listed(files, files.lookup(a, name).id) == [key]
    await made(files, a, b"\xff\xfe", b"raw")
    assert await object_bytes(opened.namespace, "a/%tf.b.__4") == b"raw"
    assert b"\xff\xfe" in listed(files, a)


async def test_a_marker_is_shown_only_with_content_and_goes_with_rmdir(opened: Opened) -> None:
    files = opened.namespace.files
    await _put(opened, "d/", b"")
    d = files.lookup(box(files), b"d").id
    assert listed(files, d) == []
    await _put(opened, "d/", b"body")
    assert listed(files, d) == [b"%tf.empty"]
    with pytest.raises(errors.DirectoryNotEmpty):
        files.rmdir(box(files), b"d")
    await _put(opened, "d/", b"")
    files.rmdir(box(files), b"d")
    with pytest.raises(errors.NoSuchKey):
        opened.namespace.objects.stat("box", "d/")
    assert not broken(opened.namespace)


async def test_a_body_blocks_rmdir_and_comes_out_when_the_directory_is_gone(
    opened: Opened,
) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    await _put(opened, "a", b"body")
    await _put(opened, "a/b")
    a = files.lookup(box(files), b"a").id
    files.unlink(a, b"b")
    with pytest.raises(errors.DirectoryNotEmpty):
        files.rmdir(box(files), b"a")
    with pytest.raises(errors.EntryExists):
        files.mkdir(box(files), b"a", 0o755, CALLER)
    with pytest.raises(errors.IsDirectory):
        files.unlink(box(files), b"a")
    handle = files.open(files.lookup(a, b"%tf.data").id, os.O_WRONLY)
    await handle.write(4, b"+")
    await handle.release()
    assert await object_bytes(opened.namespace, "a") == b"body+"
    files.unlink(a, b"%tf.data")
    with pytest.raises(errors.NoSuchKey):
        objects.stat("box", "a")
    files.rmdir(box(files), b"a")
    assert not broken(opened.namespace)


async def test_there_is_no_body_of_a_bucket_or_the_root(opened: Opened) -> None:
    files = opened.namespace.files
    for directory in (ROOT, box(files)):
        with pytest.raises(errors.NoSuchEntry):
            files.lookup(directory, b"%tf.data")
    for name in (b"%tf.data", b"%tf.empty", b"%tf.nonsense", b"%tf.long.0"):
        with pytest.raises(errors.InvalidName):
            files.create(box(files), name, 0o644, os.O_WRONLY, CALLER)


async def test_cookies_hold_while_entries_come_and_go(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    for index in range(10):
        await made(files, parent, b"f%d" % index)
    handle = files.open_directory(parent)
    page = handle.page(0, 6)
    cookies = {name: cookie for name, cookie, _ in page}
    # The kernel took three, then the directory changed.
    files.unlink(parent, b"f3")
    files.unlink(parent, b"f2")
    await made(files, parent, b"f25")
    again = handle.page(cookies[b"f2"], 3)
    assert [name for name, _, _ in again] == [b"f25", b"f4", b"f5"]
    # What was told before still means the same place.
    assert [name for name, _, _ in handle.page(cookies[b"f5"], 2)] == [b"f6", b"f7"]
    assert [name for name, _, _ in handle.page(cookies[b"f0"], 2)] == [b"f1", b"f25"]
    assert [name for name, _, _ in handle.page(again[0][1], 1)] == [b"f4"]
    with pytest.raises(errors.InvalidArgument):
        handle.page(99, 1)
    handle.close()


async def test_a_listing_can_be_removed_as_it_is_read(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    for index in range(50):
        await made(files, parent, b"f%d" % index)
    handle = files.open_directory(parent)
    cookie = 0
    while page := handle.page(cookie, 7):
        for name, _, _ in page[:5]:
            files.unlink(parent, name)
        cookie = page[:5][-1][1]
    assert listed(files, parent) == []


async def test_old_cookies_are_forgotten_so_that_memory_is_bounded(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "COOKIES_KEPT", 4)
    files, parent = opened.namespace.files, box(opened.namespace.files)
    names = [b"f%02d" % index for index in range(30)]
    for name in names:
        await made(files, parent, name)
    assert listed(files, parent, 3) == names
    handle = files.open_directory(parent)
    cookie = 0
    while page := handle.page(cookie, 3):
        cookie = page[-1][1]
    with pytest.raises(errors.InvalidArgument):
        handle.page(2, 1)
    assert [name for name, _, _ in handle.page(0, 2)] == names[:2]


async def test_a_page_shows_what_drafts_have_written(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    handle, _ = files.create(parent, b"f", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, b"abc")
    (entry,) = files.open_directory(parent).page(0, 10)
    assert entry[2].size == 3
    await handle.release()


async def test_only_directories_are_listed(opened: Opened) -> None:
    files, parent = opened.namespace.files, box(opened.namespace.files)
    inode = await made(files, parent, b"f")
    with pytest.raises(errors.NotDirectory):
        files.open_directory(inode)
    with pytest.raises(errors.NotDirectory):
        files.lookup(inode, b"x")
