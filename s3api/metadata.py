"""Headers to `ObjectMeta` and back: content headers, user metadata, tags, checksums.

Invariants
  1. What goes out as a header is free of control characters, wherever it came from: the mount can
     set any metadata. What isn't is left out and counted in x-amz-missing-meta, as S3 does.
  2. "aws-chunked" is how a body was sent, never what an object is encoded as.

Pure functions. Source: Amazon S3 user guide, "Working with object metadata"; API reference.
"""

from __future__ import annotations

import operator
import re
from typing import Any
from urllib.parse import parse_qsl

from s3api.errors import (
    InvalidArgument,
    InvalidStorageClass,
    InvalidTag,
    MetadataTooLarge,
    NotImplementedYet,
)
from s3api.httpstream import Header
from s3api.lockheaders import LOCK_HEADERS, parse_lock
from s3api.requests import Headers, Query, decode_header
from store.types import DEFAULT_META, ObjectMeta, ObjectStat

USER_BYTES_MAX = 2048
TAGS_MAX = 10
TAG_KEY_MAX = 128
TAG_VALUE_MAX = 256
DEFAULT_TYPE = b"binary/octet-stream"

_USER_PREFIX = b"x-amz-meta-"
_FIELDS = {
    b"content-type": "content_type",
    b"content-encoding": "content_encoding",
    b"content-language": "content_language",
    b"content-disposition": "content_disposition",
    b"cache-control": "cache_control",
    b"expires": "expires",
    b"x-amz-website-redirect-location": "website_redirect",
}
_fields_of = operator.attrgetter(*_FIELDS.values())
_OVERRIDES = {
    "response-content-type": b"content-type",
    "response-content-encoding": b"content-encoding",
    "response-content-language": b"content-language",
    "response-content-disposition": b"content-disposition",
    "response-cache-control": b"cache-control",
    "response-expires": b"expires",
}
# What these ask for must not be skipped in silence.
_REFUSED = frozenset(
    (
        b"x-amz-server-side-encryption",
        b"x-amz-server-side-encryption-customer-algorithm",
        b"x-amz-server-side-encryption-customer-key",
        b"x-amz-copy-source-server-side-encryption-customer-algorithm",
        b"x-amz-copy-source-server-side-encryption-customer-key",
        b"x-amz-object-lock-event-hold",
        b"x-amz-write-offset-bytes",
    )
)
_has_control = re.compile("[\x00-\x1f\x7f\ud800-\udfff]").search
_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+", re.ASCII).fullmatch
_is_tag = re.compile(r"[\w\s+\-=.:/@]*", re.UNICODE).fullmatch

Tags = dict[str, str]


def meta_of(headers: Headers) -> ObjectMeta:
    """What the headers of a PUT, Copy or CreateMultipartUpload say of the object to be.

    Raises InvalidStorageClass, MetadataTooLarge, InvalidTag, InvalidArgument, NotImplementedYet.
    """
    fields: dict[str, Any] = {}
    user: dict[str, str] = {}
    for name, value in headers.items():
        field = _FIELDS.get(name)
        if field is not None:
            fields[field] = decode_header(value)
        elif name.startswith(_USER_PREFIX):
            user[name[len(_USER_PREFIX) :].decode("latin-1")] = decode_header(value)
    check_refused(headers)
    if user and sum(len(k.encode()) + len(v.encode()) for k, v in user.items()) > USER_BYTES_MAX:
        raise MetadataTooLarge(extras=(("MaxSizeAllowed", str(USER_BYTES_MAX)),))
    if "content_encoding" in fields:
        fields["content_encoding"] = strip_framing(fields["content_encoding"])
    tagging = headers.get(b"x-amz-tagging")
    tags = parse_tagging(decode_header(tagging)) if tagging else {}
    if not headers.keys().isdisjoint(LOCK_HEADERS):
        fields.update(parse_lock(headers)._asdict())
    if not fields and not user and not tags:
        return DEFAULT_META
    return ObjectMeta(**fields, user=user, tags=tags)


