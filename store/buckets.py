"""Buckets: the first level of the namespace, directories of the root (rule R16).

Concurrency: any task; each change is one transaction. Source: S3 user guide, bucket naming rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from metadb import buckets, dentries, inodes, uploads, versions
from metadb.records import ROOT, BucketRow, InodeId
from metadb.statements import Tx
from store import rules, tree
from store.errors import (
    BucketExists,
    BucketLocked,
    BucketNotEmpty,
    InvalidArgument,
    InvalidBucketName,
    NoSuchBucket,
)
from store.state import Rules, State, now_ns
from store.translate import translated
from store.types import STORE, Bucket, LockRule, Maker, Usage

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_SWEEP = 1000
TRASH_DAYS_MAX = 36_500
NO_DOCUMENTS: Mapping[str, str] = MappingProxyType({})
# Below every letter of a bucket's name: behind `name` comes `name + _NEXT`.
_NEXT = "\x01"


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
    umask: int = 0,
    maker: Maker = STORE,
) -> Bucket:
    """Inside a transaction. Raises InvalidBucketName, BucketExists."""
    check_bucket_name(name)
    if buckets.by_name(tx, name) is not None:
        raise BucketExists(name)
    row = tree.make_directory(
        tx,
        state,
        ROOT,
        name.encode(),
        InodeId(0),
        now,
        mode=mode,
        uid=uid,
        gid=gid,
        umask=umask,
        maker=maker,
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
    if versions.any_in(tx, bucket):
        raise BucketNotEmpty(name)
    _remove_empty(tx, state, bucket, name, now, keep_directories=keep_directories)
    while pending := uploads.page(tx, bucket, (b"", ""), _SWEEP):
        for upload in pending:
            drop_upload(tx, state, upload.id)
    row = inodes.get(tx, bucket)
    assert row is not None
    tree.remove_directory(tx, state, row, name.encode(), now)
    buckets.remove(tx, bucket)
    state.rules.pop(bucket, None)
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

    async def create(
        self,
        name: str,
        owner: str,
        *,
        lock: bool = False,
        documents: Mapping[str, str] = NO_DOCUMENTS,
        maker: Maker = STORE,
    ) -> Bucket:
        """lock: with object lock and versioning. documents: as `set_document` would keep them.

        Raises InvalidBucketName, BucketExists.
        """
        state = self._state

        def make(tx: Tx) -> Bucket:
            made = create_bucket(tx, state, name, owner, now_ns(), maker=maker)
            if lock:
                rules.set_versioning(tx, state, made.id, rules.ENABLED)
                rules.set_lock(tx, state, made.id, LockRule())
            for which, document in documents.items():
                rules.set_document(tx, state, made.id, which, document)
            return _find(tx, state, name)

        with translated(name):
            bucket = state.engine.transact(make)
            await state.engine.barrier()
        await state.tell_kernel([(ROOT, name.encode())], [ROOT])
        return bucket

    def get(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        return self._state.engine.read(_find, self._state, name)

    async def delete(self, name: str) -> None:
        """Raises NoSuchBucket, BucketNotEmpty."""
        state = self._state
        with translated(name):
            bucket = state.engine.transact(
                delete_bucket, state, name, now_ns(), keep_directories=False
            )
            await state.engine.barrier()
        await state.tell_kernel([(ROOT, name.encode())], [ROOT, bucket])

    def page(
        self, after: str = "", limit: int = 1000, *, prefix: str = "", owner: str | None = None
    ) -> list[Bucket]:
        """Up to `limit` buckets of a prefix behind `after`, by name. owner: None for all."""
        return self._state.engine.read(_page, self._state, after, limit, prefix, owner)

    # -- what a bucket asks of its objects ----------------------------------------------

    async def set_versioning(self, name: str, versioning: str) -> None:
        """'enabled' or 'suspended'. Raises NoSuchBucket, BucketLocked (suspending with lock)."""
        if versioning not in (rules.ENABLED, rules.SUSPENDED):
            raise InvalidArgument(versioning, "versioning is 'enabled' or 'suspended'")

        def change(tx: Tx, state: State, bucket: InodeId, now: Rules) -> None:
            if now.lock is not None and versioning != rules.ENABLED:
                raise BucketLocked(name, "object lock needs versioning")
            if rules.trash_days(now) is not None and versioning != rules.ENABLED:
                raise BucketLocked(name, "its trash needs versioning")
            rules.set_versioning(tx, state, bucket, versioning)

        await self._change(name, change)

    def lock_rule(self, name: str) -> LockRule | None:
        """None: object lock is off. Raises NoSuchBucket."""
        return self.rules(name).lock

    async def set_lock_rule(self, name: str, rule: LockRule) -> None:
        """Turn object lock on, for good. Raises NoSuchBucket, BucketLocked (no versioning)."""

        def change(tx: Tx, state: State, bucket: InodeId, now: Rules) -> None:
            if now.versioning != rules.ENABLED:
                raise BucketLocked(name, "object lock needs versioning")
            rules.set_lock(tx, state, bucket, rule)

        await self._change(name, change)

    def document(self, name: str, which: str) -> str | None:
        """The JSON kept for a subresource ("cors", "tagging", ...). Raises NoSuchBucket."""
        return self.rules(name).documents.get(which)

    async def set_document(self, name: str, which: str, document: str | None) -> None:
        """Keep it; None removes it. Raises NoSuchBucket."""
        assert which not in (rules.LOCK, rules.QUOTA, rules.TRASH), which

        def change(tx: Tx, state: State, bucket: InodeId, now: Rules) -> None:
            rules.set_document(tx, state, bucket, which, document)

        await self._change(name, change)

    def quota(self, name: str) -> int | None:
        """The most the bucket may hold, in bytes. Raises NoSuchBucket."""
        return self.rules(name).quota_bytes

    async def set_quota(self, name: str, quota_bytes: int | None) -> None:
        """What it holds already stays, whatever the bound. Raises NoSuchBucket, InvalidArgument."""
        if quota_bytes is not None and quota_bytes < 0:
            raise InvalidArgument(quota_bytes, "a quota is 0 bytes or more")

        def change(tx: Tx, state: State, bucket: InodeId, now: Rules) -> None:
            rules.set_quota(tx, state, bucket, quota_bytes)

        await self._change(name, change)

    async def set_trash(self, name: str, days: int | None) -> None:
        """Keep what is deleted or replaced for `days` days (versioning comes with it); None ends
        that, and versioning stays. Raises NoSuchBucket, InvalidArgument.
        """
        if days is not None and not 1 <= days <= TRASH_DAYS_MAX:
            raise InvalidArgument(days, f"trash is for 1 to {TRASH_DAYS_MAX} days")

        def change(tx: Tx, state: State, bucket: InodeId, now: Rules) -> None:
            if days is not None and now.versioning != rules.ENABLED:
                rules.set_versioning(tx, state, bucket, rules.ENABLED)
            rules.set_trash(tx, state, bucket, days)

        await self._change(name, change)

    def usage(self, name: str) -> Usage:
        """What the bucket holds now. Raises NoSuchBucket."""

        def count(tx: Tx) -> Usage:
            size, inode_count = buckets.usage_of(tx, tree.bucket_id(tx, name))
            return Usage(bytes=size, inodes=inode_count)

        return self._state.engine.read(count)

    def rules(self, name: str) -> Rules:
        """All that is kept of a bucket's settings, from memory. Raises NoSuchBucket."""
        return self._state.engine.read(_rules, self._state, name)

    async def _change(self, name: str, change: Callable[[Tx, State, InodeId, Rules], None]) -> None:
        state = self._state

        def run(tx: Tx) -> None:
            bucket = tree.bucket_id(tx, name)
            change(tx, state, bucket, rules.rules_of(tx, state, bucket))
            tree.note(tx, "bucket", bucket, tree.Place(ROOT, name.encode()), bucket, now_ns())

        with translated(name):
            state.engine.transact(run)
            await state.engine.barrier()


