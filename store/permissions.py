"""POSIX ACLs of inodes, in step with their mode bits: rows, and what chmod changes.

A list that says no more than the mode does is no row (acl(5)). As long as no list was ever set in
the store, none is looked for.
Invariants: the nine bits of a mode are those of the inode's access list (posixacl.mode_of); only
directories have a default list.
Concurrency: inside one transaction. Who may set a list is the kernel's to check.
Source: acl(5), "Correspondence between ACL entries and file permission bits"; rule R13.
"""

from __future__ import annotations

import stat

from metadb import buckets, inodes
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import posixacl
from store.errors import InvalidArgument, MetadataTooLarge, NoSuchAttribute, NoSuchEntry
from store.posixacl import ACCESS, DEFAULT, Acl
from store.publication import note_names
from store.state import State
from store.xattrs import VALUE_BYTES_MAX

_KNOWN = "acls"


def load(tx: Tx, state: State) -> None:
    """At start: whether there ever was a list."""
    state.acls = buckets.setting_of(tx, _KNOWN) is not None


def get(tx: Tx, state: State, number: InodeId, name: bytes) -> bytes:
    """A list's bytes. Raises NoSuchAttribute."""
    packed = inodes.xattr_of(tx, number, name) if state.acls else None
    if packed is None:
        raise NoSuchAttribute(name)
    return packed


def put(
    tx: Tx,
    state: State,
    number: InodeId,
    name: bytes,
    packed: bytes,
    now: int,
    *,
    clear_set_gid: bool = False,
) -> None:
    """Set a list. clear_set_gid: the caller isn't of the group, chmod(2) would clear the bit too.

    Raises NoSuchEntry, MetadataTooLarge, InvalidArgument: no list, or of what can't have it.
    """
    row = _row(tx, number)
    if len(packed) > VALUE_BYTES_MAX:
        raise MetadataTooLarge(name, f"{len(packed)} bytes")
    acl = posixacl.parse(packed)
    if stat.S_ISLNK(row.mode) or (name == DEFAULT and not stat.S_ISDIR(row.mode)):
        raise InvalidArgument(number, "it can't have this list")
    if name == ACCESS:
        mode = posixacl.mode_of(acl, row.mode)
        row = row._replace(mode=mode & ~stat.S_ISGID if clear_set_gid else mode)
        if posixacl.is_minimal(acl):
            inodes.remove_xattr(tx, number, ACCESS)
            _changed(tx, row, now)
            return
    _keep(tx, state, number, name, acl)
    _changed(tx, row, now)


def remove(tx: Tx, state: State, number: InodeId, name: bytes, now: int) -> None:
    """Remove a list, if there is one. The mode stays, as on other file systems of Linux.

    Raises NoSuchEntry.
    """
    row = _row(tx, number)
    if state.acls and inodes.remove_xattr(tx, number, name):
        _changed(tx, row, now)


def after_chmod(tx: Tx, state: State, number: InodeId, mode: int) -> None:
    """The mode was set: the access list follows."""
    packed = inodes.xattr_of(tx, number, ACCESS) if state.acls else None
    if packed is not None:
        acl = posixacl.with_mode(posixacl.parse(packed), mode)
        inodes.set_xattr(tx, number, ACCESS, posixacl.pack(acl))


def _row(tx: Tx, number: InodeId) -> InodeRow:
    row = inodes.get(tx, number)
    if row is None:
        raise NoSuchEntry(number)
    return row


def _keep(tx: Tx, state: State, number: InodeId, name: bytes, acl: Acl) -> None:
    inodes.set_xattr(tx, number, name, posixacl.pack(acl))
    # In memory even if this transaction is undone: then lists are looked for in vain, no more.
    state.acls = True
    if buckets.setting_of(tx, _KNOWN) is None:
        buckets.set_setting(tx, _KNOWN, "1")


def _changed(tx: Tx, row: InodeRow, now: int) -> None:
    inodes.set_attributes(tx, row._replace(ctime_ns=now))
    note_names(tx, "attributes", row, now)
