"""Who asks, and whom a Principal element names.

A caller is known under several names at once: its own ARN, the ARN of the role or user behind its
session, its account, its canonical id, and "*". An element names callers by the same names, so
both sides are turned into the same tokens and a match is a common one. How much a match is worth
depends on which name it was:

    EXACT     the caller's own ARN
    DIRECT    "*", the role or user behind the session, provider, service
    ACCOUNT   the caller's account, by number, ARN or canonical id: in the same account that leaves
              the grant to identity policies

Concurrency: pure. Source: AWS IAM user guide, "JSON policy elements: Principal" and "Policy
evaluation logic" (resource-based policies and implicit denies).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from functools import cached_property


class Kind(enum.Enum):
    """What sort of caller; the values are those of aws:PrincipalType."""

    ANONYMOUS = "Anonymous"
    ROOT = "Account"
    USER = "User"
    SESSION = "AssumedRole"
    FEDERATED = "FederatedUser"


class Strength(enum.IntEnum):
    """What a resource's grant is worth. NONE is none."""

    NONE = 0
    ACCOUNT = 1
    DIRECT = 2
    EXACT = 3


EVERYONE = "*"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks. Make it once for a key or session and keep it: its tokens are remembered.

    account: "" only of the anonymous. arn: the caller's own: of a user, of a session
    (arn:aws:sts::...:assumed-role/ROLE/SESSION), of the account (...:root).
    source_arn: the role or user a session was made from, else "". canonical_id: as in ACLs, or "".
    federated: the provider that vouched (while a trust policy is asked), else "".
    """

    kind: Kind
    account: str = ""
    arn: str = ""
    source_arn: str = ""
    canonical_id: str = ""
    federated: str = ""
    service: str = field(default="")

    @cached_property
    def strengths(self) -> dict[str, Strength]:
        """Every token that names this caller, and what a grant to it is worth."""
        found = {EVERYONE: Strength.DIRECT}
        if self.account:
            found[_account_token(self.account)] = Strength.ACCOUNT
        for token, value in (
            ("AWS", self.source_arn),
            ("Federated", self.federated),
            ("Service", self.service),
        ):
            if value:
                found[f"{token}:{value}"] = Strength.DIRECT
        if self.canonical_id:
            found[f"CanonicalUser:{self.canonical_id}"] = Strength.ACCOUNT
        if self.arn and self.kind is not Kind.ROOT:
            found[f"AWS:{self.arn}"] = Strength.EXACT
        return found

    @cached_property
    def tokens(self) -> frozenset[str]:
        """The same without strengths; what plans are remembered by."""
        return frozenset(self.strengths)

    def named_by(self, tokens: frozenset[str]) -> Strength:
        """The best strength by which an element with these tokens names this caller."""
        common = self.tokens & tokens
        return max((self.strengths[token] for token in common), default=Strength.NONE)


ANONYMOUS = Principal(kind=Kind.ANONYMOUS)

_is_account = re.compile(r"\d{12}", re.ASCII).fullmatch
_arn = re.compile(r"arn:[a-z-]+:(?:iam|sts)::([A-Za-z0-9_-]*):(.+)", re.ASCII | re.DOTALL)
_RESOURCES = ("user/", "role/", "assumed-role/", "federated-user/")


def _account_token(account: str) -> str:
    return f"account:{account}"


def element_token(kind: str, value: str) -> str | None:
    """The token for one value of a Principal element; None where it is not a valid one.

    kind: AWS, Federated, Service or CanonicalUser. `arn:aws:iam::A:root` and `A` are one.
    """
    if not value:
        return None
    if kind != "AWS":
        return f"{kind}:{value}" if "*" not in value else None
    if value == EVERYONE:
        return EVERYONE
    if _is_account(value):
        return _account_token(value)
    found = _arn.fullmatch(value)
    if found is None or "*" in value or "?" in value:
        return None
    account, resource = found.groups()
    if resource == "root":
        return _account_token(account) if account else None
    return f"AWS:{value}" if resource.startswith(_RESOURCES) else None
