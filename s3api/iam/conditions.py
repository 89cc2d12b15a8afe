"""What conditions may ask of an action of IAM, beside what they may ask of any request.

    aws:RequestTag/T, aws:TagKeys         tags that the action gives, or takes away
    aws:ResourceTag/T, iam:ResourceTag/T  tags that the user, role or policy has
    iam:PolicyARN                         the policy that is attached or detached
    iam:PermissionsBoundary               the boundary that is asked for, else the one that the user
                                          or role has

So who may make users only within a boundary can't make them without one, nor free them of it.

Concurrency: pure reading. Source: AWS service authorization reference, "Actions, resources, and
condition keys for AWS IAM"; IAM user guide, "Permissions boundaries" (delegating responsibility).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from s3api.iam.refusals import ValidationError
from store.access.patterns import Context, Values
from store.identity.errors import NoSuchEntity
from store.identity.records import Role, Tags, User
from store.identity.service import Identity

_OF_RESOURCES = ("aws:resourcetag/", "iam:resourcetag/")


@dataclass(frozen=True, slots=True)
class Told:
    """What an action itself tells, then what the request does."""

    told: Mapping[str, Values]
    facts: Context

    def get(self, key: str, /) -> Values | None:
        """As `store.access.patterns.Context`."""
        found = self.told.get(key)
        return self.facts.get(key) if found is None else found


class Fields(Protocol):
    """`s3api.iam.calls.Parameters`."""

    def optional(self, name: str) -> str | None: ...
    def texts(self, name: str) -> tuple[str, ...]: ...
    def tags(self, name: str = "Tags") -> Tags: ...


def told_by(identity: Identity, account: str, action: str, fields: Fields) -> dict[str, Values]:
    """The condition keys of one action, in lower case. action: its name, as CreateUser."""
    told: dict[str, Values] = {}
    tags = _tags(fields)
    told |= {f"aws:requesttag/{key.lower()}": value for key, value in tags.items()}
    if names := (*tags, *fields.texts("TagKeys")):
        told["aws:tagkeys"] = names
    holder = _holder(identity, account, fields)
    boundary = fields.optional("PermissionsBoundary") or ("" if holder is None else holder.boundary)
    if boundary:
        told["iam:permissionsboundary"] = boundary
    arn = fields.optional("PolicyArn")
    if arn is not None and action.startswith(("Attach", "Detach")):
        told["iam:policyarn"] = arn
    policy = None if arn is None or holder is not None else identity.callers.policy(account, arn)
    its = holder if policy is None else policy
    if its is not None:
        for key, value in its.tags.items():
            told |= {f"{prefix}{key.lower()}": value for prefix in _OF_RESOURCES}
    return told


def _tags(fields: Fields) -> Tags:
    try:
        return fields.tags()
    except ValidationError:
        # The action refuses them, too, and says why.
        return {}


def _holder(identity: Identity, account: str, fields: Fields) -> User | Role | None:
    """The user or role that the action names, if it is there."""
    user, role = fields.optional("UserName"), fields.optional("RoleName")
    try:
        if user is not None:
            return identity.holders.get(account, User, user)
        return None if role is None else identity.holders.get(account, Role, role)
    except NoSuchEntity:
        return None
