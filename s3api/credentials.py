"""Accounts, access keys and their secrets, as requests need them.

`Credentials` is the seam. `MemoryCredentials` holds the root key and the configured users;
`IdentityCredentials` asks those first, then the namespace's identity for keys of IAM users, service
accounts and sessions. Look-ups are synchronous because they happen on the trio loop in every
request, and nobody keeps what they found: a key that was deleted is gone with the next request of
every connection.

Concurrency: look-ups from any task; changes on the trio thread. Invariants: a secret never appears
in a repr; an account's id depends on its name alone, so what it owns outlives its keys; a key of an
account that the configuration has no more doesn't work.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from s3api.refusals import ExpiredToken
from store.access.evaluate import ANONYMOUS_ACCESS, Access
from store.access.patterns import Values
from store.identity.callers import Caller
from store.identity.names import account_number, root_principal
from store.identity.service import Identity
from store.types import STORE, Maker

Facts = Mapping[str, Values]
NO_FACTS: Facts = {}
_MADE_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who owns buckets. id: what S3 calls the canonical user id, 64 hex digits.

    name: shown beside the id. root: may do everything, and owns what nobody else does.
    """

    id: str
    name: str
    root: bool = False

    @property
    def owner(self) -> str:
        """What a bucket of this account keeps as its owner: "" is the root's."""
        return "" if self.root else self.id

    @property
    def number(self) -> str:
        """The twelve digits by which policies name it."""
        return account_number(self.id)


@lru_cache(maxsize=4096)
def root_access(account: Account) -> Access:
    """What the key of an account itself may do: everything in it."""
    return Access(principal=root_principal(account.id))


ROOT = Account(id=hashlib.sha256(b"twofold root").hexdigest(), name="root", root=True)
# Who asks without a key. It owns nothing, so its id equals no bucket's owner.
ANYONE = Account(id="anyone", name="")


def user_account(name: str) -> Account:
    """The account of a configured user."""
    return Account(id=hashlib.sha256(b"twofold user " + name.encode()).hexdigest(), name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One access key, and the account that it acts for.

    session_token: what must accompany a temporary key, "" for a permanent one. access: what it may
    do, that of the account's root unless given. facts: condition keys of the caller (lower case),
    as aws:username; those that the request tells are not among them. uid, gid, umask: who owns on
    the mount what is stored with it, None for the default.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    account: Account = ROOT
    access: Access = ANONYMOUS_ACCESS
    facts: Facts = field(default_factory=lambda: NO_FACTS)
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None

    @property
    def maker(self) -> Maker:
        """Who owns on the mount what is stored with it."""
        if self.uid is None and self.gid is None and self.umask is None:
            return STORE
        return Maker(self.uid, self.gid, self.umask)

    def __post_init__(self) -> None:
        if self.access is ANONYMOUS_ACCESS:
            object.__setattr__(self, "access", root_access(self.account))


class Credentials(Protocol):
    def find(self, access_key: str, session_token: str = "") -> Credential | None:
        """The credential of an enabled access key, or None. Must not block.

        session_token: what came along. Raises ExpiredToken.
        """
        ...


class MemoryCredentials:
    """A dictionary of credentials: the keys of a configuration, and tests."""

    def __init__(self, *credentials: Credential) -> None:
        self._by_access_key = {credential.access_key: credential for credential in credentials}

    def find(self, access_key: str, session_token: str = "") -> Credential | None:
        return self._by_access_key.get(access_key)

    def put(self, credential: Credential) -> None:
        self._by_access_key[credential.access_key] = credential

    def remove(self, access_key: str) -> None:
        """Forget the key; requests in flight that were verified before go on."""
        self._by_access_key.pop(access_key, None)


class IdentityCredentials:
    """The fixed keys of the configuration, then the keys and sessions of the namespace.

    accounts: all that there are.
    """

    def __init__(
        self, fixed: MemoryCredentials, identity: Identity, accounts: Iterable[Account]
    ) -> None:
        self._fixed = fixed
        self._identity = identity
        self._accounts = {account.id: account for account in accounts}
        # What was made of a caller is of use for as long as the store tells of the same one.
        self._made: dict[str, tuple[Caller, Credential]] = {}

    def find(self, access_key: str, session_token: str = "") -> Credential | None:
        found = self._fixed.find(access_key)
        if found is not None:
            return found
        if session_token:
            return self._find_session(access_key, session_token)
        caller = self._identity.find(access_key)
        return None if caller is None else self._credential(access_key, caller)

    def _find_session(self, access_key: str, session_token: str) -> Credential | None:
        caller = self._identity.find_session(access_key, session_token)
        if caller is None:
            return None
        assert caller.expires_s is not None
        if time.time() >= caller.expires_s:
            raise ExpiredToken()
        # A session of an account's root goes with the key that asked for it.
        if caller.via and self._fixed.find(caller.via) is None and self.find(caller.via) is None:
            return None
        return self._credential(access_key, caller, session_token)

    def _credential(
        self, access_key: str, caller: Caller, session_token: str = ""
    ) -> Credential | None:
        made = self._made.get(access_key)
        if made is not None and made[0] is caller:
            return made[1]
        account = self._accounts.get(caller.account)
        if account is None:
            return None
        credential = Credential(
            access_key=access_key,
            secret_key=caller.secret,
            session_token=session_token,
            account=account,
            access=caller.access,
            facts=caller.context,
            uid=caller.uid,
            gid=caller.gid,
            umask=caller.umask,
        )
        if len(self._made) >= _MADE_MAX:
            self._made.clear()
        self._made[access_key] = (caller, credential)
        return credential
