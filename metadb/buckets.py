"""Rows of `bucket`, `bucket_config`, `usage` and `setting`. Concurrency: inside a transaction."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select, update

from metadb.records import BucketRow, InodeId
from metadb.schema import bucket, bucket_config, setting, usage
from metadb.statements import Statement, Tx, insert_row

_BY_NAME = Statement(select(bucket).where(bucket.c.name == bindparam("name")), "name")
_BY_ID = Statement(select(bucket).where(bucket.c.id == bindparam("id")), "id")
_PAGE = Statement(
    select(bucket)
    .where(bucket.c.name >= bindparam("first"))
    .order_by(bucket.c.name)
    .limit(bindparam("limit")),
    "first",
    "limit",
)
_INSERT = insert_row(bucket)
_DELETE = Statement(delete(bucket).where(bucket.c.id == bindparam("key")), "key")
_SET_VERSIONING = Statement(
    update(bucket)
    .where(bucket.c.id == bindparam("key"))
    .values(versioning=bindparam("versioning")),
    "versioning",
    "key",
)
_DOCUMENTS = Statement(
    select(bucket_config.c.name, bucket_config.c.document).where(
        bucket_config.c.bucket == bindparam("bucket")
    ),
    "bucket",
)
_WITH_DOCUMENT = Statement(
    select(bucket_config.c.bucket, bucket_config.c.document)
    .where(bucket_config.c.name == bindparam("name"), bucket_config.c.bucket > bindparam("after"))
    .order_by(bucket_config.c.bucket)
    .limit(bindparam("limit")),
    "name",
    "after",
    "limit",
)
_SET_DOCUMENT = insert_row(bucket_config, replace=True)
_REMOVE_DOCUMENT = Statement(
    delete(bucket_config).where(
        bucket_config.c.bucket == bindparam("key"), bucket_config.c.name == bindparam("of_name")
    ),
    "key",
    "of_name",
)
_REMOVE_DOCUMENTS = Statement(
    delete(bucket_config).where(bucket_config.c.bucket == bindparam("key")), "key"
)
_USAGE = Statement(
    select(usage.c.size, usage.c.inodes).where(usage.c.bucket == bindparam("bucket")), "bucket"
)
_COUNT_USAGE = insert_row(usage)
_REMOVE_USAGE = Statement(delete(usage).where(usage.c.bucket == bindparam("key")), "key")
_SETTING = Statement(select(setting.c.value).where(setting.c.name == bindparam("name")), "name")
_SET = insert_row(setting, replace=True)


def by_name(tx: Tx, name: str) -> BucketRow | None:
    """The bucket, or None."""
    row = tx.one(_BY_NAME, name)
    return None if row is None else BucketRow._make(row)


def by_id(tx: Tx, number: InodeId) -> BucketRow | None:
    """The bucket whose directory has this inode number, or None."""
    row = tx.one(_BY_ID, number)
    return None if row is None else BucketRow._make(row)


def page(tx: Tx, first: str, limit: int) -> list[BucketRow]:
    """Up to `limit` buckets with name >= first, in order."""
    return [BucketRow._make(row) for row in tx.all(_PAGE, first, limit)]


def insert(tx: Tx, row: BucketRow) -> None:
    """Add a bucket whose name is free; its directory, as yet empty, is there already."""
    tx.run(_INSERT, *row)
    tx.run(_COUNT_USAGE, row.id, 0, 1)


def remove(tx: Tx, number: InodeId) -> None:
    """Remove the bucket's row, documents and usage."""
    tx.run(_REMOVE_DOCUMENTS, number)
    tx.run(_REMOVE_USAGE, number)
    tx.run(_DELETE, number)


def set_versioning(tx: Tx, number: InodeId, versioning: str) -> None:
    """'enabled' or 'suspended'."""
    tx.run(_SET_VERSIONING, versioning, number)


def documents(tx: Tx, number: InodeId) -> dict[str, str]:
    """All documents of a bucket by the name of their subresource."""
    return {row[0]: row[1] for row in tx.all(_DOCUMENTS, number)}


def with_document(tx: Tx, name: str, after: int, limit: int) -> list[tuple[InodeId, str]]:
    """(bucket, document) of up to `limit` buckets behind `after` that have this document."""
    return [(InodeId(row[0]), row[1]) for row in tx.all(_WITH_DOCUMENT, name, after, limit)]


def set_document(tx: Tx, number: InodeId, name: str, document: str | None) -> None:
    """Write a bucket's document; None removes it."""
    if document is None:
        tx.run(_REMOVE_DOCUMENT, number, name)
    else:
        tx.run(_SET_DOCUMENT, number, name, document)


def usage_of(tx: Tx, number: InodeId) -> tuple[int, int]:
    """(bytes, inodes) the bucket holds, with what this transaction did so far."""
    row = tx.one(_USAGE, number)
    return (0, 0) if row is None else (row[0], row[1])


def setting_of(tx: Tx, name: str) -> str | None:
    """A single value of the store, or None."""
    row = tx.one(_SETTING, name)
    return None if row is None else row[0]


def set_setting(tx: Tx, name: str, value: str) -> None:
    """Write a single value of the store."""
    tx.run(_SET, name, value)
