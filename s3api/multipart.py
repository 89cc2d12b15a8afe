"""Multipart uploads: create, upload and copy parts, complete, abort, and the two listings.

A part's checksum is computed with the upload's algorithm whether or not the client sent it, so the
whole object's can be combined at Complete without reading a byte.

Concurrency: any task. Source: Amazon S3 API reference, CreateMultipartUpload, UploadPart,
UploadPartCopy, CompleteMultipartUpload, ListParts, ListMultipartUploads.
"""

from __future__ import annotations

from msgspec.structs import replace

from s3api import checksums, xml
from s3api.acl import owner_element, person
from s3api.attributes import checksum_elements
from s3api.body import open_part, read_document
from s3api.checksums import COMPOSITE, Algorithm
from s3api.conditions import precondition_of
from s3api.errors import BadDigest, InvalidArgument, InvalidRequest, MalformedXML
from s3api.face import Face
from s3api.listing import encode_key
from s3api.metadata import checksum_headers, meta_of
from s3api.objects import parse_part_number
from s3api.requests import Request, parse_copy_range, parse_count
from s3api.responses import NO_CONTENT, Response, xml_response
from s3api.writes import open_copy_source
from s3api.xml import element, flag, optional, timestamp
from store.errors import InvalidPart, NoSuchUpload
from store.types import Part, PartClaim, Upload

PARTS_MAX = 10_000
PARTS_PAGE = 1000
UPLOADS_PAGE = 1000
COMPLETE_SIZE_BYTES = 2 << 20


async def create_upload(face: Face, request: Request) -> Response:
    meta = meta_of(request.headers)
    headers = []
    name = request.text(b"x-amz-checksum-algorithm")
    asked_type = request.text(b"x-amz-checksum-type")
    if name:
        algorithm = checksums.find_algorithm(name)
        checksum_type = checksums.check_type(algorithm, asked_type)
        # The value is not known yet; the name tells the parts what to compute.
        meta = replace(meta, checksums={algorithm.name: ""}, checksum_type=checksum_type)
        headers = [
            (b"x-amz-checksum-algorithm", algorithm.name.encode()),
            (b"x-amz-checksum-type", checksum_type.encode()),
        ]
    elif asked_type:
        raise InvalidRequest(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm "
            "header."
        )
    upload_id = await face.namespace.uploads.create(
        request.bucket, request.key, meta, request.owner
    )
    parts = [
        element("Bucket", request.bucket),
        element("Key", request.key),
        element("UploadId", upload_id),
    ]
    return xml_response("InitiateMultipartUploadResult", parts, headers=headers)


def _find_upload(face: Face, request: Request) -> Upload:
    """The upload that uploadId names. Raises NoSuchUpload."""
    return face.namespace.uploads.get(request.bucket, request.key, request.query["uploadId"])


def _algorithm_of(upload: Upload) -> str:
    return next(iter(upload.meta.checksums), "")


async def upload_part(face: Face, request: Request) -> Response:
    number = parse_part_number(request.query.get("partNumber", ""))
    upload = _find_upload(face, request)
    body = open_part(request, face.digest_limiter, _algorithm_of(upload), upload.meta.checksum_type)
    part = await face.namespace.uploads.put_part(
        request.bucket, request.key, upload.id, number, body
    )
    headers = [(b"etag", b'"%b"' % part.etag.encode()), *checksum_headers(part.checksums, "")]
    return Response(200, headers)


async def upload_part_copy(face: Face, request: Request) -> Response:
    number = parse_part_number(request.query.get("partNumber", ""))
    upload = _find_upload(face, request)
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
    )
    parts = [
        element("LastModified", timestamp(part.modified_ns)),
        element("ETag", f'"{part.etag}"'),
        _part_checksums(part),
    ]
    return xml_response("CopyPartResult", parts)


async def abort_upload(face: Face, request: Request) -> Response:
    await face.namespace.uploads.abort(request.bucket, request.key, request.query["uploadId"])
    return NO_CONTENT


