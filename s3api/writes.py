"""Writing objects: PUT, Copy, DELETE.

Everything that headers alone can decide is decided before the first byte of a body is received;
the body is verified whole before the store publishes it (`Body.finish`). One PUT may carry as much
as an object may hold, 5 TiB; Amazon S3 wants multipart uploads beyond 5 GiB.

Concurrency: any task. Source: Amazon S3 API reference, PutObject, CopyObject, DeleteObject.
"""

from __future__ import annotations

from msgspec.structs import replace

from s3api import xml
from s3api.attributes import checksum_elements
from s3api.body import open_body
from s3api.conditions import check_copy_source, precondition_of
from s3api.errors import InvalidArgument, InvalidRequest, NotImplementedYet
from s3api.face import Face
from s3api.metadata import checksum_headers, meta_of, quoted_etag
from s3api.objects import check_version
from s3api.requests import CopySource, Request, parse_copy_source
from s3api.responses import NO_CONTENT, Response, xml_response
from store.types import ObjectMeta, ObjectStat

# Only directory buckets have these; to ignore them would delete what was not meant.
_UNKNOWN_CONDITIONS = (b"x-amz-if-match-last-modified-time", b"x-amz-if-match-size")


async def put_object(face: Face, request: Request) -> Response:
    meta = meta_of(request.headers)
    precondition = precondition_of(request)
    body = open_body(request, face.digest_limiter)
    stat = await face.namespace.objects.put(
        request.bucket, request.key, body, meta, precondition=precondition, owner=request.owner
    )
    headers = [(b"etag", quoted_etag(stat))]
    if stat.meta.checksums:
        headers += checksum_headers(stat.meta.checksums, "FULL_OBJECT")
    return Response(200, headers)


async def delete_object(face: Face, request: Request) -> Response:
    check_version(request.query.get("versionId"))
    for name in _UNKNOWN_CONDITIONS:
        if name in request.headers:
            raise NotImplementedYet(extras=(("Header", name.decode()),))
    await face.namespace.objects.delete(
        request.bucket, request.key, precondition=precondition_of(request)
    )
    return NO_CONTENT


async def copy_object(face: Face, request: Request) -> Response:
    source, stat = open_copy_source(face, request)
    meta = _copied_meta(request, stat)
    if meta is None and (source.bucket, source.key) == (request.bucket, request.key):
        raise InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself without "
            "changing the object's metadata, storage class, website redirect location or "
            "encryption attributes."
        )
    made = await face.namespace.objects.copy(
        (source.bucket, source.key),
        (request.bucket, request.key),
        meta,
        precondition=precondition_of(request, dates=True),
        source_etag=stat.etag,
        owner=request.owner,
    )
    parts = [
        xml.element("LastModified", xml.timestamp(made.modified_ns)),
        xml.element("ETag", f'"{made.etag}"'),
        checksum_elements(made.meta),
    ]
    return xml_response("CopyObjectResult", parts)


def open_copy_source(face: Face, request: Request) -> tuple[CopySource, ObjectStat]:
    """The source of a copy, authorised, and as it is now, its conditions evaluated.

    Raises InvalidArgument, AccessDenied, NoSuchBucket, NoSuchKey, PreconditionFailed.
    """
    source = parse_copy_source(request.headers[b"x-amz-copy-source"])
    face.authorize(request.auth, "s3:GetObject", source.bucket, source.key)
    face.check_owner(source.bucket, request.headers.get(b"x-amz-source-expected-bucket-owner"))
    check_version(source.version_id)
    stat = face.namespace.objects.stat(source.bucket, source.key)
    check_copy_source(request.headers, stat)
    return source, stat


def _copied_meta(request: Request, source: ObjectStat) -> ObjectMeta | None:
    """What the copy carries by the directives; None for all that the source does.

    Raises InvalidArgument, and what `meta_of` raises.
    """
    replaces_meta = _replaces(request, b"x-amz-metadata-directive")
    replaces_tags = _replaces(request, b"x-amz-tagging-directive")
    given = meta_of(request.headers)
    if not replaces_meta:
        if not replaces_tags and not given.website_redirect:
            return None
        given = replace(source.meta, website_redirect=given.website_redirect, tags=given.tags)
    tags = given.tags if replaces_tags else source.meta.tags
    return given if given.tags == tags else replace(given, tags=tags)


def _replaces(request: Request, name: bytes) -> bool:
    directive = request.text(name) or "COPY"
    if directive not in ("COPY", "REPLACE"):
        raise InvalidArgument(
            f"Unknown {name.decode().removeprefix('x-amz-')}.",
            (("ArgumentName", name.decode()), ("ArgumentValue", directive)),
        )
    return directive == "REPLACE"
