"""A series of backups: points in time, each a whole database or what changed since the one before.

    <chain>.<number>.<sequence>.<taken>.2fmeta      the files' names, which sort in order
    20260131T120000Z-5f3a9c01.000003.48211.1769860800

A *chain* begins with a whole backup (number 0, `metadb.archive`); the others of it hold the pages
that differ from the one before: number of the page (4 bytes, little-endian) and the page, again
and again, in the container of an archive whose manifest says `since`. sequence: changes up to it
are in; taken: seconds since 1970.

So a restore goes back to any point, and lies between two points it goes to the one before. Between
points there is nothing: SQLite's log would say more, but its frames are of pages too, and a copy
of them for each flush would take many times the room of the changes.
Invariant: a point is only used with all of its chain before it.
Concurrency: blocking; run in threads.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xxhash import xxh3_128_digest

from metadb import wal
from metadb.archive import Archive, BadArchive, Manifest

_NAME = re.compile(r"(\d{8}T\d{6}Z-[0-9a-f]{8})\.(\d{6})\.(\d{1,20})\.(\d{1,12})\.2fmeta")
_SUM_BYTES = 16
_NUMBER_BYTES = 4
_ENTRY_BYTES = _NUMBER_BYTES + wal.PAGE_BYTES
_PIECE_BYTES = 1 << 20


class NoSuchPoint(BadArchive):
    """There is none that old, or what it builds on is gone. The text is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """A file of a series, by what its name says."""

    chain: str
    number: int
    sequence: int
    taken_s: int

    @property
    def name(self) -> str:
        return f"{self.chain}.{self.number:06}.{self.sequence}.{self.taken_s}.2fmeta"


def new_chain(now_s: float) -> str:
    """A name for a chain that begins now."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now_s))}-{secrets.token_hex(4)}"


def points_of(names: Iterable[str]) -> list[Point]:
    """The points among `names`, in order; other files are passed over."""
    found = [_NAME.fullmatch(name) for name in names]
    return sorted(
        Point(chain=m[1], number=int(m[2]), sequence=int(m[3]), taken_s=int(m[4]))
        for m in found
        if m is not None
    )


def leading_to(
    points: Iterable[Point], *, at_change: int | None = None, at_s: float | None = None
) -> list[Point]:
    """The points to be put on each other for the newest state not past the limits, base first.

    Where a store was restored, numbers of changes were given out again: what was taken last
    counts. Raises NoSuchPoint.
    """
    chains: dict[str, dict[int, Point]] = defaultdict(dict)
    for point in points:
        chains[point.chain][point.number] = point
    fit = [
        point
        for chain in chains.values()
        for point in chain.values()
        if (at_change is None or point.sequence <= at_change)
        and (at_s is None or point.taken_s <= at_s)
        and all(number in chain for number in range(point.number))
    ]
    if not fit:
        raise NoSuchPoint("no backup is that old, or what it builds on is gone")
    newest = max(fit, key=lambda point: (point.taken_s, point.chain, point.number))
    return [chains[newest.chain][number] for number in range(newest.number + 1)]


def outlived(points: Iterable[Point], before_s: float) -> list[Point]:
    """Points of chains that no restore to a time after `before_s` needs."""
    chains: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        chains[point.chain].append(point)
    begun = sorted(min(chain).taken_s for chain in chains.values() if min(chain).number == 0)
    needed_s = max((taken_s for taken_s in begun if taken_s <= before_s), default=0)
    return [point for chain in chains.values() if min(chain).taken_s < needed_s for point in chain]


class PageSums:
    """What each page was when it was last backed up."""

    def __init__(self) -> None:
        self._sums = bytearray()
        self._coming = bytearray()

    def all(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """`pieces` of a database as they are, remembered."""
        self._coming = bytearray()
        for piece in pieces:
            for start in range(0, len(piece), wal.PAGE_BYTES):
                self._coming += xxh3_128_digest(piece[start : start + wal.PAGE_BYTES])
            yield piece

    def changed(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Of each piece the entries of pages that differ; remembered."""
        self._coming = bytearray()
        number = 0
        for piece in pieces:
            entries = []
            for start in range(0, len(piece), wal.PAGE_BYTES):
                page = piece[start : start + wal.PAGE_BYTES]
                digest = xxh3_128_digest(page)
                at = number * _SUM_BYTES
                number += 1
                if self._sums[at : at + _SUM_BYTES] != digest:
                    entries += [number.to_bytes(_NUMBER_BYTES, "little"), page]
                self._coming += digest
            yield b"".join(entries)

    def keep(self) -> None:
        """What was gone through last is backed up."""
        self._sums = self._coming


class Composed:
    """A point of a series, put together in a file beside its parts. As an `Archive` to restore."""

    def __init__(self, parts: list[Path], into: Path) -> None:
        """parts: base first. Raises BadArchive, OSError."""
        archives = [Archive(part) for part in parts]
        self.path = parts[-1]
        self.manifest: Manifest = archives[-1].manifest
        self._into = into
        _check_order(archives)
        with open(into, "wb") as file:
            for piece in archives[0].pieces():
                file.write(piece)
            for archive in archives[1:]:
                for number, page in _entries(archive):
                    os.pwrite(file.fileno(), page, (number - 1) * wal.PAGE_BYTES)
                file.flush()
            os.ftruncate(file.fileno(), self.manifest.database_bytes)

    def pieces(self) -> Iterator[bytes]:
        """The database file's bytes."""
        with open(self._into, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece


def _check_order(archives: list[Archive]) -> None:
    """Raise BadArchive unless each builds on the one before."""
    before: Manifest | None = None
    for archive in archives:
        manifest = archive.manifest
        wanted = None if before is None else before.sequence
        if manifest.since != wanted or (before and manifest.store != before.store):
            raise BadArchive(f"{archive.path}: does not follow on the one before it")
        before = manifest


def _entries(archive: Archive) -> Iterator[tuple[int, bytes]]:
    rest = b""
    for piece in archive.pieces():
        rest += piece
        stop = len(rest) - len(rest) % _ENTRY_BYTES
        for start in range(0, stop, _ENTRY_BYTES):
            number = int.from_bytes(rest[start : start + _NUMBER_BYTES], "little")
            if number == 0 or number * wal.PAGE_BYTES > archive.manifest.database_bytes:
                raise BadArchive(f"{archive.path}: has a page that the database has not")
            yield number, rest[start + _NUMBER_BYTES : start + _ENTRY_BYTES]
        rest = rest[stop:]
    if rest:
        raise BadArchive(f"{archive.path}: ends within a page")
