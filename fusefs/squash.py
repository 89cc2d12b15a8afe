"""The mount with root_squash: what root asks, nobody in particular asks.

The kernel checks permissions by the ids of who asks, and root passes them all. So every request
of uid 0 is checked here once more, as the kernel would have checked one of the anonymous user: an
uid and a gid, no other groups, no capabilities. What it makes belongs to that user. Whoever else
has capabilities keeps them, and root can become any user: as with NFS, this keeps programs that
run as root from what isn't theirs, not somebody who wants to get there.
Requests that the kernel answers from its caches never come here; SEMANTICS.md (R13) says which.
Concurrency: as `Operations`: no await between a check and its act.
Source: exports(5), root_squash; path_resolution(7); acl(5), access check algorithm; linux
fs/attr.c, setattr_prepare; fs/namei.c, may_delete; fs/xattr.c, xattr_permission.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final, cast

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from fusefs.idmap import Anonymous
from fusefs.kernelcache import KernelCache
from fusefs.operations import USER, Operations, answered
from metadb.records import InodeId, InodeRow
from store import posixacl
from store.errors import NoSuchAttribute, NoSuchEntry
from store.files import Files

READ: Final = 4
WRITE: Final = 2
SEARCH: Final = 1
"""Of a directory; of a file it is the right to execute it."""
_CHANGE: Final = WRITE | SEARCH
_OPENED: Final = {os.O_RDONLY: READ, os.O_WRONLY: WRITE}
_FMODE_EXEC: Final = 0x20  # linux include/linux/fs.h: opened by execve(2)
_RENAME_EXCHANGE: Final = 2
_GROUP_RUNS: Final = stat.S_ISGID | stat.S_IXGRP


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """pyfuse3's RequestContext, which only pyfuse3 can make."""

    uid: int
    gid: int
    pid: int
    umask: int


