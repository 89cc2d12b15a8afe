"""Where ACLs come from: canned ones (`x-amz-acl`), grant headers, and documents.

Concurrency: pure. Source: Amazon S3 user guide, "Canned ACL"; API reference, PutObjectAcl and
PutBucketAcl (request headers and AccessControlPolicy).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from store.access.acl import GRANTS_MAX, Acl, Grant, Group, Owner, Permission, full_control
from store.access.errors import MalformedGrants

# A canned ACL: grants besides the owner's FULL_CONTROL, from the owner of the bucket.
_Extra = Callable[[Owner], list[Grant]]


def _to(group: Group, *permissions: Permission) -> list[Grant]:
    return [Grant(permission=permission, group=group) for permission in permissions]


def _bucket_owner(permission: Permission) -> _Extra:
    return lambda owner: [Grant(permission=permission, id=owner.id, name=owner.name)]


_EVERYWHERE: dict[str, _Extra] = {
    "private": lambda _: [],
    "public-read": lambda _: _to(Group.ALL_USERS, Permission.READ),
    "public-read-write": lambda _: _to(Group.ALL_USERS, Permission.READ, Permission.WRITE),
    "authenticated-read": lambda _: _to(Group.AUTHENTICATED_USERS, Permission.READ),
}
BUCKET_CANNED: Mapping[str, _Extra] = {
    **_EVERYWHERE,
    "log-delivery-write": lambda _: _to(Group.LOG_DELIVERY, Permission.WRITE, Permission.READ_ACP),
}
OBJECT_CANNED: Mapping[str, _Extra] = {
    **_EVERYWHERE,
    "aws-exec-read": lambda _: [],
    "bucket-owner-read": _bucket_owner(Permission.READ),
    "bucket-owner-full-control": _bucket_owner(Permission.FULL_CONTROL),
}

GRANT_HEADERS: Mapping[str, Permission] = {
    "x-amz-grant-read": Permission.READ,
    "x-amz-grant-write": Permission.WRITE,
    "x-amz-grant-read-acp": Permission.READ_ACP,
    "x-amz-grant-write-acp": Permission.WRITE_ACP,
    "x-amz-grant-full-control": Permission.FULL_CONTROL,
}
_grantee = re.compile(
    r'\s*(id|uri|emailAddress)\s*=\s*(?:"([^"]*)"|([^",\s]+))\s*(?:,|\Z)', re.ASCII | re.IGNORECASE
)


def canned_bucket_acl(name: str, owner: Owner) -> Acl:
    """Raises MalformedGrants where a bucket has no canned ACL of this name."""
    return _canned(BUCKET_CANNED, name, owner, owner)


def canned_object_acl(name: str, owner: Owner, bucket_owner: Owner) -> Acl:
    """Raises MalformedGrants where an object has no canned ACL of this name."""
    return _canned(OBJECT_CANNED, name, owner, bucket_owner)


def _canned(table: Mapping[str, _Extra], name: str, owner: Owner, bucket_owner: Owner) -> Acl:
    extra = table.get(name)
    if extra is None:
        raise MalformedGrants(f"'{name}' is no canned ACL here")
    grants = [full_control(owner), *extra(bucket_owner)]
    return Acl(owner=owner, grants=_distinct(grants))


def header_grants(
    headers: Mapping[str, str], owner_of: Callable[[str], Owner | None]
) -> tuple[Grant, ...]:
    """The grants of `x-amz-grant-*` headers (names in lower case); () where there are none.

    owner_of: the account with a canonical id, None where there is none. Such headers replace all
    other grants, the owner's own as well. Raises MalformedGrants.
    """
    grants: list[Grant] = []
    for header, permission in GRANT_HEADERS.items():
        value = headers.get(header)
        if value is not None:
            grants += [_parse_grantee(k, v, permission, owner_of) for k, v in _pairs(value)]
    return _distinct(grants)


def _pairs(value: str) -> Iterable[tuple[str, str]]:
    at = 0
    while at < len(value):
        found = _grantee.match(value, at)
        if found is None:
            raise MalformedGrants("a grant header is a list of id=, uri= or emailAddress=")
        yield found[1].lower(), found[2] if found[2] is not None else found[3]
        at = found.end()


def _parse_grantee(
    kind: str, value: str, permission: Permission, owner_of: Callable[[str], Owner | None]
) -> Grant:
    if kind == "uri":
        return Grant(permission=permission, group=group_of(value))
    if kind != "id":
        raise MalformedGrants("grantees by e-mail address are not supported")
    return grant_to(value, permission, owner_of)


def grant_to(
    canonical_id: str, permission: Permission, owner_of: Callable[[str], Owner | None]
) -> Grant:
    """A grant to an account that has to exist. Raises MalformedGrants."""
    owner = owner_of(canonical_id)
    if owner is None:
        raise MalformedGrants(f"no account has the canonical id '{canonical_id[:80]}'")
    return Grant(permission=permission, id=owner.id, name=owner.name)


def group_of(uri: str) -> Group:
    """The predefined group with this URI. Raises MalformedGrants."""
    try:
        return Group(uri)
    except ValueError:
        raise MalformedGrants(f"'{uri[:80]}' is no predefined group") from None


def permission_of(name: str) -> Permission:
    """The permission of this name. Raises MalformedGrants."""
    try:
        return Permission(name)
    except ValueError:
        raise MalformedGrants(f"'{name[:80]}' is no permission") from None


def _distinct(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    found = tuple(dict.fromkeys(grants))
    if len(found) > GRANTS_MAX:
        raise MalformedGrants(f"an ACL has at most {GRANTS_MAX} grants")
    return found


def checked(acl: Acl) -> Acl:
    """An ACL from a document: its grants bounded, none twice. Raises MalformedGrants."""
    return Acl(owner=acl.owner, grants=_distinct(acl.grants))
