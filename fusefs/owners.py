"""`store.files` with other owners than the store keeps: attributes out, callers' ids in.

For a mount with uid=, gid=, uidmap= or gidmap= (idmap.py). The kernel's own idmapped mounts need
FUSE_ALLOW_IDMAP from the server's INIT, which libfuse and pyfuse3 don't send; and as a request
doesn't tell by which of several mounts it came, the map is one for the whole session.
The kernel checks permissions by the ids that it was shown.
Concurrency: as `store.files`; no state of its own.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pyfuse3

from fusefs.idmap import IdMap, IdRefused, Owners
from metadb.records import InodeId, InodeRow
from store import posixacl
from store.directories import DirectoryHandle
from store.files import Caller, Changes, Files
from store.handles import Handle


def owned(files: Files, owners: Owners) -> Files:
    """`files` with other owners; as they are where `owners` changes nothing."""
    return files if owners.are_kept else cast(Files, _OwnedFiles(files, owners))


class _OwnedFiles:
    """Whatever has to do with owners; all else is left to the files that it is made of.

    Not a subclass: inside of `Files` an owner is always what the store keeps.
    """

    def __init__(self, files: Files, owners: Owners) -> None:
        self._files = files
        self._owners = owners

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def lookup(self, parent: InodeId, name: bytes) -> InodeRow:
        return self._shown(self._files.lookup(parent, name))

    def attributes(self, inode: InodeId) -> InodeRow:
        return self._shown(self._files.attributes(inode))

    async def change(
        self, inode: InodeId, changes: Changes, handle: Handle | None = None
    ) -> InodeRow:
        if changes.uid is not None or changes.gid is not None:
            changes = replace(
                changes,
                uid=_changed(self._owners.users, changes.uid),
                gid=_changed(self._owners.groups, changes.gid),
            )
        return self._shown(await self._files.change(inode, changes, handle))

    def mkdir(self, parent: InodeId, name: bytes, mode: int, caller: Caller) -> InodeRow:
        return self._shown(self._files.mkdir(parent, name, mode, self._kept(caller)))

    def mknod(self, parent: InodeId, name: bytes, mode: int, rdev: int, caller: Caller) -> InodeRow:
        return self._shown(self._files.mknod(parent, name, mode, rdev, self._kept(caller)))

    def symlink(self, parent: InodeId, name: bytes, target: bytes, caller: Caller) -> InodeRow:
        return self._shown(self._files.symlink(parent, name, target, self._kept(caller)))

    def link(self, inode: InodeId, parent: InodeId, name: bytes) -> InodeRow:
        return self._shown(self._files.link(inode, parent, name))

    def create(
        self, parent: InodeId, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Handle, InodeRow]:
        handle, row = self._files.create(parent, name, mode, flags, self._kept(caller))
        return handle, self._shown(row)

    def acl(self, inode: InodeId, name: bytes) -> bytes:
        owners = self._owners
        acl = posixacl.parse(self._files.acl(inode, name))
        return posixacl.pack(posixacl.with_ids(acl, owners.users.shown, owners.groups.shown))

    def set_acl(self, inode: InodeId, name: bytes, packed: bytes, *, clear_set_gid: bool) -> None:
        """Raises FUSEError: EOPNOTSUPP where all are shown as one, so that none could be named."""
        owners = self._owners
        acl = posixacl.parse(packed)
        if {owners.users.only, owners.groups.only} != {None} and not posixacl.is_minimal(acl):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        try:
            acl = posixacl.with_ids(acl, owners.users.kept, owners.groups.kept)
        except IdRefused as error:
            raise pyfuse3.FUSEError(error.number) from None
        self._files.set_acl(inode, name, posixacl.pack(acl), clear_set_gid=clear_set_gid)

    def open_directory(self, inode: InodeId) -> _OwnedDirectory:
        return _OwnedDirectory(self._files.open_directory(inode), self._shown)

    def _shown(self, row: InodeRow) -> InodeRow:
        owners = self._owners
        return row._replace(uid=owners.users.shown(row.uid), gid=owners.groups.shown(row.gid))

    def _kept(self, caller: Caller) -> Caller:
        """The caller as the store is to know it. Raises FUSEError (EOVERFLOW)."""
        try:
            return replace(
                caller,
                uid=self._owners.users.kept(caller.uid),
                gid=self._owners.groups.kept(caller.gid),
            )
        except IdRefused as error:
            raise pyfuse3.FUSEError(error.number) from None


class _OwnedDirectory:
    def __init__(self, handle: DirectoryHandle, shown: Callable[[InodeRow], InodeRow]) -> None:
        self.inode = handle.inode
        self.close = handle.close
        self._handle = handle
        self._shown = shown

    def page(self, cookie: int, limit: int) -> list[tuple[bytes, int, InodeRow]]:
        shown = self._shown
        return [(name, after, shown(row)) for name, after, row in self._handle.page(cookie, limit)]


def _changed(ids: IdMap, wanted: int | None) -> int | None:
    """The id to be kept. Raises FUSEError."""
    if wanted is None:
        return None
    try:
        return ids.changed(wanted)
    except IdRefused as error:
        raise pyfuse3.FUSEError(error.number) from None
