"""A backup of the metadata: one file, compressed and checksummed.

    offset  bytes  field
         0      9  magic "2foldmeta"
         9      3  format version, 1, little-endian
        12      4  length of the manifest, little-endian
        16      n  the manifest, JSON
         .      .  the pages of the database file, one zlib stream (RFC 1950)
    end-16     16  xxh3-128 of everything before

The manifest says which store it is of and how far it goes: changes up to `sequence` are in it.
Nothing in it is secret but what the database holds; secrets of users are sealed there.
Concurrency: blocking; run in a thread.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from xxhash import xxh3_128

from metadb.errors import MetadbError

_HEAD = struct.Struct("<9s3sI")
_MAGIC = b"2foldmeta"
_VERSION = (1).to_bytes(3, "little")
_SUM_BYTES = 16
_PIECE_BYTES = 1 << 20
_MANIFEST_BYTES_MAX = 1 << 16
_LEVEL = 1
"""zlib's quickest: the store goes on serving beside it."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """store: its id. sequence: the newest change. taken_s: seconds since 1970.

    revision: of the schema. database_bytes: of the database file when it is restored.
    since: None for a whole database; else the sequence of the backup that this one builds on
    (`metadb.series`).
    """

    store: str
    sequence: int
    taken_s: float
    revision: str
    database_bytes: int
    since: int | None = None


class BadArchive(MetadbError):
    """The file is no backup, or not the one that was written. The text is one sentence."""


def pack(manifest: Manifest, pages: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of the file. What `pages` raises passes on, and leaves it without its end."""
    head = msgspec.json.encode(manifest)
    digest = xxh3_128()
    press = zlib.compressobj(_LEVEL)
    for piece in _pressed(_HEAD.pack(_MAGIC, _VERSION, len(head)) + head, pages, press):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _pressed(head: bytes, pages: Iterable[bytes], press: zlib._Compress) -> Iterator[bytes]:
    yield head
    for page in pages:
        if piece := press.compress(page):
            yield piece
    yield press.flush()


class Archive:
    """A backup's file, read whole and found intact."""

    def __init__(self, path: Path) -> None:
        """Raises BadArchive, OSError."""
        self.path = path
        with path.open("rb") as file:
            self.manifest, self._start = _read_head(file)
            self._stop = os.fstat(file.fileno()).st_size - _SUM_BYTES
            _verify(file, self._stop)
        if self._start > self._stop:
            raise BadArchive(f"{path}: it is damaged")

    def pieces(self) -> Iterator[bytes]:
        """The database file's bytes, or the pages that differ (`metadb.series`).

        Raises BadArchive when they are not as many as it says.
        """
        try:
            yield from self._expanded()
        except zlib.error as error:
            raise BadArchive(f"{self.path}: it is damaged") from error

    def _expanded(self) -> Iterator[bytes]:
        expand = zlib.decompressobj()
        whole = self.manifest.since is None
        # Of what builds on another backup each page comes with its number, and once at most.
        size, size_max = (
            0,
            self.manifest.database_bytes + (0 if whole else self.manifest.database_bytes // 1024),
        )
        with self.path.open("rb") as file:
            file.seek(self._start)
            left = self._stop - self._start
            while left and size <= size_max:
                pressed = file.read(min(_PIECE_BYTES, left))
                left -= len(pressed)
                while pressed and size <= size_max:
                    piece = expand.decompress(pressed, _PIECE_BYTES)
                    pressed = expand.unconsumed_tail
                    size += len(piece)
                    yield piece
        rest = expand.flush()
        size += len(rest)
        yield rest
        if not expand.eof or size > size_max or (whole and size != size_max):
            raise BadArchive(f"{self.path}: it is damaged")


def _read_head(file: BinaryIO) -> tuple[Manifest, int]:
    """The manifest, and where the pages begin."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        raise BadArchive(f"{file.name}: is no backup of metadata")
    _, version, size = _HEAD.unpack(head)
    if version != _VERSION:
        raise BadArchive(f"{file.name}: was written by a newer version of twofold")
    text = file.read(min(size, _MANIFEST_BYTES_MAX))
    try:
        return msgspec.json.decode(text, type=Manifest), _HEAD.size + size
    except (ValueError, RecursionError) as error:
        raise BadArchive(f"{file.name}: it is damaged") from error


def _verify(file: BinaryIO, stop: int) -> None:
    digest = xxh3_128()
    file.seek(0)
    left = stop
    while left > 0 and (piece := file.read(min(_PIECE_BYTES, left))):
        digest.update(piece)
        left -= len(piece)
    if left or file.read() != digest.digest():
        raise BadArchive(f"{file.name}: it is damaged, or was not written to its end")
