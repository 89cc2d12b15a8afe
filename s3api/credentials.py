"""Accounts, access keys and their secrets, as requests need them.

`Credentials` is the seam: today a store in memory that holds the root key and the configured users,
later the IAM tables with service accounts and temporary keys. Look-ups are synchronous because they
happen on the trio loop in every request.

Concurrency: look-ups from any task; changes on the trio thread. Invariants: a secret never appears
in a repr; an account's id depends on its name alone, so what it owns outlives its keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from store.access.evaluate import ANONYMOUS_ACCESS, Access
from store.access.patterns import Values
from store.access.principals import Kind, Principal

Facts = Mapping[str, Values]
NO_FACTS: Facts = {}


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
def account_number(canonical_id: str) -> str:
    """The number of an account, made from its canonical id."""
    digest = hashlib.sha256(b"twofold account " + canonical_id.encode()).digest()
    return f"{int.from_bytes(digest[:8], 'big') % 10**12:012}"


@lru_cache(maxsize=4096)
def root_access(account: Account) -> Access:
    """What the key of an account itself may do: everything in it."""
    principal = Principal(
        kind=Kind.ROOT,
        account=account.number,
        arn=f"arn:aws:iam::{account.number}:root",
        canonical_id=account.id,
    )
    return Access(principal=principal)


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
    as aws:username; those that the request tells are not among them.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    account: Account = ROOT
    access: Access = ANONYMOUS_ACCESS
    facts: Facts = field(default_factory=lambda: NO_FACTS)

    def __post_init__(self) -> None:
        if self.access is ANONYMOUS_ACCESS:
            object.__setattr__(self, "access", root_access(self.account))


class Credentials(Protocol):
    def find(self, access_key: str) -> Credential | None:
        """The credential of an enabled access key, or None. Must not block."""
        ...


class MemoryCredentials:
    """A dictionary of credentials: the keys of a configuration, and tests."""

    def __init__(self, *credentials: Credential) -> None:
        self._by_access_key = {credential.access_key: credential for credential in credentials}

    def find(self, access_key: str) -> Credential | None:
        return self._by_access_key.get(access_key)

    def put(self, credential: Credential) -> None:
        self._by_access_key[credential.access_key] = credential

    def remove(self, access_key: str) -> None:
        """Forget the key; requests in flight that were verified before go on."""
        self._by_access_key.pop(access_key, None)