def check_refused(headers: Headers) -> None:
    """Raises InvalidStorageClass, NotImplementedYet."""
    storage_class = headers.get(b"x-amz-storage-class", b"STANDARD")
    if storage_class != b"STANDARD":
        raise InvalidStorageClass(extras=(("StorageClass", decode_header(storage_class)),))
    if not headers.keys().isdisjoint(_REFUSED):
        asked = min(_REFUSED & headers.keys())
        raise NotImplementedYet(extras=(("Header", asked.decode()),))


def strip_framing(encoding: str) -> str:
    """Content-Encoding without aws-chunked."""
    codings = [coding.strip() for coding in encoding.split(",")]
    return ", ".join(coding for coding in codings if coding and coding.lower() != "aws-chunked")


def parse_tagging(text: str) -> Tags:
    """Tags written as a query string. Raises InvalidTag, InvalidArgument."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
        if len(dict(pairs)) != len(pairs):
            raise ValueError(text)
    except ValueError:
        raise InvalidArgument(
            "The header 'x-amz-tagging' must be a query string, in UTF-8 and percent-encoded, "
            "that names each tag once",
            (("ArgumentName", "x-amz-tagging"), ("ArgumentValue", text)),
        ) from None
    return checked_tags(pairs)


def checked_tags(pairs: list[tuple[str, str]], count_max: int = TAGS_MAX) -> Tags:
    """Tags as a dictionary, if S3 allows them. Raises InvalidTag."""
    tags = dict(pairs)
    if len(tags) != len(pairs):
        raise InvalidTag("Cannot provide multiple Tags with the same key")
    if len(tags) > count_max:
        raise InvalidTag(f"There can be no more than {count_max} tags")
    for key, value in pairs:
        if key.startswith("aws:"):
            raise InvalidTag("System tags cannot be added/updated by requester")
        if not 0 < len(key) <= TAG_KEY_MAX or not _is_tag(key):
            raise InvalidTag("The TagKey you have provided is invalid")
        if len(value) > TAG_VALUE_MAX or not _is_tag(value):
            raise InvalidTag("The TagValue you have provided is invalid")
    return tags


def meta_headers(meta: ObjectMeta) -> list[Header]:
    """The headers that a GET or HEAD shows of an object."""
    if not any(_fields_of(meta)) and not meta.user and not meta.tags:
        return [(b"content-type", DEFAULT_TYPE)]
    headers: list[Header] = []
    missing = 0
    if not meta.content_type or _has_control(meta.content_type):
        headers.append((b"content-type", DEFAULT_TYPE))
    for name, field in _FIELDS.items():
        text = getattr(meta, field)
        if text and not _has_control(text):
            headers.append((name, text.encode()))
    for key, value in meta.user.items():
        if _is_token(key) and not _has_control(value):
            headers.append((_USER_PREFIX + key.encode(), value.encode()))
        else:
            missing += 1
    if missing:
        headers.append((b"x-amz-missing-meta", b"%d" % missing))
    if meta.tags:
        headers.append((b"x-amz-tagging-count", b"%d" % len(meta.tags)))
    return headers


def override(headers: list[Header], query: Query) -> list[Header]:
    """Apply the response-* parameters. Raises InvalidArgument for control characters."""
    replaced: dict[bytes, bytes] = {}
    for parameter, name in _OVERRIDES.items():
        text = query.get(parameter)
        if text is not None:
            if _has_control(text):
                raise InvalidArgument(
                    f"{parameter} must not contain control characters.",
                    (("ArgumentName", parameter),),
                )
            replaced[name] = text.encode()
    if not replaced:
        return headers
    kept = [header for header in headers if header[0] not in replaced]
    return kept + list(replaced.items())


def checksum_headers(checksums: dict[str, str], checksum_type: str) -> list[Header]:
    """x-amz-checksum-crc32 ... and x-amz-checksum-type."""
    headers = [
        (b"x-amz-checksum-" + algorithm.lower().encode(), value.encode())
        for algorithm, value in checksums.items()
        if value
    ]
    if headers and checksum_type:
        headers.append((b"x-amz-checksum-type", checksum_type.encode()))
    return headers


def quoted_etag(stat: ObjectStat) -> bytes:
    return b'"%b"' % stat.etag.encode()
