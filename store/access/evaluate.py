"""May this caller do this? The decision over all policies that have a say.

    1  A statement that denies, in whatever layer, decides.
    2  In the caller's own account either side may grant: identity policies, or the resource (its
       policy or ACL, naming the caller or everyone). A resource that only names the account leaves
       it to the identity policies.
    3  From another account both sides have to grant. Who has no account (anonymous callers, tokens
       of a provider) has no side of its own, and needs the resource's grant alone.
    4  Boundary, session and key policies each have to allow, too; but for boundary and session a
       resource policy of the same account that names this very user or session is enough.
    5  Root needs no identity policy. What denies, denies root too, but for a bucket's policy: root
       of its account may always read, put and delete that, unless it was stored to bind root.

`Access` is made once for a key or session, `ResourceRules` once for a bucket or role; each is made
anew when something in it changes. `decide` then allocates next to nothing.

Concurrency: pure but for the plans that a `Compiled` remembers. Source: AWS IAM user guide, "Policy
evaluation logic" (single account, cross-account) and "Permissions boundaries", "Session policies";
Amazon S3 user guide, "Blocking public access" (RestrictPublicBuckets) and API reference,
PutBucketPolicy (ConfirmRemoveSelfBucketAccess).
"""

from __future__ import annotations

from dataclasses import dataclass

from store.access.decision import (
    ALLOWED_BY_ACL,
    ALLOWED_TO_ROOT,
    NOT_ALLOWED,
    Decision,
    Layer,
)
from store.access.patterns import Context
from store.access.plans import Compiled, Plan
from store.access.principals import ANONYMOUS, Kind, Principal, Strength

# What an operation without a bucket of its own is done on (ListAllMyBuckets).
SERVICE_RESOURCE = "arn:aws:s3:::*"
ROOT_KEEPS = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What one key or session may do.

    identity: policies of the user and its groups, or of the role; None where there are none (root,
    anonymous). limits: boundary, session and key policies, as far as there are any.
    """

    principal: Principal
    identity: Compiled | None = None
    limits: tuple[Compiled, ...] = ()

    def keys_for(self, action: str) -> frozenset[str]:
        """As `Compiled.keys_for`, of all layers."""
        found: frozenset[str] = frozenset()
        if self.identity is not None:
            found = self.identity.keys_for(action)
        for limit in self.limits:
            found |= limit.keys_for(action)
        return found


ANONYMOUS_ACCESS = Access(principal=ANONYMOUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRules:
    """What a bucket or role says itself.

    account: its owner's, never "". policy: the bucket's or trust policy. restricted: the policy is
    public and RestrictPublicBuckets is on. binds_root: the policy was stored with
    ConfirmRemoveSelfBucketAccess.
    """

    account: str
    policy: Compiled | None = None
    restricted: bool = False
    binds_root: bool = False

    def __post_init__(self) -> None:
        assert self.account, "a resource always has an owner"


def resource_arn(bucket: str, key: str = "") -> str:
    """The ARN of a bucket or of an object."""
    return f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"


def decide(
    access: Access,
    rules: ResourceRules | None,
    action: str,
    resource: str,
    context: Context,
    acl: Strength = Strength.NONE,
) -> Decision:
    """Whether the caller may do it, and which statement says so.

    rules: of the bucket or role it is done on; None where that is the account itself. action: as in
    `actions.ACTIONS`. resource: an ARN. context: by `keys`. acl: what ACLs grant (`acl.granted`).
    """
    principal = access.principal
    stem = resource.partition("/")[0]
    theirs = None
    if rules is not None and rules.policy is not None:
        theirs = rules.policy.plan(action, stem, principal)
        if theirs.denies is not None and not _is_kept_for_root(principal, rules, action):
            denying = theirs.denies.find(resource, context)
            if denying is not None:
                return denying.decision
    own = None if access.identity is None else access.identity.plan(action, stem, principal)
    narrowing = [limit.plan(action, stem, principal) for limit in access.limits]
    for plan in narrowing if own is None else (own, *narrowing):
        if plan.denies is not None:
            denying = plan.denies.find(resource, context)
            if denying is not None:
                return denying.decision

    inside = rules is None or rules.account == principal.account
    granted, decision = _granted(rules, theirs, inside, resource, context, acl)
    if not inside and not granted:
        return decision
    needs_own = granted < Strength.DIRECT if inside else bool(principal.account)
    if needs_own:
        mine = _identity_says(principal, own, resource, context)
        if inside or not mine.allowed:
            decision = mine
    if not decision.allowed:
        return decision
    for limit, plan in zip(access.limits, narrowing, strict=True):
        exceeded = inside and granted is Strength.EXACT and limit.layer is not Layer.KEY
        if not exceeded and plan.allowing(resource, context) is None:
            return NOT_ALLOWED[limit.layer]
    return decision


def is_sure(access: Access, rules: ResourceRules, action: str, resource: str) -> bool:
    """Whether `decide` would allow it whatever the request says beside: a short way to most grants.

    Only for a user or session on a resource of its own account. False says nothing.
    """
    principal = access.principal
    if access.identity is None or rules.account != principal.account:
        return False
    stem = resource.partition("/")[0]
    own = access.identity.plan(action, stem, principal)
    if own.denies is not None:
        return False
    theirs = None if rules.policy is None else rules.policy.plan(action, stem, principal)
    if theirs is not None and theirs.denies is not None:
        return False
    if not own.is_sure(resource, Strength.NONE) and (
        theirs is None or not theirs.is_sure(resource, Strength.DIRECT)
    ):
        return False
    for limit in access.limits:
        if not limit.plan(action, stem, principal).is_sure(resource, Strength.NONE):
            return False
    return True


def _granted(
    rules: ResourceRules | None,
    plan: Plan | None,
    inside: bool,
    resource: str,
    context: Context,
    acl: Strength,
) -> tuple[Strength, Decision]:
    """The best that the resource's side grants, and by what."""
    if plan is not None and rules is not None and not (rules.restricted and not inside):
        for strength, finder in plan.allows:
            if strength <= acl:
                break
            rule = finder.find(resource, context)
            if rule is not None:
                return strength, rule.decision
    return acl, ALLOWED_BY_ACL if acl else NOT_ALLOWED[_layer_of(rules)]


def _layer_of(rules: ResourceRules | None) -> Layer:
    return rules.policy.layer if rules is not None and rules.policy else Layer.RESOURCE


def _is_kept_for_root(principal: Principal, rules: ResourceRules, action: str) -> bool:
    return (
        action in ROOT_KEEPS
        and principal.kind is Kind.ROOT
        and principal.account == rules.account
        and not rules.binds_root
    )


def _identity_says(
    principal: Principal, own: Plan | None, resource: str, context: Context
) -> Decision:
    if principal.kind is Kind.ROOT:
        return ALLOWED_TO_ROOT
    rule = None if own is None else own.allowing(resource, context)
    return NOT_ALLOWED[Layer.IDENTITY] if rule is None else rule.decision
