"""Tags of an object: GetObjectTagging, PutObjectTagging, DeleteObjectTagging.

Concurrency: any task. Source: Amazon S3 API reference, the operations of these names; user guide,
"Categorizing your objects using tags".
"""

from __future__ import annotations

from msgspec.structs import replace

from s3api import xml
from s3api.body import read_document
from s3api.errors import MalformedXML
from s3api.face import Face
from s3api.metadata import checked_tags
from s3api.objects import check_version
from s3api.requests import Request
from s3api.responses import NO_CONTENT, Response, xml_response

TAGGING_SIZE_BYTES = 64 * 1024


async def get_object_tagging(face: Face, request: Request) -> Response:
    check_version(request.query.get("versionId"))
    stat = face.namespace.objects.stat(request.bucket, request.key)
    tags = "".join(
        f"<Tag>{xml.element('Key', key)}{xml.element('Value', value)}</Tag>"
        for key, value in sorted(stat.meta.tags.items())
    )
    return xml_response("Tagging", [f"<TagSet>{tags}</TagSet>"])


async def put_object_tagging(face: Face, request: Request) -> Response:
    check_version(request.query.get("versionId"))
    root = xml.parse(await read_document(request, TAGGING_SIZE_BYTES), "Tagging")
    pairs = []
    for tag_set in xml.children(root, "TagSet"):
        for tag in xml.children(tag_set, "Tag"):
            fields = xml.texts(tag)
            if fields.keys() != {"Key", "Value"}:
                raise MalformedXML()
            pairs.append((fields["Key"], fields["Value"]))
    tags = checked_tags(pairs)
    # No await between reading the metadata and replacing it.
    stat = face.namespace.objects.stat(request.bucket, request.key)
    meta = replace(stat.meta, tags=tags)
    await face.namespace.objects.set_meta(request.bucket, request.key, meta)
    return Response(200)


async def delete_object_tagging(face: Face, request: Request) -> Response:
    check_version(request.query.get("versionId"))
    stat = face.namespace.objects.stat(request.bucket, request.key)
    meta = replace(stat.meta, tags={})
    await face.namespace.objects.set_meta(request.bucket, request.key, meta)
    return NO_CONTENT
