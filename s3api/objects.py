"""Reading objects: GET, HEAD.

GET and HEAD share one function that turns an object's stat and a request's conditions, range, part
number and overrides into a status, headers and [start, stop). GET opens first and decides on what
it opened, so header and bytes are of one version.

Concurrency: any task. Source: Amazon S3 API reference; RFC 9110 (13, 14, 15.4.5).
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from s3api.conditions import Verdict, evaluate, range_applies
from s3api.dates import http_date
from s3api.errors import (
    InvalidArgument,
    InvalidPartNumber,
    InvalidRequest,
    PreconditionFailed,
)
from s3api.face import Face
from s3api.httpstream import Header
from s3api.lockheaders import lock_headers
from s3api.metadata import checksum_headers, meta_headers, override
from s3api.requests import Request, parse_count, parse_range
from s3api.responses import Response
from store.types import ObjectMeta, ObjectStat

# Larger reads go through the store's read-ahead, so that no answer is held in memory whole.
NOWAIT_SIZE_BYTES = 1 << 20
_ACCEPT_RANGES: Header = (b"accept-ranges", b"bytes")
_VERSION_ID = b"x-amz-version-id"
_NOT_MODIFIED_KEEPS = (b"cache-control", b"expires", b"etag", b"last-modified", _VERSION_ID)


class _Selection(NamedTuple):
    """What of an object is sent, and how it is headed."""

    status: int
    headers: list[Header]
    start: int
    stop: int


async def get_object(face: Face, request: Request) -> Response:
    reader = face.namespace.objects.open(request.bucket, request.key, request.version())
    try:
        status, headers, start, stop = _select(face, request, reader.stat)
        if stop - start > NOWAIT_SIZE_BYTES:
            return Response(status, headers, b"", reader, start, stop)
        pieces = reader.read_nowait(start, stop) if start < stop else []
        if pieces is None:
            return Response(status, headers, b"", reader, start, stop)
    except BaseException:
        reader.close()
        raise
    reader.close()
    return Response(status, headers, pieces)


async def head_object(face: Face, request: Request) -> Response:
    stat = face.namespace.objects.stat(request.bucket, request.key, request.version())
    status, headers, start, stop = _select(face, request, stat)
    if status != 304:
        headers.append((b"content-length", b"%d" % (stop - start)))
    return Response(status, headers)


def _shown_lock(face: Face, request: Request, meta: ObjectMeta) -> ObjectMeta:
    """The metadata with as much of its lock as the caller may see."""
    if meta.lock_mode and not face.allows(request, "s3:GetObjectRetention", *_named(request)):
        meta = replace(meta, lock_mode="")
    if meta.legal_hold and not face.allows(request, "s3:GetObjectLegalHold", *_named(request)):
        meta = replace(meta, legal_hold=False)
    return meta


def _named(request: Request) -> tuple[str, str]:
    return request.bucket, request.key


def _tagging_action(request: Request) -> str:
    return f"s3:GetObject{'Version' if 'versionId' in request.query else ''}Tagging"


def _select(face: Face, request: Request, stat: ObjectStat) -> _Selection:
    """Raises PreconditionFailed, InvalidRange, InvalidPartNumber, InvalidRequest."""
    meta = stat.meta
    if meta.tags and not face.allows(request, _tagging_action(request), *_named(request)):
        # How many tags there are is for those to see who may read them.
        meta = replace(meta, tags={})
    headers = [
        (b"etag", b'"%b"' % stat.etag.encode()),
        (b"last-modified", http_date(stat.modified_ns)),
        _ACCEPT_RANGES,
        *meta_headers(meta),
    ]
    if stat.version_id is not None:
        headers.append((_VERSION_ID, stat.version_id.encode()))
    if meta.lock_mode or meta.legal_hold:
        headers += lock_headers(_shown_lock(face, request, meta))
    query = request.query
    if query:
        headers = override(headers, query)
    incoming = request.headers
    verdict, name = evaluate(incoming, stat)
    if verdict is Verdict.FAILED:
        raise PreconditionFailed(extras=(("Condition", name),))
    if verdict is Verdict.NOT_MODIFIED:
        kept = [header for header in headers if header[0] in _NOT_MODIFIED_KEEPS]
        return _Selection(304, kept, 0, 0)
    ranged = incoming.get(b"range")
    part_number = query.get("partNumber")
    wants_checksum = _wants_checksum(incoming.get(b"x-amz-checksum-mode"))
    if part_number:
        if ranged is not None:
            raise InvalidRequest("Cannot specify both Range header and partNumber query parameter")
        return _select_part(stat, headers, part_number, wants_checksum)
    if ranged is not None and range_applies(incoming.get(b"if-range"), stat):
        chosen = parse_range(ranged.decode("latin-1"), stat.size)
        if chosen is not None:
            if wants_checksum and chosen == (0, stat.size):
                headers += checksum_headers(meta.checksums, meta.checksum_type or "FULL_OBJECT")
            return _partial(stat, headers, *chosen)
    if wants_checksum:
        headers += checksum_headers(meta.checksums, meta.checksum_type or "FULL_OBJECT")
    return _Selection(200, headers, 0, stat.size)


def _wants_checksum(mode: bytes | None) -> bool:
    """Raises InvalidRequest."""
    if mode is not None and mode.upper() != b"ENABLED":
        raise InvalidRequest("Value for x-amz-checksum-mode header is invalid.")
    return mode is not None


def _partial(stat: ObjectStat, headers: list[Header], start: int, stop: int) -> _Selection:
    last = max(stop - 1, 0)
    headers.append((b"content-range", b"bytes %d-%d/%d" % (start, last, stat.size)))
    return _Selection(206, headers, start, stop)


def _select_part(
    stat: ObjectStat, headers: list[Header], part_number: str, wants_checksum: bool
) -> _Selection:
    """One part as it was uploaded; an object that is not multipart is its own part 1."""
    number = parse_part_number(part_number)
    sizes = stat.meta.part_sizes
    if not sizes:
        if number != 1:
            raise InvalidPartNumber(extras=(("PartNumberRequested", part_number),))
        if wants_checksum:
            headers += checksum_headers(stat.meta.checksums, "FULL_OBJECT")
        if stat.size == 0:
            return _Selection(200, headers, 0, 0)
        return _partial(stat, headers, 0, stat.size)
    if number > len(sizes):
        raise InvalidPartNumber(
            extras=(("PartNumberRequested", part_number), ("ActualPartCount", str(len(sizes))))
        )
    index = number - 1
    stop = sum(sizes[:number])
    if wants_checksum and stat.meta.part_checksums:
        algorithm = next(iter(stat.meta.checksums))
        checksums = {algorithm: stat.meta.part_checksums[index]}
        headers += checksum_headers(checksums, stat.meta.checksum_type)
    headers.append((b"x-amz-mp-parts-count", b"%d" % len(sizes)))
    return _partial(stat, headers, stop - sizes[index], stop)


def parse_part_number(text: str) -> int:
    """1 to 10,000. Raises InvalidArgument."""
    number = parse_count("partNumber", text)
    if not 1 <= number <= 10_000:
        raise InvalidArgument(
            "Part number must be an integer between 1 and 10000, inclusive",
            (("ArgumentName", "partNumber"), ("ArgumentValue", text)),
        )
    return number