async def complete_upload(face: Face, request: Request) -> Response:
    upload_id = request.query["uploadId"]
    # Checksum headers of this request speak of the object, not of the document.
    document = await read_document(request, COMPLETE_SIZE_BYTES, checksummed=False)
    claims = _parse_claims(document)
    precondition = precondition_of(request)
    values: dict[str, str] = {}
    checksum_type = ""
    try:
        upload = _find_upload(face, request)
    except NoSuchUpload:
        # Completed before, perhaps: the store knows, and answers a repetition as it did at first.
        upload = None
    if upload is not None:
        parts = _claimed_parts(face, upload, claims)
        _check_size(request, parts)
        checksum_type = upload.meta.checksum_type
        values = _combine(request, upload, parts)
    stat = await face.namespace.uploads.complete(
        request.bucket,
        request.key,
        upload_id,
        claims,
        precondition=precondition,
        checksums=values,
        checksum_type=checksum_type,
    )
    host = request.text(b"host")
    location = f"{request.scheme}://{host}/{request.bucket}/{encode_key(request.key)}"
    return xml_response(
        "CompleteMultipartUploadResult",
        [
            element("Location", location),
            element("Bucket", request.bucket),
            element("Key", request.key),
            element("ETag", f'"{stat.etag}"'),
            checksum_elements(stat.meta),
        ],
    )


def _parse_claims(document: bytes) -> list[PartClaim]:
    """The parts named, in the order given. Raises MalformedXML."""
    root = xml.parse(document, "CompleteMultipartUpload")
    claims: list[PartClaim] = []
    for part in xml.children(root, "Part"):
        fields = xml.texts(part)
        number = fields.get("PartNumber", "").strip()
        etag = fields.get("ETag", "").strip().strip('"')
        if not (number.isascii() and number.isdecimal() and len(number) <= 5 and etag):
            raise MalformedXML()
        known = {
            name.removeprefix("Checksum"): value.strip()
            for name, value in fields.items()
            if name.startswith("Checksum") and value.strip()
        }
        claims.append(PartClaim(number=int(number), etag=etag, checksums=known))
    if not 0 < len(claims) <= PARTS_MAX:
        raise MalformedXML()
    return claims


def _claimed_parts(face: Face, upload: Upload, claims: list[PartClaim]) -> list[Part]:
    """The uploaded parts that were claimed, as far as they exist; the store checks the rest."""
    found: dict[int, Part] = {}
    after = 0
    last = max(claim.number for claim in claims)
    while after < last:
        page = face.namespace.uploads.parts(upload.bucket, upload.key, upload.id, after)
        if not page:
            break
        found.update((part.number, part) for part in page)
        after = page[-1].number
    missing = next((claim.number for claim in claims if claim.number not in found), None)
    if missing is not None:
        raise InvalidPart(missing)
    return [found[claim.number] for claim in claims]


def _check_size(request: Request, parts: list[Part]) -> None:
    expected = request.text(b"x-amz-mp-object-size")
    if expected and parse_count("x-amz-mp-object-size", expected) != sum(p.size for p in parts):
        raise InvalidRequest(
            "The provided 'x-amz-mp-object-size' header does not match what was computed."
        )


def _combine(request: Request, upload: Upload, parts: list[Part]) -> dict[str, str]:
    """The object's checksum from its parts', and checked against what the client expects.

    Empty if the upload has no algorithm, or a part has no checksum because it was copied.
    Raises BadDigest, InvalidRequest.
    """
    name = _algorithm_of(upload)
    if not name:
        return {}
    asked_type = request.text(b"x-amz-checksum-type")
    if asked_type and asked_type != upload.meta.checksum_type:
        raise InvalidRequest(
            f"The upload was created using the {upload.meta.checksum_type} checksum mode. The "
            "complete request must use the same checksum mode."
        )
    if not all(name in part.checksums for part in parts):
        return {}
    algorithm = checksums.ALGORITHMS[name]
    value = _combined(algorithm, upload.meta.checksum_type, parts)
    expected = request.text(algorithm.header)
    if expected and expected.partition("-")[0] != value.partition("-")[0]:
        raise BadDigest(f"The {name.lower()} you specified did not match the calculated checksum.")
    return {name: value}


