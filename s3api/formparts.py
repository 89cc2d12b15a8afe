"""The body of a browser's form, taken apart as it comes: fields, then the file.

Fields are small and held; the file is streamed. What follows the file is not looked at.

Invariants
  1. No more than FIELD_BYTES_MAX of fields and one received piece are in memory, whatever comes.
  2. The file ends only at its boundary: a body that stops before is malformed, never a short file.

Concurrency: one task. Source: RFC 7578; Amazon S3 API reference, "POST Object". The parser is
`multipart`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from s3api.errors import EntityTooLarge, InvalidArgument
from s3api.httpstream import BodySource, Header
from s3api.requests import decode_header
from s3api.settingrefusals import FileTooSmall, FormMalformed, FormTooLarge, NoForm

FIELD_BYTES_MAX = 20 * 1024
FIELDS_MAX = 256
# All that may come before the file, with the fields' headers and what is no field at all.
PREFACE_BYTES_MAX = 1 << 20
FILE = "file"

Event = MultipartSegment | bytes | None


class Form:
    """A form under way. fields: by name in lower case, all of them once `read_fields` returned."""

    def __init__(self, source: BodySource, content_type: bytes) -> None:
        """Raises NoForm unless the type is multipart/form-data with a boundary."""
        kind, options = parse_options_header(decode_header(content_type))
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not boundary:
            raise NoForm()
        self.fields: dict[str, str] = {}
        self.file_name = ""
        self._source = source
        self._preface_bytes = 0
        self._in_file = False
        try:
            self._parser = PushMultipartParser(boundary, max_segment_count=FIELDS_MAX)
        except MultipartError:
            raise FormMalformed() from None
        self._events: Iterator[Event] = iter(())

    async def read_fields(self) -> None:
        """Receive up to the first byte of the file.

        Raises FormMalformed, FormTooLarge, InvalidArgument (no file, or a field twice).
        """
        left_bytes = FIELD_BYTES_MAX
        while not self._parser.closed:
            segment = await self._next()
            if segment is None:
                continue
            assert isinstance(segment, MultipartSegment), segment
            # The parser refuses a bare line feed only where it doesn't come in one piece with the
            # end of its line; read as text, it would hide a header from us.
            if any("\n" in name + value for name, value in segment.headerlist):
                raise FormMalformed()
            name = (segment.name or "").lower()
            if name == FILE:
                self.file_name = base_name(segment.filename or "")
                self._in_file = True
                return
            value = await self._read_value(left_bytes - len(name))
            left_bytes -= len(name) + len(value)
            if name in self.fields:
                raise InvalidArgument(
                    f"POST requires exactly one {name} per request.", (("ArgumentName", name),)
                )
            try:
                self.fields[name] = value.decode()
            except UnicodeDecodeError:
                raise FormMalformed() from None
        raise InvalidArgument(
            "POST requires exactly one file upload per request.", (("ArgumentName", FILE),)
        )

    async def _read_value(self, size_max_bytes: int) -> bytes:
        value = b""
        while (piece := await self.next_piece()) is not None:
            value += piece
            if len(value) > size_max_bytes:
                raise FormTooLarge(extras=(("MaxPostPreDataLengthBytes", str(FIELD_BYTES_MAX)),))
        return value

    async def next_piece(self) -> bytes | None:
        """The next bytes of the part that was begun, None at its end."""
        event = await self._next()
        assert not isinstance(event, MultipartSegment), event
        return event

    async def _next(self) -> Event:
        """The next event of the parser; None where a part, or the form, has ended."""
        try:
            while True:
                for event in self._events:
                    return event
                if self._parser.closed:
                    return None
                if self._preface_bytes > PREFACE_BYTES_MAX:
                    raise FormTooLarge()
                piece = await self._source.receive_body()
                if not self._in_file:
                    self._preface_bytes += len(piece or b"")
                self._events = self._parser.parse(bytes(piece or b""))
        except ParserLimitReached:
            raise FormTooLarge() from None
        except MultipartError:
            raise FormMalformed() from None


def base_name(path: str) -> str:
    """A file's name without the folders that some browsers send with it."""
    return path.replace("\\", "/").rpartition("/")[2]


class FilePart:
    """The file of a form as the body of an upload.

    headers: what the form says of it, as a PUT would. size_range: fewest and most bytes, or None.
    """

    content_length: int | None = None

    def __init__(
        self, form: Form, headers: list[Header], size_range: tuple[int, int] | None
    ) -> None:
        self.headers = headers
        self._form = form
        self._range = size_range
        self._pending = memoryview(b"")
        self._size_bytes = 0
        self._ended = False

    async def receive_body(self) -> bytes | memoryview | None:
        """Raises FormMalformed, EntityTooLarge, FileTooSmall."""
        if self._pending:
            piece, self._pending = self._pending, memoryview(b"")
            return piece
        if self._ended:
            return None
        received = await self._form.next_piece()
        if received is None:
            self._ended = True
        else:
            self._size_bytes += len(received)
        self._check_size()
        return received

    async def receive_body_into(self, buffer: memoryview) -> int:
        piece = await self.receive_body()
        if piece is None:
            return 0
        view = memoryview(piece)
        count = min(len(view), len(buffer))
        buffer[:count] = view[:count]
        self._pending = view[count:]
        return count

    def _check_size(self) -> None:
        if self._range is None:
            return
        fewest, most = self._range
        if self._size_bytes > most:
            raise EntityTooLarge(extras=(("MaxSizeAllowed", str(most)),))
        if self._ended and self._size_bytes < fewest:
            raise FileTooSmall(
                extras=(
                    ("ProposedSize", str(self._size_bytes)),
                    ("MinSizeAllowed", str(fewest)),
                )
            )
