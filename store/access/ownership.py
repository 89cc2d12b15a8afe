"""Object ownership and the public access block: whether ACLs and public policies count at all.

    ownership              ACLs             an object belongs to
    BucketOwnerEnforced    don't count      the bucket's owner
    BucketOwnerPreferred   count            the bucket's owner, if stored with
                                            bucket-owner-full-control, else who stored it
    ObjectWriter           count            who stored it

    block                    effect
    block_public_acls        storing a public ACL is refused
    ignore_public_acls       public grants of ACLs count for nothing
    block_public_policy      storing a public bucket policy is refused
    restrict_public_buckets  a public policy grants nothing outside the owner's account

A new bucket has BucketOwnerEnforced and all four blocks on, as on AWS.

Concurrency: pure values; kept as JSON. Source: Amazon S3 user guide, "Controlling ownership of
objects" and "Blocking public access to your Amazon S3 storage".
"""

from __future__ import annotations

import enum

import msgspec

from store.access.acl import Acl, Owner, Permission, full_control
from store.access.acl import is_public as is_public_acl
from store.access.errors import MalformedGrants


class Ownership(enum.Enum):
    """The ownership setting of a bucket."""

    ENFORCED = "BucketOwnerEnforced"
    PREFERRED = "BucketOwnerPreferred"
    WRITER = "ObjectWriter"

    @property
    def has_acls(self) -> bool:
        """Whether ACLs count."""
        return self is not Ownership.ENFORCED


DEFAULT_OWNERSHIP = Ownership.ENFORCED


class AccessBlock(msgspec.Struct, frozen=True, omit_defaults=True):
    """The four switches; those of the account and of the bucket add up (`either`)."""

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False

    def either(self, other: AccessBlock) -> AccessBlock:
        """What holds where both are set."""
        return AccessBlock(
            block_public_acls=self.block_public_acls or other.block_public_acls,
            ignore_public_acls=self.ignore_public_acls or other.ignore_public_acls,
            block_public_policy=self.block_public_policy or other.block_public_policy,
            restrict_public_buckets=self.restrict_public_buckets or other.restrict_public_buckets,
        )


NO_BLOCK = AccessBlock()
DEFAULT_BLOCK = AccessBlock(
    block_public_acls=True,
    ignore_public_acls=True,
    block_public_policy=True,
    restrict_public_buckets=True,
)
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(AccessBlock)


def encode_block(block: AccessBlock) -> str:
    """JSON, for the database."""
    return _ENCODER.encode(block).decode()


def decode_block(text: str | bytes) -> AccessBlock:
    """The other way. Raises msgspec.ValidationError where a database holds something else."""
    return _DECODER.decode(text)


def refuses_acl(block: AccessBlock, acl: Acl) -> bool:
    """Whether storing this ACL has to be refused because it is public."""
    return block.block_public_acls and is_public_acl(acl)


def owner_of_new(ownership: Ownership, writer: Owner, bucket_owner: Owner, acl: Acl) -> Owner:
    """Whose an object becomes that `writer` stores with `acl`."""
    if ownership is Ownership.ENFORCED:
        return bucket_owner
    if ownership is Ownership.WRITER:
        return writer
    given = any(
        grant.id == bucket_owner.id and grant.permission is Permission.FULL_CONTROL
        for grant in acl.grants
    )
    return bucket_owner if given else writer


def acl_of_new(ownership: Ownership, writer: Owner, bucket_owner: Owner, acl: Acl) -> Acl:
    """What is kept with an object that `writer` stores with `acl`.

    With BucketOwnerEnforced that is the bucket owner's full control; asking for more than
    `fits_enforced` allows raises MalformedGrants.
    """
    owner = owner_of_new(ownership, writer, bucket_owner, acl)
    if ownership is Ownership.ENFORCED:
        if not fits_enforced(acl, bucket_owner):
            raise MalformedGrants("the bucket does not allow ACLs")
        return Acl(owner=owner, grants=(full_control(owner),))
    return Acl(owner=owner, grants=acl.grants)


def fits_enforced(acl: Acl, bucket_owner: Owner) -> bool:
    """Whether an ACL may be sent to a bucket with BucketOwnerEnforced.

    It then says nothing but what holds anyway: full control of its owner and the bucket's.
    """
    known = {acl.owner.id, bucket_owner.id}
    return all(
        grant.permission is Permission.FULL_CONTROL and grant.id in known for grant in acl.grants
    )


def may_disable_acls(bucket_acl: Acl) -> bool:
    """Whether a bucket may be set to BucketOwnerEnforced: its ACL grants nobody else a thing."""
    return all(grant.id == bucket_acl.owner.id for grant in bucket_acl.grants)
