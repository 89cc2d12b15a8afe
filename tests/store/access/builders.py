"""Short ways to write policies, callers and questions in the tests of this folder."""

from __future__ import annotations

import json
from typing import Any

from store.access.decision import Decision, Layer
from store.access.evaluate import Access, ResourceRules, decide
from store.access.parse import parse_policy
from store.access.patterns import Context
from store.access.plans import Compiled, compile_policies
from store.access.policy import Policy, PolicyKind
from store.access.principals import Kind, Principal

OURS = "111111111111"
THEIRS = "222222222222"


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def allow(action: Any = "s3:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "s3:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def identity(*statements: dict[str, Any], version: str = "2012-10-17") -> Policy:
    return parse_policy(document(*statements, version=version), name="p")


def layer(kind: Layer, *statements: dict[str, Any]) -> Compiled:
    return compile_policies(kind, [identity(*statements)])


def bucket_rules(*statements: dict[str, Any], **more: Any) -> ResourceRules:
    policy = parse_policy(document(*statements), PolicyKind.RESOURCE)
    return ResourceRules(account=OURS, policy=compile_policies(Layer.RESOURCE, [policy]), **more)


def user(name: str = "ann", account: str = OURS) -> Principal:
    return Principal(kind=Kind.USER, account=account, arn=f"arn:aws:iam::{account}:user/{name}")


def root(account: str = OURS) -> Principal:
    return Principal(kind=Kind.ROOT, account=account, arn=f"arn:aws:iam::{account}:root")


def session(name: str = "s", account: str = OURS) -> Principal:
    return Principal(
        kind=Kind.SESSION,
        account=account,
        arn=f"arn:aws:sts::{account}:assumed-role/job/{name}",
        source_arn=f"arn:aws:iam::{account}:role/job",
    )


def access(principal: Principal, *statements: dict[str, Any], limits: Any = ()) -> Access:
    own = layer(Layer.IDENTITY, *statements) if statements else None
    return Access(principal=principal, identity=own, limits=tuple(limits))


def ask(
    who: Access,
    action: str = "s3:GetObject",
    resource: str = "arn:aws:s3:::box/a",
    rules: ResourceRules | None = None,
    context: Context | None = None,
) -> Decision:
    return decide(who, rules or ResourceRules(account=OURS), action, resource, context or {})
