"""Objects through the namespace: put, open, copy, delete, and what they leave behind."""

from __future__ import annotations

import hashlib
import random
from contextlib import aclosing, closing

import pytest
import trio

from metadb import content, dentries, inodes
from store import tree
from store.errors import (
    InvalidKey,
    KeyTooLong,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
)
from store.types import Deletion, Doomed, ObjectMeta, Precondition
from tests.store.bodies import BytesBody, join
from tests.store.conftest import Opened, until
from tests.store.posix import CALLER, box, made

SIZES = [0, 1, 4096, 16 * 1024, 16 * 1024 + 1, 1 << 20, (5 << 20) + 17]
META = ObjectMeta(content_type="text/plain", user={"colour": "blue"})


async def put(opened: Opened, key: str, value: bytes, **kwargs: object) -> str:
    stat = await opened.namespace.objects.put(
        "box",
        key,
        BytesBody(value),
        ObjectMeta(),
        **kwargs,  # type: ignore[arg-type]
    )
    return stat.etag


async def get(opened: Opened, key: str) -> bytes:
    with closing(opened.namespace.objects.open("box", key)) as reader:
        parts = []
        async with aclosing(reader.stream(0, reader.stat.size)) as windows:  # type: ignore[type-var]
            async for buffers in windows:
                parts.append(join(buffers))
        return b"".join(parts)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sized", [True, False])
async def test_put_then_open_gives_the_same_bytes_and_their_md5(
    opened: Opened, size: int, sized: bool
) -> None:
    value = random.Random(size).randbytes(size)
    stat = await opened.namespace.objects.put("box", "a/b", BytesBody(value, sized=sized), META)
    assert stat.etag == hashlib.md5(value, usedforsecurity=False).hexdigest()
    assert await get(opened, "a/b") == value
    seen = opened.namespace.objects.stat("box", "a/b")
    assert (seen.size, seen.meta) == (size, META)


async def test_ranges_give_exactly_their_bytes(opened: Opened) -> None:
    value = random.Random(1).randbytes(3 << 20)
    await put(opened, "k", value)
    with closing(opened.namespace.objects.open("box", "k")) as reader:
        for start, stop in [(0, 1), (5, 5), (1 << 20, (1 << 20) + 7), (100, 3 << 20)]:
            found = b"".join([join(b) async for b in reader.stream(start, stop)])
            assert found == value[start:stop]


async def test_a_key_and_a_key_below_it_are_two_objects(opened: Opened) -> None:
    long = "é" * 450
    odd = ("a", "a/b", "d/", "x//y", "..", "./..", long, f"{long}/z", "🦋/🦋", "%tf.data")
    for key in odd:
        await put(opened, key, key.encode())
    for key in odd:
        assert await get(opened, key) == key.encode()
    with pytest.raises(NoSuchKey):
        opened.namespace.objects.stat("box", "x")
    with pytest.raises(NoSuchKey):
        opened.namespace.objects.stat("box", "a/")


