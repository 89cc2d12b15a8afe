"""Object lock from both doors: what may not go stays, and everything else works."""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator

import pytest

from metadb.check import find_violations
from metadb.records import ROOT, InodeId
from store import locks
from store.errors import (
    BucketLocked,
    CrossBucket,
    KeyDeleted,
    Locked,
    LockNotEnabled,
    VersionIsMarker,
)
from store.files import Changes
from store.locks import COMPLIANCE, GOVERNANCE
from store.renames import RENAME_EXCHANGE
from store.state import Rules, now_ns
from store.types import Deletion, Doomed, LockRule, ObjectMeta, PartClaim
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import CALLER, box, broken, contents, listed, made
from tests.store.versioned import MARKER, enable, history, ids, put, suspend

DAY = 86_400 * 10**9
HOUR = 3600 * 10**9


@pytest.fixture
async def opened(opened: Opened) -> AsyncIterator[Opened]:
    """`box` has object lock, without a default."""
    await enable(opened)
    await opened.namespace.buckets.set_lock_rule("box", LockRule())
    yield opened
    assert not broken(opened.namespace)
    assert await find_violations(opened.engine) == []


def soon() -> int:
    return now_ns() + HOUR


async def retained(opened: Opened, key: str, mode: str) -> str:
    """A new version of a key, retained for an hour."""
    found = await put(opened, key, b"1", ObjectMeta(lock_mode=mode, lock_until_ns=soon()))
    assert found.version_id is not None
    return found.version_id


# -- settings ------------------------------------------------------------------------------


async def test_lock_needs_versioning_and_keeps_it(opened: Opened) -> None:
    buckets = opened.namespace.buckets
    await buckets.create("plain", "owner")
    with pytest.raises(BucketLocked):
        await buckets.set_lock_rule("plain", LockRule())
    assert buckets.lock_rule("plain") is None
    await enable(opened, "plain")
    await buckets.set_lock_rule("plain", LockRule(mode=GOVERNANCE, days=1))
    with pytest.raises(BucketLocked):
        await suspend(opened, "plain")
    made_bucket = await buckets.create("born", "owner", lock=True)
    assert (made_bucket.versioning, made_bucket.lock) == ("enabled", True)
    assert buckets.lock_rule("born") == LockRule()


async def test_locks_are_refused_in_a_bucket_without(opened: Opened) -> None:
    namespace = opened.namespace
    await namespace.buckets.create("plain", "owner")
    for meta in (
        ObjectMeta(lock_mode=GOVERNANCE, lock_until_ns=soon()),
        ObjectMeta(legal_hold=True),
    ):
        with pytest.raises(LockNotEnabled):
            await put(opened, "k", b"1", meta, "plain")
        with pytest.raises(LockNotEnabled):
            await namespace.uploads.create("plain", "k", meta)
    await put(opened, "k", b"1", bucket="plain")
    with pytest.raises(LockNotEnabled):
        await namespace.objects.set_retention("plain", "k", GOVERNANCE, soon())
    with pytest.raises(LockNotEnabled):
        await namespace.objects.set_legal_hold("plain", "k", on=True)
    assert not opened.chunks.run_ids


@pytest.mark.parametrize(
    "rule", [LockRule(mode=GOVERNANCE, days=3), LockRule(mode=COMPLIANCE, days=3)]
)
async def test_the_default_is_given_to_whatever_makes_a_version(
    opened: Opened, rule: LockRule
) -> None:
    namespace, files = opened.namespace, opened.namespace.files
    objects, uploads = namespace.objects, namespace.uploads
    await put(opened, "before", b"1")
    await namespace.buckets.create("outside", "owner")
    await put(opened, "moved", b"1", bucket="outside")
    await namespace.buckets.set_lock_rule("box", rule)
    start = now_ns()
    await put(opened, "put", b"1")
    etag = objects.stat("box", "before").etag
    await objects.copy(("box", "before"), ("box", "copy"), None, source_etag=etag)
    upload = await uploads.create("box", "upload", ObjectMeta())
    part = await uploads.put_part("box", "upload", upload, 1, BytesBody(b"1"))
    claim = PartClaim(number=1, etag=part.etag, checksums={})
    await uploads.complete("box", "upload", upload, [claim])
    await made(files, box(files), b"closed", b"1")
    files.mknod(box(files), b"node", 0o100644, 0, CALLER)
    await files.rename(files.lookup(ROOT, b"outside").id, b"moved", box(files), b"moved", 0)
    for key in ("put", "copy", "upload", "closed", "node", "moved"):
        meta = objects.stat("box", key).meta
        assert meta.lock_mode == rule.mode, key
        assert 3 * DAY <= meta.lock_until_ns - start < 3 * DAY + 60 * 10**9, key
    assert objects.stat("box", "before").meta == ObjectMeta()
    await put(opened, "own", b"1", ObjectMeta(lock_mode=GOVERNANCE, lock_until_ns=start + HOUR))
    assert objects.stat("box", "own").meta.lock_until_ns == start + HOUR
    await put(opened, "held", b"1", ObjectMeta(legal_hold=True))
    meta = objects.stat("box", "held").meta
    assert (meta.legal_hold, meta.lock_mode) == (True, rule.mode)


