"""ListParts and ListMultipartUploads.

Concurrency: any task. Source: Amazon S3 API reference, ListParts, ListMultipartUploads.
"""

from __future__ import annotations

from s3api import xml
from s3api.acl import object_owner_element, owner_element, person
from s3api.credentials import Account
from s3api.errors import InvalidArgument
from s3api.face import Face
from s3api.listing import encode_key
from s3api.multipart import algorithm_of, find_upload, told_checksums
from s3api.requests import Request, parse_count
from s3api.responses import Response, xml_response
from s3api.xml import element, flag, optional, timestamp
from store.types import Part, Upload

PARTS_PAGE = 1000
UPLOADS_PAGE = 1000


async def list_parts(face: Face, request: Request) -> Response:
    limit = request.limit("max-parts", PARTS_PAGE)
    after = parse_count("part-number-marker", request.query.get("part-number-marker") or "0")
    upload = find_upload(face, request)
    found = face.namespace.uploads.parts(
        request.bucket, request.key, upload.id, after=after, limit=limit + 1
    )
    page = found[:limit]
    parts = [
        element("Bucket", request.bucket),
        element("Key", request.key),
        element("UploadId", upload.id),
        element("PartNumberMarker", after),
        element("NextPartNumberMarker", page[-1].number) if page else "",
        element("MaxParts", limit),
        flag("IsTruncated", len(found) > limit > 0),
        *map(_part, page),
        _initiator(face, upload),
        object_owner_element(face, upload.meta, owner_element(face, request.bucket)),
        "<StorageClass>STANDARD</StorageClass>",
        _algorithm(upload),
    ]
    return xml_response("ListPartsResult", parts)


def _part(part: Part) -> str:
    checksums = told_checksums(part).items()
    return (
        f"<Part>{element('PartNumber', part.number)}"
        f"{element('LastModified', timestamp(part.modified_ns))}"
        f"<ETag>&quot;{part.etag}&quot;</ETag>{element('Size', part.size)}"
        f"{''.join(element(f'Checksum{name}', value) for name, value in checksums)}</Part>"
    )


def _initiator(face: Face, upload: Upload) -> str:
    who = face.account_of(upload.owner)
    if upload.owner.startswith("arn:"):
        who = Account(id=upload.owner, name=upload.owner.rpartition("/")[2])
    return f"<Initiator>{person(who)}</Initiator>"


def _algorithm(upload: Upload) -> str:
    return optional("ChecksumAlgorithm", algorithm_of(upload)) + optional(
        "ChecksumType", upload.meta.checksum_type
    )


async def list_uploads(face: Face, request: Request) -> Response:
    query = request.query
    encoding = query.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise InvalidArgument(
            "Invalid Encoding Method specified in Request",
            (("ArgumentName", "encoding-type"), ("ArgumentValue", encoding)),
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
    next_key, next_id = page.next or ("", "")
    owner = owner_element(face, request.bucket)
    prefixes = [entry for entry in page.entries if isinstance(entry, str)]
    parts = [
        element("Bucket", request.bucket),
        f"<KeyMarker>{encode(key_marker)}</KeyMarker>",
        element("UploadIdMarker", id_marker),
        f"<NextKeyMarker>{encode(next_key)}</NextKeyMarker>" if next_key else "",
        f"<Prefix>{encode(prefix)}</Prefix>",
        f"<Delimiter>{encode(delimiter)}</Delimiter>" if delimiter else "",
        element("NextUploadIdMarker", next_id) if next_key else "",
        element("MaxUploads", limit),
        flag("IsTruncated", page.next is not None),
        *(
            f"<Upload>{element('UploadId', upload.id)}<Key>{encode(upload.key)}</Key>"
            f"{element('Initiated', timestamp(upload.initiated_ns))}"
            f"<StorageClass>STANDARD</StorageClass>"
            f"{object_owner_element(face, upload.meta, owner)}{_initiator(face, upload)}"
            f"{_algorithm(upload)}</Upload>"
            for upload in page.entries
            if isinstance(upload, Upload)
        ),
        *(f"<CommonPrefixes><Prefix>{encode(one)}</Prefix></CommonPrefixes>" for one in prefixes),
        optional("EncodingType", encoding),
    ]
    return xml_response("ListMultipartUploadsResult", parts)
