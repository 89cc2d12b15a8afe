"""Buckets: list, create, head, delete, and the few settings that tools ask for.

Concurrency: any task. Source: Amazon S3 API reference, ListBuckets, CreateBucket, HeadBucket.
"""

from __future__ import annotations

from s3api import xml
from s3api.acl import acl_response, check_private, person
from s3api.body import read_document
from s3api.errors import InvalidLocationConstraint, NotImplementedYet
from s3api.face import Face
from s3api.requests import Request
from s3api.responses import NO_CONTENT, Response, xml_response
from s3api.tokens import decode_token, encode_token
from store.types import Bucket

BUCKETS_PAGE = 10_000
_FETCH = 1000
_CONFIGURATION_SIZE_BYTES = 64 * 1024
_US_EAST_1 = "us-east-1"
# The header that asks for object lock, which is not there to give.
_LOCK_HEADER = b"x-amz-bucket-object-lock-enabled"


async def list_buckets(face: Face, request: Request) -> Response:
    limit = request.limit("max-buckets", BUCKETS_PAGE)
    prefix = request.query.get("prefix", "")
    token = request.query.get("continuation-token")
    after = decode_token(token) if token else ""
    found, more = _page(face, prefix, after, limit)
    parts = [
        f"<Owner>{person(request.auth.account)}</Owner><Buckets>",
        *(
            f"<Bucket>{xml.element('Name', bucket.name)}"
            f"{xml.element('CreationDate', xml.timestamp(bucket.created_ns))}"
            f"{xml.element('BucketRegion', face.region)}</Bucket>"
            for bucket in found
        ),
        "</Buckets>",
        xml.optional("Prefix", prefix),
    ]
    if more:
        parts.append(xml.element("ContinuationToken", encode_token(found[-1].name)))
    return xml_response("ListAllMyBucketsResult", parts)


def _page(face: Face, prefix: str, after: str, limit: int) -> tuple[list[Bucket], bool]:
    """Up to `limit` buckets of this prefix behind `after`, and whether there are more."""
    found: list[Bucket] = []
    while True:
        batch = face.namespace.buckets.page(after, _FETCH)
        for bucket in batch:
            if bucket.name.startswith(prefix):
                if len(found) == limit:
                    return found, limit > 0
                found.append(bucket)
        if len(batch) < _FETCH:
            return found, False
        after = batch[-1].name


async def create_bucket(face: Face, request: Request) -> Response:
    if request.text(_LOCK_HEADER).lower() == "true":
        raise NotImplementedYet(extras=(("Header", _LOCK_HEADER.decode()),))
    if request.stream.content_length != 0:
        _check_location(face, await read_document(request, _CONFIGURATION_SIZE_BYTES))
    await face.namespace.buckets.create(request.bucket, request.owner)
    return Response(200, [(b"location", b"/" + request.bucket.encode())])


def _check_location(face: Face, document: bytes) -> None:
    """Raises MalformedXML, InvalidLocationConstraint unless this region, or none, is meant."""
    if not document.strip():
        return
    constraint = xml.texts(xml.parse(document, "CreateBucketConfiguration")).get(
        "LocationConstraint", ""
    )
    if constraint not in ("", face.region):
        raise InvalidLocationConstraint(extras=(("LocationConstraint", constraint),))


async def head_bucket(face: Face, request: Request) -> Response:
    face.namespace.buckets.get(request.bucket)
    region = face.region.encode()
    return Response(200, [(b"x-amz-bucket-region", region), (b"content-length", b"0")])


async def delete_bucket(face: Face, request: Request) -> Response:
    await face.namespace.buckets.delete(request.bucket)
    return NO_CONTENT


async def get_bucket_location(face: Face, request: Request) -> Response:
    face.namespace.buckets.get(request.bucket)
    region = "" if face.region == _US_EAST_1 else face.region
    return xml_response("LocationConstraint", [xml.escape(region)])


async def get_bucket_versioning(face: Face, request: Request) -> Response:
    """A bucket whose versioning was never turned on has an empty configuration."""
    face.namespace.buckets.get(request.bucket)
    return xml_response("VersioningConfiguration", [])


async def get_bucket_acl(face: Face, request: Request) -> Response:
    face.namespace.buckets.get(request.bucket)
    return acl_response(face, request.bucket)


async def put_bucket_acl(face: Face, request: Request) -> Response:
    face.namespace.buckets.get(request.bucket)
    await check_private(face, request)
    return Response(200)
