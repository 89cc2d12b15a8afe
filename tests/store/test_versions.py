"""Versioning as Amazon S3 has it, case by case, on the S3 side of the namespace."""

from __future__ import annotations

import itertools
import os
import random
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from metadb import changes, dentries
from metadb.check import find_violations
from metadb.records import ROOT
from store.errors import (
    BucketNotEmpty,
    KeyDeleted,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    PreconditionFailed,
    VersionIsMarker,
)
from store.types import Deletion, Doomed, ObjectMeta, PartClaim, Precondition
from tests.fakes.memory_chunks import MemoryChunks
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened, open_namespace, until
from tests.store.posix import CALLER, box, broken, made, version_bytes
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
    """The namespace, whose tables are sound when the test is over."""
    yield opened
    assert not broken(opened.namespace)
    assert await find_violations(opened.engine) == []


# -- putting -------------------------------------------------------------------------------


async def test_without_versioning_nothing_has_a_version_id(opened: Opened) -> None:
    objects = opened.namespace.objects
    assert (await put(opened, "k", b"1")).version_id is None
    await put(opened, "k", b"2")
    assert objects.stat("box", "k").version_id is None
    assert objects.stat("box", "k", "null").size == 1
    assert await history(opened, "k") == [b"2"]
    assert await ids(opened, "k") == ["null"]
    with pytest.raises(NoSuchVersion):
        objects.stat("box", "k", "0123")
    assert await objects.delete("box", "k") == Deletion(version_id=None, marker=False)
    assert await entries(opened.namespace) == []


@pytest.mark.parametrize("size", [3, LARGE])
async def test_each_put_is_a_version_and_all_stay_readable(opened: Opened, size: int) -> None:
    await enable(opened)
    values = [random.Random(number).randbytes(size) for number in range(4)]
    made_ids = [await put_id(opened, "d/k", value) for value in values]
    assert len(set(made_ids)) == 4
    assert await ids(opened, "d/k") == made_ids[::-1]
    assert await history(opened, "d/k") == values[::-1]
    objects = opened.namespace.objects
    assert objects.stat("box", "d/k").version_id == made_ids[-1]
    for version_id, value in zip(made_ids, values, strict=True):
        assert objects.stat("box", "d/k", version_id).size == size
        assert await version_bytes(opened.namespace, "d/k", version_id) == value
    with pytest.raises(NoSuchVersion):
        objects.stat("box", "d/other", made_ids[0])
    with pytest.raises(NoSuchVersion):
        objects.stat("box", "d/k", "null")


async def test_what_was_there_before_becomes_the_null_version(opened: Opened) -> None:
    await put(opened, "k", b"before")
    await enable(opened)
    assert opened.namespace.objects.stat("box", "k").version_id == "null"
    new = await put_id(opened, "k", b"after")
    assert await ids(opened, "k") == [new, "null"]
    assert await version_bytes(opened.namespace, "k", "null") == b"before"


async def test_suspended_puts_replace_the_null_version_and_no_other(opened: Opened) -> None:
    await put(opened, "k", b"before")
    await enable(opened)
    kept = await put_id(opened, "k", b"kept")
    await suspend(opened)
    assert (await put(opened, "k", b"null 1")).version_id == "null"
    assert await ids(opened, "k") == ["null", kept]
    await put(opened, "k", b"null 2")
    assert await history(opened, "k") == [b"null 2", b"kept"]
    await enable(opened)
    new = await put_id(opened, "k", b"new")
    assert await ids(opened, "k") == [new, "null", kept]
    await suspend(opened)
    await put(opened, "k", b"null 3")
    assert await history(opened, "k") == [b"null 3", b"new", b"kept"]


async def test_an_overwritten_version_keeps_its_metadata_and_time(opened: Opened) -> None:
    await enable(opened)
    meta = ObjectMeta(content_type="text/plain", user={"a": "b"}, tags={"t": "1"})
    old = await put(opened, "k", b"old", meta)
    await put(opened, "k", b"new")
    assert opened.namespace.objects.stat("box", "k", old.version_id) == old


