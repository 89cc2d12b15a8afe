"""Rows of `bucket`, `bucket_config` and `setting`. Concurrency: inside a transaction."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select

from metadb.records import BucketRow, InodeId
from metadb.schema import bucket, setting
from metadb.statements import Statement, Tx, insert_row

_BY_NAME = Statement(select(bucket).where(bucket.c.name == bindparam("name")), "name")
_BY_ID = Statement(select(bucket).where(bucket.c.id == bindparam("id")), "id")
_PAGE = Statement(
    select(bucket)
    .where(bucket.c.name > bindparam("after"))
    .order_by(bucket.c.name)
    .limit(bindparam("limit")),
    "after",
    "limit",
)
_INSERT = insert_row(bucket)
_DELETE = Statement(delete(bucket).where(bucket.c.id == bindparam("key")), "key")
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


def page(tx: Tx, after: str, limit: int) -> list[BucketRow]:
    """Up to `limit` buckets with name > after, in order."""
    return [BucketRow._make(row) for row in tx.all(_PAGE, after, limit)]


def insert(tx: Tx, row: BucketRow) -> None:
    """Add a bucket whose name is free."""
    tx.run(_INSERT, *row)


def remove(tx: Tx, number: InodeId) -> None:
    """Remove the row alone."""
    tx.run(_DELETE, number)


def setting_of(tx: Tx, name: str) -> str | None:
    """A single value of the store, or None."""
    row = tx.one(_SETTING, name)
    return None if row is None else row[0]


def set_setting(tx: Tx, name: str, value: str) -> None:
    """Write a single value of the store."""
    tx.run(_SET, name, value)
