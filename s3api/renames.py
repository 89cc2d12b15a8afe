"""RenameObject: a key becomes another one of its bucket, in one step and without moving bytes.

Amazon S3 has it for directory buckets only; here every bucket is one in that sense. Conditions on
ETags are decided by the store in the transaction that renames. Those on dates are evaluated before,
and what they were evaluated on must still be there then.

Concurrency: any task. Source: Amazon S3 API reference, RenameObject.
"""

from __future__ import annotations

from s3api.conditions import Verdict, evaluate, precondition_of
from s3api.errors import InvalidArgument, InvalidRequest, PreconditionFailed
from s3api.face import Face
from s3api.requests import Request, decode_path
from s3api.responses import Response
from store.errors import NoSuchKey
from store.types import ANY, Precondition

SOURCE = b"x-amz-rename-source"
_SOURCE_PREFIX = SOURCE + b"-"
_CONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
_DATES = _CONDITIONS[2:]


async def rename_object(face: Face, request: Request) -> Response:
    source = parse_source(request.headers.get(SOURCE, b""), request.bucket)
    for action in ("s3:GetObject", "s3:DeleteObject"):
        face.authorize(request, action, request.bucket, source)
    if source == request.key:
        raise InvalidRequest("The source and the target of a rename are the same key.")
    await face.namespace.objects.rename(
        request.bucket,
        source,
        request.key,
        precondition=_target_precondition(face, request),
        source_precondition=_source_precondition(face, request, source),
        maker=request.auth.maker,
    )
    return Response(200)


def parse_source(value: bytes, bucket: str) -> str:
    """The key that x-amz-rename-source names: bucket/key, percent-encoded, this bucket's.

    Raises InvalidArgument, InvalidURI.
    """
    named, _, key = decode_path(value).removeprefix("/").partition("/")
    if named != bucket or not key:
        raise InvalidArgument(
            "x-amz-rename-source must name a key of the same bucket, as bucket/key",
            (("ArgumentName", SOURCE.decode()),),
        )
    return key


def _source_precondition(face: Face, request: Request, source: str) -> Precondition:
    """Raises PreconditionFailed, NoSuchKey."""
    if not any(_SOURCE_PREFIX + name in request.headers for name in _CONDITIONS):
        return ANY
    stat = face.namespace.objects.stat(request.bucket, source)
    verdict, name = evaluate(request.headers, stat, _SOURCE_PREFIX)
    if verdict is not Verdict.PROCEED:
        raise PreconditionFailed(extras=(("Condition", _SOURCE_PREFIX.decode() + name),))
    return Precondition(if_match=(stat.etag,))


def _target_precondition(face: Face, request: Request) -> Precondition:
    """Raises PreconditionFailed."""
    precondition = precondition_of(request, dates=True)
    if not any(name in request.headers for name in _DATES):
        return precondition
    try:
        stat = face.namespace.objects.stat(request.bucket, request.key)
    except NoSuchKey:
        return precondition
    verdict, name = evaluate({n: v for n, v in request.headers.items() if n in _DATES}, stat)
    if verdict is not Verdict.PROCEED:
        raise PreconditionFailed(extras=(("Condition", name),))
    return Precondition(
        if_match=precondition.if_match or (stat.etag,), if_none_match=precondition.if_none_match
    )
