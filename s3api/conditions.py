"""If-Match and its kin: on reads, on copy sources, and as preconditions of writes.

Reads are evaluated here, against the object that was opened: header and bytes are of one version.
Writes are evaluated by the store, in the transaction that publishes; here they are only parsed.

Pure functions. Source: RFC 9110, 13.1 and 13.2.2 (precedence); 8.8.3 (comparison of ETags).
"""

from __future__ import annotations

import enum

from s3api.dates import parse_http_date
from s3api.errors import InvalidArgument, NotImplementedYet, PreconditionFailed
from s3api.requests import Headers, Request, parse_count
from store.types import ANY, ObjectStat, Precondition

_WRITE_DATES = (b"if-modified-since", b"if-unmodified-since")
_IF_SIZE = b"x-amz-if-match-size"
_IF_TIME = b"x-amz-if-match-last-modified-time"


class Verdict(enum.Enum):
    """What the conditions of a read say: go on, 304, or 412."""

    PROCEED = 200
    NOT_MODIFIED = 304
    FAILED = 412


def evaluate(headers: Headers, stat: ObjectStat, prefix: bytes = b"") -> tuple[Verdict, str]:
    """The verdict and, where it isn't PROCEED, the name of the header it is due to.

    prefix: "x-amz-copy-source-" for those of a copy's source.
    """
    modified_s = stat.modified_ns // 1_000_000_000
    if_match = headers.get(prefix + b"if-match")
    if if_match is not None:
        if not _matches(if_match, stat.etag, weak=False):
            return Verdict.FAILED, "If-Match"
    else:
        limit_s = parse_http_date(headers.get(prefix + b"if-unmodified-since"))
        if limit_s is not None and modified_s > limit_s:
            return Verdict.FAILED, "If-Unmodified-Since"
    if_none_match = headers.get(prefix + b"if-none-match")
    if if_none_match is not None:
        if _matches(if_none_match, stat.etag, weak=True):
            return Verdict.NOT_MODIFIED, "If-None-Match"
    else:
        since_s = parse_http_date(headers.get(prefix + b"if-modified-since"))
        if since_s is not None and modified_s <= since_s:
            return Verdict.NOT_MODIFIED, "If-Modified-Since"
    return Verdict.PROCEED, ""


def check_copy_source(headers: Headers, stat: ObjectStat) -> None:
    """The x-amz-copy-source-if-* headers. Raises PreconditionFailed for either failure."""
    verdict, name = evaluate(headers, stat, b"x-amz-copy-source-")
    if verdict is not Verdict.PROCEED:
        raise PreconditionFailed(extras=(("Condition", f"x-amz-copy-source-{name}"),))


def range_applies(if_range: bytes | None, stat: ObjectStat) -> bool:
    """If-Range: whether the Range header counts. Source: RFC 9110, 13.1.5."""
    if if_range is None:
        return True
    if if_range.startswith((b'"', b"W/")):
        return _matches(if_range, stat.etag, weak=False)
    return parse_http_date(if_range) == stat.modified_ns // 1_000_000_000


def precondition_of(request: Request, *, dates: bool = False) -> Precondition:
    """If-Match and If-None-Match of a write.

    dates: whether conditions on dates may be there (and mean nothing), as on a copy. Raises
    NotImplementedYet for them otherwise: ignoring a condition would lose somebody's update.
    """
    headers = request.headers
    if not dates:
        for name in _WRITE_DATES:
            if name in headers:
                raise NotImplementedYet(extras=(("Header", name.decode()),))
    if_match = headers.get(b"if-match")
    if_none_match = headers.get(b"if-none-match")
    if if_match is None and if_none_match is None:
        return ANY
    return Precondition(
        if_match=_etags(if_match, weak=False), if_none_match=_etags(if_none_match, weak=True)
    )


def deletion_precondition(request: Request) -> Precondition:
    """The conditions of DeleteObject: If-Match, size, time of last modification.

    Raises InvalidArgument, NotImplementedYet.
    """
    precondition = precondition_of(request)
    headers = request.headers
    if _IF_SIZE not in headers and _IF_TIME not in headers:
        return precondition
    size = request.text(_IF_SIZE)
    modified_s = None
    if _IF_TIME in headers:
        modified_s = parse_http_date(headers[_IF_TIME])
        if modified_s is None:
            raise InvalidArgument(
                "The time is not an HTTP date.",
                (("ArgumentName", _IF_TIME.decode()), ("ArgumentValue", request.text(_IF_TIME))),
            )
    return Precondition(
        if_match=precondition.if_match,
        if_none_match=precondition.if_none_match,
        if_match_size=parse_count(_IF_SIZE.decode(), size) if size else None,
        if_match_modified_ns=None if modified_s is None else modified_s * 1_000_000_000,
    )


def _matches(listed: bytes, etag: str, *, weak: bool) -> bool:
    tags = _etags(listed, weak=weak)
    return "*" in tags or etag in tags


def _etags(listed: bytes | None, *, weak: bool) -> tuple[str, ...]:
    """The ETags of a header, unquoted; S3's clients often send them without quotes.

    weak: whether W/"x" counts as "x"; if not it becomes a tag that nothing has.
    """
    if listed is None:
        return ()
    tags = []
    for part in listed.decode("latin-1").split(","):
        tag = part.strip()
        if tag.startswith("W/") and weak:
            tag = tag[2:]
        tags.append(tag.strip('"'))
    return tuple(tags)
