"""Rows of `inode`, `xattr` and `orphan`.

`get` answers from memory where it can: a call on the mount asks for its directory again and
again (a select costs 11 us).
Invariant: `Tx.inodes` has rows as the database does. Every change of an inode is in this module,
and either makes the same change there or drops the row.
Concurrency: inside a transaction. Source: metadb.schema, inode(7).
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, select, update

from metadb.records import InodeId, InodeRow
from metadb.schema import inode, orphan, xattr
from metadb.statements import Statement, Tx, insert_row

_ROWS_KEPT = 4096
_GET = Statement(select(inode).where(inode.c.id == bindparam("id")), "id")
_INSERT = insert_row(inode)
_DELETE = Statement(delete(inode).where(inode.c.id == bindparam("key")), "key")
_HIGHEST = Statement(select(func.max(inode.c.id)))
_COUNT = Statement(select(func.count()).select_from(inode))


def _set(*columns: str) -> Statement:
    return Statement(
        update(inode)
        .where(inode.c.id == bindparam("key"))
        .ordered_values(*((inode.c[name], bindparam(name)) for name in columns)),
        *columns,
        "key",
    )


_SET_ATTRIBUTES = _set("mode", "uid", "gid", "atime_ns", "mtime_ns", "ctime_ns")
_SET_CONTENT = _set(
    "size",
    "mtime_ns",
    "ctime_ns",
    "stored_ns",
    "content_version",
    "etag",
    "version_id",
    "meta",
)
_SET_VERSION = _set("version_id")
_SET_META = _set("ctime_ns", "meta")
_SET_NLINK = _set("nlink", "ctime_ns")
_SET_PARENT = _set("parent", "ctime_ns")
_SET_FLAGS = _set("flags")
_SET_BUCKET = _set("bucket", "ctime_ns")
_SET_CTIME = _set("ctime_ns")
_TOUCH = _set("mtime_ns", "ctime_ns")
_ADD_NLINK = Statement(
    update(inode)
    .where(inode.c.id == bindparam("key"))
    .values(
        nlink=inode.c.nlink + bindparam("by"),
        mtime_ns=bindparam("mtime_ns"),
        ctime_ns=bindparam("ctime_ns"),
    ),
    "by",
    "mtime_ns",
    "ctime_ns",
    "key",
)


def get(tx: Tx, number: InodeId) -> InodeRow | None:
    """The inode's row, or None."""
    kept = tx.inodes.get(number)
    if kept is not None:
        return kept
    found = tx.one(_GET, number)
    if found is None:
        return None
    row = InodeRow._make(found)
    _keep(tx, row)
    return row


def _keep(tx: Tx, row: InodeRow) -> None:
    if len(tx.inodes) >= _ROWS_KEPT:
        tx.inodes.clear()
    tx.inodes[row.id] = row


def insert(tx: Tx, row: InodeRow) -> None:
    """Add an inode under a number never used before."""
    tx.run(_INSERT, *row)
    _keep(tx, row)


def remove(tx: Tx, number: InodeId) -> None:
    """Remove the row alone; content, xattrs and dentries are the caller's."""
    tx.inodes.pop(number, None)
    tx.run(_DELETE, number)


def highest(tx: Tx) -> int:
    """The highest number in use, 0 for none."""
    row = tx.one(_HIGHEST)
    return int(row[0] or 0) if row else 0


def count(tx: Tx) -> int:
    """How many inodes there are (walks an index: at start only)."""
    row = tx.one(_COUNT)
    return int(row[0]) if row else 0


def set_attributes(tx: Tx, row: InodeRow) -> None:
    """Write mode, owner and times of `row`."""
    tx.inodes.pop(row.id, None)
    tx.run(
        _SET_ATTRIBUTES,
        row.mode,
        row.uid,
        row.gid,
        row.atime_ns,
        row.mtime_ns,
        row.ctime_ns,
        row.id,
    )


def set_content(tx: Tx, row: InodeRow) -> None:
    """Write what a publication changes: size, times, ETag, version and meta."""
    kept = tx.inodes.get(row.id)
    if kept is not None:
        tx.inodes[row.id] = kept._replace(
            size=row.size,
            mtime_ns=row.mtime_ns,
            ctime_ns=row.ctime_ns,
            stored_ns=row.stored_ns,
            content_version=row.content_version,
            etag=row.etag,
            version_id=row.version_id,
            meta=row.meta,
        )
    tx.run(
        _SET_CONTENT,
        row.size,
        row.mtime_ns,
        row.ctime_ns,
        row.stored_ns,
        row.content_version,
        row.etag,
        row.version_id,
        row.meta,
        row.id,
    )


def set_meta(tx: Tx, number: InodeId, meta: str | None, now_ns: int) -> None:
    """Replace the JSON of headers and user metadata."""
    tx.inodes.pop(number, None)
    tx.run(_SET_META, now_ns, meta, number)


