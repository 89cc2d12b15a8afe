"""Chunk framing, incrementally: `size[;extension] CRLF payload CRLF ... 0 CRLF trailer CRLF`.

HTTP's chunked transfer coding (RFC 9112, 7.1) and S3's aws-chunked content coding share this
grammar; they differ in extensions and trailers, which subclasses read. Pieces go in as they come,
views of the payload come out, nothing is joined or copied.

Invariants
  1. Any split of the input gives the same payload and the same verdict.
  2. Line ends are CRLF, sizes are 1 to 16 hexadecimal digits: no other reading is possible, so
     nobody else can read the same bytes differently (request smuggling).
  3. No line is kept beyond LINE_SIZE_MAX_BYTES, no more than TRAILER_COUNT_MAX trailer lines pass.

Concurrency: one owner at a time; synchronous.
"""

from __future__ import annotations

import enum
import re

LINE_SIZE_MAX_BYTES = 4096
TRAILER_COUNT_MAX = 16

_parse_size_line = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;([^\x00-\x08\x0a-\x1f\x7f]*))?"
).fullmatch


class FramingError(Exception):
    """The framing is broken. Nothing after this point can be trusted."""


class SizeError(FramingError):
    """A chunk size is not hexadecimal, or too large."""


class TrailerError(FramingError):
    """A trailer line is malformed, or there are too many."""


class _State(enum.Enum):
    SIZE = 1
    PAYLOAD = 2
    PAYLOAD_END = 3
    TRAILER = 4
    DONE = 5


class ChunkFraming:
    """Decodes one body. Subclasses override the `_on_` methods.

    complete: the end was seen. leftover: what followed it in the last piece.
    """

    def __init__(self) -> None:
        self.complete = False
        self.leftover: memoryview = memoryview(b"")
        self._state = _State.SIZE
        self._line = b""
        self._left_bytes = 0
        self._trailer_count = 0

    def feed(self, piece: bytes | memoryview) -> list[memoryview]:
        """The payload within `piece`, as views of it. Raises FramingError; then feed no more."""
        view = memoryview(piece)
        size, offset = len(view), 0
        payload: list[memoryview] = []
        while offset < size:
            if self._state is _State.PAYLOAD:
                part = view[offset : offset + self._left_bytes]
                offset += len(part)
                self._left_bytes -= len(part)
                self._on_payload(part)
                payload.append(part)
                if not self._left_bytes:
                    self._state = _State.PAYLOAD_END
            elif self._state is _State.DONE:
                self.leftover = view[offset:]
                break
            else:
                offset = self._read_line(view, offset)
        return payload

    def _read_line(self, view: memoryview, offset: int) -> int:
        """Take bytes up to a line's end; act on the line once it is whole."""
        room = LINE_SIZE_MAX_BYTES - len(self._line)
        window = bytes(view[offset : offset + room])
        end = window.find(b"\n")
        if end < 0:
            self._line += window
            # A broken chunk end shows in two bytes; don't wait for a whole line to say so.
            if len(window) == room or (
                self._state is _State.PAYLOAD_END and self._line not in (b"", b"\r")
            ):
                raise FramingError("A line of the chunk framing is too long or has no end.")
            return offset + len(window)
        line = self._line + window[: end + 1]
        self._line = b""
        self._on_line(line)
        return offset + end + 1

    def _on_line(self, line: bytes) -> None:
        if self._state is _State.PAYLOAD_END:
            if line != b"\r\n":
                raise FramingError("A chunk is longer than its size.")
            self._state = _State.SIZE
            self._on_chunk_end()
        elif self._state is _State.SIZE:
            self._on_size_line(line)
        else:
            self._on_trailer_line(line)

    def _on_size_line(self, line: bytes) -> None:
        match = _parse_size_line(line[:-2]) if line.endswith(b"\r\n") else None
        if match is None:
            raise SizeError("A chunk size is malformed.")
        self._left_bytes = int(match[1], 16)
        self._on_chunk_start(self._left_bytes, match[2] or b"")
        if self._left_bytes:
            self._state = _State.PAYLOAD
        else:
            self._state = _State.TRAILER
            self._on_chunk_end()

    def _on_trailer_line(self, line: bytes) -> None:
        """Read one trailer line with its line end; calls _finish() at the end of all."""
        if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
            raise TrailerError("A trailer line is malformed.")
        if line == b"\r\n":
            self._finish()
        else:
            self._count_trailer()

    def _count_trailer(self) -> None:
        self._trailer_count += 1
        if self._trailer_count > TRAILER_COUNT_MAX:
            raise TrailerError("There are too many trailer lines.")

    def _finish(self) -> None:
        self._state = _State.DONE
        self.complete = True

    def _on_chunk_start(self, size_bytes: int, extension: bytes) -> None:
        """A chunk begins; size_bytes 0: the last one. extension: without its semicolon."""

    def _on_payload(self, part: memoryview) -> None:
        """A part of the current chunk, in order."""

    def _on_chunk_end(self) -> None:
        """The current chunk is complete, its line end included (the last chunk has none)."""
