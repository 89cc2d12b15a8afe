"""All that somebody can see of a store, as one flat dict of text, to be compared with another.

    bucket NAME              versioning and what it holds by its own count
    key BUCKET/KEY           what S3 says of the object, and a hash of its bytes
    version BUCKET/KEY N     the same for each version, newest first
    upload BUCKET/KEY N      the parts of a multipart upload
    path /BUCKET/NAME...     what the mount says, a hash of the bytes, extended attributes

A thing that can't be read is there with the error as its text, so it compares unequal.
Concurrency: one task of a running store's loop; reads, and changes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import aclosing, closing

import xxhash

from metadb.records import ROOT, InodeId, InodeRow
from store.namespace import Namespace
from store.types import Buffer, Upload, VersionEntry

World = dict[str, str]


async def observe(namespace: Namespace) -> World:
    """What can be seen now."""
    world: World = {}
    for bucket in namespace.buckets.page():
        usage = namespace.buckets.usage(bucket.name)
        world[f"bucket {bucket.name}"] = f"{bucket.versioning} {usage}"
        await _observe_keys(namespace, bucket.name, world)
        await _observe_versions(namespace, bucket.name, world)
        await _observe_uploads(namespace, bucket.name, world)
    await _observe_tree(namespace, ROOT, "", world)
    return world


async def _observe_keys(namespace: Namespace, bucket: str, world: World) -> None:
    for entry in (await namespace.listing.objects(bucket)).entries:
        assert not isinstance(entry, str)
        content = await _object(namespace, bucket, entry.key, None)
        told = namespace.objects.stat(bucket, entry.key)
        world[f"key {bucket}/{entry.key}"] = f"{entry.size} {told.etag} {told.meta.user} {content}"


async def _observe_versions(namespace: Namespace, bucket: str, world: World) -> None:
    counts: dict[str, int] = {}
    for entry in (await namespace.listing.versions(bucket)).entries:
        assert isinstance(entry, VersionEntry)
        number = counts[entry.key] = counts.get(entry.key, 0) + 1
        content = "delete marker"
        if entry.stat is not None:
            content = await _object(namespace, bucket, entry.key, entry.version_id)
        world[f"version {bucket}/{entry.key} {number}"] = f"{entry.version_id} {content}"


async def _observe_uploads(namespace: Namespace, bucket: str, world: World) -> None:
    for number, upload in enumerate((await namespace.uploads.page(bucket)).entries):
        assert isinstance(upload, Upload)
        parts = namespace.uploads.parts(bucket, upload.key, upload.id)
        told = [(part.number, part.size, part.etag) for part in parts]
        world[f"upload {bucket}/{upload.key} {number}"] = f"{upload.id} {told}"


async def _object(namespace: Namespace, bucket: str, key: str, version: str | None) -> str:
    try:
        digest = xxhash.xxh3_64()
        with closing(namespace.objects.open(bucket, key, version)) as reader:
            async with aclosing(reader.stream(0, reader.stat.size)) as stream:  # type: ignore[type-var]
                async for buffers in stream:
                    for buffer in buffers:
                        digest.update(buffer)
        return digest.hexdigest()
    except Exception as error:  # Whatever it is, it is what a client sees.
        return f"can't be read: {error!r}"


async def _observe_tree(namespace: Namespace, directory: InodeId, path: str, world: World) -> None:
    files = namespace.files
    handle = files.open_directory(directory)
    names: list[bytes] = []
    cookie = 0
    while page := handle.page(cookie, 1000):
        names += [name for name, _, _ in page if name not in (b".", b"..")]
        cookie = page[-1][1]
    handle.close()
    for name in names:
        row = files.lookup(directory, name)
        text = f"{path}/{os.fsdecode(name)}"
        world[f"path {text}"] = await _inode(namespace, row)
        if stat.S_ISDIR(row.mode):
            await _observe_tree(namespace, row.id, text, world)


async def _inode(namespace: Namespace, row: InodeRow) -> str:
    files = namespace.files
    told = f"{row.mode:o} links {row.nlink} of {row.uid}"
    for name in files.listxattr(row.id):
        told += f" {name!r}={files.getxattr(row.id, name)!r}"
    if stat.S_ISLNK(row.mode):
        return f"{told} -> {files.readlink(row.id)!r}"
    if not stat.S_ISREG(row.mode):
        return told
    try:
        digest = xxhash.xxh3_64()
        for buffer in await _content(namespace, row):
            digest.update(buffer)
        return f"{told} {row.size} {digest.hexdigest()}"
    except Exception as error:  # As above.
        return f"{told} {row.size} can't be read: {error!r}"


async def _content(namespace: Namespace, row: InodeRow) -> Sequence[Buffer]:
    """Through the handles there are: closing one of our own would publish what they wrote."""
    draft = namespace.files._drafts.get(row.id)
    if draft is not None:
        return await draft.read(0, row.size + 1)
    if row.etag is None:
        return []
    handle = namespace.files.open(row.id, os.O_RDONLY)
    try:
        return await handle.read(0, row.size + 1)
    finally:
        await handle.release()
