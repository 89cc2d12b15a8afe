"""Reading and writing ACLs, and what an upload's own ACL makes of an object.

    ownership of the bucket   an ACL that is sent                              kept
    BucketOwnerEnforced       refused unless it says what holds anyway         nothing
    the others                taken, unless it is public and that is blocked   owner and grants

Concurrency: any task. Source: Amazon S3 API reference, GetBucketAcl, PutBucketAcl, GetObjectAcl,
PutObjectAcl; user guide, "Controlling ownership of objects and disabling ACLs".
"""

from __future__ import annotations

from msgspec.structs import replace

from s3api.acl import ACL_HEADERS, acl_of_headers, acl_response, find_owner, parse_acl
from s3api.body import read_document
from s3api.bucketaccess import ACL, BucketAccess, owner_of, private_acl
from s3api.credentials import ANYONE
from s3api.errors import AccessDenied
from s3api.face import Face
from s3api.requests import Request
from s3api.responses import Response
from s3api.settingrefusals import AclNotSupported
from store.access.acl import Acl, Owner, encode_acl, full_control
from store.access.ownership import acl_of_new, fits_enforced, refuses_acl
from store.types import ObjectMeta

_SIZE_BYTES = 64 * 1024


async def get_bucket_acl(face: Face, request: Request) -> Response:
    said = face.bucket_access(request.bucket)
    return acl_response(said.acl if said.has_acls else private_acl(owner_of(said.owner)))


async def put_bucket_acl(face: Face, request: Request) -> Response:
    said = face.bucket_access(request.bucket)
    owner = owner_of(said.owner)
    acl = await _asked(face, request, owner, None, said)
    if _is_kept(said, acl):
        await face.namespace.buckets.set_document(request.bucket, ACL, encode_acl(acl))
    return Response(200)


async def get_object_acl(face: Face, request: Request) -> Response:
    meta = face.namespace.objects.stat(request.bucket, request.key, request.version()).meta
    said = face.bucket_access(request.bucket)
    if not said.has_acls:
        return acl_response(private_acl(owner_of(said.owner)))
    return acl_response(meta.acl or private_acl(_owner(face, said, meta)))


def _owner(face: Face, said: BucketAccess, meta: ObjectMeta) -> Owner:
    return owner_of(face.account_of(meta.owner) if meta.owner else said.owner)


async def put_object_acl(face: Face, request: Request) -> Response:
    bucket, key, version = request.bucket, request.key, request.version()
    objects = face.namespace.objects
    said = face.bucket_access(bucket)
    owner = _owner(face, said, objects.stat(bucket, key, version).meta)
    acl = await _asked(face, request, owner, owner_of(said.owner), said)
    if _is_kept(said, acl):
        # No await between reading the metadata and replacing it.
        meta = objects.stat(bucket, key, version).meta
        await objects.set_meta(bucket, key, replace(meta, acl=acl), version)
    return Response(200)


async def _asked(
    face: Face, request: Request, owner: Owner, bucket_owner: Owner | None, said: BucketAccess
) -> Acl:
    """The ACL of headers or body. Raises what `acl_of_headers` and `parse_acl` raise.

    Where ACLs don't count, only a document is looked at: tools write back what they have read.
    Raises AclNotSupported.
    """
    find = find_owner(face)
    acl = acl_of_headers(request.headers, owner, bucket_owner, find)
    if acl is not None:
        if not said.has_acls:
            raise AclNotSupported()
        return acl
    return parse_acl(await read_document(request, _SIZE_BYTES), owner, find)


def _is_kept(said: BucketAccess, acl: Acl) -> bool:
    """Whether the ACL counts, and is to be kept. Raises AclNotSupported, AccessDenied."""
    if not said.has_acls:
        if not fits_enforced(acl, owner_of(said.owner)):
            raise AclNotSupported()
        return False
    check_public(said, acl)
    return True


def check_public(said: BucketAccess, acl: Acl) -> None:
    """Raises AccessDenied for a public ACL where those are blocked."""
    if refuses_acl(said.blocks, acl):
        raise AccessDenied("Public access control lists are blocked for this bucket.")


def owned_meta(face: Face, request: Request, meta: ObjectMeta) -> ObjectMeta:
    """The metadata of an object that the request stores, with its owner and ACL.

    Raises AclNotSupported, AccessDenied, and what `acl_of_headers` raises.
    """
    said = face.bucket_access(request.bucket)
    has_headers = not request.headers.keys().isdisjoint(ACL_HEADERS)
    if not has_headers and not said.has_acls:
        return replace(meta, owner="", acl=None) if meta.owner or meta.acl else meta
    bucket_owner = owner_of(said.owner)
    account = request.auth.account
    # What nobody stores is the bucket's owner's, who else could never be rid of it.
    writer = bucket_owner if account is ANYONE else owner_of(account)
    acl = None
    if has_headers:
        acl = acl_of_headers(request.headers, writer, bucket_owner, find_owner(face))
    if acl is None:
        acl = Acl(owner=writer, grants=(full_control(writer),))
    elif said.has_acls:
        face.authorize_acl(request)
        check_public(said, acl)
    elif not fits_enforced(acl, bucket_owner) or full_control(bucket_owner) not in acl.grants:
        raise AclNotSupported()
    if not said.has_acls:
        return replace(meta, owner="", acl=None)
    kept = acl_of_new(said.writes_as, writer, bucket_owner, acl)
    return replace(
        meta,
        owner="" if kept.owner.id == bucket_owner.id else kept.owner.id,
        acl=None if kept.grants == (full_control(kept.owner),) else kept,
    )
