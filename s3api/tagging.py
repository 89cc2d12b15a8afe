"""Tags of an object: GetObjectTagging, PutObjectTagging, DeleteObjectTagging.

Concurrency: any task. Source: Amazon S3 API reference, the operations of these names; user guide,
"Categorizing your objects using tags".
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from s3api import xml
from s3api.body import read_document
from s3api.errors import MalformedXML
from s3api.face import Face
from s3api.httpstream import Header
from s3api.metadata import TAGS_MAX, Tags, checked_tags
from s3api.requests import Request
from s3api.responses import Response, version_headers, xml_response
from store.types import ObjectStat

TAGGING_SIZE_BYTES = 64 * 1024


async def get_object_tagging(face: Face, request: Request) -> Response:
    stat = face.namespace.objects.stat(request.bucket, request.key, request.version())
    return tagging_response(stat.meta.tags, version_headers(stat))


async def put_object_tagging(face: Face, request: Request) -> Response:
    request.tags = tags = parse_tags(await read_document(request, TAGGING_SIZE_BYTES))
    version = "" if request.version() is None else "Version"
    face.authorize(request, f"s3:PutObject{version}Tagging", request.bucket, request.key)
    stat = await _set_tags(face, request, tags)
    return Response(200, version_headers(stat))


async def delete_object_tagging(face: Face, request: Request) -> Response:
    stat = await _set_tags(face, request, {})
    return Response(204, version_headers(stat))


async def _set_tags(face: Face, request: Request, tags: Tags) -> ObjectStat:
    version = request.version()
    # No await between reading the metadata and replacing it.
    stat = face.namespace.objects.stat(request.bucket, request.key, version)
    meta = replace(stat.meta, tags=tags)
    return await face.namespace.objects.set_meta(request.bucket, request.key, meta, version)


def parse_tags(document: bytes, count_max: int = TAGS_MAX) -> Tags:
    """The tags of a Tagging document. Raises MalformedXML, InvalidTag."""
    pairs = []
    for tag_set in xml.only(xml.parse(document, "Tagging"), "TagSet"):
        for tag in xml.only(tag_set, "Tag"):
            fields = xml.texts(tag)
            if fields.keys() != {"Key", "Value"}:
                raise MalformedXML()
            pairs.append((fields["Key"], fields["Value"]))
    return checked_tags(pairs, count_max)


def tagging_response(tags: Tags, headers: Sequence[Header] = ()) -> Response:
    """The Tagging document that says these."""
    elements = "".join(
        f"<Tag>{xml.element('Key', key)}{xml.element('Value', value)}</Tag>"
        for key, value in sorted(tags.items())
    )
    return xml_response("Tagging", [f"<TagSet>{elements}</TagSet>"], headers=headers)
