"""Access keys and their secrets, as signature verification needs them.

`Credentials` is the seam: today a store in memory that holds the root key, later the IAM tables
with users, service accounts and temporary keys. Look-ups are synchronous because they happen on the
trio loop in every request.

Concurrency: look-ups from any task; changes on the trio thread. Invariant: a secret never appears
in a repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One access key.

    session_token: what must accompany a temporary key, "" for a permanent one.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class Credentials(Protocol):
    def find(self, access_key: str) -> Credential | None:
        """The credential of an enabled access key, or None. Must not block."""
        ...


class MemoryCredentials:
    """A dictionary of credentials: the root key of a deployment, and tests."""

    def __init__(self, *credentials: Credential) -> None:
        self._by_access_key = {credential.access_key: credential for credential in credentials}

    def find(self, access_key: str) -> Credential | None:
        return self._by_access_key.get(access_key)

    def put(self, credential: Credential) -> None:
        self._by_access_key[credential.access_key] = credential

    def remove(self, access_key: str) -> None:
        """Forget the key; requests in flight that were verified before go on."""
        self._by_access_key.pop(access_key, None)
