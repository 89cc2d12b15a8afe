"""Checksums of a copy's pages, which SQLite itself doesn't keep.

A copy's `meta.db-sums` has 8 bytes for each page of its database file, in page order: xxh3-64 of
the page, or zeros where it is not known. They say what the file held when the log last restarted,
so they also serve for any other copy, the primary's among them, in the same generation; pages
that the log of this generation has are left out of a check, as the log overrides them.

Invariants: a sum is durable before the log that holds the page's content is made void.
Concurrency: as in `metadb.mirror`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import xxhash

from metadb import wal
from metadb.files import Buffer, File

_SUM_BYTES = 8
_UNKNOWN = bytes(_SUM_BYTES)
_PIECE_PAGES = 256


class PageSums:
    """The sums of one copy."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._noted: dict[int, bytes] = {}

    def note(self, page: int, content: Buffer) -> None:
        """Remember the sum of page number `page` (from 1) until `save`."""
        self._noted[page] = xxhash.xxh3_64_digest(content)

    def save(self) -> None:
        """Write what was noted, durably."""
        group: list[bytes] = []
        first = 0
        for page, digest in sorted(self._noted.items()):
            if page != first + len(group):
                self._file.write(group, (first - 1) * _SUM_BYTES)
                group, first = [], page
            group.append(digest)
        self._file.write(group, (first - 1) * _SUM_BYTES)
        self._file.sync()
        self._noted.clear()

    def write_run(self, first_page: int, content: bytes) -> None:
        """Write the sums of whole pages from `first_page` on; not durable before `sync`."""
        self._file.write([b"".join(_digests(content))], (first_page - 1) * _SUM_BYTES)

    def sync(self) -> None:
        """Make what `write_run` wrote durable."""
        self._file.sync()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def damaged_pages(
    database: Path | int,
    sums: Path,
    log: Path,
    *,
    frames: int,
    start: int = 0,
    stop: int | None = None,
) -> list[int]:
    """Numbers of the pages in [start, stop) (from 0) that aren't what their sums say.

    Those that can't be read are among them. database: the path of one that SQLite doesn't have
    open, else a descriptor that is closed behind SQLite's own (F2 of `metadb.files`).
    log: of the same generation as the sums, with `frames` frames whose pages are left out.
    Blocks; reads the files. Raises OSError.
    """
    skip = set(_pages_in(log, frames))
    descriptor = database
    if isinstance(database, Path):
        descriptor = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
    assert isinstance(descriptor, int)
    damaged = []
    try:
        with open(sums, "rb", buffering=0) as sums_file:
            size = os.fstat(descriptor).st_size // wal.PAGE_BYTES
            stop = size if stop is None else min(size, stop)
            for first in range(start, stop, _PIECE_PAGES):
                pages = min(_PIECE_PAGES, stop - first)
                known = os.pread(sums_file.fileno(), pages * _SUM_BYTES, first * _SUM_BYTES)
                known = known.ljust(pages * _SUM_BYTES, b"\0")
                for index, digest in enumerate(_digests_at(descriptor, first, pages)):
                    expected = known[index * _SUM_BYTES : (index + 1) * _SUM_BYTES]
                    page = first + index + 1
                    if page not in skip and (not digest or expected not in (digest, _UNKNOWN)):
                        damaged.append(page)
    finally:
        if isinstance(database, Path):
            os.close(descriptor)
    return damaged


def _digests_at(descriptor: int, first: int, pages: int) -> list[bytes]:
    """The sums of the pages from number `first` (from 0); empty for those that can't be read."""
    try:
        content = os.pread(descriptor, pages * wal.PAGE_BYTES, first * wal.PAGE_BYTES)
        return list(_digests(content))
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    if pages == 1:
        return [b""]
    half = pages // 2
    return [
        *_digests_at(descriptor, first, half),
        *_digests_at(descriptor, first + half, pages - half),
    ]


def _digests(content: bytes) -> Iterator[bytes]:
    view = memoryview(content)
    for offset in range(0, len(content), wal.PAGE_BYTES):
        yield xxhash.xxh3_64_digest(view[offset : offset + wal.PAGE_BYTES])


def _pages_in(log: Path, frames: int) -> Iterator[int]:
    """Page numbers of the first `frames` frames."""
    if not frames:
        return
    with open(log, "rb", buffering=0) as file:
        for first in range(0, frames, _PIECE_PAGES):
            file.seek(wal.HEADER_BYTES + first * wal.FRAME_BYTES)
            piece = file.read(min(_PIECE_PAGES, frames - first) * wal.FRAME_BYTES)
            for page, _, _ in wal.pages_of(
                piece[: len(piece) // wal.FRAME_BYTES * wal.FRAME_BYTES]
            ):
                yield page
