"""Versions: a bucket's versioning, and the listing of all versions and delete markers.

The listing writes Version and DeleteMarker elements as the store gives them, in one order: by key,
the newest of a key first.

Concurrency: any task. Source: Amazon S3 API reference, GetBucketVersioning, PutBucketVersioning,
ListObjectVersions; user guide, "Retaining multiple versions of objects".
"""

from __future__ import annotations

from s3api import xml
from s3api.acl import object_owner_element, owner_element
from s3api.body import read_document
from s3api.errors import (
    IllegalVersioningConfiguration,
    InvalidArgument,
    MalformedXML,
    NotImplementedYet,
)
from s3api.face import Face
from s3api.listing import ListQuery, checksum_names, parse_listing, prefix_element
from s3api.requests import Request
from s3api.responses import Response, xml_response
from s3api.xml import element, optional, timestamp
from store.types import VersionPage

_SIZE_BYTES = 64 * 1024
_STATUSES = {"Enabled": "enabled", "Suspended": "suspended"}


async def get_bucket_versioning(face: Face, request: Request) -> Response:
    """A bucket whose versioning was never turned on has an empty configuration."""
    versioning = face.namespace.buckets.get(request.bucket).versioning
    status = "" if versioning == "off" else versioning.capitalize()
    return xml_response("VersioningConfiguration", [optional("Status", status)])


async def put_bucket_versioning(face: Face, request: Request) -> Response:
    document = await read_document(request, _SIZE_BYTES)
    root = xml.parse(document, "VersioningConfiguration")
    fields = xml.texts(xml.only(root, "Status", "MfaDelete"))
    # There are no MFA devices to ask for.
    if fields.get("MfaDelete", "Disabled") != "Disabled":
        raise NotImplementedYet("MFA delete is not implemented.")
    if "Status" not in fields:
        raise IllegalVersioningConfiguration()
    if fields["Status"] not in _STATUSES:
        raise MalformedXML()
    await face.namespace.buckets.set_versioning(request.bucket, _STATUSES[fields["Status"]])
    return Response(200)


async def list_object_versions(face: Face, request: Request) -> Response:
    asked = parse_listing(request)
    query = request.query
    marker = query.get("key-marker", "")
    version_marker = query.get("version-id-marker", "")
    if version_marker and not marker:
        raise InvalidArgument(
            "A version-id marker cannot be specified without a key marker.",
            (("ArgumentName", "version-id-marker"), ("ArgumentValue", version_marker)),
        )
    page = await face.namespace.listing.versions(
        request.bucket,
        prefix=asked.prefix,
        delimiter=asked.delimiter,
        after=(marker, version_marker),
        limit=asked.limit,
    )
    following = ""
    if page.next is not None:
        key, version = page.next
        following = asked.keyed("NextKeyMarker", key) + optional("NextVersionIdMarker", version)
    parts = [
        element("Name", request.bucket),
        asked.keyed("Prefix", asked.prefix),
        asked.keyed("KeyMarker", marker),
        element("VersionIdMarker", version_marker),
        following,
        *asked.frame(page.next is not None),
        *_entries(face, asked, page, owner_element(face, request.bucket)),
    ]
    return xml_response("ListVersionsResult", parts)


def _entries(face: Face, asked: ListQuery, page: VersionPage, owner: str) -> list[str]:
    """Versions and delete markers in the page's order, then CommonPrefixes."""
    encode = asked.encode
    versions: list[str] = []
    prefixes: list[str] = []
    for entry in page.entries:
        if isinstance(entry, str):
            prefixes.append(prefix_element(encode(entry)))
            continue
        head = (
            f"<Key>{encode(entry.key)}</Key><VersionId>{entry.version_id}</VersionId>"
            f"<IsLatest>{'true' if entry.latest else 'false'}</IsLatest>"
            f"<LastModified>{timestamp(entry.modified_ns)}</LastModified>"
        )
        stat = entry.stat
        if stat is None:
            versions.append(f"<DeleteMarker>{head}{owner}</DeleteMarker>")
            continue
        checksums = checksum_names(stat) if stat.meta.checksums else ""
        whose = object_owner_element(face, stat.meta, owner)
        versions.append(
            f"<Version>{head}<ETag>&quot;{stat.etag}&quot;</ETag>{checksums}"
            f"<Size>{stat.size}</Size>{whose}<StorageClass>STANDARD</StorageClass></Version>"
        )
    return versions + prefixes
