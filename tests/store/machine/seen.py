"""What a store shows of itself, and how that differs from the reference.

Both doors are asked: every version by S3, its bytes too, every name and directory by the mount,
uploads with their parts, and what the bucket counts.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

from daemon.services import OpenStore
from metadb.records import ROOT, InodeId
from store.errors import NoSuchEntry
from store.types import ObjectStat, VersionEntry
from tests.store.machine.model import Whole, noted
from tests.store.posix import broken, contents, listed, version_bytes
from tests.store.versionmodel import Token

Ids = dict[Token, str]
"""The store's version ids of the reference's tokens."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version as S3 lists it. content: None for a delete marker."""

    key: str
    id: str
    latest: bool
    content: bytes | None
    tags: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """leaves: bytes on the mount by key, of what no program has open."""

    versions: list[Version]
    keys: list[str]
    leaves: dict[str, bytes]
    modes: dict[str, int]
    directories: set[str]
    uploads: dict[str, tuple[str, dict[int, tuple[int, str]]]]
    used_bytes: int
    broken: dict[str, list[object]]


async def look(opened: OpenStore, skip: set[str]) -> Seen:
    """Everything there is. skip: keys not to be read through the mount."""
    namespace = opened.namespace
    page = await namespace.listing.versions("box", limit=10_000)
    assert page.next is None
    versions = []
    for entry in page.entries:
        assert isinstance(entry, VersionEntry)
        content, tags = None, {}
        if entry.stat is not None:
            tags = entry.stat.meta.tags
            content = await version_bytes(namespace, entry.key, entry.version_id)
            assert entry.stat.size == len(content), entry
        versions.append(
            Version(
                key=entry.key,
                id=entry.version_id,
                latest=entry.latest,
                content=content,
                tags=tags,
            )
        )
    objects = await namespace.listing.objects("box", limit=10_000)
    leaves: dict[str, bytes] = {}
    modes: dict[str, int] = {}
    directories: set[str] = set()
    top = namespace.files.lookup(ROOT, b"box").id
    await _walk(opened, top, "", skip, leaves, modes, directories)
    uploads: dict[str, tuple[str, dict[int, tuple[int, str]]]] = {}
    for upload in (await namespace.uploads.page("box")).entries:
        assert not isinstance(upload, str)
        parts = namespace.uploads.parts("box", upload.key, upload.id)
        uploads[upload.id] = (upload.key, {part.number: (part.size, part.etag) for part in parts})
    return Seen(
        versions=versions,
        keys=[one.key for one in objects.entries if isinstance(one, ObjectStat)],
        leaves=leaves,
        modes=modes,
        directories=directories,
        uploads=uploads,
        used_bytes=namespace.buckets.usage("box").bytes,
        broken=broken(namespace),
    )


async def _walk(
    opened: OpenStore,
    number: InodeId,
    path: str,
    skip: set[str],
    leaves: dict[str, bytes],
    modes: dict[str, int],
    directories: set[str],
) -> None:
    files = opened.namespace.files
    names = {*listed(files, number)} - {b".", b".."}
    with contextlib.suppress(NoSuchEntry):
        # A directory's marker is listed only where it has content (rule R3).
        names |= {b"%tf.empty"} if path and files.lookup(number, b"%tf.empty") else set()
    for name in sorted(names):
        row = files.lookup(number, name)
        if row.mode & 0o170000 == 0o040000:
            below = f"{path}{name.decode()}/"
            directories.add(below)
            await _walk(opened, row.id, below, skip, leaves, modes, directories)
            continue
        if name == b"%tf.data":
            key = path[:-1]
        else:
            key = path + ("" if name == b"%tf.empty" else name.decode())
        modes[key] = row.mode & 0o7777
        # To open what was never published, and close it, is to publish it.
        unread = key in skip or row.etag is None
        leaves[key] = b"" if unread else await contents(files, row.id)


def difference(seen: Seen, model: Whole, ids: Ids) -> str:
    """What is not as it should be, in words; "" when all is. New version ids are noted in `ids`."""
    expected = model.listed()
    said = [(one.key, one.content) for one in seen.versions]
    wanted = [(key, version.content) for key, version in expected]
    if said != wanted:
        return f"versions {_short(said)} instead of {_short(wanted)}"
    found = dict(ids)
    last = None
    for one, (key, version) in zip(seen.versions, expected, strict=True):
        if found.setdefault(version.id, one.id) != one.id:
            return f"{key} has version id {one.id} instead of {found[version.id]}"
        if one.latest != (key != last):
            return f"{one.key} {one.id}: latest is {one.latest}"
        last = key
        tags = {} if version.content is None else noted(version.content).tags
        if one.tags != tags:
            return f"{one.key} {one.id} has tags {one.tags} instead of {tags}"
    if len(set(found.values())) != len(found):
        return "two versions have one id"
    published = [key for key in sorted(model.leaves, key=str.encode) if model.object(key)]
    open_keys = {key for key, node in model.leaves.items() if node in model.sessions}
    leaves = {key: b"" if key in open_keys else node.content for key, node in model.leaves.items()}
    known = {upload.id for upload in model.uploads}
    for upload in model.uploads:
        if not upload.id:  # Nobody was told.
            fresh = (n for n, (key, _) in seen.uploads.items() if key == upload.key)
            upload.id = next((n for n in fresh if n not in known), "")
    uploads = {
        upload.id: (
            upload.key,
            {number: (len(part), _md5(part)) for number, part in upload.parts.items()},
        )
        for upload in model.uploads
    }
    for what, one_side, other in (
        ("keys", seen.keys, published),
        ("names", sorted(seen.leaves), sorted(leaves)),
        ("bytes on the mount", _short(seen.leaves.items()), _short(leaves.items())),
        ("modes", seen.modes, {key: noted(n.content).mode for key, n in model.leaves.items()}),
        ("directories", seen.directories, set(model.directories)),
        ("uploads", seen.uploads, uploads),
        ("usage", seen.used_bytes, model.held_bytes()),
        ("invariants", seen.broken, {}),
    ):
        if one_side != other:
            return f"{what}: {one_side} instead of {other}"
    ids.update(found)
    return ""


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _short(pairs: object) -> list[tuple[str, str]]:
    """Keys with enough of their contents to tell them apart."""
    return [
        (key, "-" if content is None else f"{content[:12]!r}... {len(content)} {_md5(content)[:6]}")
        for key, content in sorted(pairs, key=lambda pair: pair[0])  # type: ignore[call-overload]
    ]