def set_version(tx: Tx, number: InodeId, version_id: str | None) -> None:
    """The content as it is goes by another version id."""
    tx.inodes.pop(number, None)
    tx.run(_SET_VERSION, version_id, number)


def set_nlink(tx: Tx, number: InodeId, nlink: int, now_ns: int) -> None:
    """Write the link count."""
    tx.inodes.pop(number, None)
    tx.run(_SET_NLINK, nlink, now_ns, number)


def set_parent(tx: Tx, directory: InodeId, parent: InodeId, now_ns: int) -> None:
    """Note a directory's new parent."""
    tx.inodes.pop(directory, None)
    tx.run(_SET_PARENT, parent, now_ns, directory)


def set_flags(tx: Tx, number: InodeId, flags: int) -> None:
    """Write the flags."""
    tx.inodes.pop(number, None)
    tx.run(_SET_FLAGS, flags, number)


def set_bucket(tx: Tx, number: InodeId, bucket: InodeId, now_ns: int) -> None:
    """Its only name moved to another bucket."""
    tx.inodes.pop(number, None)
    tx.run(_SET_BUCKET, bucket, now_ns, number)


def set_ctime(tx: Tx, number: InodeId, now_ns: int) -> None:
    """Something about the inode changed that has no column of its own here."""
    tx.inodes.pop(number, None)
    tx.run(_SET_CTIME, now_ns, number)


def touch(tx: Tx, directory: InodeId, now_ns: int) -> None:
    """Its entries changed: mtime and ctime are now."""
    kept = tx.inodes.get(directory)
    if kept is not None:
        tx.inodes[directory] = kept._replace(mtime_ns=now_ns, ctime_ns=now_ns)
    tx.run(_TOUCH, now_ns, now_ns, directory)


def add_nlink(tx: Tx, directory: InodeId, by: int, now_ns: int) -> None:
    """A child directory came (+1) or went (-1): link count, mtime and ctime follow."""
    kept = tx.inodes.get(directory)
    if kept is not None:
        tx.inodes[directory] = kept._replace(
            nlink=kept.nlink + by, mtime_ns=now_ns, ctime_ns=now_ns
        )
    tx.run(_ADD_NLINK, by, now_ns, now_ns, directory)


_ORPHAN = insert_row(orphan, ignore=True)
_UNORPHAN = Statement(delete(orphan).where(orphan.c.inode == bindparam("key")), "key")
_ORPHANS = Statement(select(orphan.c.inode).limit(bindparam("limit")), "limit")


def add_orphan(tx: Tx, number: InodeId) -> None:
    """Note an inode without a name that is still open."""
    tx.run(_ORPHAN, number)


def remove_orphan(tx: Tx, number: InodeId) -> None:
    """It is gone, or has a name again."""
    tx.run(_UNORPHAN, number)


def orphans(tx: Tx) -> list[InodeId]:
    """Up to 1,000 of them."""
    return [row[0] for row in tx.all(_ORPHANS, 1000)]


_XATTR = Statement(
    select(xattr.c.value).where(
        xattr.c.inode == bindparam("inode"), xattr.c.name == bindparam("name")
    ),
    "inode",
    "name",
)
_XATTRS = Statement(
    select(xattr.c.name, xattr.c.value).where(xattr.c.inode == bindparam("inode")), "inode"
)
_SET_XATTR = insert_row(xattr, replace=True)
_REMOVE_XATTR = Statement(
    delete(xattr).where(xattr.c.inode == bindparam("inode"), xattr.c.name == bindparam("name")),
    "inode",
    "name",
)
_REMOVE_XATTRS = Statement(delete(xattr).where(xattr.c.inode == bindparam("inode")), "inode")


def xattr_of(tx: Tx, number: InodeId, name: bytes) -> bytes | None:
    """The value, or None."""
    row = tx.one(_XATTR, number, name)
    return None if row is None else bytes(row[0])


def xattrs(tx: Tx, number: InodeId) -> list[tuple[bytes, bytes]]:
    """All names with their values (the sum is bounded by the setter)."""
    return [(bytes(name), bytes(value)) for name, value in tx.all(_XATTRS, number)]


def set_xattr(tx: Tx, number: InodeId, name: bytes, value: bytes) -> None:
    """Add or replace."""
    tx.run(_SET_XATTR, number, name, value)


def remove_xattr(tx: Tx, number: InodeId, name: bytes) -> bool:
    """Whether there was one."""
    return tx.run(_REMOVE_XATTR, number, name) > 0


def remove_xattrs(tx: Tx, number: InodeId) -> None:
    """All of an inode's."""
    tx.run(_REMOVE_XATTRS, number)