class SquashedOperations(Operations):
    """See the module's header. anonymous: by ids as the mount shows them."""

    def __init__(
        self, files: Files, cache: KernelCache, *, anonymous: Anonymous, **options: bool
    ) -> None:
        super().__init__(files, cache, **options)
        # The kernel lets root's writes leave the set-id bits.
        self._clears_set_id = True
        self._anonymous = anonymous

    # -- names and attributes ----------------------------------------------------------

    @answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if ctx.uid == 0:
            self._demand(self._row(parent_inode), SEARCH)
        return await super().lookup(parent_inode, name, ctx)

    @answered
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        if ctx.uid == 0:
            self._check_changes(self._row(inode), attr, fields, opened=fh is not None)
        return await super().setattr(inode, attr, fields, fh, ctx)

    def _check_changes(
        self,
        row: InodeRow,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        *,
        opened: bool,
    ) -> None:
        """opened: through a handle, and so by who was let in when it was opened."""
        anonymous = self._anonymous
        if fields.update_mode or fields.update_uid or fields.update_gid:
            self._demand_owner(row)
            gid = attr.st_gid if fields.update_gid else row.gid
            if fields.update_uid and attr.st_uid != anonymous.uid:
                raise FUSEError(errno.EPERM)
            if gid not in (row.gid, anonymous.gid):
                raise FUSEError(errno.EPERM)
            if fields.update_mode and gid != anonymous.gid:
                attr.st_mode &= ~stat.S_ISGID
        if fields.update_size and not opened:
            self._demand(row, WRITE)
        # The kernel itself brings the time of writes that it has gathered.
        gathered = self.enable_writeback_cache and fields.update_ctime and not fields.update_atime
        timed = (fields.update_atime or fields.update_mtime) and not (opened or gathered)
        if timed and row.uid != anonymous.uid:
            # "Now", which takes WRITE, and a time of one's own, which takes the owner, can't be
            # told apart here. Who may write could change the times anyway.
            self._demand(row, WRITE)

    # -- making and removing -----------------------------------------------------------

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        if ctx.uid == 0:
            parent = self._demand(self._row(parent_inode), _CHANGE)
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                raise FUSEError(errno.EPERM)
            mode, ctx = self._made_mode(parent, mode), self._squashed(ctx)
        return await super().mknod(parent_inode, name, mode, rdev, ctx)

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        if ctx.uid == 0:
            self._demand(self._row(parent_inode), _CHANGE)
            ctx = self._squashed(ctx)
        return await super().mkdir(parent_inode, name, mode, ctx)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        if ctx.uid == 0:
            self._demand(self._row(parent_inode), _CHANGE)
            ctx = self._squashed(ctx)
        return await super().symlink(parent_inode, name, target, ctx)

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        if ctx.uid == 0:
            self._demand(self._row(new_parent_inode), _CHANGE)
        return await super().link(inode, new_parent_inode, new_name, ctx)

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        if ctx.uid == 0:
            self._demand_removal(parent_inode, name)
        await super().unlink(parent_inode, name, ctx)

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        if ctx.uid == 0:
            self._demand_removal(parent_inode, name)
        await super().rmdir(parent_inode, name, ctx)

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        if ctx.uid == 0:
            moved = [self._demand_removal(parent_inode_old, name_old)]
            replaced = self._demand_removal(parent_inode_new, name_new)
            if flags & _RENAME_EXCHANGE:
                moved.append(replaced)
            if parent_inode_old != parent_inode_new:
                for row in moved:
                    # Its `..` is changed.
                    if row is not None and stat.S_ISDIR(row.mode):
                        self._demand(row, WRITE)
        await super().rename(parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx)

    # -- opening -----------------------------------------------------------------------

    @answered
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        if ctx.uid == 0:
            parent = self._demand(self._row(parent_inode), SEARCH)
            there = self._found(parent_inode, name)
            if there is None:
                self._demand(parent, _CHANGE)
                mode = self._made_mode(parent, mode)
            else:
                self._demand(there, _wanted(flags))
            ctx = self._squashed(ctx)
        return await super().create(parent_inode, name, mode, flags, ctx)

    @answered
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        if ctx.uid == 0:
            self._demand(self._row(inode), _wanted(flags))
        return await super().open(inode, flags, ctx)

    @answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        if ctx.uid == 0:
            self._demand(self._row(inode), READ)
        return await super().opendir(inode, ctx)

    # -- extended attributes -----------------------------------------------------------

    @answered
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if ctx.uid == 0 and name.startswith(USER):
            self._demand(self._row(inode), READ)
        return await super().getxattr(inode, name, ctx)

    @answered
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        if ctx.uid == 0:
            self._demand_attribute(inode, name)
        await super().setxattr(inode, name, value, ctx)

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        if ctx.uid == 0:
            self._demand_attribute(inode, name)
        await super().removexattr(inode, name, ctx)

    def _is_foreign(self, ctx: RequestContext, row: InodeRow) -> bool:
        if ctx.uid == 0:
            return row.gid != self._anonymous.gid
        return super()._is_foreign(ctx, row)

    # -- the checks: each raises FUSEError ---------------------------------------------

    def _demand(self, row: InodeRow, wanted: int) -> InodeRow:
        if wanted & ~self._rights(row, wanted):
            raise FUSEError(errno.EACCES)
        return row

    def _demand_owner(self, row: InodeRow) -> None:
        if row.uid != self._anonymous.uid:
            raise FUSEError(errno.EPERM)

    def _demand_removal(self, parent: int, name: bytes) -> InodeRow | None:
        """Whether a name may be taken away, or given where it is free; what has it, if anything."""
        directory = self._demand(self._row(parent), _CHANGE)
        row = self._found(parent, name)
        if row is None or not directory.mode & stat.S_ISVTX:
            return row
        if self._anonymous.uid not in (row.uid, directory.uid):
            raise FUSEError(errno.EPERM)
        return row

    def _demand_attribute(self, inode: int, name: bytes) -> None:
        row = self._row(inode)
        if name in posixacl.NAMES:
            self._demand_owner(row)
        elif name.startswith(USER):
            if stat.S_ISDIR(row.mode) and row.mode & stat.S_ISVTX:
                self._demand_owner(row)
            self._demand(row, WRITE)

    # -- what they look at -------------------------------------------------------------

    def _row(self, inode: int) -> InodeRow:
        return self._files.attributes(InodeId(inode))

    def _found(self, parent: int, name: bytes) -> InodeRow | None:
        try:
            return self._files.lookup(InodeId(parent), name)
        except NoSuchEntry:
            return None

    def _rights(self, row: InodeRow, wanted: int) -> int:
        """What the anonymous user may with it, at least as far as it is wanted."""
        if self.enable_acl:
            try:
                acl = posixacl.parse(self._files.acl(row.id, posixacl.ACCESS))
            except NoSuchAttribute:
                pass
            else:
                return rights_by_list(acl, row, self._anonymous, wanted)
        return rights_by_mode(row, self._anonymous)

    def _made_mode(self, parent: InodeRow, mode: int) -> int:
        """The mode of a new file: a directory hands its group down, but not who may act as it."""
        if (
            parent.mode & stat.S_ISGID
            and mode & _GROUP_RUNS == _GROUP_RUNS
            and parent.gid != self._anonymous.gid
        ):
            return mode & ~stat.S_ISGID
        return mode

    def _squashed(self, ctx: RequestContext) -> RequestContext:
        uid, gid = self._anonymous.uid, self._anonymous.gid
        return cast(RequestContext, _Context(uid=uid, gid=gid, pid=ctx.pid, umask=ctx.umask))


def rights_by_mode(row: InodeRow, who: Anonymous) -> int:
    """READ, WRITE and SEARCH by the mode bits."""
    if row.uid == who.uid:
        return row.mode >> 6 & 7
    if row.gid == who.gid:
        return row.mode >> 3 & 7
    return row.mode & 7


def rights_by_list(acl: posixacl.Acl, row: InodeRow, who: Anonymous, wanted: int) -> int:
    """The same by a list: of several groups' entries one that has all that is wanted."""
    mask = next((each.rights for each in acl if each.tag == posixacl.MASK), 7)
    groups = []
    for entry in acl:
        if entry.tag == posixacl.OWNER and row.uid == who.uid:
            return entry.rights
        if entry.tag == posixacl.USER and entry.id == who.uid:
            return entry.rights & mask
        group = row.gid if entry.tag == posixacl.OWNING_GROUP else entry.id
        if entry.tag in (posixacl.OWNING_GROUP, posixacl.GROUP) and group == who.gid:
            groups.append(entry.rights & mask)
        if entry.tag == posixacl.OTHERS and not groups:
            return entry.rights
    return next((each for each in groups if not wanted & ~each), 0)


def _wanted(flags: int) -> int:
    """What open(2) with these flags takes."""
    if flags & _FMODE_EXEC:
        return SEARCH
    wanted = _OPENED.get(flags & os.O_ACCMODE, READ | WRITE)
    return wanted | WRITE if flags & os.O_TRUNC else wanted
