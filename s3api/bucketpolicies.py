"""The settings of a bucket that say who may do what: policy, public access block, ownership.

Concurrency: any task; what is put is parsed again, and once, by `s3api.bucketaccess`. Source:
Amazon S3 API reference, the operations of these names; user guide, "Bucket policies", "Blocking
public access to your Amazon S3 storage", "Controlling ownership of objects".
"""

from __future__ import annotations

import msgspec

from s3api import xml
from s3api.body import read_document
from s3api.bucketaccess import BLOCK, OWNERSHIP, POLICY, REMOVED, BucketPolicy
from s3api.errors import AccessDenied, MalformedXML
from s3api.face import Face
from s3api.httpstream import Header
from s3api.requests import Request
from s3api.responses import NO_CONTENT, Response, xml_response
from s3api.settingrefusals import (
    AclForbidsOwnership,
    NoSuchOwnership,
    NoSuchPolicy,
    NoSuchPublicAccessBlock,
    PolicyMalformed,
)
from store.access.errors import MalformedPolicy
from store.access.ownership import (
    AccessBlock,
    Ownership,
    encode_block,
    may_disable_acls,
)
from store.access.parse import parse_bucket_policy
from store.access.policy import BUCKET_LIMITS
from store.access.public import is_public

_SIZE_BYTES = 64 * 1024
_JSON: Header = (b"content-type", b"application/json")
_CONFIRM = b"x-amz-confirm-remove-self-bucket-access"
_SWITCHES = {
    "BlockPublicAcls": "block_public_acls",
    "IgnorePublicAcls": "ignore_public_acls",
    "BlockPublicPolicy": "block_public_policy",
    "RestrictPublicBuckets": "restrict_public_buckets",
}
_VALUES = {"true": True, "false": False}


async def get_bucket_policy(face: Face, request: Request) -> Response:
    return Response(200, [_JSON], _policy(face, request).text.encode())


def _policy(face: Face, request: Request) -> BucketPolicy:
    policy = face.bucket_access(request.bucket).policy
    if policy is None:
        raise NoSuchPolicy(extras=(("BucketName", request.bucket),))
    return policy


async def get_bucket_policy_status(face: Face, request: Request) -> Response:
    _policy(face, request)
    public = face.bucket_access(request.bucket).policy_public
    return xml_response("PolicyStatus", [xml.flag("IsPublic", public)])


async def put_bucket_policy(face: Face, request: Request) -> Response:
    try:
        # One byte more than there may be, so that the parser says what is wrong.
        document = await read_document(request, BUCKET_LIMITS.size_max + 1)
        policy = parse_bucket_policy(document, request.bucket)
    except MalformedPolicy as malformed:
        raise PolicyMalformed(malformed.sentence) from None
    except MalformedXML:
        raise PolicyMalformed("The policy is too large.") from None
    if face.bucket_access(request.bucket).blocks.block_public_policy and is_public(policy):
        raise AccessDenied("Public policies are blocked for this bucket.")
    kept = BucketPolicy(
        text=document.decode(),
        binds_root=request.headers.get(_CONFIRM, b"").lower() == b"true",
    )
    text = msgspec.json.encode(kept).decode()
    await face.namespace.buckets.set_document(request.bucket, POLICY, text)
    return NO_CONTENT


async def delete_bucket_policy(face: Face, request: Request) -> Response:
    await face.namespace.buckets.set_document(request.bucket, POLICY, None)
    return NO_CONTENT


async def get_public_access_block(face: Face, request: Request) -> Response:
    block = face.bucket_access(request.bucket).block
    if block is None:
        raise NoSuchPublicAccessBlock(extras=(("BucketName", request.bucket),))
    return block_response(block)


def block_response(block: AccessBlock) -> Response:
    """A PublicAccessBlockConfiguration."""
    flags = [xml.flag(name, getattr(block, field)) for name, field in _SWITCHES.items()]
    return xml_response("PublicAccessBlockConfiguration", flags)


async def put_public_access_block(face: Face, request: Request) -> Response:
    block = await read_block(request)
    await face.namespace.buckets.set_document(request.bucket, BLOCK, encode_block(block))
    return Response(200)


async def read_block(request: Request) -> AccessBlock:
    """The PublicAccessBlockConfiguration of a body. Raises MalformedXML."""
    document = await read_document(request, _SIZE_BYTES)
    root = xml.parse(document, "PublicAccessBlockConfiguration")
    given = xml.texts(xml.only(root, *_SWITCHES))
    try:
        return AccessBlock(
            **{_SWITCHES[name]: _VALUES[text.strip().lower()] for name, text in given.items()}
        )
    except KeyError:
        raise MalformedXML() from None


async def delete_public_access_block(face: Face, request: Request) -> Response:
    await face.namespace.buckets.set_document(request.bucket, BLOCK, REMOVED)
    return NO_CONTENT


async def get_ownership_controls(face: Face, request: Request) -> Response:
    ownership = face.bucket_access(request.bucket).ownership
    if ownership is None:
        raise NoSuchOwnership(extras=(("BucketName", request.bucket),))
    rule = f"<Rule>{xml.element('ObjectOwnership', ownership.value)}</Rule>"
    return xml_response("OwnershipControls", [rule])


async def put_ownership_controls(face: Face, request: Request) -> Response:
    root = xml.parse(await read_document(request, _SIZE_BYTES), "OwnershipControls")
    rules = list(xml.only(root, "Rule"))
    if len(rules) != 1:
        raise MalformedXML()
    fields = xml.texts(xml.only(rules[0], "ObjectOwnership"))
    ownership = parse_ownership(fields.get("ObjectOwnership", ""))
    said = face.bucket_access(request.bucket)
    if not ownership.has_acls and said.has_acls and not may_disable_acls(said.acl):
        raise AclForbidsOwnership()
    text = encode_ownership(ownership)
    await face.namespace.buckets.set_document(request.bucket, OWNERSHIP, text)
    return Response(200)


def parse_ownership(text: str) -> Ownership:
    """Raises MalformedXML."""
    try:
        return Ownership(text)
    except ValueError:
        raise MalformedXML() from None


def encode_ownership(ownership: Ownership) -> str:
    """JSON, for the database."""
    return msgspec.json.encode(ownership.value).decode()


async def delete_ownership_controls(face: Face, request: Request) -> Response:
    await face.namespace.buckets.set_document(request.bucket, OWNERSHIP, REMOVED)
    return NO_CONTENT
