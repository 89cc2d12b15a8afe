"""What a key or session may do, compiled from the policies that hold for it now.

`Callers` answers from memory; after any change of the book it forgets everything and compiles
again what is asked for. Rules of a document are made once, however many users it holds for.

Invariant: a key that was deleted, disabled or has expired, and a session whose user, role or key
is gone, is not found from the moment of that change: nothing is looked up in anything older than
the book's last change, and times are compared at each look-up.

Concurrency: one trio loop; plain look-ups. Source: AWS IAM user guide, "Policy evaluation logic";
"IAM JSON policy elements: Variables" and "Global condition context keys" (what is known of whom).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from store.access.decision import Layer
from store.access.errors import SealBroken
from store.access.evaluate import Access
from store.access.parse import parse_policy
from store.access.plans import Compiled
from store.access.policy import Limits
from store.access.principals import Kind as PrincipalKind
from store.access.principals import Principal
from store.access.rules import Rule, compile_policy
from store.access.sealed import Keyring, unseal
from store.identity import names
from store.identity.book import Book
from store.identity.managed import MANAGED
from store.identity.records import (
    Group,
    Holder,
    Key,
    Kind,
    ManagedPolicy,
    Provider,
    Role,
    Tags,
    User,
)
from store.identity.sessions import Session, Source, open_session

log = logging.getLogger(__name__)

KEY_PURPOSE = "access key"
Context = Mapping[str, str | tuple[str, ...]]

_NO_CONTEXT: Context = {}
_SESSIONS_KEPT = 4096
# Documents were checked when they came; what is kept is not refused for a bound of today.
_ANY_SIZE = Limits(size_max=1 << 20, dense=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who stands behind a key that works now.

    account: its canonical id. secret: to sign with. context: what condition keys say of the
    caller, in lower case. via: the key that a session hangs on, "" for none. user: its name, ""
    for none. expires_s: since 1970, None for never. uid, gid, umask: for the mount, None for the
    default.
    """

    account: str
    secret: str = field(repr=False)
    access: Access
    context: Context = field(default_factory=lambda: _NO_CONTEXT)
    session: Session | None = None
    user: str = ""
    expires_s: int | None = None
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None

    @property
    def via(self) -> str:
        return "" if self.session is None else self.session.via


@lru_cache(maxsize=8192)
def _rules(layer: Layer, name: str, document: str) -> tuple[Rule, ...]:
    return compile_policy(layer, parse_policy(document, name=name, limits=_ANY_SIZE))


