"""Writing objects: PUT, Copy, DELETE.

Everything that headers alone can decide is decided before the first byte of a body is received;
the body is verified whole before the store publishes it (`Body.finish`). One PUT may carry as much
as an object may hold, 5 TiB; Amazon S3 wants multipart uploads beyond 5 GiB.

Concurrency: any task. Source: Amazon S3 API reference, PutObject, CopyObject, DeleteObject.
"""

from __future__ import annotations

from msgspec.structs import replace

from s3api import xml
from s3api.aclroutes import owned_meta
from s3api.attributes import checksum_elements
from s3api.body import open_body
from s3api.checksums import COMPOSITE, find_algorithm
from s3api.conditions import check_copy_source, deletion_precondition, precondition_of
from s3api.copydigests import checksum_of
from s3api.errors import InvalidArgument, InvalidRequest, PreconditionFailed
from s3api.face import Face
from s3api.httpstream import Header
from s3api.lockheaders import require_digest
from s3api.locks import bypasses_governance
from s3api.metadata import checksum_headers, meta_of, quoted_etag
from s3api.requests import CopySource, Request, parse_copy_source
from s3api.responses import NO_CONTENT, Response, made_version, xml_response
from store.errors import KeyDeleted, NoSuchBucket, NoSuchKey, NotFound, VersionIsMarker
from store.types import ANY, ObjectMeta, ObjectStat, Precondition


async def put_object(face: Face, request: Request) -> Response:
    meta = meta_of(request.headers)
    if meta.lock_mode or meta.legal_hold:
        require_digest(request)
        authorize_lock(face, request, meta)
    precondition = precondition_of(request)
    meta = owned_meta(face, request, meta)
    authorize_tags(face, request)
    body = open_body(request, face.digest_threads)
    stat = await face.namespace.objects.put(
        request.bucket, request.key, body, meta, precondition=precondition, maker=request.auth.maker
    )
    headers = [(b"etag", quoted_etag(stat))]
    if stat.version_id is not None:
        headers += made_version(stat)
    if stat.meta.checksums:
        headers += checksum_headers(stat.meta.checksums, "FULL_OBJECT")
    return Response(200, headers)


async def delete_object(face: Face, request: Request) -> Response:
    precondition = deletion_precondition(request)
    try:
        deletion = await face.namespace.objects.delete(
            request.bucket,
            request.key,
            version=request.version(),
            bypass=bypasses_governance(face, request, request.key),
            precondition=precondition,
        )
    except NoSuchKey:
        check_missing(face, request.bucket, request.key, precondition)
        return NO_CONTENT
    if deletion.version_id is None:
        return NO_CONTENT
    headers = [(b"x-amz-version-id", deletion.version_id.encode())]
    if deletion.marker:
        headers.append((b"x-amz-delete-marker", b"true"))
    return Response(204, headers)


def check_missing(face: Face, bucket: str, key: str, precondition: Precondition) -> None:
    """A conditional delete found no object: as nothing is left to delete, all is well.

    But a delete marker has neither ETag nor size. Raises PreconditionFailed.
    """
    try:
        face.namespace.objects.stat(bucket, key)
    except KeyDeleted:
        if precondition != Precondition(if_match=("*",)):
            raise PreconditionFailed(extras=(("Condition", "If-Match"),)) from None
    except NotFound:
        return


async def copy_object(face: Face, request: Request) -> Response:
    source, stat = open_copy_source(face, request)
    meta = _copied_meta(face, request, stat)
    onto_itself = (source.bucket, source.key) == (request.bucket, request.key)
    # An older version that is copied over the newest is how one goes back to it.
    if meta is None and onto_itself and source.version_id is None:
        raise InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself without "
            "changing the object's metadata, storage class, website redirect location or "
            "encryption attributes."
        )
    meta = _shared_meta(face, request, meta, source, stat)
    checksums = await _asked_checksum(face, request, source, stat)
    made = await face.namespace.objects.copy(
        (source.bucket, source.key),
        (request.bucket, request.key),
        meta,
        precondition=precondition_of(request, dates=True),
        source_etag=stat.etag,
        checksums=checksums,
        source_version=source.version_id,
        maker=request.auth.maker,
    )
    parts = [
        xml.element("LastModified", xml.timestamp(made.modified_ns)),
        xml.element("ETag", f'"{made.etag}"'),
        checksum_elements(made.meta),
    ]
    headers = [*copied_version(stat), *made_version(made)]
    return xml_response("CopyObjectResult", parts, headers=headers)


async def _asked_checksum(
    face: Face, request: Request, source: CopySource, stat: ObjectStat
) -> dict[str, str] | None:
    """The checksum that the copy is to have instead of its source's: None if none was asked for.

    Raises InvalidRequest.
    """
    name = request.text(b"x-amz-checksum-algorithm")
    if not name:
        return None
    algorithm = find_algorithm(name)
    known = stat.meta.checksums.get(algorithm.name)
    if known is None or stat.meta.checksum_type == COMPOSITE:
        # The copy itself is refused if this is not the object whose conditions were checked.
        reader = face.namespace.objects.open(source.bucket, source.key, source.version_id)
        known = await checksum_of(reader, algorithm, face.digest_threads.limiter)
    return {algorithm.name: known}


