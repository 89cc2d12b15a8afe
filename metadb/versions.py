"""Rows of `version`: what a key was before, and that it was deleted.

Concurrency: inside a transaction. Source: metadb.schema (M6).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    LargeBinary,
    Select,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)

from metadb.records import InodeId, VersionEntryRow, VersionRow
from metadb.schema import inode, version
from metadb.statements import Statement, Tx

_COLUMNS = ("bucket", "key", "version_id", "inode", "stored_ns")
_APPEND = Statement(insert(version).values({c: bindparam(c) for c in _COLUMNS}), *_COLUMNS)
_OF_KEY = and_(version.c.bucket == bindparam("bucket"), version.c.key == bindparam("key"))
_NEWEST = Statement(
    select(version).where(_OF_KEY).order_by(version.c.sequence.desc()).limit(bindparam("limit")),
    "bucket",
    "key",
    "limit",
)
_NULL = Statement(
    select(version).where(_OF_KEY, version.c.version_id.is_(None)).limit(bindparam("limit")),
    "bucket",
    "key",
    "limit",
)
_NAMED = Statement(
    select(version).where(
        version.c.version_id == bindparam("version_id"),
        version.c.bucket == bindparam("bucket"),
        version.c.key == bindparam("key"),
    ),
    "version_id",
    "bucket",
    "key",
)
_AT = Statement(select(version).where(version.c.sequence == bindparam("key")), "key")
_REMOVE = Statement(delete(version).where(version.c.sequence == bindparam("key")), "key")
_ANY = Statement(
    select(version.c.sequence)
    .where(version.c.bucket == bindparam("bucket"))
    .limit(bindparam("limit")),
    "bucket",
    "limit",
)
_BELOW = and_(
    version.c.bucket == bindparam("of_bucket"),
    version.c.key >= bindparam("first"),
    version.c.key < bindparam("past"),
)
_MOVE = Statement(
    update(version)
    .where(_BELOW)
    .values(
        key=cast(
            bindparam("prefix", type_=LargeBinary).concat(
                func.substr(version.c.key, bindparam("cut"))
            ),
            LargeBinary,
        )
    ),
    "prefix",
    "cut",
    "of_bucket",
    "first",
    "past",
)
_ENTRY = (
    version.c.sequence,
    version.c.key,
    version.c.version_id,
    version.c.stored_ns,
    version.c.inode,
    inode.c.size,
    inode.c.etag,
    inode.c.meta,
)
_ENTRIES = select(*_ENTRY).select_from(version.outerjoin(inode, inode.c.id == version.c.inode))
_OLDER = Statement(
    _ENTRIES.where(_OF_KEY, version.c.sequence < bindparam("below"))
    .order_by(version.c.sequence.desc())
    .limit(bindparam("limit")),
    "bucket",
    "key",
    "below",
    "limit",
)
_PAGE = Statement(
    _ENTRIES.where(version.c.bucket == bindparam("bucket"), version.c.key >= bindparam("first"))
    .order_by(version.c.key, version.c.sequence.desc())
    .limit(bindparam("limit")),
    "bucket",
    "first",
    "limit",
)


def append(
    tx: Tx,
    bucket: InodeId,
    key: bytes,
    version_id: str | None,
    number: InodeId | None,
    stored_ns: int,
) -> None:
    """The key's newest version that is not its current object. number None: a delete marker."""
    tx.run(_APPEND, bucket, key, version_id, number, stored_ns)


def newest(tx: Tx, bucket: InodeId, key: bytes) -> VersionRow | None:
    """The newest version beside the current object, or None."""
    row = tx.one(_NEWEST, bucket, key, 1)
    return None if row is None else VersionRow._make(row)


def find(tx: Tx, bucket: InodeId, key: bytes, version_id: str | None) -> VersionRow | None:
    """The version of this id (None: the null version) that is not current, or None."""
    if version_id is None:
        row = tx.one(_NULL, bucket, key, 1)
    else:
        row = tx.one(_NAMED, version_id, bucket, key)
    return None if row is None else VersionRow._make(row)


def at(tx: Tx, sequence: int) -> VersionRow | None:
    """The row of a sequence number, or None."""
    row = tx.one(_AT, sequence)
    return None if row is None else VersionRow._make(row)


def superseded(bucket: InodeId, before_ns: int) -> Select[Any]:
    """For the scan lane: (sequence, id and stored_ns of the next newer one of the key) of versions.

    Left out are those whose newer one was recorded at `before_ns` or later, or that have none and
    were recorded then themselves. In order of keys, oldest first.
    """
    rows = (
        select(
            version.c.sequence,
            version.c.key,
            version.c.stored_ns,
            _newer(version.c.version_id).label("newer_id"),
            _newer(version.c.stored_ns).label("newer_ns"),
        )
        .where(version.c.bucket == bucket)
        .subquery()
    )
    return (
        select(rows.c.sequence, rows.c.newer_id, rows.c.newer_ns)
        .where(func.coalesce(rows.c.newer_ns, rows.c.stored_ns) < before_ns)
        .order_by(rows.c.key, rows.c.sequence)
    )


def _newer(column: Column[Any]) -> ColumnElement[Any]:
    """A column of the next newer version of the same key."""
    return func.lag(column).over(partition_by=version.c.key, order_by=version.c.sequence.desc())


def remove(tx: Tx, sequence: int) -> None:
    """Remove the row alone; its inode is the caller's."""
    tx.run(_REMOVE, sequence)


def any_in(tx: Tx, bucket: InodeId) -> bool:
    """Whether the bucket holds a version or delete marker."""
    return tx.one(_ANY, bucket, 1) is not None


def move_below(tx: Tx, bucket: InodeId, old: bytes, new: bytes) -> int:
    """History of all keys that start with `old`, a directory's path, goes along to `new`."""
    return tx.run(_MOVE, new, len(old) + 1, bucket, old, _past(old))


def older(tx: Tx, bucket: InodeId, key: bytes, below: int, limit: int) -> list[VersionEntryRow]:
    """Up to `limit` versions of one key with sequence < below, newest first."""
    return [VersionEntryRow._make(row) for row in tx.all(_OLDER, bucket, key, below, limit)]


def page(tx: Tx, bucket: InodeId, first: bytes, limit: int) -> list[VersionEntryRow]:
    """Up to `limit` versions of keys >= first: by key, newest first."""
    return [VersionEntryRow._make(row) for row in tx.all(_PAGE, bucket, first, limit)]


def _past(prefix: bytes) -> bytes:
    """The first bytes behind all that start with `prefix`, which ends in '/'."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