class Callers:
    """See the module's header."""

    def __init__(self, book: Book, keyring: Keyring) -> None:
        self._book = book
        self._keyring = keyring
        self._seen = book.changes
        self._by_key: dict[str, Caller] = {}
        self._by_token: dict[tuple[str, str], Caller] = {}

    @property
    def keyring(self) -> Keyring:
        """What secrets and sessions are opened with."""
        return self._keyring

    def use_keyring(self, keyring: Keyring) -> None:
        """Open with these from now on: what only older ones opened is gone at once."""
        self._keyring = keyring
        self._by_key.clear()
        self._by_token.clear()

    def find(self, access_key: str, now_s: float) -> Caller | None:
        """Who stands behind a lasting key; None where it doesn't work (any more)."""
        self._forget_if_changed()
        caller = self._by_key.get(access_key)
        if caller is None:
            caller = self._by_key_anew(access_key)
            if caller is None:
                return None
            self._by_key[access_key] = caller
        if caller.expires_s is not None and now_s >= caller.expires_s:
            return None
        return caller

    def find_session(self, access_key: str, token: str) -> Caller | None:
        """Who stands behind a temporary key; None for a token that isn't ours, or whose source is
        gone. Whether it has expired is the caller's to compare."""
        self._forget_if_changed()
        caller = self._by_token.get((access_key, token))
        if caller is None:
            session = open_session(self._keyring, access_key, token)
            caller = None if session is None else self._session_caller(session)
            if caller is None:
                return None
            if len(self._by_token) >= _SESSIONS_KEPT:
                self._by_token.clear()
            self._by_token[access_key, token] = caller
        return caller if self._is_kept_by_key(caller) else None

    def _is_kept_by_key(self, caller: Caller) -> bool:
        """Whether the key that a session was asked with works still, and with the same secret.

        The fixed key of an account's root is not known here: whoever knows it looks.
        """
        session = caller.session
        assert session is not None
        if not session.via:
            return True
        account = self._book.account_of_key(session.via)
        if account is None:
            return session.source is Source.ROOT
        key = self._book.get(account, Key, session.via)
        return key.rotated_s <= session.issued_s and self.find(key.id, time.time()) is not None

    def _forget_if_changed(self) -> None:
        if self._seen != self._book.changes:
            self._by_key.clear()
            self._by_token.clear()
            self._seen = self._book.changes

    # -- keys ---------------------------------------------------------------------------

    def _by_key_anew(self, access_key: str) -> Caller | None:
        account = self._book.account_of_key(access_key)
        if account is None:
            return None
        key = self._book.get(account, Key, access_key)
        user = self._book.find(account, User, key.user) if key.user else None
        if not key.enabled or (key.user and user is None):
            return None
        try:
            secret = unseal(self._keyring, key.sealed, purpose=KEY_PURPOSE, owner=key.id)
        except SealBroken as broken:
            log.error("the access key %s can't be used: %s", key.id, broken)
            return None
        limits = self._limits(account, user)
        if key.policy:
            rules = _rules(Layer.KEY, key.id, key.policy)
            limits = (*limits, Compiled(Layer.KEY, rules))
        return Caller(
            account=account,
            secret=secret.reveal().decode(),
            access=self._access(account, user, limits),
            context=user_context(account, user),
            user="" if user is None else user.name,
            expires_s=key.expires_s,
            uid=key.uid,
            gid=key.gid,
            umask=key.umask,
        )

    def access_of(self, account: str, holder: User | Role | Group) -> Access:
        """What a user, or a session of a role without policies of its own, may do."""
        if isinstance(holder, Role):
            principal = role_principal(account, holder, "simulated")
            return Access(
                principal=principal,
                identity=Compiled(Layer.IDENTITY, self._held(account, holder)),
                limits=self._limits(account, holder),
            )
        if isinstance(holder, Group):
            principal = Principal(kind=PrincipalKind.USER, account=names.account_number(account))
            rules = self._held(account, holder)
            return Access(principal=principal, identity=Compiled(Layer.IDENTITY, rules))
        return self._access(account, holder, self._limits(account, holder))

    def _access(self, account: str, user: User | None, limits: tuple[Compiled, ...]) -> Access:
        if user is None:
            return Access(principal=names.root_principal(account), limits=limits)
        principal = Principal(
            kind=PrincipalKind.USER,
            account=names.account_number(account),
            arn=names.entity_arn(account, Kind.USER, user.name, user.path),
            canonical_id=account,
        )
        rules = list(self._held(account, user))
        for name in user.groups:
            group = self._book.find(account, Group, name)
            if group is not None:
                rules += self._held(account, group)
        return Access(principal=principal, identity=Compiled(Layer.IDENTITY, rules), limits=limits)

    def _held(self, account: str, holder: Holder) -> list[Rule]:
        rules: list[Rule] = []
        for name, document in sorted(holder.inline.items()):
            rules += _rules(Layer.IDENTITY, name, document)
        rules += self.attached_rules(account, holder.attached, Layer.IDENTITY)
        return rules

    def attached_rules(self, account: str, arns: Iterable[str], layer: Layer) -> list[Rule]:
        """The rules of managed policies by their ARNs; one that isn't there has none."""
        rules: list[Rule] = []
        for arn in arns:
            policy = self.policy(account, arn)
            if policy is not None:
                rules += _rules(layer, policy.name, policy.document)
        return rules

    def policy(self, account: str, arn: str) -> ManagedPolicy | None:
        """The managed policy with this ARN that this account may use."""
        found = MANAGED.get(arn)
        if found is None:
            found = self._book.find(account, ManagedPolicy, arn.rpartition("/")[2])
            if found and names.entity_arn(account, Kind.POLICY, found.name, found.path) != arn:
                return None
        return found

    def _limits(self, account: str, holder: Holder | None) -> tuple[Compiled, ...]:
        if holder is None or not holder.boundary:
            return ()
        rules = self.attached_rules(account, (holder.boundary,), Layer.BOUNDARY)
        return (Compiled(Layer.BOUNDARY, rules),)

    # -- sessions -----------------------------------------------------------------------

    def _session_caller(self, session: Session) -> Caller | None:
        account = session.account
        user = role = None
        if session.source is Source.USER:
            user = self._book.find(account, User, session.owner)
            if user is None or user.id != session.owner_id:
                return None
        elif session.source is Source.ROLE:
            role = self._book.find(account, Role, session.owner)
            if role is None or role.id != session.owner_id:
                return None
        elif session.source is Source.CLAIM:
            host = names.provider_host(session.owner)
            if self._book.find(account, Provider, host) is None:
                return None
        limits = self._session_limits(session, user or role)
        if role is not None:
            access = Access(
                principal=role_principal(account, role, session.name),
                identity=Compiled(Layer.IDENTITY, self._held(account, role)),
                limits=limits,
            )
            context = role_context(account, role, session)
        elif session.source is Source.CLAIM:
            access = self._claim_access(session, limits)
            context = claim_context(session)
        else:
            access = self._access(account, user, limits)
            context = {**user_context(account, user), **_issued(session)}
        return Caller(
            account=account,
            secret=session.secret,
            access=access,
            context=context,
            session=session,
            user="" if user is None else user.name,
            expires_s=session.expires_s,
        )

    def _session_limits(self, session: Session, holder: User | Role | None) -> tuple[Compiled, ...]:
        limits = self._limits(session.account, holder)
        if session.via:
            key = self._book.find(session.account, Key, session.via)
            if key is not None and key.policy:
                limits += (Compiled(Layer.KEY, _rules(Layer.KEY, key.id, key.policy)),)
        if session.policies or session.narrowing:
            rules = self.attached_rules(session.account, session.narrowing, Layer.SESSION)
            for document in session.policies:
                rules += _rules(Layer.SESSION, session.name, document)
            limits += (Compiled(Layer.SESSION, rules),)
        return limits

    def _claim_access(self, session: Session, limits: tuple[Compiled, ...]) -> Access:
        account = session.account
        number = names.account_number(account)
        principal = Principal(
            kind=PrincipalKind.FEDERATED,
            account=number,
            arn=f"arn:aws:sts::{number}:federated-user/{session.name}",
            canonical_id=account,
            federated=session.provider,
        )
        rules = self.attached_rules(account, session.attached, Layer.IDENTITY)
        return Access(principal=principal, identity=Compiled(Layer.IDENTITY, rules), limits=limits)


