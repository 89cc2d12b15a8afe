"""Policy documents of AWS's policy language, parsed and checked.

A document is JSON: {"Version", "Id", "Statement": [...]}; a statement has Sid, Effect, Action or
NotAction, Resource or NotResource, Principal or NotPrincipal, and Condition. Four kinds of document
differ in what they must and must not hold:

    identity   of a user, group, role, session or key: a resource, no principal
    resource   of a bucket: a principal, and resources within that bucket alone
    trust      of a role: a principal, no resource
    session    as identity, narrowing a session

Invariants
  1. What is not understood is refused: unknown elements and operators, doubled keys, empty lists.
  2. A parsed policy is immutable and says what the document says; what it means is `evaluate`'s.

Letters' case matters everywhere but in actions and the names of condition keys.
Concurrency: pure. Source: AWS IAM user guide, "Grammar of the IAM JSON policy language"; Amazon S3
user guide, "Bucket policies".
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from store.access.operators import Operator

VERSION_1 = "2008-10-17"
VERSION_2 = "2012-10-17"


class PolicyKind(enum.Enum):
    """What a document is for."""

    IDENTITY = "identity"
    RESOURCE = "resource"
    TRUST = "trust"
    SESSION = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """size_max: how long a document may be; without white space where `dense`, else in bytes."""

    size_max: int
    dense: bool = True


BUCKET_LIMITS = Limits(size_max=20 * 1024, dense=False)
MANAGED_LIMITS = Limits(size_max=6144)
USER_INLINE_LIMITS = Limits(size_max=2048)
GROUP_INLINE_LIMITS = Limits(size_max=5120)
ROLE_INLINE_LIMITS = Limits(size_max=10240)
TRUST_LIMITS = Limits(size_max=4096)
SESSION_LIMITS = Limits(size_max=2048, dense=False)
KEY_LIMITS = Limits(size_max=4096)


class Qualifier(enum.Enum):
    """How many of several values of a key have to pass."""

    NONE = ""
    FOR_ALL = "ForAllValues"
    FOR_ANY = "ForAnyValue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One operator on one key. key and values: as written; values are never empty."""

    operator: Operator
    qualifier: Qualifier
    if_exists: bool
    key: str
    values: tuple[str, ...]

    @property
    def operator_name(self) -> str:
        """As in the document: "ForAnyValue:StringLikeIfExists"."""
        prefix = f"{self.qualifier.value}:" if self.qualifier is not Qualifier.NONE else ""
        return f"{prefix}{self.operator.name}{'IfExists' if self.if_exists else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement.

    actions, resources: as written; the `not_` flag says which of the two elements they stood in.
    principals: tokens of `principals.element_token`; None where the kind of document has none.
    """

    sid: str
    allow: bool
    actions: tuple[str, ...]
    not_action: bool
    resources: tuple[str, ...]
    not_resource: bool
    principals: frozenset[str] | None
    not_principal: bool
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A parsed document. name: what explanations call it ("readwrite", "bucket policy of b")."""

    name: str
    kind: PolicyKind
    version: str
    id: str
    statements: tuple[Statement, ...]

    @property
    def has_variables(self) -> bool:
        """Whether `${...}` means something in it."""
        return self.version == VERSION_2

    def principals(self) -> Iterator[str]:
        """ARNs of users, roles and sessions that it names, so that a face can ask whether they
        exist."""
        for statement in self.statements:
            for token in sorted(statement.principals or ()):
                if token.startswith("AWS:"):
                    yield token.removeprefix("AWS:")