def _combined(algorithm: Algorithm, checksum_type: str, parts: list[Part]) -> str:
    digests = [algorithm.parse(part.checksums[algorithm.name]) for part in parts]
    if checksum_type == COMPOSITE:
        return checksums.composite(algorithm, digests)
    sizes = [part.size for part in parts]
    return checksums.encode(checksums.full_object(algorithm, zip(digests, sizes, strict=True)))


def _part_checksums(part: Part) -> str:
    return "".join(element(f"Checksum{name}", value) for name, value in part.checksums.items())


def _owners(face: Face, initiator: str, owner: str) -> str:
    return f"<Initiator>{person(face.account_of(initiator))}</Initiator>{owner}"


async def list_parts(face: Face, request: Request) -> Response:
    limit = request.limit("max-parts", PARTS_PAGE)
    after = parse_count("part-number-marker", request.query.get("part-number-marker") or "0")
    upload = _find_upload(face, request)
    found = face.namespace.uploads.parts(
        request.bucket, request.key, upload.id, after=after, limit=limit + 1
    )
    more = len(found) > limit > 0
    page = found[:limit]
    parts = [
        element("Bucket", request.bucket),
        element("Key", request.key),
        element("UploadId", upload.id),
        _owners(face, upload.owner, owner_element(face, request.bucket)),
        "<StorageClass>STANDARD</StorageClass>",
        element("PartNumberMarker", after),
        element("NextPartNumberMarker", page[-1].number) if page else "",
        element("MaxParts", limit),
        flag("IsTruncated", more),
        optional("ChecksumAlgorithm", _algorithm_of(upload)),
        optional("ChecksumType", upload.meta.checksum_type),
        *(
            f"<Part>{element('PartNumber', part.number)}"
            f"{element('LastModified', timestamp(part.modified_ns))}"
            f"<ETag>&quot;{part.etag}&quot;</ETag>{element('Size', part.size)}"
            f"{_part_checksums(part)}</Part>"
            for part in page
        ),
    ]
    return xml_response("ListPartsResult", parts)


async def list_uploads(face: Face, request: Request) -> Response:
    query = request.query
    encoding = query.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise InvalidArgument(
            "Invalid Encoding Method specified in Request", (("ArgumentName", "encoding-type"),)
        )
    encode = encode_key if encoding else xml.escape
    limit = request.limit("max-uploads", UPLOADS_PAGE)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker, id_marker = query.get("key-marker", ""), query.get("upload-id-marker", "")
    page = await face.namespace.uploads.page(
        request.bucket,
        prefix=prefix,
        delimiter=delimiter,
        # Without a key marker S3 ignores the id marker.
        after=(key_marker, id_marker if key_marker else ""),
        limit=limit,
    )
    following = ""
    if page.next is not None:
        following = f"<NextKeyMarker>{encode(page.next[0])}</NextKeyMarker>"
        following += element("NextUploadIdMarker", page.next[1])
    uploads = [entry for entry in page.entries if isinstance(entry, Upload)]
    owner = owner_element(face, request.bucket)
    prefixes = [entry for entry in page.entries if isinstance(entry, str)]
    parts = [
        element("Bucket", request.bucket),
        f"<KeyMarker>{encode(key_marker)}</KeyMarker>",
        element("UploadIdMarker", id_marker),
        following,
        f"<Prefix>{encode(prefix)}</Prefix>",
        f"<Delimiter>{encode(delimiter)}</Delimiter>" if delimiter else "",
        optional("EncodingType", encoding),
        element("MaxUploads", limit),
        flag("IsTruncated", page.next is not None),
        *(
            f"<Upload><Key>{encode(upload.key)}</Key>{element('UploadId', upload.id)}"
            f"{_owners(face, upload.owner, owner)}"
            "<StorageClass>STANDARD</StorageClass>"
            f"{element('Initiated', timestamp(upload.initiated_ns))}"
            f"{optional('ChecksumAlgorithm', _algorithm_of(upload))}"
            f"{optional('ChecksumType', upload.meta.checksum_type)}</Upload>"
            for upload in uploads
        ),
        *(f"<CommonPrefixes><Prefix>{encode(one)}</Prefix></CommonPrefixes>" for one in prefixes),
    ]
    return xml_response("ListMultipartUploadsResult", parts)
