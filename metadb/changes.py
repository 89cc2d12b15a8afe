"""Rows of `change`, the outbox. Concurrency: inside a transaction."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, insert, literal_column, select

from metadb.records import InodeId
from metadb.schema import change
from metadb.statements import Row, Statement, Tx

_COLUMNS = ("at_ns", "what", "bucket", "parent", "name", "version_id", "inode")
_APPEND = Statement(insert(change).values({c: bindparam(c) for c in _COLUMNS}), *_COLUMNS)
_SINCE = Statement(
    select(change)
    .where(change.c.sequence > bindparam("after"))
    .order_by(change.c.sequence)
    .limit(bindparam("limit")),
    "after",
    "limit",
)
_LAST = Statement(select(func.coalesce(func.max(change.c.sequence), literal_column("0"))))
_FIRST = Statement(select(func.coalesce(func.min(change.c.sequence), literal_column("0"))))
_TRIM = Statement(delete(change).where(change.c.sequence <= bindparam("through")), "through")


def append(
    tx: Tx,
    what: str,
    bucket: InodeId,
    parent: InodeId,
    name: bytes,
    number: InodeId,
    now_ns: int,
    version_id: str | None = None,
) -> None:
    """Note a mutation; its sequence is one above the last."""
    tx.run(_APPEND, now_ns, what, bucket, parent, name, version_id, number)


def since(tx: Tx, after: int, limit: int) -> list[Row]:
    """Up to `limit` whole rows with sequence > after, in order."""
    return tx.all(_SINCE, after, limit)


def last(tx: Tx) -> int:
    """The newest sequence, 0 for none."""
    row = tx.one(_LAST)
    return int(row[0]) if row else 0


def first(tx: Tx) -> int:
    """The oldest sequence kept, 0 for none."""
    row = tx.one(_FIRST)
    return int(row[0]) if row else 0


def trim(tx: Tx, through: int) -> None:
    """Forget rows up to `through`. Never the newest: the next sequence is counted from it."""
    tx.run(_TRIM, min(through, last(tx) - 1))
