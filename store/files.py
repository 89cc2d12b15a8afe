"""`Files`: the namespace by inode number, as the mount speaks to it.

Names are bytes as the kernel gives them; rule R2 (store.names) turns them into components of
keys. The kernel checks permissions (`default_permissions`), the store keeps the structure whole.
Concurrency: one trio loop. Sync methods run one short transaction and return.
Source: rules R0 to R17 of SEMANTICS.md; POSIX.1-2017, rename(2), link(2), unlink(2).
"""

from __future__ import annotations

from dataclasses import dataclass

from metadb.records import InodeId, InodeRow
from store.directories import DirectoryHandle
from store.handles import Handle
from store.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a new inode. umask: bits taken from its mode (0 where the kernel did that)."""

    uid: int
    gid: int
    umask: int = 0


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


class Files:
    """See the module's header. Every method may raise NoSuchEntry for an inode that is gone."""

    def __init__(self, state: State) -> None:
        self._state = state

    # -- names and attributes ----------------------------------------------------------

    def lookup(self, parent: InodeId, name: bytes) -> InodeRow:
        """The inode behind a name, '.' and '..' included.

        Raises NoSuchEntry (also for names that could not be given), NotDirectory, NameTooLong.
        """
        raise NotImplementedError

    def attributes(self, inode: InodeId) -> InodeRow:
        """The inode's row, with what open drafts have changed (size, times) laid over it."""
        raise NotImplementedError

    async def change(
        self, inode: InodeId, changes: Changes, handle: Handle | None = None
    ) -> InodeRow:
        """Set attributes, and the size: into the draft where `handle` is given, else published.

        A change of owner clears the set-id bits of what is no directory, unless `mode` is given
        too. On truncation and writing the kernel clears them by a setattr of its own.
        Raises IsDirectory and InvalidArgument (size), TooLarge, NoSpace, Unavailable.
        """
        raise NotImplementedError

    def readlink(self, inode: InodeId) -> bytes:
        """The target of a symbolic link. Raises InvalidArgument for anything else."""
        raise NotImplementedError

    # -- making and removing -----------------------------------------------------------

    def mkdir(self, parent: InodeId, name: bytes, mode: int, caller: Caller) -> InodeRow:
        """A new directory; in the root a new bucket.

        Raises EntryExists, InvalidName, NameTooLong, InvalidBucketName, BucketExists.
        """
        raise NotImplementedError

    def rmdir(self, parent: InodeId, name: bytes) -> None:
        """Remove an empty directory; in the root an empty bucket.

        Raises NotDirectory, DirectoryNotEmpty (also when the directory shows an object body as
        `%tf.data`, rule R1), BucketNotEmpty.
        """
        raise NotImplementedError

    def mknod(
        self, parent: InodeId, name: bytes, mode: int, rdev: int, caller: Caller
    ) -> InodeRow:
        """A FIFO, socket or device (rule R12), or an empty published file.

        Raises EntryExists, InvalidName, NameTooLong, Denied (in the root).
        """
        raise NotImplementedError

    def symlink(self, parent: InodeId, name: bytes, target: bytes, caller: Caller) -> InodeRow:
        """A symbolic link. Raises what `mknod` raises."""
        raise NotImplementedError

    def link(self, inode: InodeId, parent: InodeId, name: bytes) -> InodeRow:
        """One more name for an inode that is no directory.

        Raises what `mknod` raises, Denied (a directory), CrossBucket, TooManyLinks.
        """
        raise NotImplementedError

    def unlink(self, parent: InodeId, name: bytes) -> None:
        """Take a name away; the inode goes with its last name and its last handle.

        Raises IsDirectory, NoSuchEntry.
        """
        raise NotImplementedError

    async def rename(
        self, parent: InodeId, name: bytes, new_parent: InodeId, new_name: bytes, flags: int
    ) -> None:
        """rename(2). flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE (store.renames).

        Atomic, also for S3; what the source's draft holds is published first (rule R6).
        Raises EntryExists, NoSuchEntry, IsDirectory, NotDirectory, DirectoryNotEmpty, LinkLoop
        (a directory below itself), CrossBucket, Denied (the root), InvalidArgument (flags).
        """
        raise NotImplementedError

    # -- opening -----------------------------------------------------------------------

    def create(
        self, parent: InodeId, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Handle, InodeRow]:
        """Open a file that is made unless it is there. flags: of open(2).

        S3 sees it when it is first published (rule R6).
        Raises EntryExists (O_EXCL), IsDirectory, and what `mknod` and `open` raise.
        """
        raise NotImplementedError

    def open(self, inode: InodeId, flags: int) -> Handle:
        """Open a file; O_TRUNC empties the draft, and S3 sees it at the next publication.

        Raises IsDirectory, InvalidArgument (neither file nor directory).
        """
        raise NotImplementedError

    def open_directory(self, inode: InodeId) -> DirectoryHandle:
        """Open a directory for listing. Raises NotDirectory."""
        raise NotImplementedError

    def statfs(self) -> Capacity:
        """How much there is and how much is free."""
        raise NotImplementedError

    # -- extended attributes (rule R11) ------------------------------------------------

    def getxattr(self, inode: InodeId, name: bytes) -> bytes:
        """The value. Raises NoSuchAttribute, also for any name outside of `user.`."""
        raise NotImplementedError

    def setxattr(self, inode: InodeId, name: bytes, value: bytes, flags: int) -> None:
        """Set a value. flags: 0, XATTR_CREATE or XATTR_REPLACE (os.XATTR_*).

        Raises NoSuchAttribute, AttributeExists, MetadataTooLarge, NameTooLong, InvalidArgument
        (a value S3 can't carry), Denied (read-only names, and names outside of `user.`: the mount
        answers those itself with ENOTSUP, which cp and tar pass over in silence).
        """
        raise NotImplementedError

    def listxattr(self, inode: InodeId) -> list[bytes]:
        """All names that `getxattr` answers."""
        raise NotImplementedError

    def removexattr(self, inode: InodeId, name: bytes) -> None:
        """Remove one. Raises NoSuchAttribute, Denied."""
        raise NotImplementedError

    # -- durability --------------------------------------------------------------------

    async def fsync_directory(self, inode: InodeId) -> None:
        """All that was done to the directory so far is durable when this returns."""
        raise NotImplementedError

    async def publish_all(self) -> None:
        """Publish every draft (a stop in order). Raises the first error after trying all."""
        raise NotImplementedError
