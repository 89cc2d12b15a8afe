"""Buckets: the first level of the namespace, directories of the root (rule R16).

Concurrency: any task; each change is one transaction. Source: S3 user guide, bucket naming rules.
"""

from __future__ import annotations

import re

from metadb import buckets, dentries, inodes, uploads
from metadb.records import ROOT, BucketRow, InodeId
from metadb.statements import Tx
from store import tree
from store.errors import BucketExists, BucketNotEmpty, InvalidBucketName, NoSuchBucket
from store.state import State, now_ns
from store.translate import translated
from store.types import Bucket

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_SWEEP = 1000


def check_bucket_name(name: str) -> None:
    """Raises InvalidBucketName unless it is one by S3's rules."""
    if (
        not _NAME.fullmatch(name)
        or ".." in name
        or ".-" in name
        or "-." in name
        or _ADDRESS.fullmatch(name)
        or name.startswith(("xn--", "sthree-"))
        or name.endswith(("-s3alias", "--ol-s3"))
    ):
        raise InvalidBucketName(name)


def create_bucket(
    tx: Tx,
    state: State,
    name: str,
    owner: str,
    now: int,
    *,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
) -> Bucket:
    """Inside a transaction. Raises InvalidBucketName, BucketExists."""
    check_bucket_name(name)
    if buckets.by_name(tx, name) is not None:
        raise BucketExists(name)
    row = tree.make_directory(
        tx, state, ROOT, name.encode(), InodeId(0), now, mode=mode, uid=uid, gid=gid
    )
    buckets.insert(tx, BucketRow(row.id, name, now, owner, "off"))
    tree.note(tx, "bucket+", row.id, tree.Place(ROOT, name.encode()), row.id, now)
    return Bucket(id=row.id, name=name, created_ns=now, owner=owner, versioning="off")


def delete_bucket(tx: Tx, state: State, name: str, now: int, *, keep_directories: bool) -> InodeId:
    """Inside a transaction: remove a bucket without keys, and its uploads.

    keep_directories: empty directories below count as content (rmdir) or go along (rule R4).
    Raises NoSuchBucket, BucketNotEmpty.
    """
    bucket = tree.bucket_id(tx, name)
    _remove_empty(tx, state, bucket, name, now, keep_directories=keep_directories)
    while pending := uploads.page(tx, bucket, (b"", ""), _SWEEP):
        for upload in pending:
            drop_upload(tx, state, upload.id)
    row = inodes.get(tx, bucket)
    assert row is not None
    tree.remove_directory(tx, state, row, name.encode(), now)
    buckets.remove(tx, bucket)
    tree.note(tx, "bucket-", bucket, tree.Place(ROOT, name.encode()), bucket, now)
    return bucket


def drop_upload(tx: Tx, state: State, upload_id: str) -> None:
    """Inside a transaction: remove an upload with its parts' bytes."""
    after = 0
    while parts := uploads.parts(tx, upload_id, after, _SWEEP):
        for part in parts:
            tree.erase(tx, state, part.inode)
        after = parts[-1].number
    uploads.remove(tx, upload_id)


def _remove_empty(
    tx: Tx, state: State, directory: InodeId, subject: str, now: int, *, keep_directories: bool
) -> None:
    """Remove directories below that hold nothing. Raises BucketNotEmpty at the first leaf."""
    while names := dentries.first_children(tx, directory, _SWEEP):
        for name in names:
            if keep_directories or not name.endswith(b"/"):
                raise BucketNotEmpty(subject)
            row = dentries.stat(tx, directory, name)
            assert row is not None
            _remove_empty(tx, state, row.id, subject, now, keep_directories=False)
            tree.remove_directory(tx, state, row, name[:-1], now)


class Buckets:
    """Buckets as the S3 face sees them."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def create(self, name: str, owner: str) -> Bucket:
        """Raises InvalidBucketName, BucketExists."""
        state = self._state
        with translated(name):
            bucket = state.engine.transact(create_bucket, state, name, owner, now_ns())
            await state.engine.barrier()
        await state.tell_kernel([(ROOT, name.encode())], [ROOT])
        return bucket

    def get(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        row = self._state.engine.read(buckets.by_name, name)
        if row is None:
            raise NoSuchBucket(name)
        return _bucket(row)

    async def delete(self, name: str) -> None:
        """Raises NoSuchBucket, BucketNotEmpty."""
        state = self._state
        with translated(name):
            bucket = state.engine.transact(
                delete_bucket, state, name, now_ns(), keep_directories=False
            )
            await state.engine.barrier()
        await state.tell_kernel([(ROOT, name.encode())], [ROOT, bucket])

    def page(self, after: str = "", limit: int = 1000) -> list[Bucket]:
        """Up to `limit` buckets behind `after`, by name."""
        return [_bucket(row) for row in self._state.engine.read(buckets.page, after, limit)]


def _bucket(row: BucketRow) -> Bucket:
    return Bucket(
        id=row.id,
        name=row.name,
        created_ns=row.created_ns,
        owner=row.owner,
        versioning=row.versioning,
    )
