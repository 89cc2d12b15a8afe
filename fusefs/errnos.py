"""Every error of the store as the errno a program on the mount sees.

Total over `store.errors.leaves()`: a test holds that. Source: errno(3), open(2), rename(2),
link(2), setxattr(2); rule R11 for E2BIG; linux fs/namei.c, retry_estale.
"""

from __future__ import annotations

import errno
from typing import Final

from store import errors
from store.errors import StoreError

ERRNOS: Final[dict[type[StoreError], int]] = {
    errors.NoSuchBucket: errno.ENOENT,
    errors.NoSuchKey: errno.ENOENT,
    errors.NoSuchVersion: errno.ENOENT,
    errors.NoSuchUpload: errno.ENOENT,
    errors.KeyDeleted: errno.ENOENT,
    errors.NoSuchEntry: errno.ENOENT,
    errors.NoSuchAttribute: errno.ENODATA,
    errors.BucketExists: errno.EEXIST,
    errors.BucketNotEmpty: errno.ENOTEMPTY,
    errors.BucketLocked: errno.EPERM,
    errors.VersionIsMarker: errno.ENOENT,
    errors.EntryExists: errno.EEXIST,
    errors.DirectoryNotEmpty: errno.ENOTEMPTY,
    errors.IsDirectory: errno.EISDIR,
    errors.NotDirectory: errno.ENOTDIR,
    errors.NotRegular: errno.EINVAL,
    errors.AttributeExists: errno.EEXIST,
    errors.PreconditionFailed: errno.EBUSY,
    errors.InvalidBucketName: errno.EINVAL,
    errors.InvalidKey: errno.EINVAL,
    errors.InvalidName: errno.EINVAL,
    errors.NameTooLong: errno.ENAMETOOLONG,
    errors.KeyTooLong: errno.ENAMETOOLONG,
    errors.InvalidPart: errno.EINVAL,
    errors.InvalidPartOrder: errno.EINVAL,
    errors.PartTooSmall: errno.EINVAL,
    errors.TooLarge: errno.EFBIG,
    errors.CrossBucket: errno.EXDEV,
    # The kernel follows symbolic links itself (ELOOP), so this is a directory moved below itself.
    errors.LinkLoop: errno.EINVAL,
    errors.TooManyLinks: errno.EMLINK,
    errors.Denied: errno.EPERM,
    errors.Locked: errno.EPERM,
    errors.LockNotEnabled: errno.EPERM,
    errors.InvalidArgument: errno.EINVAL,
    errors.MetadataTooLarge: errno.E2BIG,
    errors.NoSpace: errno.ENOSPC,
    errors.QuotaExceeded: errno.EDQUOT,
    errors.Unavailable: errno.EIO,
    errors.Unrecoverable: errno.EIO,
}


def is_stale(error: StoreError) -> bool:
    """Whether an inode is gone that the kernel still has, and not just a name."""
    return isinstance(error, errors.NoSuchEntry) and isinstance(error.subject, int)


def errno_of(error: StoreError) -> int:
    """The errno for `error`; EIO for a kind this table was not taught yet.

    ESTALE makes the kernel walk the path once more and believe nothing it has cached. So a
    program that comes between a PUT's commit and the invalidation finds the new inode.
    """
    if is_stale(error):
        return errno.ESTALE
    return ERRNOS.get(type(error), errno.EIO)
