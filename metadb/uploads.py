"""Rows of `upload`, `part` and `completed`. Concurrency: inside a transaction."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, delete, literal_column, or_, select

from metadb.records import InodeId, PartRow, UploadRow
from metadb.schema import completed, part, upload
from metadb.statements import Statement, Tx, insert_row

_GET = Statement(select(upload).where(upload.c.id == bindparam("id")), "id")
_INSERT = insert_row(upload)
_DELETE = Statement(delete(upload).where(upload.c.id == bindparam("key")), "key")
_PAGE = Statement(
    select(upload)
    .where(
        upload.c.bucket == bindparam("bucket"),
        or_(
            upload.c.key > bindparam("key"),
            and_(upload.c.key == bindparam("same"), upload.c.id > bindparam("id")),
        ),
    )
    .order_by(upload.c.key, upload.c.id)
    .limit(bindparam("limit")),
    "bucket",
    "key",
    "same",
    "id",
    "limit",
)
_PART = Statement(
    select(part).where(part.c.upload == bindparam("upload"), part.c.number == bindparam("number")),
    "upload",
    "number",
)
_PARTS = Statement(
    select(part)
    .where(part.c.upload == bindparam("upload"), part.c.number > bindparam("after"))
    .order_by(part.c.number)
    .limit(bindparam("limit")),
    "upload",
    "after",
    "limit",
)
_SET_PART = insert_row(part, replace=True)
_DELETE_PARTS = Statement(delete(part).where(part.c.upload == bindparam("key")), "key")
_COMPLETED = Statement(
    select(completed.c.bucket, completed.c.key, completed.c.etag).where(
        completed.c.upload == bindparam("id")
    ),
    "id",
)
_NOTE = insert_row(completed, replace=True)


def get(tx: Tx, upload_id: str) -> UploadRow | None:
    """The upload, or None."""
    row = tx.one(_GET, upload_id)
    return None if row is None else UploadRow._make(row)


def insert(tx: Tx, row: UploadRow) -> None:
    """Add an upload."""
    tx.run(_INSERT, *row)


def remove(tx: Tx, upload_id: str) -> None:
    """Remove the upload and its part rows; the parts' inodes are the caller's."""
    tx.run(_DELETE_PARTS, upload_id)
    tx.run(_DELETE, upload_id)


def page(tx: Tx, bucket: InodeId, after: tuple[bytes, str], limit: int) -> list[UploadRow]:
    """Up to `limit` uploads of a bucket behind (key, id), in that order."""
    key, upload_id = after
    return [UploadRow._make(row) for row in tx.all(_PAGE, bucket, key, key, upload_id, limit)]


def part_of(tx: Tx, upload_id: str, number: int) -> PartRow | None:
    """One part, or None."""
    row = tx.one(_PART, upload_id, number)
    return None if row is None else PartRow._make(row)


def parts(tx: Tx, upload_id: str, after: int, limit: int) -> list[PartRow]:
    """Up to `limit` parts with number > after, in order."""
    return [PartRow._make(row) for row in tx.all(_PARTS, upload_id, after, limit)]


def set_part(tx: Tx, row: PartRow) -> None:
    """Add or replace a part."""
    tx.run(_SET_PART, *row)


def completed_as(tx: Tx, upload_id: str) -> tuple[InodeId, bytes, str] | None:
    """(bucket, key, etag) of an upload that was completed, or None."""
    row = tx.one(_COMPLETED, upload_id)
    return None if row is None else (row[0], row[1], row[2])


def note_completed(
    tx: Tx, upload_id: str, bucket: InodeId, key: bytes, etag: str, now_ns: int
) -> None:
    """Remember how an upload ended."""
    tx.run(_NOTE, upload_id, bucket, key, etag, now_ns)


_ANY_COMPLETED = Statement(
    select(completed.c.upload)
    .where(completed.c.at_ns < bindparam("before"))
    .limit(literal_column("1")),
    "before",
)
_FORGET_COMPLETED = Statement(
    delete(completed).where(completed.c.at_ns < bindparam("before")), "before"
)


def any_completed(tx: Tx, before_ns: int) -> bool:
    """Whether an upload is remembered that was completed before then."""
    return tx.one(_ANY_COMPLETED, before_ns) is not None


def forget_completed(tx: Tx, before_ns: int) -> None:
    """Forget the uploads completed before then."""
    tx.run(_FORGET_COMPLETED, before_ns)