@pytest.mark.parametrize(
    ("now", "years", "end"),
    [
        ("2024-02-29T12:30:00", 1, "2025-02-28T12:30:00"),
        ("2024-02-29T12:30:00", 4, "2028-02-29T12:30:00"),
        ("2023-12-31T23:59:59", 2, "2025-12-31T23:59:59"),
    ],
)
def test_a_year_ends_on_the_same_day(now: str, years: int, end: str) -> None:
    def ns(text: str) -> int:
        moment = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
        return int(moment.timestamp()) * 10**9

    rules = Rules("enabled", LockRule(mode=GOVERNANCE, years=years), None, {})
    assert locks.retained(rules, ObjectMeta(), ns(now)).lock_until_ns == ns(end)


# -- removing ------------------------------------------------------------------------------


async def test_retention_keeps_a_version_and_governance_can_be_bypassed(opened: Opened) -> None:
    objects = opened.namespace.objects
    governed = await retained(opened, "g", GOVERNANCE)
    complied = await retained(opened, "c", COMPLIANCE)
    for key, version_id in (("g", governed), ("c", complied)):
        with pytest.raises(Locked):
            await objects.delete("box", key, version=version_id)
    with pytest.raises(Locked):
        await objects.delete("box", "c", version=complied, bypass=True)
    done = await objects.delete("box", "g", version=governed, bypass=True)
    assert done == Deletion(version_id=governed, marker=False)
    assert await history(opened, "c") == [b"1"]


async def test_a_legal_hold_keeps_a_version_until_it_ends(opened: Opened) -> None:
    objects = opened.namespace.objects
    held = (await put(opened, "k", b"1")).version_id
    await objects.set_legal_hold("box", "k", on=True)
    for bypass in (False, True):
        with pytest.raises(Locked):
            await objects.delete("box", "k", version=held, bypass=bypass)
    await put(opened, "k", b"2")
    with pytest.raises(Locked):
        await objects.delete("box", "k", version=held)
    await objects.set_legal_hold("box", "k", on=False, version=held)
    await objects.delete("box", "k", version=held)
    assert await history(opened, "k") == [b"2"]


async def test_markers_and_newer_versions_go_on_top_of_what_is_locked(opened: Opened) -> None:
    objects = opened.namespace.objects
    locked = await retained(opened, "k", COMPLIANCE)
    marker = await objects.delete("box", "k")
    with pytest.raises(KeyDeleted):
        await objects.set_legal_hold("box", "k", on=True)
    with pytest.raises(VersionIsMarker):
        await objects.set_legal_hold("box", "k", on=True, version=marker.version_id)
    with pytest.raises(Locked):
        await objects.delete("box", "k", version=locked)
    assert marker.version_id is not None
    await objects.delete("box", "k", version=marker.version_id)
    await put(opened, "k", b"2")
    assert await history(opened, "k") == [b"2", b"1"]


async def test_delete_many_refuses_the_locked_and_does_the_others(opened: Opened) -> None:
    locked = await retained(opened, "k", GOVERNANCE)
    free = (await put(opened, "f", b"1")).version_id
    doomed = [Doomed(key="k", version=locked), Doomed(key="f", version=free)]
    outcomes = await opened.namespace.objects.delete_many("box", doomed)
    assert isinstance(outcomes[0], Locked)
    assert outcomes[1] == Deletion(version_id=free, marker=False)
    assert await opened.namespace.objects.delete_many("box", doomed[:1], bypass=True) == [
        Deletion(version_id=locked, marker=False)
    ]


