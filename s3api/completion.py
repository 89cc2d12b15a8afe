"""CompleteMultipartUpload: the parts that were claimed become the object, in one transaction.

The object's checksum follows from those of its parts, without reading a byte; an upload that was
created without an algorithm gets a CRC64NVME. Publishing 10,000 parts takes 0.4 s, so the answer is
the usual one: no early 200 kept alive with white space.

What Amazon S3 does though its reference leaves it out: a part's empty ETag is a part that is not
there, and the whole object's checksum is compared before the parts' are. It also refuses claims
that leave out the parts' checksums where the upload is COMPOSITE; here, as ceph/s3-tests wants it,
the ETag is enough to say which part is meant.

Concurrency: any task. Source: Amazon S3 API reference, CompleteMultipartUpload; user guide,
"Checking object integrity".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from s3api import checksums, xml
from s3api.addressing import virtual_bucket
from s3api.attributes import checksum_elements
from s3api.body import read_document
from s3api.checksums import ALGORITHMS, COMPOSITE, DEFAULT, FULL_OBJECT, Algorithm
from s3api.conditions import precondition_of
from s3api.errors import (
    BadDigest,
    EntityTooSmall,
    InvalidArgument,
    InvalidPart,
    InvalidRequest,
    MalformedXML,
)
from s3api.face import Face
from s3api.listing import encode_key
from s3api.requests import Request, parse_count
from s3api.responses import Response, made_version, xml_response
from s3api.xml import element
from store import errors as store_errors
from store.types import Part, PartClaim, Upload

PARTS_MAX = 10_000
PART_BYTES_MIN = 5 << 20
DOCUMENT_BYTES_MAX = 4 << 20
_PREFIX = "Checksum"
_ELEMENTS = tuple(algorithm.element for algorithm in ALGORITHMS.values())


async def complete_upload(face: Face, request: Request) -> Response:
    upload_id = request.query["uploadId"]
    # Checksum headers of this request speak of the object, not of the document.
    claims = _parse(await read_document(request, DOCUMENT_BYTES_MAX, checksummed=False))
    precondition = precondition_of(request)
    values: dict[str, str] = {}
    checksum_type = ""
    parts: list[Part] = []
    uploads = face.namespace.uploads
    try:
        upload = uploads.get(request.bucket, request.key, upload_id)
    except store_errors.NoSuchUpload:
        # Completed before, perhaps: the store knows, and answers a repetition as it did at first.
        pass
    else:
        parts = _claimed_parts(face, upload, claims)
        _check_size(request, parts)
        values, checksum_type = _combine(request, upload, claims, parts)
    with _telling_which(upload_id, claims, parts):
        stat = await uploads.complete(
            request.bucket,
            request.key,
            upload_id,
            claims,
            precondition=precondition,
            checksums=values,
            checksum_type=checksum_type,
            maker=request.auth.maker,
        )
    return xml_response(
        "CompleteMultipartUploadResult",
        [
            element("Location", _location(face, request)),
            element("Bucket", request.bucket),
            element("Key", request.key),
            element("ETag", f'"{stat.etag}"'),
            checksum_elements(stat.meta),
        ],
        headers=made_version(stat),
    )


def _location(face: Face, request: Request) -> str:
    """The object's URL, with the bucket where this request had it."""
    host = request.headers.get(b"host", b"")
    bucket = "" if virtual_bucket(host, face.domains) else f"{request.bucket}/"
    return f"{request.scheme}://{host.decode('latin-1')}/{bucket}{encode_key(request.key)}"


def _parse(document: bytes) -> list[PartClaim]:
    """The parts named, in the order given. Raises MalformedXML, InvalidArgument."""
    root = xml.only(xml.parse(document, "CompleteMultipartUpload"), "Part")
    claims: list[PartClaim] = []
    for part in root:
        claim = _parse_part(part)
        # A client that sent a part anew may name it twice; the later one counts.
        if claims and claims[-1].number == claim.number:
            claims.pop()
        claims.append(claim)
    if not 0 < len(claims) <= PARTS_MAX:
        raise MalformedXML()
    return claims


def _parse_part(part: xml.Element) -> PartClaim:
    fields = xml.texts(xml.only(part, "PartNumber", "ETag", *_ELEMENTS))
    number = fields.get("PartNumber", "").strip()
    if not (number.isascii() and number.isdecimal() and len(number) <= 9 and "ETag" in fields):
        raise MalformedXML()
    if not 1 <= int(number) <= PARTS_MAX:
        raise InvalidArgument(
            "Part number must be an integer between 1 and 10000, inclusive",
            (("ArgumentName", "partNumber"), ("ArgumentValue", number)),
        )
    given = {
        name.removeprefix(_PREFIX): text.strip()
        for name, text in fields.items()
        if name.startswith(_PREFIX) and text.strip()
    }
    if len(given) > 1 or not all(_is_checksum(name, text) for name, text in given.items()):
        listed = "".join(f"{name}:{text};" for name, text in given.items())
        raise InvalidArgument(
            "Invalid Base64 or multiple checksums present in request",
            (("ArgumentName", "Checksum"), ("ArgumentValue", listed)),
        )
    etag = fields["ETag"].strip().strip('"')
    return PartClaim(number=int(number), etag=etag, checksums=given)


