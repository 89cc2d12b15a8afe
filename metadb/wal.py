"""SQLite's write-ahead log as bytes: where frames stand, and how far they are committed.

Source: https://sqlite.org/fileformat2.html#walformat and https://sqlite.org/walformat.html.

    -wal   header of 32 bytes: magic, version, page size, checkpoint number, salts, checksum;
           then frames of 24 + 4096 bytes: page number, database size in pages after a commit
           (0 in frames that end no transaction), salts, checksum over all before it; then the page
    -shm   the wal-index; its header holds, in native byte order, mxFrame (frames that are
           committed) at 16 and the salts, as in the -wal, at 32

Counts of frames are used as positions: the first n frames end at `end_of(n)`. A *generation* is
the life of a log between two restarts; its salts tell it from any other.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

PAGE_BYTES = 4096
HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES

_MAGICS = (0x377F0682, 0x377F0683)
_HEADER = struct.Struct(">IIII")
_FRAME = struct.Struct(">II")
_COUNT = struct.Struct("=I")
_FRAMES_AT = 16
_SALTS_AT = 32


def start_of(frames: int) -> int:
    """Where the log goes on behind its first `frames` frames; the header goes with the first."""
    return HEADER_BYTES + frames * FRAME_BYTES if frames else 0


def end_of(frames: int) -> int:
    """Bytes of a log of `frames` frames."""
    return HEADER_BYTES + frames * FRAME_BYTES


def checkpoint_number(header: bytes) -> int:
    """How often the log was restarted, of a header in force or a `void_header`; -1 for neither."""
    if len(header) < HEADER_BYTES:
        return -1
    magic, _, page_size, number = _HEADER.unpack_from(header)
    if magic not in (0, *_MAGICS) or (magic and page_size != PAGE_BYTES):
        return -1
    return int(number)


def void_header(number: int, ended_salts: bytes) -> bytes:
    """A header that SQLite takes for an empty log, and that still says which generation ended.

    number: checkpoint number of the generation to come; ended_salts: 8 bytes of the one before.
    """
    return (_HEADER.pack(0, 0, 0, number) + ended_salts).ljust(HEADER_BYTES, b"\0")


def generation_of(header: bytes) -> bytes:
    """What tells a header's generation: its salts, or `behind` those of the one that ended."""
    salts = header[_HEADER.size : _HEADER.size + 8]
    return behind(salts) if header.startswith(bytes(4)) else salts


def behind(ended_salts: bytes) -> bytes:
    """Tells the generation that follows this one, as long as it has no salts of its own."""
    return b"behind" + ended_salts


def is_sound(log_header: bytes, before: bytes, frame: bytes) -> bool:
    """Whether a frame's checksum fits, as SQLite computes it. Slow: 0.2 ms.

    before: the 8 bytes of checksum that end the header of the frame before, or the log's.
    """
    order = ">" if log_header.startswith(_MAGICS[1].to_bytes(4, "big")) else "<"
    words = struct.unpack(f"{order}{2 + PAGE_BYTES // 4}I", frame[:8] + frame[FRAME_HEADER_BYTES:])
    one, two = _FRAME.unpack(before)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return _FRAME.pack(one, two) == frame[16:FRAME_HEADER_BYTES]


def first_difference(frames: bytes, others: bytes) -> int:
    """The index of the first frame that isn't the same in both; both begin with a frame."""
    return next(
        index
        for index, at in enumerate(range(0, len(frames), FRAME_BYTES))
        if frames[at : at + FRAME_BYTES] != others[at : at + FRAME_BYTES]
    )


def pages_of(frames: bytes) -> Iterator[tuple[int, int, int]]:
    """(page number, database size in pages or 0, offset of the page) of each frame in `frames`."""
    for offset in range(0, len(frames), FRAME_BYTES):
        page, commit_pages = _FRAME.unpack_from(frames, offset)
        yield page, commit_pages, offset + FRAME_HEADER_BYTES


class WalIndex:
    """How far the log of an open database is committed, read from its wal-index.

    Must be closed after SQLite's connections (F2 of `metadb.files`). Not to be read while a
    transaction commits, which on one loop can't happen.
    """

    def __init__(self, database: Path) -> None:
        """database: must be open in SQLite, or its wal-index is not there or stale."""
        self._fd = os.open(f"{database}-shm", os.O_RDONLY | os.O_CLOEXEC)
        self._map = mmap.mmap(self._fd, PAGE_BYTES, prot=mmap.PROT_READ)

    def frames(self) -> int:
        """Committed frames of this generation."""
        count: int = _COUNT.unpack_from(self._map, _FRAMES_AT)[0]
        return count

    def salts(self) -> bytes:
        """8 bytes that tell this generation from all others."""
        return self._map[_SALTS_AT : _SALTS_AT + 8]

    def close(self) -> None:
        """Give the map back."""
        self._map.close()
        os.close(self._fd)
