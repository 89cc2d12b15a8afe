"""What comes over the network before anybody is known: heads, framing, forms."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Sequence

from s3api.chunked import AwsChunkedDecoder
from s3api.claims import PayloadMode
from s3api.errors import Refusal
from s3api.formparts import FilePart, Form
from s3api.formpolicy import parse_policy
from s3api.framing import ChunkFraming, FramingError
from s3api.httphead import HeadParser, HeadRefused, RequestHead
from s3api.httpstream import Header
from s3api.iam.calls import Parameters
from s3api.iam.query import _fields
from s3api.iam.refusals import query_failure
from tests.fuzz.registry import cut, finished, pieces, target
from tests.fuzz.signatures import NOW_S, VERIFIER
from tests.s3api.chunked_bodies import context, encode


def _read_head(parts: Sequence[bytes]) -> RequestHead | None:
    """As a connection does it: up to the empty line and no further. None for a refusal."""
    parser = HeadParser(header_count_max=16, target_size_max_bytes=1024)
    try:
        for part in parts:
            parser.feed(part)
        return parser.finish(b"".join(parts))
    except HeadRefused:
        return None


def _written(head: RequestHead) -> bytes:
    path = head.raw_path + (b"?" + head.query_string if head.query_string else b"")
    lines = [b"%s %s HTTP/%s" % (head.method.encode(), path, head.http_version.encode())]
    lines += [name + b": " + value for name, value in head.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@target()
def http_head(raw: bytes) -> None:
    """However the head comes, it is read alike; written anew, it is the same."""
    size, raw = cut(raw)
    head, end, _ = raw.partition(b"\r\n\r\n")
    found = _read_head([head + end])
    assert _read_head(pieces(head + end, size)) == found
    if found is not None and end:
        assert _read_head([_written(found)]) == found


def _unframed(make: Callable[[], ChunkFraming], parts: Sequence[bytes]) -> tuple[bytes, str]:
    """The payload and how it ended: done, open, or the refusal's name."""
    framing, found = make(), bytearray()
    try:
        for part in parts:
            for view in framing.feed(part):
                found += view
            if framing.complete and type(framing) is ChunkFraming:
                break
        if isinstance(framing, AwsChunkedDecoder):
            framing.finish()
    except (FramingError, Refusal) as refused:
        return b"", type(refused).__name__
    return bytes(found), "done" if framing.complete else "open"


@target()
def http_chunks(raw: bytes) -> None:
    """Invariant 1 of framing: any split gives the same payload and the same verdict."""
    size, raw = cut(raw)
    assert _unframed(ChunkFraming, pieces(raw, size)) == _unframed(ChunkFraming, [raw])


TRAILER = b"x-amz-checksum-crc32"
MODES = (
    PayloadMode.STREAMING,
    PayloadMode.STREAMING_TRAILER,
    PayloadMode.STREAMING_UNSIGNED_TRAILER,
)
_contexts = {mode: context(mode) for mode in MODES}


def _decoder(mode: PayloadMode, size_bytes: int, trailer: bytes | None) -> AwsChunkedDecoder:
    return AwsChunkedDecoder(_contexts[mode], size_bytes=size_bytes, trailer_name=trailer)


@target()
def aws_chunked(raw: bytes) -> None:
    """The same of aws-chunked; and no more than was announced is given."""
    chosen, raw = cut(raw)
    size, raw = cut(raw)
    mode = MODES[chosen % 3]
    trailer = None if chosen & 4 or mode is PayloadMode.STREAMING else TRAILER
    make = functools.partial(_decoder, mode, chosen >> 3, trailer)
    whole = _unframed(make, [raw])
    assert _unframed(make, pieces(raw, size)) == whole
    assert len(whole[0]) <= chosen >> 3


@target()
def aws_chunked_made(raw: bytes) -> None:
    """What a client encodes is decoded; with one byte changed it is refused, or says the same."""
    chosen, raw = cut(raw)
    place, raw = cut(raw)
    mode = MODES[chosen % 3]
    trailer = None if mode is PayloadMode.STREAMING else (TRAILER, b"AAAAAA==")
    chunks = [chunk for chunk in raw.split(b"\n") if chunk]
    payload = b"".join(chunks)
    body = bytearray(
        encode(_contexts[mode], chunks, trailer, like_minio=bool(chosen & 4 and trailer))
    )
    make = functools.partial(_decoder, mode, len(payload), trailer and trailer[0])
    assert _unframed(make, pieces(bytes(body), chosen >> 3)) == (payload, "done")
    body[place % len(body)] ^= 1 << (chosen >> 5)
    found, verdict = _unframed(make, [bytes(body)])
    if verdict == "done" and mode is not PayloadMode.STREAMING_UNSIGNED_TRAILER:
        assert found == payload


class _Source:
    """A body that comes in pieces."""

    def __init__(self, parts: list[bytes]) -> None:
        self.headers: list[Header] = []
        self.content_length: int | None = None
        self._parts = parts

    async def receive_body(self) -> bytes | None:
        return self._parts.pop(0) if self._parts else None

    async def receive_body_into(self, buffer: memoryview) -> int:
        raise NotImplementedError


def _read_form(content_type: bytes, parts: list[bytes]) -> tuple[dict[str, str], bytes] | str:
    try:
        form = Form(_Source(parts), content_type)
        finished(form.read_fields())
        part = FilePart(form, [], (1, 1000))
        file = b""
        while (piece := finished(part.receive_body())) is not None:
            file += piece
    except Refusal as refused:
        return type(refused).__name__
    return form.fields, file


@target(Refusal)
def form(raw: bytes) -> None:
    """A browser's form: content type, then the body. What is read is read alike in pieces."""
    size, raw = cut(raw)
    kind, _, body = raw.partition(b"\n")
    found = _read_form(kind, [body])
    again = _read_form(kind, pieces(body, size))
    # What stands before the first boundary, and is wrong, the parser only sees in one piece.
    if not isinstance(found, str):
        assert again == found
        VERIFIER.authenticate_policy(found[0], NOW_S)


@target(Refusal)
def form_policy(raw: bytes) -> None:
    """The policy as JSON, and encoded as it is sent."""
    text = raw.decode("latin-1")
    for encoded in (base64.b64encode(raw).decode(), text):
        try:
            policy = parse_policy(encoded)
        except Refusal:
            continue
        policy.check({"bucket": "box", "key": text, "content-type": "a,b"}, NOW_S)


@target()
def query_form(raw: bytes) -> None:
    """A form for IAM or STS."""
    try:
        call = Parameters(_fields(raw))
        call.texts("PolicyNames")
        call.tags()
        call.number("MaxItems", 100)
        for entry in call.structures("ContextEntries"):
            entry.texts("ContextKeyValues")
    except Exception as error:
        if query_failure(error) is None:
            raise
