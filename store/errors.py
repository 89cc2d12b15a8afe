"""Everything the namespace can refuse or fail with. Faces map the leaves, each in one table.

StoreError
|- NotFound        NoSuchBucket NoSuchKey KeyDeleted NoSuchUpload NoSuchVersion NoSuchEntry
|                  NoSuchAttribute
|- Conflict        BucketExists BucketNotEmpty BucketLocked VersionIsMarker EntryExists
|                  DirectoryNotEmpty IsDirectory NotDirectory NotRegular AttributeExists
|- Refused         PreconditionFailed InvalidBucketName InvalidKey InvalidName NameTooLong
|                  KeyTooLong InvalidPart InvalidPartOrder PartTooSmall TooLarge CrossBucket
|                  LinkLoop TooManyLinks Denied Locked LockNotEnabled InvalidArgument
|                  MetadataTooLarge
|- Exhausted       NoSpace QuotaExceeded Unavailable
|- Damaged         Unrecoverable

They know neither HTTP nor errno. Every class is a leaf or a group; a test in each face proves
its table total over `leaves()`.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all errors of `store`. `subject` is what it is about: a key, name or number."""

    def __init__(self, subject: object = "", detail: str = "") -> None:
        super().__init__(f"{type(self).__name__}: {subject}{': ' if detail else ''}{detail}")
        self.subject = subject
        self.detail = detail


class NotFound(StoreError):
    """Something named does not exist."""


class NoSuchBucket(NotFound):
    """No bucket of this name."""


class NoSuchKey(NotFound):
    """No object under this key."""


class KeyDeleted(NotFound):
    """The key's current version is a delete marker, of the id `version_id`."""

    def __init__(self, subject: object = "", version_id: str = "null") -> None:
        super().__init__(subject, "deleted")
        self.version_id = version_id


class NoSuchVersion(NotFound):
    """The key has no version of this id."""


class NoSuchUpload(NotFound):
    """No multipart upload of this id for this key."""


class NoSuchEntry(NotFound):
    """No such name in the directory, or no such inode any more."""


class NoSuchAttribute(NotFound):
    """The inode has no extended attribute of this name."""


class Conflict(StoreError):
    """What exists stands in the way."""


class BucketExists(Conflict):
    """The bucket is there already."""


class BucketNotEmpty(Conflict):
    """The bucket holds keys, directories with content, or uploads."""


class BucketLocked(Conflict):
    """Object lock and the bucket's versioning don't go together as asked."""


class VersionIsMarker(Conflict):
    """The version asked for by its id is a delete marker: there is nothing to read."""

    def __init__(
        self, subject: object = "", version_id: str = "null", modified_ns: int = 0
    ) -> None:
        super().__init__(subject, f"version {version_id} is a delete marker")
        self.version_id = version_id
        self.modified_ns = modified_ns


class EntryExists(Conflict):
    """The name is taken."""


class DirectoryNotEmpty(Conflict):
    """The directory has entries."""


class IsDirectory(Conflict):
    """A directory stands where a file is asked for."""


class NotDirectory(Conflict):
    """A file stands where a directory is asked for."""


class NotRegular(Conflict):
    """A FIFO, socket or device stands under the key (rule R12)."""


class AttributeExists(Conflict):
    """The extended attribute is there already."""


class Refused(StoreError):
    """The request can't be done as it was asked."""


class PreconditionFailed(Refused):
    """If-Match or If-None-Match did not hold. `detail` names the condition."""


class InvalidBucketName(Refused):
    """Not a bucket name by S3's rules."""


class InvalidKey(Refused):
    """Not a key: empty, or with a NUL."""


class InvalidName(Refused):
    """A name the mount can't give to a new entry (the reserved `%tf.` forms)."""


class NameTooLong(Refused):
    """A name of over 255 bytes from the mount."""


class KeyTooLong(Refused):
    """A key of over 1,024 bytes."""


class InvalidPart(Refused):
    """A part named in a Complete is missing or its ETag differs."""


class InvalidPartOrder(Refused):
    """The part numbers of a Complete do not rise."""


class PartTooSmall(Refused):
    """A part that is not the last has less than 5 MiB."""


class TooLarge(Refused):
    """More than an object may hold."""


class CrossBucket(Refused):
    """A rename or hard link from one bucket to another."""


class LinkLoop(Refused):
    """Too many symbolic links on the way, or a directory moved below itself."""


class TooManyLinks(Refused):
    """The inode can't have another hard link."""


class Denied(Refused):
    """Not permitted here: files at the root, a directory's hard link."""


class Locked(Refused):
    """Retention or a legal hold keeps the version as it is."""


class LockNotEnabled(Refused):
    """Retention or a legal hold in a bucket without object lock."""


class InvalidArgument(Refused):
    """An argument outside its range. `detail` says which."""


class MetadataTooLarge(Refused):
    """User metadata or extended attributes beyond their limit."""


class Exhausted(StoreError):
    """Not now: something has run out."""


class NoSpace(Exhausted):
    """The drives are full."""


class QuotaExceeded(Exhausted):
    """The bucket may not hold that much."""


class Unavailable(Exhausted):
    """Too few drives to write to, or the daemon is on its way down."""


class Damaged(StoreError):
    """Bytes or metadata that can't be given back."""


class Unrecoverable(Damaged):
    """More of a stripe is damaged or gone than parity can mend."""


def leaves() -> frozenset[type[StoreError]]:
    """All concrete errors: those a face's table must hold."""
    found: set[type[StoreError]] = set()
    pending: list[type[StoreError]] = [StoreError]
    while pending:
        below = pending.pop().__subclasses__()
        pending += below
        found.update(c for c in below if not c.__subclasses__())
    return frozenset(found)
