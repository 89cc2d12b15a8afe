"""GetObjectAttributes: what an object is, without its bytes: checksums, parts, sizes.

Concurrency: any task. Source: Amazon S3 API reference, GetObjectAttributes.
"""

from __future__ import annotations

from s3api import xml
from s3api.conditions import Verdict, evaluate
from s3api.dates import http_date
from s3api.errors import InvalidArgument, PreconditionFailed
from s3api.face import Face
from s3api.requests import Request, parse_count
from s3api.responses import Response, version_headers, xml_response
from store.types import ObjectMeta

_ATTRIBUTES = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")
_PARTS_PAGE = 1000


async def get_object_attributes(face: Face, request: Request) -> Response:
    read = "s3:GetObject" if request.version() is None else "s3:GetObjectVersion"
    face.authorize(request, read, request.bucket, request.key)
    listed = request.text(b"x-amz-object-attributes")
    wanted = {name.strip() for name in listed.split(",") if name.strip()}
    if not wanted or not wanted <= set(_ATTRIBUTES):
        raise InvalidArgument(
            "Invalid attribute name specified.", (("ArgumentName", "x-amz-object-attributes"),)
        )
    stat = face.namespace.objects.stat(request.bucket, request.key, request.version())
    verdict, name = evaluate(request.headers, stat)
    if verdict is not Verdict.PROCEED:
        raise PreconditionFailed(extras=(("Condition", name),))
    parts = []
    if "ETag" in wanted:
        parts.append(xml.element("ETag", stat.etag))
    if "Checksum" in wanted and stat.meta.checksums:
        parts.append(f"<Checksum>{checksum_elements(stat.meta)}</Checksum>")
    if "ObjectParts" in wanted and stat.meta.part_sizes:
        parts.append(_parts_element(request, stat.meta))
    if "StorageClass" in wanted:
        parts.append("<StorageClass>STANDARD</StorageClass>")
    if "ObjectSize" in wanted:
        parts.append(xml.element("ObjectSize", stat.size))
    headers = [(b"last-modified", http_date(stat.modified_ns)), *version_headers(stat)]
    return xml_response("GetObjectAttributesResponse", parts, headers=headers)


def checksum_elements(meta: ObjectMeta) -> str:
    """ChecksumCRC32 ... and ChecksumType of an object, as several answers hold them."""
    if not meta.checksums:
        return ""
    values = [xml.element(f"Checksum{name}", value) for name, value in meta.checksums.items()]
    return "".join(values) + xml.element("ChecksumType", meta.checksum_type or "FULL_OBJECT")


def _parts_element(request: Request, meta: ObjectMeta) -> str:
    """The parts behind the marker, with their checksums where there are any."""
    after = parse_count(
        "x-amz-part-number-marker", request.text(b"x-amz-part-number-marker") or "0"
    )
    asked = request.text(b"x-amz-max-parts") or str(_PARTS_PAGE)
    limit = min(parse_count("x-amz-max-parts", asked), _PARTS_PAGE)
    count = len(meta.part_sizes)
    algorithm = next(iter(meta.checksums), "")
    page = range(after, min(after + limit, count))
    parts = [
        f"<Part>{xml.element('PartNumber', index + 1)}"
        f"{xml.element('Size', meta.part_sizes[index])}"
        f"{_checksum_of_part(meta, algorithm, index)}</Part>"
        for index in page
    ]
    return (
        f"<ObjectParts>{xml.element('PartsCount', count)}"
        f"{xml.element('PartNumberMarker', after)}"
        f"{xml.element('NextPartNumberMarker', page.stop if page else 0)}"
        f"{xml.element('MaxParts', limit)}{xml.flag('IsTruncated', after + limit < count)}"
        f"{''.join(parts)}</ObjectParts>"
    )


def _checksum_of_part(meta: ObjectMeta, algorithm: str, index: int) -> str:
    if not meta.part_checksums:
        return ""
    return xml.element("Checksum" + algorithm, meta.part_checksums[index])