async def test_retention_that_has_ended_keeps_nothing(opened: Opened) -> None:
    past = ObjectMeta(lock_mode=COMPLIANCE, lock_until_ns=now_ns() - 1)
    gone = (await put(opened, "k", b"1", past)).version_id
    await opened.namespace.objects.delete("box", "k", version=gone)
    assert await ids(opened, "k") == []


@pytest.mark.parametrize(
    ("mode", "to_mode", "by_ns", "bypass", "allowed"),
    [
        (GOVERNANCE, GOVERNANCE, HOUR, False, True),
        (GOVERNANCE, GOVERNANCE, -1, False, False),
        (GOVERNANCE, GOVERNANCE, -1, True, True),
        (GOVERNANCE, COMPLIANCE, 0, False, False),
        (GOVERNANCE, COMPLIANCE, 0, True, True),
        (GOVERNANCE, COMPLIANCE, -1, True, True),
        (GOVERNANCE, "", 0, False, False),
        (GOVERNANCE, "", 0, True, True),
        (COMPLIANCE, COMPLIANCE, 0, False, True),
        (COMPLIANCE, COMPLIANCE, HOUR, False, True),
        (COMPLIANCE, COMPLIANCE, -1, True, False),
        (COMPLIANCE, GOVERNANCE, HOUR, True, False),
        (COMPLIANCE, "", 0, True, False),
    ],
)
async def test_retention_grows_freely_and_shrinks_with_the_right_to(
    opened: Opened, mode: str, to_mode: str, by_ns: int, bypass: bool, allowed: bool
) -> None:
    objects = opened.namespace.objects
    version_id = await retained(opened, "k", mode)
    before = objects.stat("box", "k").meta
    until = before.lock_until_ns + by_ns
    if allowed:
        done = await objects.set_retention(
            "box", "k", to_mode, until, version=version_id, bypass=bypass
        )
        assert done.meta.lock_mode == to_mode
        assert done.meta.lock_until_ns == (until if to_mode else 0)
    else:
        with pytest.raises(Locked):
            await objects.set_retention("box", "k", to_mode, until, bypass=bypass)
        assert objects.stat("box", "k").meta == before


async def test_headers_change_without_touching_retention_and_a_copy_leaves_it(
    opened: Opened,
) -> None:
    objects = opened.namespace.objects
    version_id = await retained(opened, "k", GOVERNANCE)
    await objects.set_legal_hold("box", "k", on=True)
    before = objects.stat("box", "k").meta
    await objects.set_meta("box", "k", ObjectMeta(tags={"a": "b"}))
    after = objects.stat("box", "k").meta
    assert (after.tags, after.legal_hold) == ({"a": "b"}, True)
    assert (after.lock_mode, after.lock_until_ns) == (before.lock_mode, before.lock_until_ns)
    etag = objects.stat("box", "k").etag
    copied = await objects.copy(
        ("box", "k"), ("box", "c"), None, source_etag=etag, source_version=version_id
    )
    assert copied.meta == ObjectMeta(tags={"a": "b"})


# -- the mount -----------------------------------------------------------------------------


@pytest.fixture(params=["governance", "compliance", "hold"])
async def locked(opened: Opened, request: pytest.FixtureRequest) -> InodeId:
    """The inode of `f`, which object lock keeps."""
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"locked")
    objects = opened.namespace.objects
    if request.param == "hold":
        await objects.set_legal_hold("box", "f", on=True)
    else:
        await objects.set_retention("box", "f", request.param.upper(), soon())
    return inode


async def test_a_locked_file_is_read_and_not_written(opened: Opened, locked: InodeId) -> None:
    files = opened.namespace.files
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(Locked):
            files.open(locked, flags)
        with pytest.raises(Locked):
            files.create(box(files), b"f", 0o644, flags, CALLER)
    with pytest.raises(Locked):
        await files.change(locked, Changes(size=0))
    assert await contents(files, locked) == b"locked"
    assert await history(opened, "f") == [b"locked"]


