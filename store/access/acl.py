"""Access control lists: who owns a bucket or object, and what its owner granted to whom.

An ACL is an owner and grants; a grant is a permission for a grantee: an account by its canonical
id, or one of three groups. They only matter where a bucket's ownership setting lets them
(`ownership`); by default it doesn't.

    permission     on a bucket                          on an object
    READ           list it, its versions and uploads    read it
    WRITE          store and delete objects in it       -
    READ_ACP       read its ACL                         read its ACL
    WRITE_ACP      write its ACL                        write its ACL
    FULL_CONTROL   all of these                         all of these

Invariants
  1. The owner may always read and write the ACL, whatever it says.
  2. A grant never reaches further than this table: not the bucket's policy, not a version's end.

Concurrency: pure values; kept as JSON. Source: Amazon S3 user guide, "Access control list (ACL)
overview" (mapping of permissions, canned ACLs, predefined groups).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from store.access.errors import MalformedGrants
from store.access.principals import Kind, Principal, Strength

GRANTS_MAX = 100


class Permission(enum.Enum):
    """What a grant gives."""

    READ = "READ"
    WRITE = "WRITE"
    READ_ACP = "READ_ACP"
    WRITE_ACP = "WRITE_ACP"
    FULL_CONTROL = "FULL_CONTROL"


class Group(enum.Enum):
    """A predefined group, by its URI."""

    ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
    AUTHENTICATED_USERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
    LOG_DELIVERY = "http://acs.amazonaws.com/groups/s3/LogDelivery"


class Owner(msgspec.Struct, frozen=True):
    """An account as ACLs name it. id: its canonical id. name: for display, may be ""."""

    id: str
    name: str = ""


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """One grant: to a group, or to an account by its canonical id; the other one is None or ""."""

    permission: Permission
    group: Group | None = None
    id: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if (self.group is None) == (not self.id):
            raise MalformedGrants("a grantee is either a group or a canonical id")


class Acl(msgspec.Struct, frozen=True):
    """Owner and grants of one bucket or object, in the order in which they were given."""

    owner: Owner
    grants: tuple[Grant, ...] = ()


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Acl)

BUCKET_ACTIONS: Mapping[Permission, frozenset[str]] = {
    Permission.READ: frozenset(
        {"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"}
    ),
    Permission.WRITE: frozenset(
        {
            "s3:PutObject",
            "s3:DeleteObject",
            "s3:AbortMultipartUpload",
            "s3:ListMultipartUploadParts",
        }
    ),
    Permission.READ_ACP: frozenset({"s3:GetBucketAcl"}),
    Permission.WRITE_ACP: frozenset({"s3:PutBucketAcl"}),
}
OBJECT_ACTIONS: Mapping[Permission, frozenset[str]] = {
    Permission.READ: frozenset(
        {
            "s3:GetObject",
            "s3:GetObjectVersion",
            "s3:GetObjectAttributes",
            "s3:GetObjectVersionAttributes",
            "s3:GetObjectTorrent",
        }
    ),
    Permission.WRITE: frozenset(),
    Permission.READ_ACP: frozenset({"s3:GetObjectAcl", "s3:GetObjectVersionAcl"}),
    Permission.WRITE_ACP: frozenset({"s3:PutObjectAcl", "s3:PutObjectVersionAcl"}),
}


def encode_acl(acl: Acl) -> str:
    """JSON, for the database."""
    return _ENCODER.encode(acl).decode()


def decode_acl(text: str | bytes) -> Acl:
    """The other way. Raises msgspec.ValidationError where a database holds something else."""
    return _DECODER.decode(text)


def bucket_grants(
    acl: Acl, principal: Principal, action: str, *, ignore_public: bool = False
) -> Strength:
    """What a bucket's ACL grants a caller for an action on it or in it; for `evaluate.decide`.

    ignore_public: as `ownership.AccessBlock.ignore_public_acls`. ACCOUNT where it is the caller's
    account that is named: within the account that is for identity policies to pass on.
    """
    return _granted(acl, BUCKET_ACTIONS, principal, action, ignore_public)


def object_grants(
    acl: Acl, principal: Principal, action: str, *, ignore_public: bool = False
) -> Strength:
    """The same, of an object's ACL for an action on it."""
    return _granted(acl, OBJECT_ACTIONS, principal, action, ignore_public)


def _granted(
    acl: Acl,
    table: Mapping[Permission, frozenset[str]],
    principal: Principal,
    action: str,
    ignore_public: bool,
) -> Strength:
    best = Strength.NONE
    if principal.canonical_id and principal.canonical_id == acl.owner.id:
        kept = table[Permission.READ_ACP] | table[Permission.WRITE_ACP]
        best = Strength.ACCOUNT if action in kept else Strength.NONE
    for grant in acl.grants:
        if not _gives(grant.permission, action, table):
            continue
        if grant.group is None:
            reached, strength = grant.id == principal.canonical_id, Strength.ACCOUNT
        else:
            reached, strength = _is_member(grant.group, principal), Strength.DIRECT
            reached = reached and not ignore_public
        if reached and strength > best:
            best = strength
    return best


def _gives(permission: Permission, action: str, table: Mapping[Permission, frozenset[str]]) -> bool:
    if permission is Permission.FULL_CONTROL:
        return any(action in actions for actions in table.values())
    return action in table[permission]


def _is_member(group: Group, principal: Principal) -> bool:
    match group:
        case Group.ALL_USERS:
            return True
        case Group.AUTHENTICATED_USERS:
            return bool(principal.account) and principal.kind is not Kind.ANONYMOUS
    # Logs are delivered by the server itself, not by a caller.
    return False


def is_public(acl: Acl) -> bool:
    """Whether it grants anything to all users, or to all who have an account somewhere."""
    public = (Group.ALL_USERS, Group.AUTHENTICATED_USERS)
    return any(grant.group in public for grant in acl.grants)


def full_control(owner: Owner) -> Grant:
    """The grant that every ACL begins with."""
    return Grant(permission=Permission.FULL_CONTROL, id=owner.id, name=owner.name)