def _is_checksum(name: str, text: str) -> bool:
    return ALGORITHMS[name].is_digest(text)


def _claimed_parts(face: Face, upload: Upload, claims: Sequence[PartClaim]) -> list[Part]:
    """The uploaded parts that were claimed, in the order of the claims. Raises InvalidPart."""
    found: dict[int, Part] = {}
    after = 0
    last = max(claim.number for claim in claims)
    while after < last:
        page = face.namespace.uploads.parts(upload.bucket, upload.key, upload.id, after)
        if not page:
            break
        found.update((part.number, part) for part in page)
        after = page[-1].number
    for claim in claims:
        if claim.number not in found:
            raise _invalid_part(upload.id, claim)
    return [found[claim.number] for claim in claims]


@contextmanager
def _telling_which(
    upload_id: str, claims: Sequence[PartClaim], parts: Sequence[Part]
) -> Iterator[None]:
    """Say more of the part that the store refuses. Raises InvalidPart, EntityTooSmall."""
    try:
        yield
    except store_errors.InvalidPart as exc:
        claim = next(one for one in claims if one.number == exc.subject)
        raise _invalid_part(upload_id, claim) from exc
    except store_errors.PartTooSmall as exc:
        part = next(one for one in parts if one.number == exc.subject)
        raise EntityTooSmall(
            extras=(
                ("ProposedSize", str(part.size)),
                ("MinSizeAllowed", str(PART_BYTES_MIN)),
                ("PartNumber", str(part.number)),
                ("ETag", part.etag),
            )
        ) from exc


def _invalid_part(upload_id: str, claim: PartClaim) -> InvalidPart:
    return InvalidPart(
        extras=(("UploadId", upload_id), ("PartNumber", str(claim.number)), ("ETag", claim.etag))
    )


def _check_size(request: Request, parts: Sequence[Part]) -> None:
    expected = request.text(b"x-amz-mp-object-size")
    if expected and parse_count("x-amz-mp-object-size", expected) != sum(p.size for p in parts):
        raise InvalidRequest(
            "The provided 'x-amz-mp-object-size' header does not match what was computed."
        )


def _combine(
    request: Request, upload: Upload, claims: Sequence[PartClaim], parts: Sequence[Part]
) -> tuple[dict[str, str], str]:
    """The object's checksum and its type, compared with what the client says of them.

    Raises BadDigest, InvalidRequest.
    """
    chosen = next(iter(upload.meta.checksums), "")
    algorithm = ALGORITHMS[chosen] if chosen else DEFAULT
    checksum_type = upload.meta.checksum_type or FULL_OBJECT
    asked_type = request.text(b"x-amz-checksum-type")
    if asked_type and asked_type != checksum_type:
        raise InvalidRequest(
            f"The upload was created using the {checksum_type} checksum mode. The complete request "
            "must use the same checksum mode."
        )
    _check_object(request, algorithm, checksum_type, bool(chosen), claims, parts)
    value = _combined(algorithm, checksum_type, claims, parts)
    # Parts from before checksums were computed for all of them have none.
    return ({algorithm.name: value}, checksum_type) if value else ({}, "")


def _check_object(
    request: Request,
    algorithm: Algorithm,
    checksum_type: str,
    chosen: bool,
    claims: Sequence[PartClaim],
    parts: Sequence[Part],
) -> None:
    """The x-amz-checksum-* header must be the object's checksum.

    An upload that chose no algorithm may be given any, of either type, that its parts have.
    """
    promise = checksums.parse_object_checksum(request.headers)
    if promise is None:
        return
    given, text = promise
    if chosen and given is not algorithm:
        raise InvalidRequest(
            f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.name.lower()}, "
            f"actual checksum Type: {given.name.lower()}"
        )
    types = (checksum_type,) if chosen else given.types
    values = [_combined(given, one, claims, parts) for one in types]
    if not any(value and checksums.is_same(text, value) for value in values):
        raise BadDigest(
            f"The {given.name.lower()} you specified did not match the calculated checksum."
        )


def _combined(
    algorithm: Algorithm, checksum_type: str, claims: Sequence[PartClaim], parts: Sequence[Part]
) -> str:
    """The checksum of the claimed parts together, "" if one of them has none.

    COMPOSITE ones are of what was claimed: the store compares that with what was uploaded.
    """
    name = algorithm.name
    values = [part.checksums.get(name, "") for part in parts]
    if not all(values):
        return ""
    if checksum_type == COMPOSITE:
        claimed = (c.checksums.get(name, value) for c, value in zip(claims, values, strict=True))
        return checksums.composite(algorithm, [algorithm.parse(value) for value in claimed])
    digests = (algorithm.parse(value) for value in values)
    sizes = (part.size for part in parts)
    return checksums.encode(checksums.full_object(algorithm, zip(digests, sizes, strict=True)))
