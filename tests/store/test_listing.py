"""Listings against the plain definition: sort all keys, filter, roll up, cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import NoSuchBucket
from store.namespace import Namespace
from store.types import ObjectMeta, ObjectStat
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened, open_namespace

KEYS = st.text(alphabet="a/-0é", min_size=1, max_size=5)


def reference(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> tuple[list[str], bool]:
    """What S3 defines, over a plain set of keys."""
    entries: list[str] = []
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        if delimiter and (cut := key.find(delimiter, len(prefix))) >= 0:
            key = key[: cut + len(delimiter)]
            if key == after or key in entries:
                continue
        entries.append(key)
    return entries[:limit], len(entries) > limit


def names(entries: list[ObjectStat | str]) -> list[str]:
    return [entry if isinstance(entry, str) else entry.key for entry in entries]


PAGED = st.tuples(
    st.sets(KEYS, max_size=12),
    st.text(alphabet="a/-", max_size=3),
    st.sampled_from(["", "/", "-", "a/"]),
    st.integers(1, 4),
)
STARTED = st.tuples(st.sets(KEYS, max_size=10), KEYS, st.sampled_from(["", "a", "a/"]))


async def fill(namespace: Namespace, bucket: str, keys: set[str]) -> None:
    await namespace.buckets.create(bucket, "owner")
    for key in keys:
        await namespace.objects.put(bucket, key, BytesBody(b"x"), ObjectMeta())


# Opening a store costs more than a case, so an example is a list of cases in buckets of their own.
@settings(max_examples=8, deadline=None)
@given(cases=st.lists(PAGED, min_size=1, max_size=12))
async def test_pages_of_a_listing_are_what_s3_defines(
    cases: list[tuple[set[str], str, str, int]],
) -> None:
    with TemporaryDirectory() as folder:
        async with open_namespace(Path(folder)) as opened:
            for number, (keys, prefix, delimiter, limit) in enumerate(cases):
                bucket = f"case-{number}"
                await fill(opened.namespace, bucket, keys)
                after = ""
                while True:
                    page = await opened.namespace.listing.objects(
                        bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
                    )
                    wanted, more = reference(keys, prefix, delimiter, after, limit)
                    assert names(page.entries) == wanted
                    assert (page.next is not None) == more
                    if page.next is None:
                        break
                    after = page.next


@settings(max_examples=8, deadline=None)
@given(cases=st.lists(STARTED, min_size=1, max_size=12))
async def test_any_start_after_gives_what_lies_behind_it(
    cases: list[tuple[set[str], str, str]],
) -> None:
    with TemporaryDirectory() as folder:
        async with open_namespace(Path(folder)) as opened:
            for number, (keys, after, prefix) in enumerate(cases):
                bucket = f"case-{number}"
                await fill(opened.namespace, bucket, keys)
                page = await opened.namespace.listing.objects(bucket, prefix=prefix, after=after)
                assert names(page.entries) == reference(keys, prefix, "", after, 1000)[0]


async def test_a_long_listing_goes_on_over_pages_of_rows(opened: Opened) -> None:
    keys = sorted(f"d{number % 3}/{number:04}" for number in range(1300))
    for key in keys:
        await opened.namespace.objects.put("box", key, BytesBody(b""), ObjectMeta())
    page = await opened.namespace.listing.objects("box", limit=2000)
    assert names(page.entries) == keys
    flat = await opened.namespace.listing.objects("box", delimiter="/", prefix="d1/")
    assert names(flat.entries) == [key for key in keys if key.startswith("d1/")]
    top = await opened.namespace.listing.objects("box", delimiter="/")
    assert top.entries == ["d0/", "d1/", "d2/"]


async def test_a_listing_of_no_bucket_is_refused_and_of_none_is_empty(opened: Opened) -> None:
    with pytest.raises(NoSuchBucket):
        await opened.namespace.listing.objects("none")
    page = await opened.namespace.listing.objects("box", prefix="no/such", delimiter="/")
    assert page.entries == []
    with trio.fail_after(1):
        assert (await opened.namespace.listing.objects("box", limit=0)).next is None


async def test_many_small_directories_cost_rows_and_not_pages(opened: Opened) -> None:
    keys = [f"d{number:04}/k" for number in range(600)]
    for key in keys:
        await opened.namespace.objects.put("box", key, BytesBody(b""), ObjectMeta())
    rows = 0
    real = opened.engine.read

    def counting(function: Callable[..., object], *args: object) -> object:
        nonlocal rows
        found = real(function, *args)  # type: ignore[arg-type]
        rows += len(found) if isinstance(found, list) else 0
        return found

    opened.engine.read = counting  # type: ignore[method-assign,assignment]
    page = await opened.namespace.listing.objects("box", limit=1000)
    assert names(page.entries) == keys
    assert rows <= 2 * len(keys) + 10
