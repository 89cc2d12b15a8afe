"""What a new inode inherits from its directory: a default ACL goes before the umask.

As long as no list was ever set in the store, none is looked for (store.permissions).
Concurrency: inside one transaction.
Source: acl(5), "Object creation and default ACLs"; rule R13 of SEMANTICS.md.
"""

from __future__ import annotations

import stat

from metadb import inodes
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import posixacl
from store.posixacl import ACCESS, DEFAULT
from store.state import State

_ANY_FILE = 0o666
_ANY_DIRECTORY = 0o777


def born(tx: Tx, state: State, parent: InodeId, row: InodeRow, umask: int) -> InodeRow:
    """The row of what is about to be made in a directory, with its real mode; and its lists.

    row: its mode is what was asked for, which the umask cuts where the directory has no default
    list, and that list where it has one.
    """
    packed = inodes.xattr_of(tx, parent, DEFAULT) if state.acls else None
    if packed is None:
        return row._replace(mode=row.mode & ~umask) if umask else row
    access = posixacl.inherited(posixacl.parse(packed), row.mode)
    if not posixacl.is_minimal(access):
        inodes.set_xattr(tx, row.id, ACCESS, posixacl.pack(access))
    if stat.S_ISDIR(row.mode):
        inodes.set_xattr(tx, row.id, DEFAULT, packed)
    return row._replace(mode=posixacl.mode_of(access, row.mode))


def born_by_s3(tx: Tx, state: State, parent: InodeId, row: InodeRow) -> InodeRow:
    """The same for what S3 makes: as by a program that asks for all rights, with S3's umask.

    row: with the mode that S3 gives where no list says otherwise.
    """
    if not state.acls:
        return row
    asked = _ANY_DIRECTORY if stat.S_ISDIR(row.mode) else _ANY_FILE
    return born(tx, state, parent, row._replace(mode=row.mode | asked), asked & ~row.mode)
