"""Rows as the rest of the program sees them, and the kinds of number they are keyed by.

Named tuples in the order of the columns: a row becomes a record without copying field by field.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

InodeId = NewType("InodeId", int)
"""1 is the root; a bucket's id is the inode number of its directory. Never reused."""

ROOT = InodeId(1)
IMPLICIT = 1
"""inode.flags bit: a directory that a PUT made, pruned by DELETE when it is empty (rule R4)."""


class InodeRow(NamedTuple):
    """One row of `inode`; the columns are explained in metadb.schema."""

    id: InodeId
    bucket: InodeId
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    rdev: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    stored_ns: int
    content_version: int
    etag: str | None
    version_id: str | None
    meta: str | None
    target: bytes | None
    parent: InodeId | None
    flags: int


class DentryRow(NamedTuple):
    """One row of `dentry`."""

    parent: InodeId
    name: bytes
    inode: InodeId
    alias: bytes | None


class BucketRow(NamedTuple):
    """One row of `bucket`."""

    id: InodeId
    name: str
    created_ns: int
    owner: str
    versioning: str


class SegmentRow(NamedTuple):
    """One row of `segment`; `members` are drive ids separated by blanks."""

    id: int
    nonce: bytes
    k: int
    m: int
    stripe_size: int
    members: str


class ExtentRow(NamedTuple):
    """One extent with its run: bytes [start, start + size) stand at run_start of `run`."""

    start: int
    size: int
    run: int
    run_start: int
    run_size: int
    run_missing: int


class UploadRow(NamedTuple):
    """One row of `upload`."""

    id: str
    bucket: InodeId
    key: bytes
    initiated_ns: int
    owner: str
    meta: str | None


class PartRow(NamedTuple):
    """One row of `part`."""

    upload: str
    number: int
    inode: InodeId
    size: int
    etag: str
    checksums: str
    stored_ns: int


class EntryRow(NamedTuple):
    """A dentry with what a listing needs of its inode."""

    name: bytes
    inode: InodeId
    mode: int
    size: int
    etag: str | None
    stored_ns: int
    version_id: str | None
    meta: str | None


class VersionRow(NamedTuple):
    """One row of `version`; the columns are explained in metadb.schema."""

    sequence: int
    bucket: InodeId
    key: bytes
    version_id: str | None
    inode: InodeId | None
    stored_ns: int


class VersionEntryRow(NamedTuple):
    """A version with what a listing needs of its inode (None, 0 of a delete marker)."""

    sequence: int
    key: bytes
    version_id: str | None
    stored_ns: int
    inode: InodeId | None
    size: int | None
    etag: str | None
    meta: str | None
