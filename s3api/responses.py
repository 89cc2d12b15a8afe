"""What an operation answers, and how it goes out on a RequestStream.

An operation returns a `Response`: bytes that are there, or a range of an open object, which is
streamed list by list as the store reads it, never joined. The reader is closed whatever happens.

Concurrency: one task a request. Source: Amazon S3 API reference, "Common response headers".
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from s3api.errors import Failure, failure_of_head
from s3api.httpstream import Header, RequestStream
from s3api.xml import XML_HEADERS, document, error_document
from store.types import Buffer, ObjectReader, ObjectStat

HOST_ID = secrets.token_urlsafe(30)
_HOST_HEADER: Header = (b"x-amz-id-2", HOST_ID.encode())
_first_half = secrets.token_hex(4).upper()
_request_numbers = itertools.count(secrets.randbits(24))


def next_request_id() -> str:
    """16 hexadecimal digits, never the same twice."""
    return f"{_first_half}{next(_request_numbers) & 0xFFFFFFFF:08X}"


@dataclass(slots=True)
class Response:
    """status, headers (without content-length, but for HEAD), and a body of either kind.

    reader: an open object to send bytes [start, stop) of; `body` is empty then.
    """

    status: int
    headers: Sequence[Header] = ()
    body: Buffer | Sequence[Buffer] = b""
    reader: ObjectReader | None = None
    start: int = 0
    stop: int = 0


NO_CONTENT = Response(204)


def xml_response(
    root: str, parts: Iterable[str], *, status: int = 200, headers: Sequence[Header] = ()
) -> Response:
    """An XML document as answer."""
    return Response(status, [*headers, *XML_HEADERS], document(root, parts))


def error_response(failure: Failure, resource: str, request_id: str) -> Response:
    """The XML document that tells of a failure."""
    body = error_document(failure, resource, request_id, HOST_ID)
    return Response(failure.status, (*failure.headers, *XML_HEADERS), body)


def version_headers(stat: ObjectStat) -> list[Header]:
    """x-amz-version-id of what a request was about, where the bucket has versions."""
    if stat.version_id is None:
        return []
    return [(b"x-amz-version-id", stat.version_id.encode())]


def made_version(stat: ObjectStat) -> list[Header]:
    """The same of a new object: while versioning is suspended S3 says nothing of its "null"."""
    return [] if stat.version_id == "null" else version_headers(stat)


def identity_headers(request_id: str) -> tuple[Header, Header]:
    """x-amz-request-id and x-amz-id-2, which every answer has."""
    return (b"x-amz-request-id", request_id.encode()), _HOST_HEADER


def render_refused_head(status: int, reason: str) -> tuple[list[Header], bytes]:
    """`HttpConfig.render_error` of the S3 endpoint: an error document here too."""
    request_id = next_request_id()
    body = error_document(failure_of_head(status, reason), "", request_id, HOST_ID)
    return [*identity_headers(request_id), *XML_HEADERS], body


async def send(stream: RequestStream, response: Response, request_id: str) -> None:
    """Send the whole response.

    Raises ClientDisconnected, or Unrecoverable: before anything was sent if the first bytes can't
    be had; later it cuts the connection, since the length is promised.
    """
    headers = [*identity_headers(request_id), *response.headers]
    if response.reader is None:
        await stream.respond(response.status, headers, response.body)
        return
    try:
        await _send_object(stream, response, headers)
    finally:
        response.reader.close()


async def _send_object(stream: RequestStream, response: Response, headers: list[Header]) -> None:
    assert response.reader is not None
    # A generator, though the protocol only says that it can be iterated and closed.
    found = response.reader.stream(response.start, response.stop)
    headers.append((b"content-length", b"%d" % (response.stop - response.start)))
    async with aclosing(cast("AsyncGenerator[Sequence[Buffer]]", found)) as lists:
        async for pieces in lists:
            if not stream.response_started:
                await stream.start_response(response.status, headers)
            await stream.send_body(*pieces)
    await stream.end_response()
