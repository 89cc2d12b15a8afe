"""A request as operations see it, and the parsing that all of them share.

`open_request` takes a head apart once: path (or host) into bucket and key, query into a dictionary,
headers into a dictionary. What each operation needs beyond is parsed by that operation from here.
HTTP's inclusive ranges exist only in this module; inside, ranges are [start, stop).

Invariants
  1. Bucket and key are the percent-decoded bytes of the target, as UTF-8, otherwise untouched:
     "//", "." and ".." are ordinary.
  2. The query is decoded by the very function signatures are verified with.

Concurrency: pure. Source: Amazon S3 API reference; RFC 9110 (14.1.2), RFC 3986.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from s3api.addressing import virtual_bucket
from s3api.claims import AuthContext
from s3api.credentials import NO_FACTS, Facts
from s3api.errors import InvalidArgument, InvalidRange, InvalidRequest, InvalidURI
from s3api.httpstream import RequestStream
from s3api.signing import join_headers
from s3api.sigv4 import parse_query

Headers = dict[bytes, bytes]
Query = dict[str, str]

_NO_QUERY: Query = {}
_SIGNING_NAMES = frozenset(
    f"x-amz-{name}"
    for name in (
        "algorithm",
        "content-sha256",
        "credential",
        "date",
        "expires",
        "security-token",
        "signature",
        "signedheaders",
    )
)
_is_range = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII).fullmatch
_is_exact_range = re.compile(r"bytes=(\d{1,19})-(\d{1,19})", re.ASCII).fullmatch


@dataclass(slots=True, kw_only=True)
class Request:
    """One request, parsed. bucket: "" for the service; key: "" for a bucket.

    auth: set once the signature holds. owner: the account that it acts for, "" for the root's.
    peer: the address that the connection is from. tags, told: what was read of the request beside
    its head and has a say in whether it is allowed: tags that it sets, None for those of its
    headers, and condition keys (lower case).
    """

    method: str
    bucket: str
    key: str
    query: Query
    headers: Headers
    stream: RequestStream
    scheme: str
    auth: AuthContext
    owner: str = ""
    peer: str = ""
    tags: dict[str, str] | None = None
    told: Facts = field(default_factory=lambda: NO_FACTS)

    def text(self, name: bytes) -> str:
        """A header's value; UTF-8, else Latin-1. "" where it is absent."""
        value = self.headers.get(name)
        return decode_header(value) if value else ""

    def version(self) -> str | None:
        """The version that is asked for; None for the current one. Raises InvalidArgument."""
        version_id = self.query.get("versionId")
        if version_id == "":
            raise _empty_version()
        return version_id

    def limit(self, name: str, highest: int) -> int:
        """A max-keys, max-parts ... parameter: at most `highest`, which is the default too.

        Raises InvalidArgument for what is no number of zero or more.
        """
        text = self.query.get(name)
        if not text:
            return highest
        return min(parse_count(name, text), highest)


def _empty_version() -> InvalidArgument:
    return InvalidArgument(
        "Version id cannot be the empty string", (("ArgumentName", "versionId"),)
    )


def parse_count(name: str, text: str) -> int:
    """A decimal number of zero or more. Raises InvalidArgument, naming the parameter."""
    if text.isascii() and text.isdecimal() and len(text) < 19:
        return int(text)
    raise InvalidArgument(
        f"Provided {name} not an integer or within integer range",
        (("ArgumentName", name), ("ArgumentValue", text)),
    )


ANONYMOUS = AuthContext(access_key="")


def open_request(stream: RequestStream, scheme: str, domains: Sequence[bytes] = ()) -> Request:
    """Take the head apart. domains: lower case; a host `<bucket>.<domain>` names its bucket.

    Raises InvalidURI, InvalidArgument; nothing is authenticated yet.
    """
    headers = dict(stream.headers)
    if len(headers) != len(stream.headers):
        headers = join_headers(stream.headers)
    query_string = stream.query_string
    query = dict(parse_query(query_string)) if query_string else _NO_QUERY
    raw_path = stream.raw_path
    bucket = virtual_bucket(headers.get(b"host", b""), domains) if domains else b""
    if bucket:
        raw_key = raw_path[1:]
    else:
        bucket, _, raw_key = raw_path[1:].partition(b"/")
    return Request(
        method=stream.method,
        bucket=decode_path(bucket),
        key=decode_path(raw_key) if raw_key else "",
        query=query,
        headers=headers,
        stream=stream,
        scheme=scheme,
        auth=ANONYMOUS,
    )


def adopt_query_headers(request: Request) -> None:
    """Let x-amz-* parameters of a presigned URL count as the headers they stand for.

    Some SDKs put them there when they presign. They are signed with the rest of the query; a
    header of the same name goes before them, and is signed too.
    """
    for name, value in request.query.items():
        lower = name.lower()
        if lower.startswith("x-amz-") and lower not in _SIGNING_NAMES:
            request.headers.setdefault(lower.encode(), value.encode())


def check_anonymous_query(query: Query) -> None:
    """Nobody may choose the headers of an answer by a link that nobody signed.

    Raises InvalidRequest for the response-* parameters.
    """
    if any(name.startswith("response-") for name in query):
        raise InvalidRequest(
            "Request specific response headers cannot be used for anonymous GET requests."
        )


def decode_path(raw: bytes) -> str:
    """Percent-decoded UTF-8. Raises InvalidURI."""
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidURI() from None


def decode_header(value: bytes) -> str:
    """Headers are bytes; most clients mean UTF-8, old ones Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of a Range header in an object of `size` bytes; None to ignore the header.

    What is no single byte range is ignored, as RFC 9110 wants it. Raises InvalidRange for one
    that lies outside.
    """
    match = _is_range(text)
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start = int(first)
        if last and int(last) < start:
            return None
        stop = min(int(last) + 1, size) if last else size
    elif last:
        start, stop = max(0, size - int(last)), size
    else:
        return None
    if start >= stop:
        raise InvalidRange(text, size)
    return start, stop


def parse_copy_range(text: str, size: int) -> tuple[int, int]:
    """[start, stop) of x-amz-copy-source-range, which must lie within the source's `size`.

    Raises InvalidArgument for another form, InvalidRange beyond the end.
    """
    match = _is_exact_range(text)
    if match is None or int(match[1]) > int(match[2]):
        raise InvalidArgument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy.",
            (("ArgumentName", "x-amz-copy-source-range"), ("ArgumentValue", text)),
        )
    start, stop = int(match[1]), int(match[2]) + 1
    if stop > size:
        raise InvalidRange(text, size)
    return start, stop


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """What x-amz-copy-source names. version_id: None for the current version."""

    bucket: str
    key: str
    version_id: str | None


def parse_copy_source(value: bytes) -> CopySource:
    """bucket/key?versionId=id, percent-encoded, with or without a slash in front.

    Raises InvalidArgument.
    """
    path, versioned, version = value.partition(b"?versionId=")
    try:
        bucket, _, key = decode_path(path).removeprefix("/").partition("/")
        version_id = decode_path(version)
    except InvalidURI:
        bucket = key = version_id = ""
    if not bucket or not key:
        raise InvalidArgument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            (("ArgumentName", "x-amz-copy-source"),),
        )
    if versioned and not version_id:
        raise _empty_version()
    return CopySource(bucket=bucket, key=key, version_id=version_id or None)
