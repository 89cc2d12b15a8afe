"""Buckets: list, create, head, delete, and the few settings that tools ask for.

Concurrency: any task. Source: Amazon S3 API reference, ListBuckets, CreateBucket, HeadBucket.
"""

from __future__ import annotations

from s3api import xml
from s3api.acl import ACL_HEADERS, acl_of_headers, find_owner, person
from s3api.body import read_document
from s3api.bucketaccess import ACL, BLOCK, OWNERSHIP, REMOVED, owner_of
from s3api.bucketpolicies import encode_ownership, parse_ownership
from s3api.errors import (
    AccessDenied,
    InvalidArgument,
    InvalidLocationConstraint,
    NotImplementedYet,
)
from s3api.face import Face
from s3api.metadata import check_refused
from s3api.requests import Request
from s3api.responses import NO_CONTENT, Response, xml_response
from s3api.settingrefusals import AclForbidsOwnership, BucketNameTaken
from s3api.tokens import decode_token, encode_token
from store.access.acl import encode_acl, is_public
from store.access.ownership import DEFAULT_OWNERSHIP, may_disable_acls
from store.access.principals import Kind
from store.errors import BucketExists
from store.types import Bucket

BUCKETS_PAGE = 10_000
_CONFIGURATION_SIZE_BYTES = 64 * 1024
_US_EAST_1 = "us-east-1"
_LOCK_HEADER = b"x-amz-bucket-object-lock-enabled"
_OWNERSHIP_HEADER = b"x-amz-object-ownership"
_NAMESPACE_HEADER = b"x-amz-bucket-namespace"
# Of directory buckets, and tags, which PutBucketTagging can set.
_UNKNOWN_PARTS = ("Location", "Bucket", "Tags")


async def list_buckets(face: Face, request: Request) -> Response:
    """The caller's buckets by name; root sees everybody's."""
    account = request.auth.account
    everyone = account.root and request.auth.access.principal.kind is Kind.ROOT
    limit = request.limit("max-buckets", BUCKETS_PAGE)
    if limit == 0:
        raise InvalidArgument(
            f"max-buckets must be between 1 and {BUCKETS_PAGE}",
            (("ArgumentName", "max-buckets"), ("ArgumentValue", "0")),
        )
    prefix = request.query.get("prefix", "")
    token = request.query.get("continuation-token")
    found: list[Bucket] = []
    if request.query.get("bucket-region", face.region) == face.region:
        found = face.namespace.buckets.page(
            decode_token(token) if token else "",
            limit + 1,
            prefix=prefix,
            owner=None if everyone else account.owner,
        )
    parts = [
        f"<Owner>{person(account)}</Owner><Buckets>",
        *(
            f"<Bucket>{xml.element('Name', bucket.name)}"
            f"{xml.element('CreationDate', xml.timestamp(bucket.created_ns))}"
            f"{xml.element('BucketRegion', face.region)}</Bucket>"
            for bucket in found[:limit]
        ),
        "</Buckets>",
        xml.optional("Prefix", prefix),
    ]
    if len(found) > limit:
        parts.append(xml.element("ContinuationToken", encode_token(found[limit - 1].name)))
    return xml_response("ListAllMyBucketsResult", parts)


async def create_bucket(face: Face, request: Request) -> Response:
    """In us-east-1 S3 answers 200 for a bucket that is the caller's already; elsewhere 409."""
    lock = request.text(_LOCK_HEADER).lower() == "true"
    if request.text(_NAMESPACE_HEADER) not in ("", "global"):
        raise NotImplementedYet(extras=(("Header", _NAMESPACE_HEADER.decode()),))
    check_refused(request.headers)
    constraint = ""
    if request.stream.content_length != 0:
        constraint = _location(face, await read_document(request, _CONFIGURATION_SIZE_BYTES))
    if constraint:
        request.told = {"s3:locationconstraint": constraint}
    _authorize_creation(face, request, lock)
    documents = _first_documents(face, request)
    try:
        await face.namespace.buckets.create(
            request.bucket, request.owner, lock=lock, documents=documents, maker=request.auth.maker
        )
    except BucketExists:
        bucket = face.namespace.buckets.get(request.bucket)
        if bucket.owner != request.owner:
            raise BucketNameTaken(extras=(("BucketName", bucket.name),)) from None
        kept = face.namespace.buckets.rules(request.bucket).documents
        if any(kept.get(name) != documents.get(name) for name in (ACL, OWNERSHIP)):
            raise BucketNameTaken(extras=(("BucketName", bucket.name),)) from None
        if face.region != _US_EAST_1 or lock != bucket.lock:
            raise
    return Response(200, [(b"location", b"/" + request.bucket.encode())])


def _authorize_creation(face: Face, request: Request, lock: bool) -> None:
    """What is asked for beside the bucket needs a right of its own. Raises AccessDenied."""
    actions = ["s3:CreateBucket"]
    if not request.headers.keys().isdisjoint(ACL_HEADERS):
        actions.append("s3:PutBucketAcl")
    if _OWNERSHIP_HEADER in request.headers:
        actions.append("s3:PutBucketOwnershipControls")
    if lock:
        actions += ["s3:PutBucketVersioning", "s3:PutBucketObjectLockConfiguration"]
    for action in actions:
        face.authorize_creation(request, action)


def _first_documents(face: Face, request: Request) -> dict[str, str]:
    """Ownership, public access block and ACL that a new bucket has.

    Raises InvalidArgument, MalformedXML, AccessDenied, AclForbidsOwnership.
    """
    documents: dict[str, str] = {}
    ownership = face.object_ownership
    if _OWNERSHIP_HEADER in request.headers:
        ownership = parse_ownership(request.text(_OWNERSHIP_HEADER))
    if ownership is not DEFAULT_OWNERSHIP:
        documents[OWNERSHIP] = REMOVED if ownership is None else encode_ownership(ownership)
    if not face.block_public_access:
        documents[BLOCK] = REMOVED
    acl = acl_of_headers(request.headers, owner_of(request.auth.account), None, find_owner(face))
    if acl is not None:
        if ownership is not None and not ownership.has_acls:
            if not may_disable_acls(acl):
                raise AclForbidsOwnership()
        elif is_public(acl) and _blocks_public_acls(face, request):
            raise AccessDenied("Public access control lists are blocked for new buckets.")
        else:
            documents[ACL] = encode_acl(acl)
    return documents


def _blocks_public_acls(face: Face, request: Request) -> bool:
    """Whether a new bucket of the sender's has no public ACL."""
    block = face.namespace.identity.access_block(request.auth.account.id)
    return face.block_public_access or (block is not None and block.block_public_acls)


def _location(face: Face, document: bytes) -> str:
    """The region that is asked for, "" for none: this one must be meant, and nothing else.

    Raises MalformedXML, InvalidLocationConstraint, NotImplementedYet.
    """
    if not document.strip():
        return ""
    root = xml.only(
        xml.parse(document, "CreateBucketConfiguration"), "LocationConstraint", *_UNKNOWN_PARTS
    )
    fields = xml.texts(root)
    if not fields.keys().isdisjoint(_UNKNOWN_PARTS):
        raise NotImplementedYet()
    constraint = fields.get("LocationConstraint", "")
    if constraint not in ("", face.region):
        raise InvalidLocationConstraint(extras=(("LocationConstraint", constraint),))
    return constraint


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
