"""Words for tests of versions: what hangs on a key, newest first."""

from __future__ import annotations

from store.namespace import Namespace
from store.types import ObjectMeta, ObjectStat, VersionEntry
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import version_bytes

ENABLED, SUSPENDED = "enabled", "suspended"
MARKER = None
"""In place of bytes: a delete marker."""


async def enable(opened: Opened, bucket: str = "box") -> None:
    await opened.namespace.buckets.set_versioning(bucket, ENABLED)


async def suspend(opened: Opened, bucket: str = "box") -> None:
    await opened.namespace.buckets.set_versioning(bucket, SUSPENDED)


async def put(
    opened: Opened, key: str, value: bytes, meta: ObjectMeta | None = None, bucket: str = "box"
) -> ObjectStat:
    body = BytesBody(value)
    return await opened.namespace.objects.put(bucket, key, body, meta or ObjectMeta())


async def put_id(opened: Opened, key: str, value: bytes) -> str:
    """PUT in a versioned bucket; the version id."""
    found = (await put(opened, key, value)).version_id
    assert found is not None
    return found


async def entries(
    namespace: Namespace, key: str | None = None, bucket: str = "box"
) -> list[VersionEntry]:
    """All versions, or those of one key."""
    page = await namespace.listing.versions(bucket, prefix=key or "", limit=10_000)
    assert page.next is None
    found = [entry for entry in page.entries if isinstance(entry, VersionEntry)]
    assert len(found) == len(page.entries)
    return [entry for entry in found if key in (None, entry.key)]


async def history(opened: Opened, key: str, bucket: str = "box") -> list[bytes | None]:
    """The bytes of a key's versions, newest first; MARKER for a delete marker.

    The first of them, and no other, is the latest.
    """
    found = await entries(opened.namespace, key, bucket)
    assert [entry.latest for entry in found] == [True] * bool(found) + [False] * len(found[1:])
    return [
        None
        if entry.stat is None
        else await version_bytes(opened.namespace, key, entry.version_id, bucket)
        for entry in found
    ]


async def ids(opened: Opened, key: str, bucket: str = "box") -> list[str]:
    """The version ids of a key, newest first."""
    return [entry.version_id for entry in await entries(opened.namespace, key, bucket)]


async def keys(opened: Opened, bucket: str = "box") -> list[str]:
    """The keys of a plain listing."""
    page = await opened.namespace.listing.objects(bucket, limit=10_000)
    return [entry.key for entry in page.entries if isinstance(entry, ObjectStat)]
