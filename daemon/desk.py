"""What one question of `twofold user`, `role`, `policy` and their like is answered with.

Concurrency: as `store.identity`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from daemon.heldkeys import HeldKeys
from daemon.identitytalk import Answer, Question
from s3api.credentials import Account
from store.identity.errors import NoSuchEntity
from store.identity.managed import MANAGED, PREFIX
from store.identity.names import entity_arn
from store.identity.records import Group, Kind, Role, User
from store.identity.service import Identity
from store.namespace import Namespace

Act = Callable[["Desk", Question], Awaitable[Answer]]
Made = type[User] | type[Group] | type[Role]
DONE = Answer()


class Desk:
    """What one question is answered with. id: the account's canonical id."""

    def __init__(
        self,
        namespace: Namespace,
        account: Account,
        accounts: Mapping[str, Account],
        keys: HeldKeys,
    ) -> None:
        self.namespace = namespace
        self.account = account
        self.accounts = accounts
        self.held = keys
        self.id = account.id

    @property
    def identity(self) -> Identity:
        return self.namespace.identity

    def arn(self, policy: str) -> str:
        """Of a managed policy by name or ARN. Raises NoSuchEntity."""
        if policy.startswith("arn:"):
            return policy
        for found in self.identity.policies.all(self.id):
            if found.name.lower() == policy.lower():
                return entity_arn(self.id, Kind.POLICY, found.name, found.path)
        if PREFIX + policy in MANAGED:
            return PREFIX + policy
        raise NoSuchEntity(f"There is no policy {policy}.")


def moment(time_s: float | None) -> str:
    if time_s is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(time_s))


def names_of(arns: Sequence[str]) -> str:
    return ", ".join(arn.rpartition("/")[2] for arn in arns)


async def strip(desk: Desk, made: Made, name: str) -> None:
    """Take all policies from a user, group or role."""
    holder = desk.identity.holders.get(desk.id, made, name)
    for policy in holder.inline:
        await desk.identity.holders.remove_inline(desk.id, made, name, policy)
    for arn in holder.attached:
        await desk.identity.holders.detach(desk.id, made, name, arn)


def attaching(made: Made) -> Act:
    """A policy by its name or ARN."""

    async def act(desk: Desk, question: Question) -> Answer:
        arn = desk.arn(question.other)
        await desk.identity.holders.attach(desk.id, made, question.name, arn)
        return DONE

    return act


def detaching(made: Made) -> Act:
    """The other way."""

    async def act(desk: Desk, question: Question) -> Answer:
        arn = desk.arn(question.other)
        await desk.identity.holders.detach(desk.id, made, question.name, arn)
        return DONE

    return act