async def test_metadata_of_a_version_is_changed_by_its_id(opened: Opened) -> None:
    await enable(opened)
    old, new = [await put_id(opened, "k", value) for value in (b"old", b"new")]
    objects = opened.namespace.objects
    await objects.set_meta("box", "k", ObjectMeta(tags={"which": "old"}), old)
    await objects.set_meta("box", "k", ObjectMeta(tags={"which": "new"}))
    assert objects.stat("box", "k", old).meta.tags == {"which": "old"}
    assert objects.stat("box", "k", new).meta.tags == {"which": "new"}
    assert await ids(opened, "k") == [new, old]
    marker = await objects.delete("box", "k")
    with pytest.raises(VersionIsMarker):
        await objects.set_meta("box", "k", ObjectMeta(), marker.version_id)


async def test_conditions_are_about_the_current_version(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    first = await put(opened, "k", b"1")
    await put(opened, "k", b"2")

    async def conditional(precondition: Precondition) -> None:
        body = BytesBody(b"3")
        await objects.put("box", "k", body, ObjectMeta(), precondition=precondition)

    with pytest.raises(PreconditionFailed):
        await conditional(Precondition(if_match=(first.etag,)))
    with pytest.raises(PreconditionFailed):
        await conditional(Precondition(if_none_match=("*",)))
    await objects.delete("box", "k")
    with pytest.raises(NoSuchKey):
        await conditional(Precondition(if_match=("*",)))
    await conditional(Precondition(if_none_match=("*",)))
    assert await history(opened, "k") == [b"3", MARKER, b"2", b"1"]


async def test_overwriting_moves_no_bytes_and_deleting_versions_gives_them_back(
    opened: Opened,
) -> None:
    await enable(opened)
    made_ids = [await put_id(opened, "k", bytes([number]) * LARGE) for number in range(3)]
    runs = opened.chunks.run_ids
    assert len(runs) == 3
    await opened.namespace.objects.delete("box", "k")
    assert opened.chunks.run_ids == runs
    for version_id in made_ids:
        await opened.namespace.objects.delete("box", "k", version=version_id)
    await until(lambda: not opened.chunks.run_ids)


async def test_a_reader_of_a_version_outlives_its_deletion(opened: Opened) -> None:
    await enable(opened)
    old = await put_id(opened, "k", b"\1" * LARGE)
    await put(opened, "k", b"new")
    reader = opened.namespace.objects.open("box", "k", old)
    await opened.namespace.objects.delete("box", "k", version=old)
    await trio.sleep(0.05)
    found = b"".join([b"".join(map(bytes, part)) async for part in reader.stream(0, LARGE)])
    reader.close()
    assert found == b"\1" * LARGE
    await until(lambda: not opened.chunks.run_ids)


# -- deleting ------------------------------------------------------------------------------


async def test_a_delete_puts_a_marker_and_hides_the_key(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    old = await put_id(opened, "k", b"1")
    marker = await objects.delete("box", "k")
    assert marker.marker
    assert marker.version_id not in (None, "null", old)
    assert await ids(opened, "k") == [marker.version_id, old]
    assert await history(opened, "k") == [MARKER, b"1"]
    assert await keys(opened) == []
    with pytest.raises(KeyDeleted) as deleted:
        objects.stat("box", "k")
    assert deleted.value.version_id == marker.version_id
    with pytest.raises(VersionIsMarker):
        objects.stat("box", "k", marker.version_id)
    with pytest.raises(VersionIsMarker):
        objects.open("box", "k", marker.version_id)


async def test_deleting_what_is_not_there_leaves_a_marker_each_time(opened: Opened) -> None:
    objects = opened.namespace.objects
    await enable(opened)
    markers = [await objects.delete("box", "deep/er/k") for _ in range(2)]
    assert await ids(opened, "deep/er/k") == [marker.version_id for marker in markers][::-1]
    await suspend(opened)
    for _ in range(2):
        null = Deletion(version_id="null", marker=True)
        assert await objects.delete("box", "deep/er/k") == null
    assert (await ids(opened, "deep/er/k"))[0] == "null"
    assert len(await ids(opened, "deep/er/k")) == 3
    # A marker makes no directory.
    number = opened.namespace.buckets.get("box").id
    assert opened.engine.read(dentries.first_children, number, 1) == []


async def test_a_suspended_delete_replaces_the_null_version_by_a_marker(opened: Opened) -> None:
    await put(opened, "k", b"null")
    await enable(opened)
    kept = await put_id(opened, "k", b"kept")
    await suspend(opened)
    await opened.namespace.objects.delete("box", "k")
    assert await ids(opened, "k") == ["null", kept]
    assert await history(opened, "k") == [MARKER, b"kept"]
    await put(opened, "k", b"again")
    assert await history(opened, "k") == [b"again", b"kept"]
    await opened.namespace.objects.delete("box", "k")
    assert await history(opened, "k") == [MARKER, b"kept"]


async def test_removing_the_current_version_brings_the_one_before_back(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    first, second, third = [await put_id(opened, "d/k", value) for value in (b"1", b"2", b"3")]
    done = await objects.delete("box", "d/k", version=third)
    assert done == Deletion(version_id=third, marker=False)
    assert objects.stat("box", "d/k").version_id == second
    await objects.delete("box", "d/k", version=first)
    assert await ids(opened, "d/k") == [second]
    await objects.delete("box", "d/k", version=second)
    assert await entries(opened.namespace) == []
    with pytest.raises(NoSuchKey) as missing:
        objects.stat("box", "d/k")
    assert type(missing.value) is NoSuchKey
    await opened.namespace.buckets.delete("box")


async def test_removing_the_newest_marker_brings_the_object_back(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    old = await put_id(opened, "d/k", b"1" * LARGE)
    below, above = [await objects.delete("box", "d/k") for _ in range(2)]
    done = await objects.delete("box", "d/k", version=above.version_id)
    assert done == Deletion(version_id=above.version_id, marker=True)
    with pytest.raises(KeyDeleted):
        objects.stat("box", "d/k")
    await objects.delete("box", "d/k", version=below.version_id)
    assert objects.stat("box", "d/k").version_id == old
    assert await history(opened, "d/k") == [b"1" * LARGE]
    # It is on the mount too, in a directory made anew, and can be written there.
    files = opened.namespace.files
    row = files.lookup(files.lookup(box(files), b"d").id, b"k")
    assert (row.size, row.nlink) == (LARGE, 1)


async def test_removing_an_older_marker_changes_nothing_else(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    first = await put_id(opened, "k", b"1")
    marker = await objects.delete("box", "k")
    second = await put_id(opened, "k", b"2")
    await objects.delete("box", "k", version=marker.version_id)
    assert await ids(opened, "k") == [second, first]
    assert objects.stat("box", "k").version_id == second


async def test_removing_an_older_version_below_a_marker_leaves_the_marker(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    old = await put_id(opened, "k", b"1")
    marker = await objects.delete("box", "k")
    await objects.delete("box", "k", version=old)
    assert await ids(opened, "k") == [marker.version_id]
    await objects.delete("box", "k", version=marker.version_id)
    assert await entries(opened.namespace) == []


async def test_removing_a_version_that_is_not_there_is_fine(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    kept = await put_id(opened, "k", b"1")
    for key in ("k", "never"):
        done = await objects.delete("box", key, version="no-such-id")
        assert done == Deletion(version_id="no-such-id", marker=False)
    assert await ids(opened, "k") == [kept]
    assert await ids(opened, "never") == []


async def test_the_null_version_is_removed_by_its_name(opened: Opened) -> None:
    await put(opened, "k", b"null")
    await enable(opened)
    objects = opened.namespace.objects
    new = await put_id(opened, "k", b"new")
    await objects.delete("box", "k", version="null")
    assert await ids(opened, "k") == [new]
    await suspend(opened)
    await put(opened, "k", b"null again")
    await objects.delete("box", "k", version="null")
    assert await history(opened, "k") == [b"new"]


async def test_delete_many_takes_versions_and_keys(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    versions = [await put_id(opened, "a", b"%d" % number) for number in range(3)]
    await put(opened, "b", b"b")
    outcomes = await objects.delete_many(
        "box",
        [
            Doomed(key="a", version=versions[2]),
            Doomed(key="a", version=versions[0]),
            Doomed(key="b"),
            Doomed(key="none"),
        ],
    )
    assert outcomes[:2] == [
        Deletion(version_id=versions[2], marker=False),
        Deletion(version_id=versions[0], marker=False),
    ]
    assert await history(opened, "a") == [b"1"]
    assert await history(opened, "b") == [MARKER, b"b"]
    assert await history(opened, "none") == [MARKER]
    assert [outcome.marker for outcome in outcomes[2:] if isinstance(outcome, Deletion)] == [
        True,
        True,
    ]


async def test_a_bucket_with_versions_left_is_not_removed(opened: Opened) -> None:
    await enable(opened)
    buckets, objects = opened.namespace.buckets, opened.namespace.objects
    old = await put_id(opened, "d/k", b"1")
    marker = await objects.delete("box", "d/k")
    with pytest.raises(BucketNotEmpty):
        await buckets.delete("box")
    with pytest.raises(BucketNotEmpty):
        opened.namespace.files.rmdir(ROOT, b"box")
    await objects.delete("box", "d/k", version=old)
    with pytest.raises(BucketNotEmpty):
        await buckets.delete("box")
    await objects.delete("box", "d/k", version=marker.version_id)
    await buckets.delete("box")


async def test_directories_that_puts_made_go_while_history_stays(opened: Opened) -> None:
    await enable(opened)
    number = opened.namespace.buckets.get("box").id
    await put(opened, "p/q/r", b"1")
    marker = await opened.namespace.objects.delete("box", "p/q/r")
    assert opened.engine.read(dentries.first_children, number, 1) == []
    assert await history(opened, "p/q/r") == [MARKER, b"1"]
    await opened.namespace.objects.delete("box", "p/q/r", version=marker.version_id)
    assert await keys(opened) == ["p/q/r"]
    await opened.namespace.objects.delete("box", "p/q/r")
    assert opened.engine.read(dentries.first_children, number, 1) == []


# -- copies and uploads --------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, LARGE])
async def test_a_version_is_copied_by_its_id(opened: Opened, size: int) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    old, new = [await put(opened, "k", value * size) for value in (b"1", b"2")]
    runs = opened.chunks.run_ids
    made_stat = await objects.copy(
        ("box", "k"), ("box", "k"), None, source_etag=old.etag, source_version=old.version_id
    )
    assert made_stat.version_id not in (old.version_id, new.version_id, None)
    assert await history(opened, "k") == [b"1" * size, b"2" * size, b"1" * size]
    assert opened.chunks.run_ids == runs
    with pytest.raises(PreconditionFailed):
        await objects.copy(
            ("box", "k"), ("box", "x"), None, source_etag=new.etag, source_version=old.version_id
        )
    marker = await objects.delete("box", "k")
    with pytest.raises(VersionIsMarker):
        await objects.copy(
            ("box", "k"), ("box", "x"), None, source_etag="", source_version=marker.version_id
        )


async def test_the_null_version_copied_onto_its_own_key_while_suspended(opened: Opened) -> None:
    null = await put(opened, "k", b"\1" * LARGE)
    await enable(opened)
    await put(opened, "k", b"kept")
    await suspend(opened)
    await opened.namespace.objects.copy(
        ("box", "k"), ("box", "k"), None, source_etag=null.etag, source_version="null"
    )
    assert await history(opened, "k") == [b"\1" * LARGE, b"kept"]


async def _upload(opened: Opened, key: str, value: bytes) -> tuple[str, list[PartClaim]]:
    uploads = opened.namespace.uploads
    upload = await uploads.create("box", key, ObjectMeta())
    part = await uploads.put_part("box", key, upload, 1, BytesBody(value))
    return upload, [PartClaim(number=1, etag=part.etag, checksums={})]


async def test_a_completed_upload_is_a_version(opened: Opened) -> None:
    await enable(opened)
    await put(opened, "k", b"old")
    upload, claims = await _upload(opened, "k", b"parts")
    done = await opened.namespace.uploads.complete("box", "k", upload, claims)
    assert await ids(opened, "k") == [done.version_id, (await ids(opened, "k"))[1]]
    assert await history(opened, "k") == [b"parts", b"old"]


async def test_a_repeated_complete_tells_of_the_version_it_made(opened: Opened) -> None:
    await enable(opened)
    uploads, objects = opened.namespace.uploads, opened.namespace.objects
    upload, claims = await _upload(opened, "k", b"parts")
    done = await uploads.complete("box", "k", upload, claims)
    assert await uploads.complete("box", "k", upload, claims) == done
    await put(opened, "k", b"newer")
    assert await uploads.complete("box", "k", upload, claims) == done
    await objects.delete("box", "k")
    assert await uploads.complete("box", "k", upload, claims) == done
    await objects.delete("box", "k", version=done.version_id)
    with pytest.raises(NoSuchUpload):
        await uploads.complete("box", "k", upload, claims)


async def test_rename_leaves_a_version_under_a_marker_and_makes_a_new_one(opened: Opened) -> None:
    await enable(opened)
    objects = opened.namespace.objects
    old = await put_id(opened, "s", b"source")
    replaced = await put_id(opened, "t", b"target")
    await objects.rename("box", "s", "t")
    assert await history(opened, "s") == [MARKER, b"source"]
    assert (await ids(opened, "s"))[1] == old
    assert await history(opened, "t") == [b"source", b"target"]
    new, kept = await ids(opened, "t")
    assert kept == replaced
    assert new not in (old, replaced)


# -- what stands in the way ----------------------------------------------------------------


async def test_a_special_file_hides_the_history_until_it_goes(opened: Opened) -> None:
    await enable(opened)
    objects, files = opened.namespace.objects, opened.namespace.files
    await put(opened, "k", b"1")
    marker = await objects.delete("box", "k")
    files.mknod(box(files), b"k", stat.S_IFIFO | 0o600, 0, CALLER)
    await objects.delete("box", "k", version=marker.version_id)
    assert stat.S_ISFIFO(files.lookup(box(files), b"k").mode)
    assert await keys(opened) == []
    with pytest.raises(NoSuchKey):
        objects.stat("box", "k")
    files.unlink(box(files), b"k")
    assert await history(opened, "k") == [MARKER, b"1"]


async def test_a_link_hides_the_history_until_it_goes(opened: Opened) -> None:
    await enable(opened)
    objects, files = opened.namespace.objects, opened.namespace.files
    await put(opened, "target", b"t")
    old = await put_id(opened, "k", b"1")
    await objects.delete("box", "k")
    files.symlink(box(files), b"k", b"target", CALLER)
    assert await version_bytes(opened.namespace, "k", None) == b"t"
    assert await version_bytes(opened.namespace, "k", old) == b"1"
    await objects.delete("box", "k")
    assert await history(opened, "k") == [MARKER, b"1"]
    assert await history(opened, "target") == [b"t"]


async def test_a_put_over_a_link_leaves_what_it_leads_to(opened: Opened) -> None:
    await enable(opened)
    files = opened.namespace.files
    await put(opened, "target", b"t")
    files.symlink(box(files), b"k", b"target", CALLER)
    await put(opened, "k", b"own")
    assert await history(opened, "k") == [b"own"]
    assert await history(opened, "target") == [b"t"]


@pytest.mark.parametrize("state", [enable, suspend])
async def test_a_file_not_yet_published_hides_the_history_and_then_heads_it(
    opened: Opened, state: object
) -> None:
    await enable(opened)
    objects, files = opened.namespace.objects, opened.namespace.files
    await put(opened, "k", b"1")
    await state(opened)  # type: ignore[operator]
    marker = await objects.delete("box", "k")
    handle, _ = files.create(box(files), b"k", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, b"new")
    assert await history(opened, "k") == [MARKER, b"1"]
    await objects.delete("box", "k", version=marker.version_id)
    assert await history(opened, "k") == [b"1"]
    with pytest.raises(NoSuchKey):
        objects.stat("box", "k")
    await handle.release()
    assert await history(opened, "k") == [b"new", b"1"]


async def test_a_put_replaces_a_file_not_yet_published_without_a_version_of_it(
    opened: Opened,
) -> None:
    await enable(opened)
    files = opened.namespace.files
    handle, _ = files.create(box(files), b"k", 0o644, os.O_WRONLY, CALLER)
    await handle.write(0, b"lost")
    await put(opened, "k", b"put")
    await handle.release()
    assert await history(opened, "k") == [b"put"]


# -- listing -------------------------------------------------------------------------------

LISTED = ("a", "a!", "a/", "a/b", "a/b/c", "a/c", "a0", "b", "b/x", "c//d", "é", "🦋/1")


async def _fill(opened: Opened) -> list[tuple[str, str, bool]]:
    """Keys with objects, markers and both; (key, version id, latest) as a listing has them."""
    await enable(opened)
    dice = random.Random(4)
    for _ in range(4):
        for key in LISTED:
            if dice.random() < 0.7:
                await put(opened, key, b"x")
            elif dice.random() < 0.6:
                await opened.namespace.objects.delete("box", key)
    found = [
        (entry.key, entry.version_id, entry.latest) for entry in await entries(opened.namespace)
    ]
    assert [key for key, _, _ in found] == sorted((key for key, _, _ in found), key=str.encode)
    return found


def _rolled_up(
    listed: list[tuple[str, str, bool]], prefix: str, delimiter: str
) -> list[tuple[str, str, bool] | str]:
    found: list[tuple[str, str, bool] | str] = []
    for entry in listed:
        cut = entry[0].find(delimiter, len(prefix)) if delimiter else -1
        if not entry[0].startswith(prefix):
            continue
        if cut < 0:
            found.append(entry)
        elif (common := entry[0][: cut + len(delimiter)]) not in found:
            found.append(common)
    return found


@pytest.mark.parametrize("delimiter", ["", "/", "b", "//", "/b"])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "c/", "nothing", "é"])
async def test_pages_of_any_length_make_up_the_whole_listing(
    opened: Opened, prefix: str, delimiter: str
) -> None:
    expected = _rolled_up(await _fill(opened), prefix, delimiter)
    for limit in (1, 2, 3, 1000):
        found: list[tuple[str, str, bool] | str] = []
        after: tuple[str, str] | None = ("", "")
        while after is not None:
            page = await opened.namespace.listing.versions(
                "box", prefix=prefix, delimiter=delimiter, after=after, limit=limit
            )
            assert 0 < len(page.entries) <= limit or page.next is None
            found += [
                one if isinstance(one, str) else (one.key, one.version_id, one.latest)
                for one in page.entries
            ]
            after = page.next
        assert found == expected, limit


async def test_a_listing_resumes_behind_any_version(opened: Opened) -> None:
    listed = await _fill(opened)
    for index, (key, version_id, _) in enumerate(listed):
        page = await opened.namespace.listing.versions("box", after=(key, version_id))
        found = [(one.key, one.version_id) for one in page.entries if not isinstance(one, str)]
        assert found == [(key, version_id) for key, version_id, _ in listed[index + 1 :]]
        page = await opened.namespace.listing.versions("box", after=(key, ""))
        found = [(one.key, one.version_id) for one in page.entries if not isinstance(one, str)]
        assert found == [(k, v) for k, v, _ in listed if k.encode() > key.encode()]


async def test_a_marker_outside_of_the_prefix_or_inside_a_common_prefix_adds_nothing(
    opened: Opened,
) -> None:
    listed = await _fill(opened)
    some = next(entry for entry in listed if entry[0] == "a/b")
    page = await opened.namespace.listing.versions("box", prefix="b", after=some[:2])
    assert {one.key for one in page.entries if not isinstance(one, str)} == {"b", "b/x"}
    page = await opened.namespace.listing.versions("box", delimiter="/", after=some[:2])
    expected = _rolled_up([entry for entry in listed if entry[0] > "a/b"], "", "/")
    assert [one if isinstance(one, str) else one.key for one in page.entries] == [
        one if isinstance(one, str) else one[0] for one in expected
    ]


async def test_a_listing_resumes_behind_a_version_that_went_meanwhile(opened: Opened) -> None:
    await enable(opened)
    objects, listing = opened.namespace.objects, opened.namespace.listing
    for number in range(7):
        await put(opened, "k", b"%d" % number)
    after: tuple[str, str] | None = ("", "")
    seen = 0
    while after is not None:
        page = await listing.versions("box", after=after, limit=2)
        for one in page.entries:
            assert not isinstance(one, str)
            await objects.delete("box", one.key, version=one.version_id)
            seen += 1
        after = page.next
    assert seen == 7
    assert await entries(opened.namespace) == []


@pytest.mark.slow
async def test_a_listing_over_many_batches_gives_each_version_once(opened: Opened) -> None:
    await enable(opened)
    expected: dict[str, int] = {}
    for number in range(620):
        key = f"{'abc'[number % 3]}/{number % 310:03}"
        await put(opened, key, b"x")
        expected[key] = expected.get(key, 0) + 1
    for _ in range(520):
        await put(opened, "b/hot", b"x")
    expected["b/hot"] = 520
    found = await entries(opened.namespace)
    counts = {key: len(list(group)) for key, group in itertools.groupby(found, lambda one: one.key)}
    assert counts == dict(sorted(expected.items()))
    assert len({(one.key, one.version_id) for one in found}) == len(found)


@pytest.mark.slow
async def test_a_listing_misses_no_version_that_is_replaced_meanwhile(opened: Opened) -> None:
    await enable(opened)
    there = {f"k{number:04}": await put_id(opened, f"k{number:04}", b"1") for number in range(1100)}
    listing = opened.namespace.listing
    dice = random.Random(1)

    async def replace_some() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            await put(opened, f"k{dice.randrange(1100):04}", b"2")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(replace_some)
        for _ in range(5):
            page = await listing.versions("box", limit=100_000)
            found = [(one.key, one.version_id) for one in page.entries if not isinstance(one, str)]
            assert there.items() <= set(found)
            assert len(set(found)) == len(found)
            assert [key for key, _ in found] == sorted(key for key, _ in found)
        nursery.cancel_scope.cancel()


async def test_no_limit_is_no_entry(opened: Opened) -> None:
    await enable(opened)
    await put(opened, "k", b"1")
    page = await opened.namespace.listing.versions("box", limit=0)
    assert (page.entries, page.next) == ([], None)


# -- what is left behind -------------------------------------------------------------------


async def test_versions_outlive_a_restart(tmp_path: Path) -> None:
    chunks = MemoryChunks()
    async with open_namespace(tmp_path, chunks) as opened:
        await enable(opened)
        old = await put_id(opened, "k", b"\1" * LARGE)
        await put(opened, "k", b"small")
        await opened.namespace.objects.delete("box", "k")
    chunks.crash()
    async with open_namespace(tmp_path, chunks) as opened:
        assert await history(opened, "k") == [MARKER, b"small", b"\1" * LARGE]
        assert (await ids(opened, "k"))[2] == old
        assert not broken(opened.namespace)


async def test_changes_name_the_version_they_made(opened: Opened) -> None:
    await enable(opened)
    before = opened.engine.read(changes.last)
    files, objects = opened.namespace.files, opened.namespace.objects
    first = await put_id(opened, "k", b"1")
    marker = await objects.delete("box", "k")
    await made(files, box(files), b"f", b"file")
    published = (await ids(opened, "f"))[0]
    await files.rename(box(files), b"f", box(files), b"g", 0)
    renamed = (await ids(opened, "g"))[0]
    rows = opened.engine.read(changes.since, before, 100)
    found = [(row[2], row[6]) for row in rows if row[2] not in ("create", "bucket")]
    assert found == [
        ("put", first),
        ("delete", marker.version_id),
        ("publish", published),
        ("rename", renamed),
    ]