def open_copy_source(face: Face, request: Request) -> tuple[CopySource, ObjectStat]:
    """The source of a copy, authorised, and as it is now, its conditions evaluated.

    Raises InvalidArgument, AccessDenied, NoSuchBucket, NoSuchKey, PreconditionFailed.
    """
    source = parse_copy_source(request.headers[b"x-amz-copy-source"])
    action = "s3:GetObject" if source.version_id is None else "s3:GetObjectVersion"
    face.authorize(request, action, source.bucket, source.key, source.version_id or "")
    face.check_owner(source.bucket, request.headers.get(b"x-amz-source-expected-bucket-owner"))
    try:
        stat = face.namespace.objects.stat(source.bucket, source.key, source.version_id)
    except VersionIsMarker:
        raise InvalidRequest(
            "The source of a copy request may not specifically refer to a delete marker by "
            "version id."
        ) from None
    check_copy_source(request.headers, stat)
    return source, stat


def copied_version(source: ObjectStat) -> list[Header]:
    """Which version a copy was made of, where the source's bucket has versions."""
    if source.version_id is None:
        return []
    return [(b"x-amz-copy-source-version-id", source.version_id.encode())]


def check_target(face: Face, request: Request) -> None:
    """If-Match and If-None-Match of CreateMultipartUpload, which promise nothing for later.

    What Complete would refuse if it came now is refused before a byte is sent; Complete has
    conditions of its own. Raises PreconditionFailed, NoSuchBucket, NoSuchKey.
    """
    precondition = precondition_of(request)
    if precondition is ANY:
        return
    try:
        etag = face.namespace.objects.stat(request.bucket, request.key).etag
    except NoSuchBucket:
        raise
    except NotFound:
        if precondition.if_match:
            raise
        return
    if precondition.if_match and not {"*", etag} & {*precondition.if_match}:
        raise PreconditionFailed(extras=(("Condition", "If-Match"),))
    if {"*", etag} & {*precondition.if_none_match}:
        raise PreconditionFailed(extras=(("Condition", "If-None-Match"),))


def authorize_tags(face: Face, request: Request) -> None:
    """Whether the sender may tag what it uploads, if it does. Raises AccessDenied."""
    if request.tags or request.headers.get(b"x-amz-tagging"):
        face.authorize(request, "s3:PutObjectTagging", request.bucket, request.key)


def authorize_lock(face: Face, request: Request, meta: ObjectMeta) -> None:
    """Whether the sender may lock what it uploads. Raises AccessDenied."""
    if meta.lock_mode:
        face.authorize(request, "s3:PutObjectRetention", request.bucket, request.key)
    if meta.legal_hold:
        face.authorize(request, "s3:PutObjectLegalHold", request.bucket, request.key)


def _copied_meta(face: Face, request: Request, source: ObjectStat) -> ObjectMeta | None:
    """What the copy carries by the directives; None for all that the source does.

    Locks stay with the version they were put on.

    Raises InvalidArgument, and what `meta_of` raises.
    """
    replaces_meta = _replaces(request, b"x-amz-metadata-directive")
    replaces_tags = _replaces(request, b"x-amz-tagging-directive")
    given = meta_of(request.headers)
    locks = bool(given.lock_mode or given.legal_hold)
    if locks:
        authorize_lock(face, request, given)
    if not replaces_meta:
        if not replaces_tags and not given.website_redirect and not locks:
            return None
        given = replace(
            source.meta,
            website_redirect=given.website_redirect,
            tags=given.tags,
            lock_mode=given.lock_mode,
            lock_until_ns=given.lock_until_ns,
            legal_hold=given.legal_hold,
        )
    tags = given.tags if replaces_tags else source.meta.tags
    return given if given.tags == tags else replace(given, tags=tags)


def _shared_meta(
    face: Face, request: Request, meta: ObjectMeta | None, source: CopySource, stat: ObjectStat
) -> ObjectMeta | None:
    """The same with the copy's own owner and ACL, and the sender asked about its tags.

    Tags that come along are read and written. Raises what `owned_meta` raises, AccessDenied.
    """
    tags = stat.meta.tags if meta is None else meta.tags
    if tags:
        face.authorize(request, "s3:PutObjectTagging", request.bucket, request.key)
        if not _replaces(request, b"x-amz-tagging-directive"):
            version = "Version" if source.version_id else ""
            action = f"s3:GetObject{version}Tagging"
            face.authorize(request, action, source.bucket, source.key, source.version_id or "")
    kept = replace(stat.meta, lock_mode="", lock_until_ns=0, legal_hold=False)
    made = owned_meta(face, request, kept if meta is None else meta)
    return None if meta is None and made == kept else made


def _replaces(request: Request, name: bytes) -> bool:
    directive = request.text(name) or "COPY"
    if directive not in ("COPY", "REPLACE"):
        raise InvalidArgument(
            f"Unknown {name.decode().removeprefix('x-amz-')}.",
            (("ArgumentName", name.decode()), ("ArgumentValue", directive)),
        )
    return directive == "REPLACE"