def role_principal(account: str, role: Role, session: str) -> Principal:
    """Who a session of a role is."""
    return Principal(
        kind=PrincipalKind.SESSION,
        account=names.account_number(account),
        arn=names.session_arn(account, role.name, session),
        source_arn=names.entity_arn(account, Kind.ROLE, role.name, role.path),
        canonical_id=account,
    )


def user_context(account: str, user: User | None) -> dict[str, str | tuple[str, ...]]:
    """What is known of a user, or of the account's root (None)."""
    number = names.account_number(account)
    found: dict[str, str | tuple[str, ...]] = {
        "aws:principalaccount": number,
        "aws:principalisawsservice": "false",
    }
    if user is None:
        return {
            **found,
            "aws:userid": number,
            "aws:principalarn": names.root_arn(account),
            "aws:principaltype": PrincipalKind.ROOT.value,
        }
    return {
        **found,
        "aws:username": user.name,
        "aws:userid": user.id,
        "aws:principalarn": names.entity_arn(account, Kind.USER, user.name, user.path),
        "aws:principaltype": PrincipalKind.USER.value,
        "aws:groups": user.groups,
        **_tags(user.tags),
    }


def role_context(account: str, role: Role, session: Session) -> Context:
    """What is known of a session of a role."""
    found: dict[str, str | tuple[str, ...]] = {
        "aws:principalaccount": names.account_number(account),
        "aws:principalisawsservice": "false",
        "aws:userid": f"{role.id}:{session.name}",
        "aws:principalarn": names.entity_arn(account, Kind.ROLE, role.name, role.path),
        "aws:principaltype": PrincipalKind.SESSION.value,
        **_tags(role.tags),
        **_tags(session.tags),
        **_issued(session),
    }
    return found


def claim_context(session: Session) -> Context:
    """What is known of a session that has the policies its provider's token named."""
    number = names.account_number(session.account)
    return {
        "aws:principalaccount": number,
        "aws:principalisawsservice": "false",
        "aws:userid": f"{number}:{session.name}",
        "aws:principalarn": f"arn:aws:sts::{number}:federated-user/{session.name}",
        "aws:principaltype": PrincipalKind.FEDERATED.value,
        **_issued(session),
    }


def _issued(session: Session) -> dict[str, str | tuple[str, ...]]:
    issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(session.issued_s))
    found: dict[str, str | tuple[str, ...]] = {**session.claims, "aws:tokenissuetime": issued}
    if session.provider:
        found["aws:federatedprovider"] = session.provider
    if session.source_identity:
        found["aws:sourceidentity"] = session.source_identity
    return found


def _tags(tags: Tags) -> dict[str, str]:
    return {f"aws:principaltag/{key.lower()}": value for key, value in tags.items()}
