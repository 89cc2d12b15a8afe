"""`twofold policy simulate`: what would be decided, and why, over all policies that have a say.

Those of the user or key, and of the bucket if there is one. What the request itself would tell
(its address, headers, tags) is as given with --context, and absent otherwise.
Concurrency: pure reading.
"""

from __future__ import annotations

from collections.abc import Mapping

from daemon.identitytalk import Answer, Question
from s3api.bucketaccess import BucketAccesses
from s3api.credentials import ROOT, Account
from store.access.actions import ACTIONS
from store.access.evaluate import SERVICE_RESOURCE, Access, resource_arn
from store.access.explain import explain
from store.access.patterns import Values
from store.access.principals import Kind, Strength
from store.errors import NoSuchBucket
from store.identity.callers import user_context
from store.identity.errors import Invalid, NoSuchEntity
from store.identity.records import User
from store.namespace import Namespace

_ARN = "arn:aws:s3:::"


def simulate(
    namespace: Namespace, account: Account, accounts: Mapping[str, Account], question: Question
) -> Answer:
    """name: a user, or an access key. other: the action. resource: an ARN, or BUCKET/KEY.

    Raises NoSuchEntity, Invalid.
    """
    access, context = _caller(namespace, account, question.name)
    action = _action(question.other)
    resource = _resource(question.resource)
    facts: dict[str, Values] = {**context, **{key.lower(): each for key, each in question.context}}
    bucket = resource.removeprefix(_ARN).partition("/")[0] if resource.startswith(_ARN) else ""
    rules, acl = None, Strength.NONE
    if bucket and bucket != "*":
        owners = {each.owner: each for each in accounts.values()}
        try:
            said = BucketAccesses().get(
                bucket,
                namespace.buckets.rules(bucket),
                lambda owner: owners.get(owner) or Account(id=owner, name=""),
                namespace.identity,
            )
        except NoSuchBucket:
            raise NoSuchEntity(f"There is no bucket {bucket}.") from None
        is_root = account is ROOT and access.principal.kind is Kind.ROOT
        rules = said.rules_for_root if is_root else said.rules
        acl = said.grants(access.principal, action)
    explanation = explain(access, rules, action, resource, facts, acl)
    return Answer(lines=tuple(explanation.lines()), failed=not explanation.decision.allowed)


def _caller(
    namespace: Namespace, account: Account, name: str
) -> tuple[Access, Mapping[str, Values]]:
    identity = namespace.identity
    caller = identity.find(name)
    if caller is not None and caller.account == account.id:
        return caller.access, caller.context
    user = identity.holders.get(account.id, User, name)
    return identity.callers.access_of(account.id, user), user_context(account.id, user)


def _action(text: str) -> str:
    named = text if ":" in text else f"s3:{text}"
    for action in ACTIONS:
        if action.lower() == named.lower():
            return action
    raise Invalid(f"{text} is no action that is known.")


def _resource(text: str) -> str:
    if not text:
        return SERVICE_RESOURCE
    if text.startswith("arn:") or text == "*":
        return text
    bucket, _, key = text.partition("/")
    return resource_arn(bucket, key)