async def test_a_locked_file_keeps_its_name(opened: Opened, locked: InodeId) -> None:
    files = opened.namespace.files
    await made(files, box(files), b"other", b"2")
    await opened.namespace.buckets.create("plain", "owner")
    plain = files.lookup(ROOT, b"plain").id
    with pytest.raises(Locked):
        files.unlink(box(files), b"f")
    for name, parent, to, flags in (
        (b"f", box(files), b"g", 0),
        (b"other", box(files), b"f", 0),
        (b"f", box(files), b"other", RENAME_EXCHANGE),
        (b"other", box(files), b"f", RENAME_EXCHANGE),
        (b"f", plain, b"f", 0),
    ):
        with pytest.raises(Locked):
            await files.rename(box(files), name, parent, to, flags)
    with pytest.raises(Locked):
        await opened.namespace.objects.rename("box", "f", "g")
    with pytest.raises(Locked):
        await opened.namespace.objects.rename("box", "other", "f")
    assert listed(files, box(files)) == [b"f", b"other"]
    assert await history(opened, "f") == [b"locked"]


async def test_s3_goes_on_over_a_locked_file(opened: Opened, locked: InodeId) -> None:
    await put(opened, "f", b"new")
    assert await history(opened, "f") == [b"new", b"locked"]
    files = opened.namespace.files
    files.unlink(box(files), b"f")
    assert await history(opened, "f") == [MARKER, b"new", b"locked"]


async def test_a_file_open_when_it_was_locked_leaves_the_locked_version(opened: Opened) -> None:
    files = opened.namespace.files
    handle, _ = files.create(box(files), b"f", 0o644, os.O_RDWR, CALLER)
    await handle.write(0, b"1")
    await handle.fsync(False)
    await opened.namespace.objects.set_legal_hold("box", "f", on=True)
    locked = (await ids(opened, "f"))[0]
    await handle.write(0, b"2")
    await handle.release()
    assert await history(opened, "f") == [b"2", b"1"]
    objects = opened.namespace.objects
    assert objects.stat("box", "f", locked).meta.legal_hold
    assert not objects.stat("box", "f").meta.legal_hold


async def test_attributes_and_links_of_a_locked_file_are_free(
    opened: Opened, locked: InodeId
) -> None:
    files = opened.namespace.files
    await files.change(locked, Changes(mode=0o600, mtime_ns=1))
    files.setxattr(locked, b"user.s3.tag.k", b"v", 0)
    files.link(locked, box(files), b"l")
    with pytest.raises(Locked):
        files.unlink(box(files), b"l")


async def test_directories_stay_where_object_lock_is_on(opened: Opened, locked: InodeId) -> None:
    files = opened.namespace.files
    await put(opened, "d/x", b"1")
    with pytest.raises(CrossBucket):
        await files.rename(box(files), b"d", box(files), b"e", 0)
    files.mkdir(box(files), b"empty", 0o755, CALLER)
    await files.rename(box(files), b"empty", box(files), b"moved", 0)


async def test_an_empty_directory_with_locked_history_stays(opened: Opened) -> None:
    files = opened.namespace.files
    files.mkdir(box(files), b"d", 0o755, CALLER)
    await retained(opened, "d/x", COMPLIANCE)
    await opened.namespace.objects.delete("box", "d/x")
    with pytest.raises(CrossBucket):
        await files.rename(box(files), b"d", box(files), b"e", 0)
    assert await history(opened, "d/x") == [MARKER, b"1"]


async def test_the_locked_object_of_an_empty_directorys_own_key_stays(opened: Opened) -> None:
    files = opened.namespace.files
    files.mkdir(box(files), b"d", 0o755, CALLER)
    await retained(opened, "d", COMPLIANCE)
    with pytest.raises(Locked):
        await files.rename(box(files), b"d", box(files), b"e", 0)
    assert await history(opened, "d") == [b"1"]


async def test_a_locked_marker_keeps_its_directory(opened: Opened) -> None:
    files = opened.namespace.files
    meta = ObjectMeta(lock_mode=COMPLIANCE, lock_until_ns=soon())
    await put(opened, "d/", b"", meta)
    with pytest.raises(Locked):
        files.rmdir(box(files), b"d")
    assert await history(opened, "d/") == [b""]


async def test_what_moves_on_leaves_its_ended_lock_behind(opened: Opened) -> None:
    files = opened.namespace.files
    meta = ObjectMeta(user={"a": "b"}, lock_mode=COMPLIANCE, lock_until_ns=now_ns() - 1)
    await put(opened, "f", b"1", meta)
    await files.rename(box(files), b"f", box(files), b"g", 0)
    objects = opened.namespace.objects
    assert objects.stat("box", "g").meta == ObjectMeta(user={"a": "b"})
    assert objects.stat("box", "f", (await ids(opened, "f"))[1]).meta == meta
