"""Rows become attributes without loss."""

import stat

import pytest

from fusefs.attributes import ABSENT, TIMEOUT_S, entry_of, figures_of
from metadb.records import InodeId, InodeRow
from store.files import Capacity


def row(**changes: object) -> InodeRow:
    """A regular file, changed as the test needs it."""
    made = InodeRow(
        id=InodeId(77),
        bucket=InodeId(5),
        mode=stat.S_IFREG | 0o640,
        uid=1000,
        gid=1001,
        nlink=3,
        size=1025,
        rdev=0,
        atime_ns=1_000_000_001,
        mtime_ns=2_000_000_002,
        ctime_ns=3_000_000_003,
        stored_ns=4,
        content_version=1,
        etag=None,
        version_id=None,
        meta=None,
        target=None,
        parent=None,
        flags=0,
    )
    return made._replace(**changes)  # type: ignore[arg-type]


def test_an_inode_is_shown_with_all_it_has() -> None:
    entry = entry_of(row())
    assert (entry.st_ino, entry.st_mode, entry.st_nlink) == (77, stat.S_IFREG | 0o640, 3)
    assert (entry.st_uid, entry.st_gid, entry.st_size) == (1000, 1001, 1025)
    assert (entry.st_atime_ns, entry.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    assert entry.st_ctime_ns == 3_000_000_003
    assert entry.entry_timeout == entry.attr_timeout == TIMEOUT_S


@pytest.mark.parametrize(
    ("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2), (1 << 42, 1 << 33)]
)
def test_blocks_are_whole_sectors(size: int, blocks: int) -> None:
    assert entry_of(row(size=size)).st_blocks == blocks


def test_times_before_1970_survive() -> None:
    assert entry_of(row(mtime_ns=-1)).st_mtime_ns == -1


def test_ids_and_devices_of_all_bits_fit() -> None:
    entry = entry_of(row(uid=0xFFFF_FFFE, gid=0xFFFF_FFFE, rdev=0xFFFF_FFFF))
    assert (entry.st_uid, entry.st_gid, entry.st_rdev) == (0xFFFF_FFFE, 0xFFFF_FFFE, 0xFFFF_FFFF)


def test_absence_is_cached_under_number_zero() -> None:
    assert ABSENT.st_ino == 0
    assert ABSENT.entry_timeout == TIMEOUT_S


def test_figures_of_the_file_system() -> None:
    figures = figures_of(
        Capacity(block_bytes=4096, blocks=100, blocks_free=40, files=7, files_free=1000)
    )
    assert (figures.f_bsize, figures.f_frsize) == (4096, 4096)
    assert (figures.f_blocks, figures.f_bfree, figures.f_bavail) == (100, 40, 40)
    assert (figures.f_files, figures.f_ffree, figures.f_favail) == (7, 1000, 1000)
    assert figures.f_namemax == 255
