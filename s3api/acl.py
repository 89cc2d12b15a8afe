"""ACLs in requests and answers: documents, canned ones and grant headers.

Whether an ACL counts is the bucket's ownership setting's to say; where it doesn't, only one that
says what holds anyway is taken (`s3api.aclroutes`).

Concurrency: pure but for looking up accounts. Source: Amazon S3 API reference, GetBucketAcl,
PutBucketAcl, PutObjectAcl; user guide, "Access control list (ACL) overview".
"""

from __future__ import annotations

from collections.abc import Callable

from s3api import xml
from s3api.bucketaccess import owner_of
from s3api.credentials import Account
from s3api.errors import InvalidArgument, InvalidRequest
from s3api.face import Face
from s3api.requests import Headers, decode_header
from s3api.responses import Response, xml_response
from s3api.settingrefusals import AclMalformed, AddressUnknown
from store.access.acl import Acl, Grant, Owner
from store.access.errors import MalformedGrants
from store.access.grants import (
    GRANT_HEADERS,
    canned_bucket_acl,
    canned_object_acl,
    checked,
    grant_to,
    group_of,
    header_grants,
    permission_of,
)
from store.types import ObjectMeta

CANNED = b"x-amz-acl"
_GRANT_HEADERS = frozenset(name.encode() for name in GRANT_HEADERS)
ACL_HEADERS = _GRANT_HEADERS | {CANNED}
_SCHEMA = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'

FindOwner = Callable[[str], Owner | None]


def person(account: Account | Owner) -> str:
    """What stands inside Owner, Initiator and Grantee."""
    return xml.element("ID", account.id) + xml.element("DisplayName", account.name)


def owner_element(face: Face, bucket: str) -> str:
    """The Owner of a bucket and of what is in it, if nothing else is said. Raises NoSuchBucket."""
    return f"<Owner>{person(face.account_of(face.namespace.buckets.get(bucket).owner))}</Owner>"


def object_owner_element(face: Face, meta: ObjectMeta, otherwise: str) -> str:
    """The Owner of an object. otherwise: the bucket's."""
    return f"<Owner>{person(face.account_of(meta.owner))}</Owner>" if meta.owner else otherwise


def find_owner(face: Face) -> FindOwner:
    """The account with a canonical id, as ACLs name it; None where there is none."""

    def find(canonical_id: str) -> Owner | None:
        account = face.accounts.get(canonical_id) if canonical_id else None
        return None if account is None else owner_of(account)

    return find


def acl_response(acl: Acl) -> Response:
    """The document that says it, grants to groups first."""
    ordered = sorted(acl.grants, key=lambda grant: grant.group is None)
    grants = "".join(map(_grant, ordered))
    return xml_response(
        "AccessControlPolicy",
        [
            f"<Owner>{person(acl.owner)}</Owner>",
            f"<AccessControlList>{grants}</AccessControlList>",
        ],
    )


def _grant(grant: Grant) -> str:
    if grant.group is not None:
        kind, who = "Group", xml.element("URI", grant.group.value)
    else:
        kind, who = "CanonicalUser", person(Owner(id=grant.id, name=grant.name))
    return (
        f'<Grant><Grantee {_SCHEMA} xsi:type="{kind}">{who}</Grantee>'
        f"{xml.element('Permission', grant.permission.value)}</Grant>"
    )


def acl_of_headers(
    headers: Headers, owner: Owner, bucket_owner: Owner | None, find: FindOwner
) -> Acl | None:
    """The ACL that headers ask for; None where they ask for none. bucket_owner: None of a bucket.

    Raises InvalidArgument, InvalidRequest (a canned ACL and grants).
    """
    canned = decode_header(headers.get(CANNED, b""))
    try:
        grants = header_grants(
            {name.decode(): decode_header(headers[name]) for name in _GRANT_HEADERS & {*headers}},
            find,
        )
        if grants and canned:
            raise InvalidRequest("Specifying both Canned ACLs and Header Grants is not allowed")
        if grants:
            return Acl(owner=owner, grants=grants)
        if not canned:
            return None
        if bucket_owner is None:
            return canned_bucket_acl(canned, owner)
        return canned_object_acl(canned, owner, bucket_owner)
    except MalformedGrants as malformed:
        raise InvalidArgument(
            malformed.sentence, (("ArgumentName", "x-amz-acl"), ("ArgumentValue", canned))
        ) from None


def parse_acl(document: bytes, owner: Owner, find: FindOwner) -> Acl:
    """An AccessControlPolicy, whose owner must be who it is, if it names one.

    Raises MalformedXML, AclMalformed, InvalidArgument.
    """
    root = xml.parse(document, "AccessControlPolicy")
    xml.only(root, "Owner", "AccessControlList")
    lists = list(xml.children(root, "AccessControlList"))
    owners = list(xml.children(root, "Owner"))
    if len(lists) > 1 or len(owners) > 1:
        raise AclMalformed()
    if owners and xml.texts(owners[0]).get("ID") != owner.id:
        raise InvalidArgument("The owner of a bucket or object can't be changed by its ACL.")
    try:
        elements = [grant for one in lists for grant in xml.only(one, "Grant")]
        grants = tuple(_parse_grant(element, find) for element in elements)
        return checked(Acl(owner=owner, grants=grants))
    except MalformedGrants as malformed:
        raise InvalidArgument(malformed.sentence) from None


def _parse_grant(element: xml.Element, find: FindOwner) -> Grant:
    xml.only(element, "Grantee", "Permission")
    grantees = list(xml.children(element, "Grantee"))
    permissions = list(xml.children(element, "Permission"))
    if len(grantees) != 1 or len(permissions) != 1:
        raise AclMalformed()
    permission = permission_of((permissions[0].text or "").strip())
    fields = xml.texts(xml.only(grantees[0], "ID", "DisplayName", "URI", "EmailAddress"))
    if "URI" in fields:
        return Grant(permission=permission, group=group_of(fields["URI"]))
    if "ID" not in fields:
        raise AddressUnknown()
    return grant_to(fields["ID"], permission, find)
