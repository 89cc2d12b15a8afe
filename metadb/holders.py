"""Who names a run: the objects, versions and parts that its bytes belong to.

`extent` has no index by run, since nothing on a hot path asks: `holders_of` is for the scan lane.
Concurrency: `name_of` inside a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, literal_column, select

from metadb.records import ROOT, InodeId
from metadb.schema import bucket, dentry, extent, inode, part, upload, version
from metadb.statements import Statement, Tx

_DEPTH_MAX = 4096
"""A circle of directories, which a damaged database may hold, is not followed for ever."""
_ENTRY = Statement(
    select(dentry.c.parent, dentry.c.name)
    .where(dentry.c.inode == bindparam("number"))
    .limit(literal_column("1")),
    "number",
)
_CURRENT = Statement(
    select(bucket.c.name, inode.c.version_id)
    .select_from(inode.outerjoin(bucket, bucket.c.id == inode.c.bucket))
    .where(inode.c.id == bindparam("number")),
    "number",
)
_VERSION = Statement(
    select(bucket.c.name, version.c.key, version.c.version_id)
    .select_from(version.join(bucket, bucket.c.id == version.c.bucket))
    .where(version.c.inode == bindparam("number"))
    .limit(literal_column("1")),
    "number",
)
_PART = Statement(
    select(bucket.c.name, upload.c.key, part.c.number)
    .select_from(
        part.join(upload, upload.c.id == part.c.upload).join(bucket, bucket.c.id == upload.c.bucket)
    )
    .where(part.c.inode == bindparam("number"))
    .limit(literal_column("1")),
    "number",
)


class Holder(NamedTuple):
    """An inode that names bytes [run_start, run_start + size) of a run, at `start` of its own."""

    inode: InodeId
    start: int
    size: int
    run: int
    run_start: int


class Name(NamedTuple):
    """What an inode is to people. version_id: as kept, None for the null version.

    components: below the bucket, as `dentry.name`; None where it has no name of its own. key: of
    what has none: an older version, or `part` of an upload. All is empty where nothing names it.
    """

    bucket: str
    components: tuple[bytes, ...] | None
    key: bytes
    version_id: str | None
    part: int | None


def holders_of(runs: Sequence[int]) -> Select[Any]:
    """For the scan lane: all `Holder` of these runs."""
    return select(
        extent.c.inode, extent.c.start, extent.c.size, extent.c.run, extent.c.run_start
    ).where(extent.c.run.in_(list(runs)))


def name_of(tx: Tx, number: InodeId) -> Name:
    """By what an inode is known; by one of its names where it has several."""
    components: list[bytes] = []
    at = number
    while at != ROOT and len(components) < _DEPTH_MAX:
        entry = tx.one(_ENTRY, at)
        if entry is None:
            break
        at, component = InodeId(entry[0]), entry[1]
        components.append(component)
    if components and at == ROOT:
        row = tx.one(_CURRENT, number)
        holder = components.pop().rstrip(b"/").decode(errors="backslashreplace")
        version_id = None if row is None else row[1]
        return Name(holder, tuple(reversed(components)), b"", version_id, None)
    if (row := tx.one(_VERSION, number)) is not None:
        return Name(row[0], None, bytes(row[1]), row[2], None)
    if (row := tx.one(_PART, number)) is not None:
        return Name(row[0], None, bytes(row[1]), None, row[2])
    return Name("", None, b"", None, None)
