"""The kernel's requests, answered: decode, one call of `store.files`, encode.

Every handler goes through `answered`, since any exception but FUSEError would end the mount.
Permissions, ACLs included, are the kernel's to check. Clearing set-id bits is, too, up to libfuse
3.16: it sends a setattr of its own before a write. Later ones take HANDLE_KILLPRIV, and pyfuse3 has
no way to refuse it: then each write and truncation clears them here, whoever writes.
Invariants: what a reply makes the kernel hold is noted in `KernelCache` before it leaves.
Concurrency: pyfuse3 runs each request in a task of the one trio loop; a handler that awaits
nothing is answered before anything else happens. No handler ever touches the mount itself.
Source: fuse(4), pyfuse3's `Operations`, libfuse's fuse_lowlevel.h.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import logging
import stat
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, StatvfsData

from fusefs.attributes import ABSENT, entry_of, figures_of
from fusefs.directory import OpenDirectory
from fusefs.errnos import errno_of, is_stale
from fusefs.handles import Handles
from fusefs.kernelcache import KernelCache
from metadb.records import InodeId, InodeRow
from store import posixacl
from store.errors import NoSuchEntry, StoreError
from store.files import Caller, Changes, Files
from store.handles import Handle
from store.types import Buffer

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
Handler = Callable[P, Coroutine[Any, Any, T]]

USER: Final = b"user."
_TAKES_KILLPRIV: Final = 317


def libfuse_version() -> int:
    """Of the library that pyfuse3 runs on: 314 for 3.14."""
    return int(ctypes.CDLL(pyfuse3.__file__).fuse_version())


def answered(handler: Handler[P, T]) -> Handler[P, T]:
    """Let nothing but FUSEError out of a handler."""

    @functools.wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except StoreError as error:
            number = errno_of(error)
            if number == errno.EIO:
                log.error("%s failed: %s", handler.__name__, error)
            raise FUSEError(number) from None
        except FUSEError:
            raise
        except Exception:
            log.exception("%s failed", handler.__name__)
            raise FUSEError(errno.EIO) from None

    return answer


class Operations(pyfuse3.Operations):
    """See the module's header."""

    def __init__(
        self, files: Files, cache: KernelCache, *, xattrs: bool, acls: bool, writeback_cache: bool
    ) -> None:
        self.enable_writeback_cache = writeback_cache
        self.enable_acl = xattrs and acls
        self.initialized = trio.Event()
        self._xattrs = xattrs
        self._clears_set_id = libfuse_version() >= _TAKES_KILLPRIV
        self._files = files
        self._cache = cache
        self._open_files: Handles[Handle] = Handles()
        self._open_directories: Handles[OpenDirectory] = Handles()

    def init(self) -> None:
        self.initialized.set()

    def is_idle(self) -> bool:
        """Whether the kernel has nothing open."""
        return not len(self._open_files) and not len(self._open_directories)

    async def let_go(self) -> None:
        """The mount is gone, and with it all the kernel held: it says so of nothing by itself."""
        for number, handle in self._open_files.take_all():
            try:
                await handle.release()
            except StoreError as error:
                log.error("handle %d was not released in order: %s", number, error)
        for _, directory in self._open_directories.take_all():
            directory.close()
        self._files.forgotten(self._cache.forget_all())

    # -- names and attributes ----------------------------------------------------------

    @answered
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        self._cache.note(parent_inode, name)
        try:
            row = self._files.lookup(InodeId(parent_inode), name)
        except NoSuchEntry as error:
            if is_stale(error):
                raise
            return ABSENT
        self._cache.count(row.id)
        return entry_of(row)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        forget = self._cache.forget
        gone = [InodeId(inode) for inode, lookups in inode_list if forget(inode, lookups)]
        try:
            self._files.forgotten(gone)
        except Exception:  # Not even FUSEError may come out: nobody waits for an answer.
            log.exception("forget failed")

    @answered
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        return entry_of(self._files.attributes(InodeId(inode)))

    @answered
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        changes = Changes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            ctime_ns=attr.st_ctime_ns if fields.update_ctime else None,
        )
        handle = None if fh is None else self._open_files[fh]
        if self._clears_set_id and fields.update_size:
            self._files.clear_set_id(InodeId(inode))
        return entry_of(await self._files.change(InodeId(inode), changes, handle))

    @answered
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self._files.readlink(InodeId(inode))

    @answered
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        return True  # Never asked under default_permissions.

    @answered
    async def statfs(self, ctx: pyfuse3.RequestContext) -> StatvfsData:
        return figures_of(self._files.statfs())

    # -- making and removing -----------------------------------------------------------

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        self._cache.note(parent_inode, name)
        row = self._files.mknod(InodeId(parent_inode), name, mode, rdev, _caller(ctx))
        self._cache.count(row.id)
        return entry_of(row)

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        self._cache.note(parent_inode, name)
        row = self._files.mkdir(InodeId(parent_inode), name, mode, _caller(ctx))
        self._cache.count(row.id)
        return entry_of(row)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        self._cache.note(parent_inode, name)
        row = self._files.symlink(InodeId(parent_inode), name, target, _caller(ctx))
        self._cache.count(row.id)
        return entry_of(row)

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        self._cache.note(new_parent_inode, new_name)
        row = self._files.link(InodeId(inode), InodeId(new_parent_inode), new_name)
        self._cache.count(row.id)
        return entry_of(row)

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._files.unlink(InodeId(parent_inode), name)

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._files.rmdir(InodeId(parent_inode), name)

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        # Before: S3 may replace the new name while this waits. After: it may have been dropped
        # from the notes by then, and the kernel moves its entry to the new name.
        self._cache.note(parent_inode_new, name_new)
        await self._files.rename(
            InodeId(parent_inode_old), name_old, InodeId(parent_inode_new), name_new, flags
        )
        self._cache.note(parent_inode_new, name_new)
        self._cache.note(parent_inode_old, name_old)

    # -- files -------------------------------------------------------------------------

    @answered
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        self._cache.note(parent_inode, name)
        handle, row = self._files.create(InodeId(parent_inode), name, mode, flags, _caller(ctx))
        self._cache.count(row.id)
        return FileInfo(fh=self._open_files.add(handle)), entry_of(row)

    @answered
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        # FileInfo keeps the page cache from open to open by default: rule R0 makes that right.
        clears = self._clears_set_id or ctx.uid != 0
        handle = self._files.open(InodeId(inode), flags, clear_set_id=clears)
        return FileInfo(fh=self._open_files.add(handle))

    @answered
    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]
        # pyfuse3 says bytes and takes any contiguous buffer.
        handle = self._open_files[fh]
        pieces = handle.read_nowait(off, size)
        if pieces is None:
            pieces = await handle.read(off, size)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        handle = self._open_files[fh]
        if self._clears_set_id:
            self._files.clear_set_id(handle.inode)
        return await handle.write(off, buf)

    @answered
    async def flush(self, fh: int) -> None:
        await self._open_files[fh].flush()

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._open_files[fh].fsync(datasync)

    @answered
    async def release(self, fh: int) -> None:
        await self._open_files.pop(fh).release()

    # -- directories -------------------------------------------------------------------

    @answered
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        number = InodeId(inode)
        parent = self._files.attributes(number).parent
        handle = self._files.open_directory(number)
        return self._open_directories.add(
            OpenDirectory(handle, number if parent is None else parent, self._cache)
        )

    @answered
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        self._open_directories[fh].answer(start_id, token)

    @answered
    async def releasedir(self, fh: int) -> None:
        self._open_directories.pop(fh).close()

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._files.fsync_directory(self._open_directories[fh].inode)

    # -- extended attributes -----------------------------------------------------------

    @answered
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        # Before every write the kernel asks for security.capability: that must cost nothing.
        self._refuse_without_xattrs()
        if self._is_acl(name):
            return self._files.acl(InodeId(inode), name)
        if not name.startswith(USER):
            raise FUSEError(errno.ENODATA)
        return self._files.getxattr(InodeId(inode), name)

    @answered
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        # XATTR_CREATE and XATTR_REPLACE are pyfuse3's: it asks getxattr first.
        self._refuse_without_xattrs()
        number = InodeId(inode)
        if self._is_acl(name):
            foreign = self._is_foreign(ctx, self._files.attributes(number))
            self._files.set_acl(number, name, value, clear_set_gid=foreign)
            return
        if not name.startswith(USER):
            raise FUSEError(errno.EOPNOTSUPP)
        self._files.setxattr(number, name, value, 0)

    @answered
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        self._refuse_without_xattrs()
        return self._files.listxattr(InodeId(inode))

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._refuse_without_xattrs()
        if self._is_acl(name):
            self._files.remove_acl(InodeId(inode), name)
            return
        if not name.startswith(USER):
            raise FUSEError(errno.EOPNOTSUPP)
        self._files.removexattr(InodeId(inode), name)

    def _is_foreign(self, ctx: pyfuse3.RequestContext, row: InodeRow) -> bool:
        """Whether who asks may not keep the set-group-id bit, as for chmod(2)."""
        if not row.mode & stat.S_ISGID or ctx.uid == 0 or ctx.gid == row.gid:
            return False
        return row.gid not in pyfuse3.get_sup_groups(ctx.pid)

    def _is_acl(self, name: bytes) -> bool:
        """Raises FUSEError where a list could be kept, but the kernel wouldn't heed it."""
        if name not in posixacl.NAMES:
            return False
        if not self.enable_acl:
            raise FUSEError(errno.EOPNOTSUPP)
        return True

    def _refuse_without_xattrs(self) -> None:
        """ENOSYS makes the kernel stop asking: one round trip less before each write."""
        if not self._xattrs:
            raise FUSEError(errno.ENOSYS)


def _caller(ctx: pyfuse3.RequestContext) -> Caller:
    """Who asks. The umask is ours to take off, unless a default ACL is inherited.

    Where a user's own mount had to be made by fusermount3, the kernel has done it before.
    """
    return Caller(uid=ctx.uid, gid=ctx.gid, umask=ctx.umask)
