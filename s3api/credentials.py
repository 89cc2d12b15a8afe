"""Accounts, access keys and their secrets, as requests need them.

`Credentials` is the seam: today a store in memory that holds the root key and the configured users,
later the IAM tables with service accounts and temporary keys. Look-ups are synchronous because they
happen on the trio loop in every request.

Concurrency: look-ups from any task; changes on the trio thread. Invariants: a secret never appears
in a repr; an account's id depends on its name alone, so what it owns outlives its keys.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol


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


ROOT = Account(id=hashlib.sha256(b"twofold root").hexdigest(), name="root", root=True)
# Who asks without a key. It owns nothing, so its id equals no bucket's owner.
ANYONE = Account(id="anyone", name="")


def user_account(name: str) -> Account:
    """The account of a configured user."""
    return Account(id=hashlib.sha256(b"twofold user " + name.encode()).hexdigest(), name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One access key, and the account that it acts for.

    session_token: what must accompany a temporary key, "" for a permanent one.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    account: Account = ROOT


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
