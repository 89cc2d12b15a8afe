"""Rows of `inode` as the attributes the kernel caches, and the file system's own figures.

Time-outs are long because invalidate.py keeps what they cover true. No state.
Source: stat(2), statvfs(3), pyfuse3's `EntryAttributes`.
"""

from __future__ import annotations

from typing import Final

from pyfuse3 import EntryAttributes, StatvfsData

from metadb.records import InodeRow
from store.files import Capacity

TIMEOUT_S: Final = 3600
"""How long the kernel may believe an entry, present or absent, and an inode's attributes."""
IO_SIZE_BYTES: Final = 128 * 1024
"""st_blksize: what stdio, Python and cp take as the size of their buffers."""
_SECTOR_BYTES: Final = 512  # the unit of st_blocks, whatever st_blksize says: stat(2)


def entry_of(row: InodeRow) -> EntryAttributes:
    """What LOOKUP, GETATTR and their kin answer for an inode."""
    entry = EntryAttributes()
    entry.st_ino = row.id
    entry.entry_timeout = entry.attr_timeout = TIMEOUT_S
    entry.st_mode = row.mode
    entry.st_nlink = row.nlink
    entry.st_uid = row.uid
    entry.st_gid = row.gid
    entry.st_rdev = row.rdev
    size = row.size
    entry.st_size = size
    entry.st_blocks = (size + _SECTOR_BYTES - 1) // _SECTOR_BYTES
    entry.st_blksize = IO_SIZE_BYTES
    entry.st_atime_ns = row.atime_ns
    entry.st_mtime_ns = row.mtime_ns
    entry.st_ctime_ns = row.ctime_ns
    return entry


def _absence() -> EntryAttributes:
    entry = EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = TIMEOUT_S
    return entry


ABSENT: Final = _absence()
"""The answer to LOOKUP that says a name does not exist, to be cached. Shared: never change it."""


def figures_of(capacity: Capacity) -> StatvfsData:
    """The answer to STATFS."""
    figures = StatvfsData()
    figures.f_bsize = figures.f_frsize = capacity.block_bytes
    figures.f_blocks = capacity.blocks
    figures.f_bfree = figures.f_bavail = capacity.blocks_free
    figures.f_files = capacity.files
    figures.f_ffree = figures.f_favail = capacity.files_free
    figures.f_namemax = capacity.name_bytes_max
    return figures
