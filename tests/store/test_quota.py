"""Quota: exact and at once from both doors, and usage equal to a recount."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator

import pytest
import trio

from metadb.check import find_violations
from metadb.records import ROOT
from store.errors import InvalidArgument, QuotaExceeded, StoreError
from store.files import Changes
from store.types import Deletion, ObjectMeta, PartClaim
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import CALLER, box, broken, made, object_bytes
from tests.store.test_versions_posix import Kernel
from tests.store.versioned import enable, entries, history, put, suspend

QUOTA = 100_000
PART = 5 << 20


@pytest.fixture
async def opened(opened: Opened) -> AsyncIterator[Opened]:
    """`box` may hold 100,000 bytes."""
    await opened.namespace.buckets.set_quota("box", QUOTA)
    yield opened
    assert not broken(opened.namespace)
    assert await find_violations(opened.engine) == []
    assert not opened.namespace._state.reserved


def used(opened: Opened, bucket: str = "box") -> int:
    return opened.namespace.buckets.usage(bucket).bytes


# -- S3 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sized", [True, False])
async def test_a_put_may_fill_the_bucket_and_not_a_byte_more(opened: Opened, sized: bool) -> None:
    objects = opened.namespace.objects
    await put(opened, "a", bytes(QUOTA - 10))
    with pytest.raises(QuotaExceeded):
        await objects.put("box", "b", BytesBody(bytes(11), sized=sized), ObjectMeta())
    assert used(opened) == QUOTA - 10
    await objects.put("box", "b", BytesBody(bytes(10), sized=sized), ObjectMeta())
    assert used(opened) == QUOTA
    await put(opened, "empty", b"")
    with pytest.raises(QuotaExceeded):
        await put(opened, "c", b"1")
    await objects.delete("box", "b")
    assert used(opened) == QUOTA - 10
    await put(opened, "c", bytes(10))


async def test_a_bound_counts_from_the_moment_it_is_set(opened: Opened) -> None:
    buckets = opened.namespace.buckets
    await put(opened, "a", bytes(1000))
    await buckets.set_quota("box", 999)
    assert buckets.quota("box") == 999
    assert await object_bytes(opened.namespace, "a") == bytes(1000)
    with pytest.raises(QuotaExceeded):
        await put(opened, "b", b"1")
    await buckets.set_quota("box", 1001)
    await put(opened, "b", b"1")
    await buckets.set_quota("box", None)
    await put(opened, "c", bytes(2 * QUOTA))
    with pytest.raises(InvalidArgument):
        await buckets.set_quota("box", -1)


@pytest.mark.parametrize("held", [False, True])
async def test_an_overwrite_of_the_same_size_fits_a_full_bucket(opened: Opened, held: bool) -> None:
    await put(opened, "a", bytes(QUOTA))
    number = opened.namespace.objects.stat("box", "a").inode
    if held:  # The kernel has the inode: it stays for a while without its name.
        opened.namespace.set_invalidator(Kernel([number]))
    await put(opened, "a", b"\1" * QUOTA)
    assert used(opened) == QUOTA
    with pytest.raises(QuotaExceeded):
        await put(opened, "a", bytes(QUOTA + 1))
    assert await object_bytes(opened.namespace, "a") == b"\1" * QUOTA
    await put(opened, "a", b"small")
    assert used(opened) == 5
    opened.namespace.set_invalidator(None)
    assert used(opened) == 5


async def test_copies_count_in_full_though_they_share_their_bytes(opened: Opened) -> None:
    objects = opened.namespace.objects
    etag = (await put(opened, "a", bytes(QUOTA // 2))).etag
    await objects.copy(("box", "a"), ("box", "b"), None, source_etag=etag)
    with pytest.raises(QuotaExceeded):
        await objects.copy(("box", "a"), ("box", "c"), None, source_etag=etag)
    await objects.copy(("box", "a"), ("box", "a"), None, source_etag=etag)
    assert used(opened) == QUOTA


async def test_versions_count_and_markers_do_not(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    old = await put(opened, "a", bytes(QUOTA // 2))
    await put(opened, "a", bytes(QUOTA // 2))
    with pytest.raises(QuotaExceeded):
        await put(opened, "a", b"1")
    await objects.delete("box", "a")
    await objects.delete("box", "none")
    assert used(opened) == QUOTA
    done = await objects.delete("box", "a", version=old.version_id)
    assert done == Deletion(version_id=old.version_id, marker=False)
    assert used(opened) == QUOTA // 2
    await put(opened, "a", bytes(QUOTA // 2))


async def test_the_null_version_is_replaced_in_a_full_bucket(opened: Opened) -> None:
    await put(opened, "a", bytes(QUOTA // 2))
    await enable(opened)
    await put(opened, "a", bytes(QUOTA // 2))
    await suspend(opened)
    await put(opened, "a", b"\1" * (QUOTA // 2))
    assert used(opened) == QUOTA
    await put(opened, "a", b"\2" * (QUOTA // 2))
    assert used(opened) == QUOTA


async def test_of_concurrent_puts_as_many_fit_as_there_is_room_for(opened: Opened) -> None:
    outcomes: list[bool] = []

    async def one(number: int) -> None:
        try:
            await put(opened, f"k{number}", bytes(QUOTA // 4))
        except QuotaExceeded:
            outcomes.append(False)
        else:
            outcomes.append(True)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(one, number)
    assert outcomes.count(True) == 4
    assert used(opened) == QUOTA


async def test_parts_count_from_their_upload_on(opened: Opened) -> None:
    buckets, uploads = opened.namespace.buckets, opened.namespace.uploads
    await buckets.set_quota("box", 2 * PART)
    upload = await uploads.create("box", "k", ObjectMeta())
    parts = [
        await uploads.put_part("box", "k", upload, number, BytesBody(bytes(PART)))
        for number in (1, 2)
    ]
    assert used(opened) == 2 * PART
    with pytest.raises(QuotaExceeded):
        await uploads.put_part("box", "k", upload, 3, BytesBody(b"1"))
    with pytest.raises(QuotaExceeded):
        await put(opened, "other", b"1")
    # The same part once more takes the place of the first.
    await uploads.put_part("box", "k", upload, 2, BytesBody(bytes(PART)))
    claims = [PartClaim(number=part.number, etag=part.etag, checksums={}) for part in parts]
    await uploads.complete("box", "k", upload, claims)
    assert used(opened) == 2 * PART
    upload = await uploads.create("box", "k", ObjectMeta())
    await buckets.set_quota("box", 3 * PART)
    await uploads.put_part("box", "k", upload, 1, BytesBody(bytes(PART)))
    await uploads.abort("box", "k", upload)
    assert used(opened) == 2 * PART


# -- the mount -----------------------------------------------------------------------------


async def test_a_write_too_far_fails_and_the_close_does_not(opened: Opened) -> None:
    files = opened.namespace.files
    handle, row = files.create(box(files), b"f", 0o644, os.O_WRONLY, CALLER)
    for start in range(0, QUOTA, 10_000):
        await handle.write(start, b"x" * 10_000)
    with pytest.raises(QuotaExceeded):
        await handle.write(QUOTA, b"x")
    with pytest.raises(QuotaExceeded):
        await files.change(row.id, Changes(size=QUOTA + 1), handle)
    await handle.write(0, b"y" * 1000)
    await handle.flush()
    await handle.release()
    assert used(opened) == QUOTA
    assert await object_bytes(opened.namespace, "f") == b"y" * 1000 + b"x" * (QUOTA - 1000)
    with pytest.raises(QuotaExceeded):
        await files.change(row.id, Changes(size=QUOTA + 1))
    files.unlink(box(files), b"f")
    assert used(opened) == 0


async def test_what_is_written_counts_before_it_is_published(opened: Opened) -> None:
    files = opened.namespace.files
    first, _ = files.create(box(files), b"a", 0o644, os.O_WRONLY, CALLER)
    second, _ = files.create(box(files), b"b", 0o644, os.O_WRONLY, CALLER)
    await first.write(0, bytes(QUOTA - 10))
    with pytest.raises(QuotaExceeded):
        await second.write(0, bytes(11))
    with pytest.raises(QuotaExceeded):
        await put(opened, "c", bytes(11))
    await second.write(0, bytes(10))
    await first.flush()
    await second.flush()
    assert used(opened) == QUOTA
    await first.release()
    await second.release()


async def test_what_is_given_up_counts_no_more(opened: Opened) -> None:
    files = opened.namespace.files
    handle, row = files.create(box(files), b"f", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, bytes(QUOTA))
    await files.change(row.id, Changes(size=10), handle)
    await put(opened, "a", bytes(QUOTA - 10))
    files.unlink(box(files), b"f")
    await handle.release()
    await put(opened, "b", bytes(10))


async def test_an_open_file_that_lost_its_name_gives_its_room_back_at_once(
    opened: Opened,
) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", bytes(QUOTA))
    handle = files.open(inode, os.O_RDONLY)
    files.unlink(box(files), b"f")
    assert used(opened) == 0
    await put(opened, "f", bytes(QUOTA))
    await handle.release()
    assert used(opened) == QUOTA


async def test_an_overwrite_on_the_mount_in_a_full_bucket(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", bytes(QUOTA))
    handle = files.open(inode, os.O_WRONLY)
    await handle.write(0, b"\1" * QUOTA)
    await handle.release()
    assert used(opened) == QUOTA


@pytest.mark.parametrize("synced", [False, True])
async def test_a_session_in_a_versioned_bucket_counts_its_last_state_once(
    opened: Opened, synced: bool
) -> None:
    await enable(opened)
    files = opened.namespace.files
    handle, _ = files.create(box(files), b"f", 0o644, os.O_WRONLY, CALLER)
    for start in range(0, QUOTA, 10_000):
        await handle.write(start, b"x" * 10_000)
        if synced:
            await handle.fsync(False)
    with pytest.raises(QuotaExceeded):
        await handle.write(QUOTA, b"x")
    await handle.release()
    assert await history(opened, "f") == [b"x" * QUOTA]
    # Another session makes a version, for which there is no room.
    handle = files.open((await entries(opened.namespace))[0].stat.inode, os.O_WRONLY)  # type: ignore[union-attr]
    with pytest.raises(QuotaExceeded):
        await handle.write(0, b"y")
    await handle.release()
    assert await history(opened, "f") == [b"x" * QUOTA]


async def test_hard_links_in_a_versioned_bucket_each_keep_a_version(opened: Opened) -> None:
    await enable(opened)
    files = opened.namespace.files
    inode = await made(files, box(files), b"a", bytes(30_000))
    files.link(inode, box(files), b"b")
    assert used(opened) == 30_000
    handle = files.open(inode, os.O_WRONLY | os.O_TRUNC)
    with pytest.raises(QuotaExceeded):
        await handle.write(0, bytes(40_001))
    await handle.write(0, bytes(40_000))
    await handle.release()
    assert used(opened) == QUOTA


@pytest.mark.parametrize("versioned", [False, True])
async def test_a_rename_counts_where_it_leads(opened: Opened, versioned: bool) -> None:
    namespace, files = opened.namespace, opened.namespace.files
    await namespace.buckets.create("other", "owner")
    other = files.lookup(ROOT, b"other").id
    if versioned:
        await enable(opened)
    await made(files, box(files), b"f", bytes(QUOTA - 10))
    await put(opened, "g", bytes(20), bucket="other")
    with pytest.raises(QuotaExceeded):
        await files.rename(other, b"g", box(files), b"g", 0)
    await files.rename(other, b"g", other, b"h", 0)
    await put(opened, "g", bytes(10), bucket="other")
    await files.rename(other, b"g", box(files), b"g", 0)
    assert used(opened) == QUOTA
    if versioned:
        # A rename leaves a version behind, for which there is no room.
        with pytest.raises(QuotaExceeded):
            await files.rename(box(files), b"f", box(files), b"e", 0)
        with pytest.raises(QuotaExceeded):
            await namespace.objects.rename("box", "f", "e")
    else:
        await files.rename(box(files), b"f", box(files), b"e", 0)
        await files.rename(box(files), b"e", other, b"e", 0)
        assert used(opened) == 10


async def test_what_is_written_after_a_rename_counts_in_the_new_bucket(opened: Opened) -> None:
    namespace, files = opened.namespace, opened.namespace.files
    await namespace.buckets.create("other", "owner")
    other = files.lookup(ROOT, b"other").id
    handle, _ = files.create(other, b"f", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, b"x")
    await files.rename(other, b"f", box(files), b"f", 0)
    with pytest.raises(QuotaExceeded):
        await handle.write(1, bytes(QUOTA))
    await handle.write(1, bytes(QUOTA - 1))
    with pytest.raises(QuotaExceeded):
        await put(opened, "g", b"x")
    await put(opened, "g", b"x", bucket="other")
    await handle.release()
    assert used(opened) == QUOTA


# -- counting ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_after_random_work_usage_is_what_a_recount_finds(opened: Opened, seed: int) -> None:
    dice = random.Random(seed)
    namespace, files, objects = opened.namespace, opened.namespace.files, opened.namespace.objects
    names = [b"a", b"b", b"c", b"d"]
    for step in range(300):
        name, other = dice.choice(names), dice.choice(names)
        size = dice.choice([0, 10, 1000, 20_000, 40_000])
        before, which = used(opened), dice.randrange(9)
        try:
            match which:
                case 0 | 1:
                    await put(opened, name.decode(), bytes(size))
                case 2:
                    await objects.delete("box", name.decode())
                case 3:
                    found = await entries(namespace)
                    if found:
                        one = dice.choice(found)
                        await objects.delete("box", one.key, version=one.version_id)
                case 4 | 5:
                    handle, _ = files.create(box(files), name, 0o644, os.O_RDWR, CALLER)
                    try:
                        await handle.write(dice.randrange(1000), bytes(size))
                    finally:
                        await handle.release()
                case 6:
                    await files.rename(box(files), name, box(files), other, 0)
                case 7:
                    files.link(files.lookup(box(files), name).id, box(files), other)
                case _:
                    if step > 100:
                        await (enable if dice.random() < 0.5 else suspend)(opened)
        except StoreError:
            # A file is closed after a write that was refused, and is empty then.
            assert used(opened) == before or which in (4, 5)
        # A deleted hard link keeps bytes of its own from then on: to delete is never refused.
        assert used(opened) <= max(QUOTA, before) or which == 2
        assert used(opened) == await _counted(opened)
    assert not broken(namespace)


async def _counted(opened: Opened) -> int:
    """The bytes of all versions; those of several names of one inode once."""
    found = await entries(opened.namespace)
    return sum({one.stat.inode: one.stat.size for one in found if one.stat is not None}.values())
