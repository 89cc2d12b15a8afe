"""Rows of `dentry`: names, and pages of them in listing order.

A directory's name ends in '/', a leaf's never does; so the object `a` and the directory `a/`
stand side by side, and byte order of names is S3's order of keys (rules R1 and R15).
Concurrency: inside a transaction.
"""

from __future__ import annotations

from sqlalchemy import (
    LargeBinary,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    literal_column,
    select,
    update,
)

from metadb.records import DentryRow, EntryRow, InodeId, InodeRow
from metadb.schema import dentry, inode
from metadb.statements import Statement, Tx, insert_row

_DIRECTORIES_KEPT = 100_000
_HERE = and_(dentry.c.parent == bindparam("parent"), dentry.c.name == bindparam("name"))
_INODE = Statement(select(dentry.c.inode).where(_HERE), "parent", "name")
_STAT = Statement(
    select(inode).select_from(dentry.join(inode, inode.c.id == dentry.c.inode)).where(_HERE),
    "parent",
    "name",
)
_EITHER = Statement(
    select(inode)
    .select_from(dentry.join(inode, inode.c.id == dentry.c.inode))
    .where(
        dentry.c.parent == bindparam("parent"),
        dentry.c.name.in_([bindparam("directory"), bindparam("leaf")]),
    )
    .order_by(dentry.c.name.desc())
    .limit(literal_column("1")),
    "parent",
    "directory",
    "leaf",
)
_INSERT = insert_row(dentry)
_REPOINT = Statement(
    update(dentry)
    .where(dentry.c.parent == bindparam("key_parent"), dentry.c.name == bindparam("key_name"))
    .values(inode=bindparam("inode")),
    "inode",
    "key_parent",
    "key_name",
)
_DELETE = Statement(
    delete(dentry).where(
        dentry.c.parent == bindparam("key_parent"), dentry.c.name == bindparam("key_name")
    ),
    "key_parent",
    "key_name",
)
_OF_INODE = Statement(
    select(dentry).where(dentry.c.inode == bindparam("inode")).limit(bindparam("limit")),
    "inode",
    "limit",
)
_BY_ALIAS = Statement(
    select(dentry).where(
        dentry.c.parent == bindparam("parent"), dentry.c.alias == bindparam("alias")
    ),
    "parent",
    "alias",
)
_ANY_CHILD = Statement(
    select(dentry.c.name).where(dentry.c.parent == bindparam("parent")).limit(bindparam("limit")),
    "parent",
    "limit",
)
_ENTRIES = Statement(
    select(
        dentry.c.name,
        inode.c.id,
        inode.c.mode,
        inode.c.size,
        inode.c.etag,
        inode.c.stored_ns,
        inode.c.version_id,
        inode.c.meta,
    )
    .select_from(dentry.join(inode, inode.c.id == dentry.c.inode))
    .where(dentry.c.parent == bindparam("parent"), dentry.c.name >= bindparam("start"))
    .order_by(dentry.c.name)
    .limit(bindparam("limit")),
    "parent",
    "start",
    "limit",
)
_twin = dentry.alias("twin")
_BEHIND = (
    select(dentry.c.name, dentry.c.alias, inode)
    .select_from(dentry.join(inode, inode.c.id == dentry.c.inode))
    .where(dentry.c.parent == bindparam("parent"), dentry.c.name > bindparam("after"))
    .order_by(dentry.c.name)
    .limit(bindparam("limit"))
)
_LEAVES = Statement(_BEHIND, "parent", "after", "limit")
_VISIBLE = Statement(
    _BEHIND.where(
        ~exists().where(
            _twin.c.parent == dentry.c.parent,
            _twin.c.name == cast(dentry.c.name.concat(literal_column("'/'")), LargeBinary),
        ),
    ),
    "parent",
    "after",
    "limit",
)


def inode_of(tx: Tx, parent: InodeId, name: bytes) -> InodeId | None:
    """The inode behind a name, or None."""
    row = tx.one(_INODE, parent, name)
    return None if row is None else row[0]


def directory_of(tx: Tx, parent: InodeId, name: bytes) -> InodeId | None:
    """`inode_of` for a directory's name (it ends in '/'), from memory where it was asked before."""
    number = tx.directories.get((parent, name))
    if number is None:
        row = tx.one(_INODE, parent, name)
        if row is None:
            return None
        if len(tx.directories) >= _DIRECTORIES_KEPT:
            tx.directories.clear()
        number = tx.directories[parent, name] = row[0]
    return InodeId(number)


def stat(tx: Tx, parent: InodeId, name: bytes) -> InodeRow | None:
    """The inode's row behind a name, or None."""
    row = tx.one(_STAT, parent, name)
    return None if row is None else InodeRow._make(row)


def stat_either(tx: Tx, parent: InodeId, component: bytes) -> InodeRow | None:
    """The inode of the directory `component/`, else of the leaf `component`, else None (R1)."""
    row = tx.one(_EITHER, parent, component + b"/", component)
    return None if row is None else InodeRow._make(row)


def insert(tx: Tx, row: DentryRow) -> None:
    """Add a name that isn't there."""
    tx.run(_INSERT, *row)


def repoint(tx: Tx, parent: InodeId, name: bytes, to: InodeId) -> None:
    """Make a name that is there mean another inode."""
    tx.directories.pop((parent, name), None)
    tx.run(_REPOINT, to, parent, name)


def remove(tx: Tx, parent: InodeId, name: bytes) -> bool:
    """Whether the name was there."""
    tx.directories.pop((parent, name), None)
    return tx.run(_DELETE, parent, name) > 0


def of_inode(tx: Tx, number: InodeId, limit: int = 1) -> list[DentryRow]:
    """Up to `limit` names of an inode."""
    return [DentryRow._make(row) for row in tx.all(_OF_INODE, number, limit)]


def by_alias(tx: Tx, parent: InodeId, alias: bytes) -> DentryRow | None:
    """The entry shown on the mount under this made-up name, or None."""
    row = tx.one(_BY_ALIAS, parent, alias)
    return None if row is None else DentryRow._make(row)


def first_children(tx: Tx, directory: InodeId, limit: int) -> list[bytes]:
    """Up to `limit` names in a directory, in no promised order."""
    return [row[0] for row in tx.all(_ANY_CHILD, directory, limit)]


def page(tx: Tx, directory: InodeId, start: bytes, limit: int) -> list[EntryRow]:
    """Up to `limit` entries with name >= start, in listing order: directories and leaves."""
    return [EntryRow._make(row) for row in tx.all(_ENTRIES, directory, start, limit)]


def visible_page(
    tx: Tx, directory: InodeId, after: bytes, limit: int, *, leaves_only: bool
) -> list[tuple[bytes, bytes | None, InodeRow]]:
    """(name, alias, inode) of entries with name > after, as the mount shows them.

    A leaf that stands beside a directory of the same name is left out: the mount shows it
    inside that directory (rule R1). leaves_only: there is no directory, which spares looking.
    """
    rows = tx.all(_LEAVES if leaves_only else _VISIBLE, directory, after, limit)
    return [(row[0], row[1], InodeRow._make(row[2:])) for row in rows]
