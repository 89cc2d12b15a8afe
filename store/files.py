"""`Files`: the namespace by inode number, as the mount speaks to it.

Names are bytes as the kernel gives them; rule R2 (store.names) turns them into components of
keys. The kernel checks permissions (`default_permissions`), the store keeps the structure whole.
Concurrency: one trio loop. Sync methods run one short transaction and return.
Source: rules R0 to R17 of SEMANTICS.md; POSIX.1-2017, rename(2), link(2), unlink(2).
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from metadb import inodes
from metadb.records import ROOT, InodeId, InodeRow
from metadb.statements import Tx
from store import entries, locks, permissions, renames, xattrs
from store.directories import DirectoryHandle
from store.entries import Caller as Caller
from store.errors import (
    EntryExists,
    InvalidArgument,
    IsDirectory,
    NameTooLong,
    NoSuchAttribute,
    NoSuchEntry,
    NotDirectory,
    StoreError,
)
from store.handles import Drafts, Handle
from store.publication import note_names
from store.rules import rules_of
from store.state import State, now_ns
from store.translate import translated

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_BLOCK_BYTES = 4096
_TARGET_BYTES_MAX = 4095
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_NODE_TYPES = frozenset({stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What setattr(2) and its like change; None leaves a thing as it is.

    mode: permission bits (type bits are ignored). size: bytes. Times: nanoseconds since 1970.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """For statfs. blocks, blocks_free: of `block_bytes` each, payload at today's geometry."""

    block_bytes: int
    blocks: int
    blocks_free: int
    files: int
    files_free: int
    name_bytes_max: int = 255


# Set-group-id without execution by the group is no right (it once meant mandatory locks).
_GROUP_RUNS = stat.S_ISGID | stat.S_IXGRP