@pytest.mark.parametrize(
    ("key", "error"), [("", InvalidKey), ("a\0b", InvalidKey), ("x" * 1025, KeyTooLong)]
)
async def test_a_malformed_key_is_refused_and_leaves_nothing(
    opened: Opened, key: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await put(opened, key, b"x")
    with pytest.raises(NoSuchBucket):
        await opened.namespace.objects.put("none", "k", BytesBody(b""), ObjectMeta())
    assert not opened.chunks.run_ids


async def test_a_key_too_long_for_s3_is_read_copied_and_removed_where_the_mount_made_it(
    opened: Opened,
) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    directory = box(files)
    for _ in range(6):
        directory = files.mkdir(directory, b"d" * 200, 0o755, CALLER).id
    await made(files, directory, b"file", b"deep")
    key = ("d" * 200 + "/") * 6 + "file"
    assert await get(opened, key) == b"deep"
    with pytest.raises(KeyTooLong):
        await put(opened, key, b"new")
    etag = objects.stat("box", key).etag
    with pytest.raises(KeyTooLong):
        await objects.copy(("box", key), ("box", key), None, source_etag=etag)
    await objects.copy(("box", key), ("box", "short"), None, source_etag=etag)
    assert await get(opened, "short") == b"deep"
    await objects.delete("box", key)
    with pytest.raises(KeyTooLong):
        objects.stat("box", key)
    with pytest.raises(KeyTooLong):
        await objects.delete("box", key)


@pytest.mark.parametrize("size", [10, 1 << 20])
async def test_a_body_that_fails_its_check_leaves_the_old_object(opened: Opened, size: int) -> None:
    await put(opened, "k", b"old")
    body = BytesBody(bytes(size), error=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await opened.namespace.objects.put("box", "k", body, ObjectMeta())
    assert await get(opened, "k") == b"old"
    assert not opened.chunks.run_ids


async def test_an_open_reader_keeps_the_old_bytes_when_the_key_is_replaced(opened: Opened) -> None:
    old, new = bytes(3 << 20), b"\1" * (3 << 20)
    await put(opened, "k", old)
    with closing(opened.namespace.objects.open("box", "k")) as reader:
        await put(opened, "k", new)
        await opened.namespace.objects.delete("box", "k")
        await trio.sleep(0.1)
        found = b"".join([join(b) async for b in reader.stream(0, reader.stat.size)])
    assert found == old
    await until(lambda: not opened.chunks.run_ids)


async def test_delete_prunes_the_directories_that_put_made_and_no_others(opened: Opened) -> None:
    await put(opened, "p/q/r", b"1")
    await put(opened, "p/s", b"1")
    await opened.namespace.objects.delete("box", "p/q/r")
    bucket = opened.namespace.buckets.get("box").id
    p = opened.engine.read(dentries.inode_of, bucket, b"p/")
    assert p is not None
    assert opened.engine.read(dentries.first_children, p, 10) == [b"s"]
    opened.engine.transact(tree.settle, p)
    await opened.namespace.objects.delete("box", "p/s")
    assert opened.engine.read(dentries.inode_of, bucket, b"p/") == p
    row = opened.engine.read(inodes.get, p)
    assert row is not None
    assert row.nlink == 2


async def test_conditions_hold_in_the_transaction(opened: Opened) -> None:
    absent = Precondition(if_none_match=("*",))
    etag = await put(opened, "k", b"1", precondition=absent)
    with pytest.raises(PreconditionFailed):
        await put(opened, "k", b"2", precondition=absent)
    with pytest.raises(PreconditionFailed):
        await put(opened, "k", b"2", precondition=Precondition(if_match=("other",)))
    with pytest.raises(NoSuchKey):
        await put(opened, "none", b"2", precondition=Precondition(if_match=("*",)))
    await put(opened, "k", b"2", precondition=Precondition(if_match=(etag,)))
    assert await get(opened, "k") == b"2"


async def test_of_many_racing_creators_exactly_one_wins(opened: Opened) -> None:
    outcomes: list[bool] = []

    async def create(number: int) -> None:
        try:
            await put(
                opened,
                "k",
                bytes([number]) * 50_000,
                precondition=Precondition(if_none_match=("*",)),
            )
        except PreconditionFailed:
            outcomes.append(False)
        else:
            outcomes.append(True)

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(create, number)
    assert sorted(outcomes) == [False] * 15 + [True]


@pytest.mark.parametrize("size", [100, 2 << 20])
async def test_copy_moves_no_bytes_and_outlives_its_source(opened: Opened, size: int) -> None:
    value = random.Random(2).randbytes(size)
    etag = await put(opened, "from", value)
    runs = opened.chunks.run_ids
    objects = opened.namespace.objects
    await objects.copy(("box", "from"), ("box", "to/there"), META, source_etag=etag)
    await objects.copy(("box", "from"), ("box", "from"), None, source_etag=etag)
    assert opened.chunks.run_ids == runs
    await objects.delete("box", "from")
    await trio.sleep(0.1)
    assert await get(opened, "to/there") == value
    assert objects.stat("box", "to/there").meta.user == {"colour": "blue"}
    with pytest.raises(PreconditionFailed):
        await objects.copy(("box", "to/there"), ("box", "x"), None, source_etag="changed")
    await objects.delete("box", "to/there")
    await until(lambda: not opened.chunks.run_ids)


async def test_overwritten_bytes_are_given_back(opened: Opened) -> None:
    for number in range(5):
        await put(opened, "k", bytes([number]) * (1 << 20))
    await until(lambda: len(opened.chunks.run_ids) == 1)
    await until(lambda: opened.engine.read(content.freed_runs, 0, 10) == [])


async def test_delete_many_answers_for_each_key(opened: Opened) -> None:
    for number in range(250):
        await put(opened, f"d{number % 7}/{number}", b"x")
    keys = [f"d{number % 7}/{number}" for number in range(250)]
    doomed = [Doomed(key=key) for key in [*keys, "never", "bad\0"]]
    outcomes = await opened.namespace.objects.delete_many("box", doomed)
    assert outcomes[:251] == [Deletion(version_id=None, marker=False)] * 251
    assert isinstance(outcomes[251], InvalidKey)
    assert (await opened.namespace.listing.objects("box")).entries == []
    await opened.namespace.buckets.delete("box")
