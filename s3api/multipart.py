"""Multipart uploads: create, upload and copy parts, abort.

A part's checksum is computed with the upload's algorithm whether or not the client sent it, so the
whole object's can be combined at Complete without reading a byte (`s3api.completion`). Parts of an
upload that chose no algorithm have the default one's, and beside it the one they were sent with.

Concurrency: any task. Source: Amazon S3 API reference, CreateMultipartUpload, UploadPart,
UploadPartCopy, AbortMultipartUpload.
"""

from __future__ import annotations

from msgspec.structs import replace

from s3api import checksums
from s3api.aclroutes import owned_meta
from s3api.body import open_part
from s3api.copydigests import CopyDigests
from s3api.dates import parse_http_date
from s3api.errors import InvalidRequest, PreconditionFailed
from s3api.face import Face
from s3api.metadata import check_refused, checksum_headers, meta_of
from s3api.objects import parse_part_number
from s3api.requests import Request, parse_copy_range
from s3api.responses import NO_CONTENT, Response, xml_response
from s3api.writes import (
    authorize_lock,
    authorize_tags,
    check_target,
    copied_version,
    open_copy_source,
)
from s3api.xml import element, timestamp
from store.access.principals import Kind
from store.types import ObjectMeta, Part, Upload

_INITIATED = b"x-amz-if-match-initiated-time"


async def create_upload(face: Face, request: Request) -> Response:
    meta = _with_algorithm(request, meta_of(request.headers))
    authorize_lock(face, request, meta)
    authorize_tags(face, request)
    meta = owned_meta(face, request, meta)
    check_target(face, request)
    headers = [
        *((b"x-amz-checksum-algorithm", name.encode()) for name in meta.checksums),
        *((b"x-amz-checksum-type", meta.checksum_type.encode()) for _ in meta.checksums),
    ]
    upload_id = await face.namespace.uploads.create(
        request.bucket, request.key, meta, initiator_of(request)
    )
    parts = [
        element("Bucket", request.bucket),
        element("Key", request.key),
        element("UploadId", upload_id),
    ]
    return xml_response("InitiateMultipartUploadResult", parts, headers=headers)


def initiator_of(request: Request) -> str:
    """Who begins an upload: the ARN of a user or session, else the account's owner string."""
    principal = request.auth.access.principal
    is_inner = principal.kind not in (Kind.ROOT, Kind.ANONYMOUS)
    return principal.arn if is_inner else request.owner


def _with_algorithm(request: Request, meta: ObjectMeta) -> ObjectMeta:
    """The checksum algorithm and type that the parts and the object are to have.

    Raises InvalidRequest.
    """
    name = request.text(b"x-amz-checksum-algorithm")
    asked_type = request.text(b"x-amz-checksum-type")
    if not name:
        if asked_type:
            raise InvalidRequest(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm "
                "header."
            )
        return meta
    algorithm = checksums.find_algorithm(name)
    # The value is not known yet; the name tells the parts what to compute.
    return replace(
        meta,
        checksums={algorithm.name: ""},
        checksum_type=checksums.check_type(algorithm, asked_type),
    )


def find_upload(face: Face, request: Request) -> Upload:
    """The upload that uploadId names. Raises NoSuchUpload."""
    return face.namespace.uploads.get(request.bucket, request.key, request.query["uploadId"])


def algorithm_of(upload: Upload) -> str:
    """The checksum algorithm that the upload was created with, "" if with none."""
    return next(iter(upload.meta.checksums), "")


def told_checksums(part: Part) -> dict[str, str]:
    """Of a part's checksums the one that clients know it by: what they sent, else the default."""
    return dict(list(part.checksums.items())[:1])


async def upload_part(face: Face, request: Request) -> Response:
    number = parse_part_number(request.query.get("partNumber", ""))
    check_refused(request.headers)
    upload = find_upload(face, request)
    body = open_part(request, face.digest_threads, algorithm_of(upload))
    part = await face.namespace.uploads.put_part(
        request.bucket, request.key, upload.id, number, body
    )
    checksum = checksum_headers(told_checksums(part), "")
    return Response(200, [(b"etag", b'"%b"' % part.etag.encode()), *checksum])


async def upload_part_copy(face: Face, request: Request) -> Response:
    number = parse_part_number(request.query.get("partNumber", ""))
    check_refused(request.headers)
    upload = find_upload(face, request)
    source, stat = open_copy_source(face, request)
    ranged = request.text(b"x-amz-copy-source-range")
    start, stop = parse_copy_range(ranged, stat.size) if ranged else (0, stat.size)
    part = await face.namespace.uploads.copy_part(
        request.bucket,
        request.key,
        upload.id,
        number,
        (source.bucket, source.key),
        start,
        stop,
        source_etag=stat.etag,
        digester=CopyDigests(face.digest_threads.limiter, algorithm_of(upload)),
        source_version=source.version_id,
    )
    parts = [
        element("LastModified", timestamp(part.modified_ns)),
        element("ETag", f'"{part.etag}"'),
        *(element(f"Checksum{name}", value) for name, value in told_checksums(part).items()),
    ]
    return xml_response("CopyPartResult", parts, headers=copied_version(stat))


async def abort_upload(face: Face, request: Request) -> Response:
    initiated = request.headers.get(_INITIATED)
    if initiated is not None:
        upload = find_upload(face, request)
        if parse_http_date(initiated) != upload.initiated_ns // 1_000_000_000:
            raise PreconditionFailed(extras=(("Condition", _INITIATED.decode()),))
    await face.namespace.uploads.abort(request.bucket, request.key, request.query["uploadId"])
    return NO_CONTENT
