"""Answers the questions of `twofold user`, `group`, `role`, `key`, `policy` and `provider`.

Who can open the control socket may do everything, so nothing is asked of policies here.
Concurrency: any task; changes are those of `store.identity`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from daemon import policydesk
from daemon.desk import DONE, Act, Desk, attaching, detaching, moment, names_of, strip
from daemon.heldkeys import HeldKeys, NotRotated
from daemon.identitytalk import Answer, Question
from s3api.credentials import ROOT, Account
from store.access.errors import AccessError
from store.errors import StoreError
from store.identity.errors import IdentityError, InUse
from store.identity.keys import NewKey
from store.identity.records import Group, Key, User
from store.namespace import Namespace


class IdentityDesk:
    """namespace: None while the store is not up. accounts: by their names."""

    def __init__(
        self,
        namespace: Callable[[], Namespace | None],
        accounts: Sequence[Account],
        keys: HeldKeys,
    ) -> None:
        self._namespace = namespace
        self._accounts = {account.name: account for account in (ROOT, *accounts)}
        self._keys = keys

    async def answer(self, question: Question) -> Answer:
        """Do it, or say why not."""
        namespace = self._namespace()
        account = self._accounts.get(question.account or ROOT.name)
        act = ACTS.get((question.what, question.verb))
        if namespace is None:
            return Answer(error="the store is not up: see twofold status")
        if account is None:
            return Answer(error=f"no account is named {question.account}")
        if act is None:
            return Answer(error="the daemon is of another version and does not know this")
        desk = Desk(namespace, account, self._accounts, self._keys)
        try:
            return await act(desk, question)
        except (IdentityError, AccessError) as error:
            return Answer(error=error.sentence.removesuffix("."))
        except (StoreError, NotRotated) as error:
            return Answer(error=str(error))


# -- users ------------------------------------------------------------------------------


async def list_users(desk: Desk, _: Question) -> Answer:
    users = desk.identity.holders.all(desk.id, User)
    keys = desk.identity.keys.all(desk.id)
    rows = [
        (
            user.name,
            ", ".join(user.groups),
            names_of(user.attached),
            str(sum(1 for key in keys if key.user == user.name.lower())),
            moment(user.made_s),
        )
        for user in users
    ]
    return Answer(columns=("USER", "GROUPS", "POLICIES", "KEYS", "MADE"), rows=tuple(rows))


async def add_user(desk: Desk, question: Question) -> Answer:
    arns = [desk.arn(policy) for policy in question.policies]
    for group in question.groups:
        desk.identity.holders.get(desk.id, Group, group)
    await desk.identity.holders.create_user(desk.id, question.name, tags={})
    for arn in arns:
        await desk.identity.holders.attach(desk.id, User, question.name, arn)
    for group in question.groups:
        await desk.identity.holders.join(desk.id, question.name, group)
    return DONE


async def remove_user(desk: Desk, question: Question) -> Answer:
    identity, name = desk.identity, question.name
    user = identity.holders.get(desk.id, User, name)
    if question.forced:
        for key in identity.keys.of(desk.id, name):
            await identity.keys.delete(desk.id, key.id)
        for group in user.groups:
            await identity.holders.leave(desk.id, name, group)
        await strip(desk, User, name)
    try:
        await identity.holders.delete(desk.id, User, name)
    except InUse:
        raise InUse(f"{name} has keys, groups or policies still: remove it with --force.") from None
    return DONE


# -- groups -----------------------------------------------------------------------------


async def list_groups(desk: Desk, _: Question) -> Answer:
    holders = desk.identity.holders
    rows = [
        (
            group.name,
            ", ".join(user.name for user in holders.members(desk.id, group.name)),
            names_of(group.attached),
        )
        for group in holders.all(desk.id, Group)
    ]
    return Answer(columns=("GROUP", "USERS", "POLICIES"), rows=tuple(rows))


async def add_group(desk: Desk, question: Question) -> Answer:
    arns = [desk.arn(policy) for policy in question.policies]
    await desk.identity.holders.create_group(desk.id, question.name)
    for arn in arns:
        await desk.identity.holders.attach(desk.id, Group, question.name, arn)
    return DONE


async def remove_group(desk: Desk, question: Question) -> Answer:
    holders, name = desk.identity.holders, question.name
    if question.forced:
        for user in holders.members(desk.id, name):
            await holders.leave(desk.id, user.name, name)
        await strip(desk, Group, name)
    try:
        await holders.delete(desk.id, Group, name)
    except InUse:
        raise InUse(f"{name} has users or policies still: remove it with --force.") from None
    return DONE


async def join_group(desk: Desk, question: Question) -> Answer:
    await desk.identity.holders.join(desk.id, question.other, question.name)
    return DONE


async def leave_group(desk: Desk, question: Question) -> Answer:
    await desk.identity.holders.leave(desk.id, question.other, question.name)
    return DONE


# -- keys -------------------------------------------------------------------------------


async def list_keys(desk: Desk, question: Question) -> Answer:
    keys = desk.identity.keys
    found = keys.of(desk.id, question.name) if question.name else keys.all(desk.id)
    rows = [
        (
            key.id,
            key.user or "root",
            _state(key),
            "narrowed" if key.policy else "",
            moment(key.expires_s),
            key.description,
        )
        for key in found
    ]
    columns = ("KEY", "USER", "STATE", "POLICY", "EXPIRES", "DESCRIPTION")
    return Answer(columns=columns, rows=tuple(rows))


def _state(key: Key) -> str:
    if key.expires_s is not None and time.time() >= key.expires_s:
        return "expired"
    return "enabled" if key.enabled else "disabled"


def _shown(made: NewKey) -> Answer:
    return Answer(columns=("ACCESS KEY", "SECRET KEY"), rows=((made.key.id, made.secret),))


async def add_key(desk: Desk, question: Question) -> Answer:
    made = await desk.identity.keys.create(
        desk.id,
        question.name,
        policy=question.document,
        expires_s=question.expires_s,
        description=question.description,
        uid=question.uid,
        gid=question.gid,
        umask=question.umask,
    )
    return _shown(made)


async def narrow_key(desk: Desk, question: Question) -> Answer:
    await desk.identity.keys.set_policy(desk.id, question.name, question.document)
    return DONE


def enabling(enabled: bool) -> Act:
    async def act(desk: Desk, question: Question) -> Answer:
        await desk.identity.keys.enable(desk.id, question.name, enabled)
        return DONE

    return act


async def rotate_key(desk: Desk, question: Question) -> Answer:
    return _shown(await desk.identity.keys.rotate(desk.id, question.name))


async def remove_key(desk: Desk, question: Question) -> Answer:
    await desk.identity.keys.delete(desk.id, question.name)
    return DONE


async def rotate_root(desk: Desk, _: Question) -> Answer:
    root = desk.held.rotate_root()
    return Answer(lines=(f"The root key is now {root.access_key}; its secret is in {root.file}.",))


async def rotate_master(desk: Desk, _: Question) -> Answer:
    count = await desk.held.rotate_master(desk.identity)
    return Answer(lines=(f"{count} secrets are sealed under a new master key.",))


ACTS: Mapping[tuple[str, str], Act] = {
    ("user", "list"): list_users,
    ("user", "add"): add_user,
    ("user", "remove"): remove_user,
    ("user", "attach"): attaching(User),
    ("user", "detach"): detaching(User),
    ("group", "list"): list_groups,
    ("group", "add"): add_group,
    ("group", "remove"): remove_group,
    ("group", "join"): join_group,
    ("group", "leave"): leave_group,
    ("group", "attach"): attaching(Group),
    ("group", "detach"): detaching(Group),
    ("key", "list"): list_keys,
    ("key", "add"): add_key,
    ("key", "narrow"): narrow_key,
    ("key", "enable"): enabling(True),
    ("key", "disable"): enabling(False),
    ("key", "rotate"): rotate_key,
    ("key", "remove"): remove_key,
    ("key", "rotate-root"): rotate_root,
    ("key", "rotate-master"): rotate_master,
    **policydesk.ACTS,
}
