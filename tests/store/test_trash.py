"""Trash: what was deleted or replaced comes back, and goes for good when its days are over."""

from __future__ import annotations

import pytest

from metadb.records import ROOT
from metadb.statements import Tx
from store import errors, trash
from store.files import Changes
from store.state import now_ns
from store.trash import Lost
from store.types import LockRule, ObjectMeta
from tests.store.conftest import Opened
from tests.store.posix import CALLER, box, broken, made, object_bytes
from tests.store.versioned import MARKER, history, ids, keys, put, put_id

DAY_NS = 86_400 * 10**9


async def with_trash(opened: Opened, days: int = 30) -> None:
    await opened.namespace.buckets.set_trash("box", days)


async def sweep(opened: Opened, days_later: float) -> int:
    """What is removed so many days from now."""
    return await trash.sweep(opened.namespace._state, now_ns() + int(days_later * DAY_NS))


async def lost(opened: Opened, prefix: str = "", limit: int = 100) -> list[Lost]:
    found: list[Lost] = []
    after: str | None = ""
    while after is not None:
        page, after = await opened.namespace.trash.lost("box", prefix, after, limit)
        found += page
    return found


async def test_trash_brings_versioning_which_then_can_not_be_suspended(opened: Opened) -> None:
    buckets = opened.namespace.buckets
    await put(opened, "before", b"1")
    await with_trash(opened)
    assert (buckets.get("box").versioning, buckets.get("box").trash_days) == ("enabled", 30)
    with pytest.raises(errors.BucketLocked):
        await buckets.set_versioning("box", "suspended")
    await buckets.set_trash("box", None)
    assert (buckets.get("box").versioning, buckets.get("box").trash_days) == ("enabled", None)
    await buckets.set_versioning("box", "suspended")
    for days in (0, -1, 10**9):
        with pytest.raises(errors.InvalidArgument):
            await buckets.set_trash("box", days)


async def test_an_unlinked_file_comes_back_as_it_was(opened: Opened) -> None:
    files, namespace = opened.namespace.files, opened.namespace
    await with_trash(opened)
    directory = files.mkdir(box(files), b"d", 0o750, CALLER).id
    inode = await made(files, directory, b"f", b"content")
    await files.change(inode, Changes(mode=0o640, mtime_ns=12_345))
    files.setxattr(inode, b"user.colour", b"red", 0)
    (version,) = await ids(opened, "d/f")
    files.unlink(directory, b"f")
    files.rmdir(box(files), b"d")
    (found,) = await lost(opened)
    assert (found.key, found.size, found.deleted, found.version_id) == ("d/f", 7, True, version)
    assert await namespace.trash.restore("box", "d/f") == version
    back = files.lookup(files.lookup(box(files), b"d").id, b"f")
    assert (back.mode & 0o7777, back.uid, back.gid, back.mtime_ns) == (0o640, 1000, 100, 12_345)
    assert files.getxattr(back.id, b"user.colour") == b"red"
    assert await object_bytes(namespace, "d/f") == b"content"
    assert await history(opened, "d/f") == [b"content"]
    assert not await lost(opened)
    assert not broken(namespace)


async def test_a_file_deleted_twice_comes_back_with_its_last_content(opened: Opened) -> None:
    await with_trash(opened)
    await put(opened, "k", b"1")
    await opened.namespace.objects.delete("box", "k")
    await put(opened, "k", b"2")
    await opened.namespace.objects.delete("box", "k")
    await opened.namespace.objects.delete("box", "k")
    assert [(each.size, each.deleted) for each in await lost(opened)] == [(1, True), (1, False)]
    await opened.namespace.trash.restore("box", "k")
    assert await history(opened, "k") == [b"2", MARKER, b"1"]
    with pytest.raises(errors.EntryExists):
        await opened.namespace.trash.restore("box", "k")
    with pytest.raises(errors.NoSuchVersion):
        await opened.namespace.trash.restore("box", "never")
    assert not broken(opened.namespace)


async def test_what_was_replaced_is_repeated_above_with_its_attributes(opened: Opened) -> None:
    files = opened.namespace.files
    await with_trash(opened)
    large = bytes(range(256)) * 500
    inode = await made(files, box(files), b"k", large)
    await files.change(inode, Changes(mode=0o600))
    (old,) = await ids(opened, "k")
    await put(opened, "k", b"new", ObjectMeta(user={"a": "b"}))
    (found,) = await lost(opened)
    assert (found.version_id, found.deleted) == (old, False)
    restored = await opened.namespace.trash.restore("box", "k", old)
    assert restored not in (old, "null")
    assert await history(opened, "k") == [large, b"new", large]
    row = files.lookup(box(files), b"k")
    assert (row.mode & 0o7777, row.uid) == (0o600, 1000)
    with pytest.raises(errors.NoSuchVersion):
        await opened.namespace.trash.restore("box", "k", "0" * 32)
    assert not broken(opened.namespace)


