"""Answers the questions of `twofold role`, `policy` and `provider`.

Concurrency: any task; changes are those of `store.identity`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from daemon.desk import DONE, Act, Desk, attaching, detaching, moment, names_of, strip
from daemon.identitytalk import Answer, Question
from daemon.simulation import simulate
from store.identity.errors import InUse, Invalid
from store.identity.managed import MANAGED
from store.identity.names import entity_arn, provider_arn
from store.identity.records import (
    POLICIES_TAG,
    POLICY_CLAIM_TAG,
    Kind,
    ManagedPolicy,
    Role,
    User,
)

# -- roles ------------------------------------------------------------------------------


async def list_roles(desk: Desk, _: Question) -> Answer:
    rows = [
        (
            role.name,
            names_of(role.attached),
            f"{role.session_max_s} s",
            moment(role.made_s),
            entity_arn(desk.id, Kind.ROLE, role.name, role.path),
        )
        for role in desk.identity.holders.all(desk.id, Role)
    ]
    return Answer(columns=("ROLE", "POLICIES", "LONGEST", "MADE", "ARN"), rows=tuple(rows))


async def show_role(desk: Desk, question: Question) -> Answer:
    role = desk.identity.holders.get(desk.id, Role, question.name)
    return Answer(lines=tuple(role.trust.splitlines()))


async def add_role(desk: Desk, question: Question) -> Answer:
    arns = [desk.arn(policy) for policy in question.policies]
    role = await desk.identity.holders.create_role(
        desk.id,
        question.name,
        _trust(desk, question),
        description=question.description,
        session_max_s=question.duration_s,
        tags={},
    )
    for arn in arns:
        await desk.identity.holders.attach(desk.id, Role, role.name, arn)
    return Answer(lines=(entity_arn(desk.id, Kind.ROLE, role.name, role.path),))


async def trust_role(desk: Desk, question: Question) -> Answer:
    trust = _trust(desk, question)
    await desk.identity.holders.change_role(desk.id, question.name, trust=trust)
    return DONE


def _trust(desk: Desk, question: Question) -> str:
    """The document that was given, or one that trusts these users and providers.

    Raises NoSuchEntity, Invalid.
    """
    if question.document:
        return question.document
    statements: list[dict[str, object]] = []
    users = [desk.identity.holders.get(desk.id, User, name) for name in question.users]
    if users:
        arns = [entity_arn(desk.id, Kind.USER, user.name, user.path) for user in users]
        statements.append(_trusting("sts:AssumeRole", {"AWS": arns}))
    arns = [provider_arn(desk.id, url) for url in question.clients]
    for arn in arns:
        desk.identity.providers.get(desk.id, arn)
    if arns:
        statements.append(_trusting("sts:AssumeRoleWithWebIdentity", {"Federated": arns}))
    if not statements:
        raise Invalid("A role has to trust somebody: name a file, users or providers.")
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _trusting(action: str, principal: Mapping[str, object]) -> dict[str, object]:
    return {"Effect": "Allow", "Action": action, "Principal": principal}


async def remove_role(desk: Desk, question: Question) -> Answer:
    holders, name = desk.identity.holders, question.name
    if question.forced:
        await strip(desk, Role, name)
    try:
        await holders.delete(desk.id, Role, name)
    except InUse:
        raise InUse(f"{name} has policies still: remove it with --force.") from None
    return DONE


# -- policies and providers -------------------------------------------------------------


async def list_policies(desk: Desk, _: Question) -> Answer:
    policies = desk.identity.policies
    own = {
        entity_arn(desk.id, Kind.POLICY, each.name, each.path): each
        for each in policies.all(desk.id)
    }
    rows = [
        (each.name, "own" if arn in own else "always there", _holders(desk, arn))
        for arn, each in {**own, **MANAGED}.items()
    ]
    return Answer(columns=("POLICY", "KIND", "ATTACHED TO"), rows=tuple(rows))


def _holders(desk: Desk, arn: str) -> str:
    return ", ".join(each.name for each in desk.identity.policies.holders(desk.id, arn))


async def show_policy(desk: Desk, question: Question) -> Answer:
    policy = desk.identity.policies.get(desk.id, desk.arn(question.name))
    return Answer(lines=tuple(policy.document.splitlines()))


async def set_policy(desk: Desk, question: Question) -> Answer:
    """A new policy, or a new version of one, which counts from now on."""
    policies, name = desk.identity.policies, question.name
    found: ManagedPolicy | None = next(
        (each for each in policies.all(desk.id) if each.name.lower() == name.lower()), None
    )
    if found is None:
        await policies.create(desk.id, name, question.document, tags={})
        return DONE
    arn = entity_arn(desk.id, Kind.POLICY, found.name, found.path)
    oldest = min(
        (each.number for each in found.versions if each.number != found.default), default=0
    )
    if len(found.versions) > 1 and oldest:
        await policies.delete_version(desk.id, arn, f"v{oldest}")
    await policies.add_version(desk.id, arn, question.document, default=True)
    return DONE


async def remove_policy(desk: Desk, question: Question) -> Answer:
    policies, arn = desk.identity.policies, desk.arn(question.name)
    policy = policies.get(desk.id, arn)
    if question.forced:
        for holder in policies.holders(desk.id, arn):
            await desk.identity.holders.detach(desk.id, type(holder), holder.name, arn)
    if policies.holders(desk.id, arn):
        raise InUse(f"{policy.name} is attached to {_holders(desk, arn)}: use --force.")
    for version in policy.versions:
        if version.number != policy.default:
            await policies.delete_version(desk.id, arn, f"v{version.number}")
    await policies.delete(desk.id, arn)
    return DONE


async def simulate_policy(desk: Desk, question: Question) -> Answer:
    return simulate(desk.namespace, desk.account, desk.accounts, question)


async def list_providers(desk: Desk, _: Question) -> Answer:
    rows = [
        (
            each.url,
            ", ".join(each.clients),
            each.tags.get(POLICIES_TAG, ""),
            each.tags.get(POLICY_CLAIM_TAG, ""),
        )
        for each in desk.identity.providers.all(desk.id)
    ]
    return Answer(columns=("PROVIDER", "CLIENTS", "POLICIES", "POLICY CLAIM"), rows=tuple(rows))


async def add_provider(desk: Desk, question: Question) -> Answer:
    tags = {POLICY_CLAIM_TAG: question.other, POLICIES_TAG: ",".join(question.policies)}
    tags = {name: text for name, text in tags.items() if text}
    for policy in question.policies:
        desk.arn(policy)
    await desk.identity.providers.create(desk.id, question.name, question.clients, tags=tags)
    return DONE


async def remove_provider(desk: Desk, question: Question) -> Answer:
    await desk.identity.providers.delete(desk.id, provider_arn(desk.id, question.name))
    return DONE


ACTS: Mapping[tuple[str, str], Act] = {
    ("role", "list"): list_roles,
    ("role", "show"): show_role,
    ("role", "add"): add_role,
    ("role", "trust"): trust_role,
    ("role", "remove"): remove_role,
    ("role", "attach"): attaching(Role),
    ("role", "detach"): detaching(Role),
    ("policy", "list"): list_policies,
    ("policy", "show"): show_policy,
    ("policy", "set"): set_policy,
    ("policy", "remove"): remove_policy,
    ("policy", "simulate"): simulate_policy,
    ("provider", "list"): list_providers,
    ("provider", "add"): add_provider,
    ("provider", "remove"): remove_provider,
}
