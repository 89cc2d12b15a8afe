"""Answers the questions of `twofold user`, `group`, `key`, `policy` and `provider`.

Who can open the control socket may do everything, so nothing is asked of policies here.
Concurrency: any task; changes are those of `store.identity`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from daemon.heldkeys import HeldKeys, NotRotated
from daemon.identitytalk import Answer, Question
from daemon.simulation import simulate
from s3api.credentials import ROOT, Account
from store.access.errors import AccessError
from store.errors import StoreError
from store.identity.errors import IdentityError, InUse, NoSuchEntity
from store.identity.keys import NewKey
from store.identity.managed import MANAGED, PREFIX
from store.identity.names import entity_arn, provider_arn
from store.identity.records import Group, Key, Kind, ManagedPolicy, User
from store.identity.service import Identity
from store.namespace import Namespace

Act = Callable[["Desk", Question], Awaitable[Answer]]
DONE = Answer()


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


def _moment(time_s: float | None) -> str:
    if time_s is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(time_s))


def _names(arns: Sequence[str]) -> str:
    return ", ".join(arn.rpartition("/")[2] for arn in arns)


# -- users ------------------------------------------------------------------------------


async def list_users(desk: Desk, _: Question) -> Answer:
    users = desk.identity.holders.all(desk.id, User)
    keys = desk.identity.keys.all(desk.id)
    rows = [
        (
            user.name,
            ", ".join(user.groups),
            _names(user.attached),
            str(sum(1 for key in keys if key.user == user.name.lower())),
            _moment(user.made_s),
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
        await _strip(desk, User, name)
    try:
        await identity.holders.delete(desk.id, User, name)
    except InUse:
        raise InUse(f"{name} has keys, groups or policies still: remove it with --force.") from None
    return DONE


async def _strip(desk: Desk, made: type[User] | type[Group], name: str) -> None:
    holder = desk.identity.holders.get(desk.id, made, name)
    for policy in holder.inline:
        await desk.identity.holders.remove_inline(desk.id, made, name, policy)
    for arn in holder.attached:
        await desk.identity.holders.detach(desk.id, made, name, arn)


def attaching(made: type[User] | type[Group]) -> Act:
    async def act(desk: Desk, question: Question) -> Answer:
        arn = desk.arn(question.other)
        await desk.identity.holders.attach(desk.id, made, question.name, arn)
        return DONE

    return act


def detaching(made: type[User] | type[Group]) -> Act:
    async def act(desk: Desk, question: Question) -> Answer:
        arn = desk.arn(question.other)
        await desk.identity.holders.detach(desk.id, made, question.name, arn)
        return DONE

    return act


# -- groups -----------------------------------------------------------------------------


async def list_groups(desk: Desk, _: Question) -> Answer:
    holders = desk.identity.holders
    rows = [
        (
            group.name,
            ", ".join(user.name for user in holders.members(desk.id, group.name)),
            _names(group.attached),
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
        await _strip(desk, Group, name)
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
            _moment(key.expires_s),
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
        (each.url, ", ".join(each.clients), each.tags.get("policy-claim", ""))
        for each in desk.identity.providers.all(desk.id)
    ]
    return Answer(columns=("PROVIDER", "CLIENTS", "POLICY CLAIM"), rows=tuple(rows))


async def add_provider(desk: Desk, question: Question) -> Answer:
    tags = {"policy-claim": question.other} if question.other else {}
    await desk.identity.providers.create(desk.id, question.name, question.clients, tags=tags)
    return DONE


async def remove_provider(desk: Desk, question: Question) -> Answer:
    await desk.identity.providers.delete(desk.id, provider_arn(desk.id, question.name))
    return DONE


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
    ("policy", "list"): list_policies,
    ("policy", "show"): show_policy,
    ("policy", "set"): set_policy,
    ("policy", "remove"): remove_policy,
    ("policy", "simulate"): simulate_policy,
    ("provider", "list"): list_providers,
    ("provider", "add"): add_provider,
    ("provider", "remove"): remove_provider,
}