def _rules(tx: Tx, state: State, name: str) -> Rules:
    return rules.rules_of(tx, state, tree.bucket_id(tx, name))


def _find(tx: Tx, state: State, name: str) -> Bucket:
    row = buckets.by_name(tx, name)
    if row is None:
        raise NoSuchBucket(name)
    return _bucket(tx, state, row)


def _page(
    tx: Tx, state: State, after: str, limit: int, prefix: str, owner: str | None
) -> list[Bucket]:
    first = max(after + _NEXT if after else "", prefix)
    found: list[Bucket] = []
    while len(found) < limit:
        rows = buckets.page(tx, first, _SWEEP)
        for row in rows:
            if not row.name.startswith(prefix):
                return found
            if owner is None or row.owner == owner:
                found.append(_bucket(tx, state, row))
                if len(found) == limit:
                    return found
        if len(rows) < _SWEEP:
            return found
        first = rows[-1].name + _NEXT
    return found


def _bucket(tx: Tx, state: State, row: BucketRow) -> Bucket:
    asked = rules.rules_of(tx, state, row.id)
    return Bucket(
        id=row.id,
        name=row.name,
        created_ns=row.created_ns,
        owner=row.owner,
        versioning=row.versioning,
        lock=asked.lock is not None,
        quota_bytes=asked.quota_bytes,
        trash_days=rules.trash_days(asked),
    )