class Files:
    """See the module's header. Every method may raise NoSuchEntry for an inode that is gone."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._engine = state.engine
        self._drafts = Drafts(state)

    # -- names and attributes ----------------------------------------------------------

    def lookup(self, parent: InodeId, name: bytes) -> InodeRow:
        """The inode behind a name, '.' and '..' included.

        Raises NoSuchEntry (also for names that could not be given), NotDirectory, NameTooLong.
        """
        return self._drafts.over(self._engine.read(_lookup, parent, name))

    def attributes(self, inode: InodeId) -> InodeRow:
        """The inode's row, with what open drafts have changed (size, times) laid over it."""
        row = self._engine.read(inodes.get, inode)
        if row is None:
            raise NoSuchEntry(inode)
        return self._drafts.over(row)

    async def change(
        self, inode: InodeId, changes: Changes, handle: Handle | None = None
    ) -> InodeRow:
        """Set attributes, and the size: into the draft where `handle` is given, else published.

        A change of owner clears the set-id bits of what is no directory, unless `mode` is given
        too. On truncation and writing the kernel clears them by a setattr of its own.
        Raises IsDirectory and InvalidArgument (size), TooLarge, NoSpace, Unavailable.
        """
        if changes.size is not None:
            await self._resize(inode, changes.size, handle)
            if changes == Changes(size=changes.size):
                return self.attributes(inode)
        with translated(inode):
            row = self._engine.transact(_change, self._state, inode, changes, now_ns())
        draft = self._drafts.get(inode)
        if draft is not None and changes.mtime_ns is not None:
            draft.touched(changes.mtime_ns)
        return self._drafts.over(row)

    def readlink(self, inode: InodeId) -> bytes:
        """The target of a symbolic link. Raises InvalidArgument for anything else."""
        row = self.attributes(inode)
        if row.target is None:
            raise InvalidArgument(inode, "no symbolic link")
        return row.target

    # -- making and removing -----------------------------------------------------------

    def mkdir(self, parent: InodeId, name: bytes, mode: int, caller: Caller) -> InodeRow:
        """A new directory; in the root a new bucket.

        Raises EntryExists, InvalidName, NameTooLong, InvalidBucketName, BucketExists.
        """
        mode &= entries.PERMISSION_BITS
        return self._transact(entries.make_directory, parent, name, now_ns(), mode, caller)

    def rmdir(self, parent: InodeId, name: bytes) -> None:
        """Remove an empty directory; in the root an empty bucket.

        Raises NotDirectory, DirectoryNotEmpty (also when the directory shows an object body as
        `%tf.data`, rule R1), BucketNotEmpty.
        """
        self._transact(entries.remove_directory, parent, name, now_ns())

    def mknod(self, parent: InodeId, name: bytes, mode: int, rdev: int, caller: Caller) -> InodeRow:
        """A FIFO, socket or device (rule R12), or an empty published file.

        Raises EntryExists, InvalidName, NameTooLong, Denied (in the root).
        """
        mode = stat.S_IFMT(mode) | (mode & entries.PERMISSION_BITS)
        if stat.S_IFMT(mode) not in _NODE_TYPES:
            raise InvalidArgument(name, f"mode {mode:o}")
        return self._transact(entries.make_node, parent, name, now_ns(), mode, caller, rdev)

    def symlink(self, parent: InodeId, name: bytes, target: bytes, caller: Caller) -> InodeRow:
        """A symbolic link. Raises what `mknod` raises."""
        if not 0 < len(target) <= _TARGET_BYTES_MAX:
            raise NameTooLong(name, "target")
        mode = stat.S_IFLNK | 0o777
        return self._transact(entries.make_node, parent, name, now_ns(), mode, caller, 0, target)

    def link(self, inode: InodeId, parent: InodeId, name: bytes) -> InodeRow:
        """One more name for an inode that is no directory.

        Raises what `mknod` raises, Denied (a directory), CrossBucket, TooManyLinks.
        """
        return self._drafts.over(self._transact(entries.add_link, inode, parent, name, now_ns()))

    def unlink(self, parent: InodeId, name: bytes) -> None:
        """Take a name away; the inode goes with its last name and its last handle.

        Raises IsDirectory, NoSuchEntry, Locked.
        """
        self._transact(entries.unlink, parent, name, now_ns())

    async def rename(
        self, parent: InodeId, name: bytes, new_parent: InodeId, new_name: bytes, flags: int
    ) -> None:
        """rename(2). flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE (store.renames).

        Atomic, also for S3; what the source's draft holds is published first (rule R6).
        Raises EntryExists, NoSuchEntry, IsDirectory, NotDirectory, DirectoryNotEmpty, LinkLoop
        (a directory below itself), CrossBucket, Denied (the root), InvalidArgument (flags),
        Locked, QuotaExceeded (another bucket's).
        """
        draft = self._drafts.get(self._engine.read(_lookup, parent, name).id)
        if draft is not None:
            await draft.publish()
        moved = self._transact(renames.rename, parent, name, new_parent, new_name, flags, now_ns())
        for inode, bucket in moved:
            draft = self._drafts.get(inode)
            if draft is not None:
                draft.moved(bucket)

    # -- opening -----------------------------------------------------------------------

    def create(
        self, parent: InodeId, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Handle, InodeRow]:
        """Open a file that is made unless it is there. flags: of open(2).

        S3 sees it when it is first published (rule R6).
        Raises EntryExists (O_EXCL), IsDirectory, and what `mknod` and `open` raise.
        """
        mode = stat.S_IFREG | (mode & entries.PERMISSION_BITS)
        exclusive = bool(flags & os.O_EXCL)
        row, made = self._transact(_create, parent, name, now_ns(), mode, caller, exclusive)
        if flags & _WRITING and not made:
            self._check_free(row)
        handle = Handle(self._state, self._drafts, row)
        if flags & os.O_TRUNC and not made:
            handle.draft.truncate(0)
        return handle, self._drafts.over(row)

    def open(self, inode: InodeId, flags: int, *, clear_set_id: bool = False) -> Handle:
        """Open a file; O_TRUNC empties the draft, and S3 sees it at the next publication.

        clear_set_id: O_TRUNC is by somebody whose writing takes the set-id bits away; of this one
        truncation the kernel leaves that to us.
        Raises IsDirectory, InvalidArgument (neither file nor directory), Locked.
        """
        row = self.attributes(inode)
        if stat.S_ISDIR(row.mode):
            raise IsDirectory(inode)
        if not stat.S_ISREG(row.mode):
            raise InvalidArgument(inode, "no regular file")
        if flags & _WRITING:
            self._check_free(row)
        if clear_set_id and flags & os.O_TRUNC:
            self.clear_set_id(inode)
        handle = Handle(self._state, self._drafts, row)
        if flags & os.O_TRUNC:
            handle.draft.truncate(0)
        return handle

    def clear_set_id(self, inode: InodeId) -> None:
        """Take the set-id bits away, as writing does where the kernel leaves that to us."""
        row = self.attributes(inode)
        if row.mode & stat.S_ISUID or row.mode & _GROUP_RUNS == _GROUP_RUNS:
            # As a change of owner does, here to the same.
            self._transact(_change, inode, Changes(uid=row.uid), now_ns())

    def forgotten(self, numbers: Sequence[InodeId]) -> None:
        """The kernel no longer has these inodes: those without a name go, if nothing holds them.

        Nobody waits for that: what can't be done now is done at the next start.
        """
        try:
            with translated():
                self._drafts.forgotten(numbers)
        except StoreError as error:
            log.warning("files without a name stay until the next start: %s", error)

    def open_directory(self, inode: InodeId) -> DirectoryHandle:
        """Open a directory for listing. Raises NotDirectory."""
        if not stat.S_ISDIR(self.attributes(inode).mode):
            raise NotDirectory(inode)
        return DirectoryHandle(self._state, self._drafts, inode)

    def statfs(self) -> Capacity:
        """How much there is and how much is free."""
        total, free = self._state.chunks.usable_bytes()
        blocks, blocks_free = total // _BLOCK_BYTES, free // _BLOCK_BYTES
        return Capacity(
            block_bytes=_BLOCK_BYTES,
            blocks=blocks,
            blocks_free=blocks_free,
            files=self._state.inode_count + blocks_free,
            files_free=blocks_free,
        )

    # -- extended attributes (rule R11) ------------------------------------------------

    def getxattr(self, inode: InodeId, name: bytes) -> bytes:
        """The value. Raises NoSuchAttribute, also for any name outside of `user.`."""
        return self._engine.read(xattrs.get, inode, name)

    def setxattr(self, inode: InodeId, name: bytes, value: bytes, flags: int) -> None:
        """Set a value. flags: 0, XATTR_CREATE or XATTR_REPLACE (os.XATTR_*).

        Raises NoSuchAttribute, AttributeExists, MetadataTooLarge, NameTooLong, InvalidArgument
        (a value S3 can't carry), Denied (read-only names, and names outside of `user.`: the mount
        answers those itself with ENOTSUP, which cp and tar pass over in silence).
        """
        with translated(inode):
            self._engine.transact(xattrs.put, inode, name, value, flags, now_ns())

    def listxattr(self, inode: InodeId) -> list[bytes]:
        """All names that `setxattr` takes; what is read only is answered, but not listed."""
        return self._engine.read(xattrs.names, inode)

    def removexattr(self, inode: InodeId, name: bytes) -> None:
        """Remove one. Raises NoSuchAttribute, Denied."""
        with translated(inode):
            self._engine.transact(xattrs.remove, inode, name, now_ns())

    # -- POSIX ACLs (rule R13) ---------------------------------------------------------

    def acl(self, inode: InodeId, name: bytes) -> bytes:
        """A list of an inode, as store.posixacl has its bytes; name: one of its NAMES.

        Raises NoSuchAttribute. The kernel asks often: where no list was ever set it costs nothing.
        """
        if not self._state.acls:
            raise NoSuchAttribute(name)
        return self._engine.read(permissions.get, self._state, inode, name)

    def set_acl(self, inode: InodeId, name: bytes, packed: bytes, *, clear_set_gid: bool) -> None:
        """Set one. clear_set_gid: by somebody who isn't of the file's group.

        Raises InvalidArgument, MetadataTooLarge.
        """
        with translated(inode):
            self._engine.transact(
                permissions.put,
                self._state,
                inode,
                name,
                packed,
                now_ns(),
                clear_set_gid=clear_set_gid,
            )

    def remove_acl(self, inode: InodeId, name: bytes) -> None:
        """Remove one, if it is there."""
        self._transact(permissions.remove, inode, name, now_ns())

    # -- durability --------------------------------------------------------------------

    async def fsync_directory(self, inode: InodeId) -> None:
        """All that was done to the directory so far is durable when this returns."""
        with translated(inode):
            await self._engine.barrier()

    async def publish_all(self) -> None:
        """Publish every draft (a stop in order). Raises the first error after trying all."""
        failed: Exception | None = None
        for draft in self._drafts.dirty():
            try:
                await draft.publish()
            except StoreError as exc:  # the others still have their chance
                failed = failed or exc
        if failed is not None:
            raise failed

    def _check_free(self, row: InodeRow) -> None:
        """Raises Locked for a file that object lock keeps as it is."""
        if row.meta is not None:
            rules = self._engine.read(rules_of, self._state, row.bucket)
            locks.check_free(rules, row, row.id, now_ns())

    def _transact(
        self, function: Callable[Concatenate[Tx, State, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with translated():
            return self._engine.transact(function, self._state, *args, **kwargs)

    async def _resize(self, inode: InodeId, size: int, handle: Handle | None) -> None:
        if size < 0:
            raise InvalidArgument(size, "size")
        if handle is not None:
            handle.draft.truncate(size)
            return
        opened = self.open(inode, os.O_WRONLY)
        try:
            opened.draft.truncate(size)
            await opened.flush()
        finally:
            await opened.release()


def _lookup(tx: Tx, parent: InodeId, name: bytes) -> InodeRow:
    if name in (b".", b".."):
        row = entries.directory_row(tx, parent)
        return row if name == b"." else entries.directory_row(tx, row.parent or ROOT)
    return entries.find(tx, parent, name)[1]


def _change(tx: Tx, state: State, number: InodeId, changes: Changes, now: int) -> InodeRow:
    row = inodes.get(tx, number)
    if row is None:
        raise NoSuchEntry(number)
    mode = row.mode
    if changes.mode is not None:
        mode = stat.S_IFMT(mode) | changes.mode & entries.PERMISSION_BITS
        permissions.after_chmod(tx, state, number, mode)
    elif (changes.uid is not None or changes.gid is not None) and not stat.S_ISDIR(mode):
        mode &= ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            mode &= ~stat.S_ISGID
    row = row._replace(
        mode=mode,
        uid=row.uid if changes.uid is None else changes.uid,
        gid=row.gid if changes.gid is None else changes.gid,
        atime_ns=row.atime_ns if changes.atime_ns is None else changes.atime_ns,
        mtime_ns=row.mtime_ns if changes.mtime_ns is None else changes.mtime_ns,
        ctime_ns=now if changes.ctime_ns is None else changes.ctime_ns,
    )
    inodes.set_attributes(tx, row)
    entries.settle(tx, row)
    note_names(tx, "attributes", row, now)
    return row


def _create(
    tx: Tx,
    state: State,
    parent: InodeId,
    name: bytes,
    now: int,
    mode: int,
    caller: Caller,
    exclusive: bool,
) -> tuple[InodeRow, bool]:
    """The file, made unless it is there, and whether it was made."""
    directory = entries.directory_row(tx, parent)
    spot = entries.leaf_spot(tx, directory, name)
    there = entries.at(tx, spot)
    if there is None:
        row = entries.new_row(tx, state, directory, now, mode, caller)
        entries.new_leaf(tx, state, directory, spot, row, "create")
        return row, True
    if exclusive:
        raise EntryExists(name)
    if stat.S_ISDIR(there.mode):
        raise IsDirectory(name)
    if not stat.S_ISREG(there.mode):
        raise EntryExists(name)
    return there, False
