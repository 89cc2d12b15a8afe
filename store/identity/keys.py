"""Access keys: made, shown once, enabled and disabled, rotated, deleted.

Invariant: a secret is told to whoever asked for it, at that moment, and kept sealed only.
Concurrency: each change looks and commits without an await between. Source: AWS IAM API reference,
CreateAccessKey, UpdateAccessKey, DeleteAccessKey.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from msgspec.structs import replace

from store.access.parse import parse_policy
from store.access.policy import KEY_LIMITS
from store.access.sealed import Keyring, Secret, reseal, seal
from store.identity.book import Book, Change
from store.identity.callers import KEY_PURPOSE
from store.identity.errors import EntityExists, Invalid, LimitReached, NoSuchEntity
from store.identity.names import new_id, new_secret
from store.identity.records import Key, Kind, User
from store.identity.uses import Uses

# AWS has two; who uses keys as service accounts needs more.
KEYS_OF_USER_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key as it was made: the only time its secret is told."""

    key: Key
    secret: str = field(repr=False)


class Keys:
    """See the module's header."""

    def __init__(self, book: Book, keyring: Keyring) -> None:
        self._book = book
        self._keyring = keyring
        self.uses = Uses(book)

    def get(self, account: str, access_key: str) -> Key:
        """Raises NoSuchEntity."""
        found = self._book.find(account, Key, access_key)
        if found is None:
            raise NoSuchEntity(f"The Access Key with id {access_key} cannot be found.")
        return found

    def of(self, account: str, user: str) -> list[Key]:
        """A user's, or the account root's (""). Raises NoSuchEntity."""
        if user:
            self._book.get(account, User, user)
        return [key for key in self._book.all(account, Key) if key.user == user.lower()]

    def all(self, account: str) -> list[Key]:
        """All of an account."""
        return self._book.all(account, Key)

    async def create(
        self,
        account: str,
        user: str,
        *,
        policy: str = "",
        expires_s: int | None = None,
        description: str = "",
        uid: int | None = None,
        gid: int | None = None,
        umask: int | None = None,
    ) -> NewKey:
        """A key of a user, or of the account's root (""). policy: narrows it.

        Raises NoSuchEntity, LimitReached, Invalid, MalformedPolicy.
        """
        if len(self.of(account, user)) >= KEYS_OF_USER_MAX:
            raise LimitReached(f"Cannot exceed quota for AccessKeysPerUser: {KEYS_OF_USER_MAX}")
        if policy:
            parse_policy(policy, name="key", limits=KEY_LIMITS)
        if expires_s is not None and expires_s <= time.time():
            raise Invalid("A key can't expire before it is made.")
        access_key, secret = new_id(Kind.KEY), new_secret()
        if self._book.account_of_key(access_key) is not None:
            raise EntityExists("Try again.")
        key = Key(
            id=access_key,
            sealed=self._seal(access_key, secret),
            user=user.lower(),
            made_s=int(time.time()),
            expires_s=expires_s,
            policy=policy,
            description=description[:256],
            uid=uid,
            gid=gid,
            umask=umask,
        )
        await self._keep(account, key)
        return NewKey(key=key, secret=secret)

    async def enable(self, account: str, access_key: str, enabled: bool) -> Key:
        """Raises NoSuchEntity."""
        key = replace(self.get(account, access_key), enabled=enabled)
        await self._keep(account, key)
        return key

    async def set_policy(self, account: str, access_key: str, policy: str) -> Key:
        """ "" for none. Raises NoSuchEntity, MalformedPolicy."""
        key = self.get(account, access_key)
        if policy:
            parse_policy(policy, name="key", limits=KEY_LIMITS)
        key = replace(key, policy=policy)
        await self._keep(account, key)
        return key

    async def rotate(self, account: str, access_key: str) -> NewKey:
        """A new secret for the same key; the old one stops working at once. Raises NoSuchEntity."""
        secret = new_secret()
        key = replace(
            self.get(account, access_key),
            sealed=self._seal(access_key, secret),
            rotated_s=int(time.time()),
        )
        await self._keep(account, key)
        return NewKey(key=key, secret=secret)

    async def delete(self, account: str, access_key: str) -> None:
        """Raises NoSuchEntity."""
        self.get(account, access_key)
        await self._book.commit(account, Change(kind=Kind.KEY, name=access_key, record=None))

    def use_keyring(self, keyring: Keyring) -> None:
        """Seal with this ring from now on."""
        self._keyring = keyring

    async def reseal(self) -> int:
        """Seal everything under the ring's current key; how many secrets that were.

        May be broken off and done again. Raises SealBroken.
        """
        changes: list[tuple[str, Change]] = []
        count = 0
        for account, key in list(self._book.keys()):
            sealed = reseal(self._keyring, key.sealed, purpose=KEY_PURPOSE, owner=key.id)
            if sealed is not None:
                record = replace(key, sealed=sealed)
                changes.append((account, Change(kind=Kind.KEY, name=key.id, record=record)))
                count += 1
        # Nobody can change a key between the look above and this: there is no await.
        if changes:
            await self._book.commit_all(changes)
        return count

    def _seal(self, access_key: str, secret: str) -> bytes:
        return seal(self._keyring, Secret(secret.encode()), purpose=KEY_PURPOSE, owner=access_key)

    async def _keep(self, account: str, key: Key) -> None:
        await self._book.commit(account, Change(kind=Kind.KEY, name=key.id, record=key))