async def test_what_is_no_object_stands_in_the_way(opened: Opened) -> None:
    files = opened.namespace.files
    await with_trash(opened)
    version = await put_id(opened, "k", b"1")
    await opened.namespace.objects.delete("box", "k")
    files.symlink(box(files), b"k", b"elsewhere", CALLER)
    for wanted in (None, version):
        with pytest.raises(errors.EntryExists):
            await opened.namespace.trash.restore("box", "k", wanted)
    assert await sweep(opened, 29.9) == 0
    assert await sweep(opened, 31) == 1
    files.unlink(box(files), b"k")
    assert await sweep(opened, 31) == 1
    assert not broken(opened.namespace)


async def test_versions_go_when_their_days_are_over_and_none_before(opened: Opened) -> None:
    namespace = opened.namespace
    await with_trash(opened)
    for key in ("kept", "gone", "deep/er/gone"):
        await put(opened, key, b"1" * 20_000)
        await put(opened, key, b"2" * 20_000)
    await namespace.objects.delete("box", "gone")
    await namespace.objects.delete("box", "deep/er/gone")
    assert await sweep(opened, 29.9) == 0
    assert await sweep(opened, 30.1) == 1 + 2 * 3
    assert await keys(opened) == ["kept"]
    assert await history(opened, "kept") == [b"2" * 20_000]
    assert not await history(opened, "gone")
    assert namespace.buckets.usage("box").bytes == 20_000
    assert await sweep(opened, 1000) == 0
    assert not broken(namespace)


async def test_what_was_current_a_short_while_ago_stays_however_old(opened: Opened) -> None:
    """A file written long ago that is renamed over another replaces it now, not then."""
    files, namespace = opened.namespace.files, opened.namespace
    await with_trash(opened)
    await put(opened, "old", b"old")
    await made(files, box(files), b"tmp", b"new")
    state = namespace._state
    long_ago = now_ns() - 100 * DAY_NS

    def age(tx: Tx) -> None:
        tx._execute("UPDATE inode SET stored_ns = ?", (long_ago,))
        tx.forget()

    state.engine.transact(age)
    await files.rename(box(files), b"tmp", box(files), b"old", 0)
    assert await sweep(opened, 29.9) == 0
    assert await history(opened, "old") == [b"new", b"old"]


async def test_a_bucket_without_trash_keeps_its_versions(opened: Opened) -> None:
    await opened.namespace.buckets.set_versioning("box", "enabled")
    await put(opened, "k", b"1")
    await opened.namespace.objects.delete("box", "k")
    assert await sweep(opened, 10_000) == 0
    assert await history(opened, "k") == [MARKER, b"1"]


async def test_what_object_lock_retains_stays_until_it_is_free(opened: Opened) -> None:
    namespace = opened.namespace
    await with_trash(opened, 1)
    await namespace.buckets.set_lock_rule("box", LockRule())
    held = await put_id(opened, "held", b"1")
    await namespace.objects.set_legal_hold("box", "held", True)
    await namespace.objects.delete("box", "held")
    assert await sweep(opened, 2) == 0
    assert await history(opened, "held") == [MARKER, b"1"]
    await namespace.objects.set_legal_hold("box", "held", False, version=held)
    assert await sweep(opened, 2) == 2
    assert not broken(namespace)


async def test_a_repeated_version_counts_for_the_quota(opened: Opened) -> None:
    await with_trash(opened)
    old = await put_id(opened, "k", b"1" * 1000)
    await put(opened, "k", b"2" * 1000)
    await opened.namespace.buckets.set_quota("box", 2500)
    with pytest.raises(errors.QuotaExceeded):
        await opened.namespace.trash.restore("box", "k", old)
    await opened.namespace.objects.delete("box", "k")
    await opened.namespace.trash.restore("box", "k")
    assert not broken(opened.namespace)


@pytest.mark.parametrize("limit", [2, 3, 7, 100])
async def test_pages_tell_everything_once(opened: Opened, limit: int) -> None:
    await with_trash(opened)
    for key in ("a", "b/1", "b/2", "c"):
        for value in (b"1", b"22"):
            await put(opened, key, value)
        await opened.namespace.objects.delete("box", key)
    await put(opened, "c", b"333")
    found = [(each.key, each.size, each.deleted) for each in await lost(opened, limit=limit)]
    if limit > 2:
        assert found == [
            *(("a", 2, True), ("a", 1, False), ("b/1", 2, True), ("b/1", 1, False)),
            *(("b/2", 2, True), ("b/2", 1, False), ("c", 2, False), ("c", 1, False)),
        ]
    assert {each.key for each in await lost(opened, "b/", limit)} == {"b/1", "b/2"}


async def test_the_days_survive_a_bucket_and_go_with_it(opened: Opened) -> None:
    await with_trash(opened)
    await opened.namespace.buckets.delete("box")
    assert await sweep(opened, 100) == 0
    row = opened.namespace.files.mkdir(ROOT, b"box", 0o755, CALLER)
    assert opened.namespace.buckets.get("box").id == row.id
    assert opened.namespace.buckets.get("box").trash_days is None
