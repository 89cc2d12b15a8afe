"""What a bucket itself says of who may do what: owner, policy, ownership, public access block, ACL.

Its documents are parsed once and kept until one of them changes: the store gives out the same
`Rules` for as long as nothing in it did, so a look at which one it is, is enough.

    document            holds                                        where it is absent
    policy              BucketPolicy                                 there is none
    ownershipControls   an Ownership's value, null when removed      BucketOwnerEnforced
    publicAccessBlock   AccessBlock, null when removed               all four switches are on
    acl                 Acl                                          full control of the owner

Concurrency: any task on the loop. Source: Amazon S3 user guide, "Bucket policies", "Controlling
ownership of objects", "Blocking public access", "Access control list (ACL) overview".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from s3api.credentials import ROOT, Account
from store.access.acl import Acl, Owner, bucket_grants, decode_acl, full_control, object_grants
from store.access.decision import Layer
from store.access.evaluate import ResourceRules
from store.access.ownership import (
    DEFAULT_BLOCK,
    DEFAULT_OWNERSHIP,
    NO_BLOCK,
    AccessBlock,
    Ownership,
    decode_block,
)
from store.access.parse import parse_bucket_policy
from store.access.plans import compile_policies
from store.access.principals import Principal, Strength
from store.access.public import is_public
from store.identity.service import Identity
from store.state import Rules

POLICY, OWNERSHIP, BLOCK, ACL = "policy", "ownershipControls", "publicAccessBlock", "acl"
REMOVED = "null"
_KEPT = 10_000


class BucketPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """A policy as it was put. binds_root: with ConfirmRemoveSelfBucketAccess."""

    text: str
    binds_root: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAccess:
    """See the module's header.

    rules: for `decide`; rules_for_root: the same as the server's root sees it, who is at home in
    every account. ownership, block: None where somebody removed them. blocks: the switches that
    hold, the bucket's own and owners_block, those of its owner's account. has_acls: whether ACLs
    count here. plain: no policy and no ACL has a say, so that the owner may do all, and nobody else
    whom the owner's account doesn't let.
    """

    owner: Account
    rules: ResourceRules
    rules_for_root: ResourceRules
    policy: BucketPolicy | None
    policy_public: bool
    ownership: Ownership | None
    block: AccessBlock | None
    blocks: AccessBlock
    owners_block: AccessBlock
    acl: Acl
    has_acls: bool
    plain: bool

    @property
    def writes_as(self) -> Ownership:
        """The ownership that holds: without a setting objects are their writers'."""
        return Ownership.WRITER if self.ownership is None else self.ownership

    def grants(self, principal: Principal, action: str) -> Strength:
        """What the bucket's ACL gives a caller."""
        if not self.has_acls:
            return Strength.NONE
        return bucket_grants(
            self.acl, principal, action, ignore_public=self.blocks.ignore_public_acls
        )

    def object_grants(self, acl: Acl, principal: Principal, action: str) -> Strength:
        """What an object's ACL gives a caller here."""
        return object_grants(acl, principal, action, ignore_public=self.blocks.ignore_public_acls)


class BucketAccesses:
    """Those that were asked for, by bucket name."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Rules, int, BucketAccess]] = {}

    def get(
        self, name: str, rules: Rules, account_of: Callable[[str], Account], identity: Identity
    ) -> BucketAccess:
        """What the bucket says. rules: its own, of this moment. account_of: by owner string.

        identity: tells of the accounts' own blocks.
        """
        found = self._kept.get(name)
        changes = identity.changes
        if found is not None and found[0] is rules and found[1] == changes:
            return found[2]
        owner = account_of(rules.owner)
        block = identity.access_block(owner.id) or NO_BLOCK
        if found is not None and found[0] is rules and found[2].owners_block == block:
            access = found[2]
        else:
            access = read_access(name, rules.documents, owner, block)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[name] = (rules, changes, access)
        return access


def read_access(
    name: str, documents: dict[str, str], owner: Account, owners_block: AccessBlock
) -> BucketAccess:
    """The documents of a bucket, parsed. owners_block: what holds in all of the owner's buckets."""
    ownership = _ownership(documents.get(OWNERSHIP))
    block = _block(documents.get(BLOCK))
    blocks = owners_block if block is None else owners_block.either(block)
    text = documents.get(POLICY)
    kept = None if text is None else msgspec.json.decode(text, type=BucketPolicy)
    policy = None if kept is None else parse_bucket_policy(kept.text, name)
    public = policy is not None and is_public(policy)
    rules = ResourceRules(
        account=owner.number,
        policy=None if policy is None else compile_policies(Layer.RESOURCE, [policy]),
        restricted=public and blocks.restrict_public_buckets,
        binds_root=kept is not None and kept.binds_root,
    )
    acl = documents.get(ACL)
    has_acls = ownership is None or ownership.has_acls
    return BucketAccess(
        owner=owner,
        rules=rules,
        rules_for_root=replace(rules, account=ROOT.number),
        policy=kept,
        policy_public=public,
        ownership=ownership,
        block=block,
        blocks=blocks,
        owners_block=owners_block,
        acl=private_acl(owner_of(owner)) if acl is None else decode_acl(acl),
        has_acls=has_acls,
        plain=policy is None and not has_acls,
    )


def private_acl(owner: Owner) -> Acl:
    """The ACL that grants nothing to anybody else."""
    return Acl(owner=owner, grants=(full_control(owner),))


def owner_of(account: Account) -> Owner:
    """An account as ACLs name it."""
    return Owner(id=account.id, name=account.name)


def _ownership(text: str | None) -> Ownership | None:
    if text is None:
        return DEFAULT_OWNERSHIP
    return None if text == REMOVED else Ownership(msgspec.json.decode(text, type=str))


def _block(text: str | None) -> AccessBlock | None:
    if text is None:
        return DEFAULT_BLOCK
    return None if text == REMOVED else decode_block(text)
