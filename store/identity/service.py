"""`Namespace.identity`: who may ask, and what holds for them.

Concurrency: one trio loop; look-ups are plain calls, changes await durability.
"""

from __future__ import annotations

import time

from metadb.engine import Engine
from store.access.evaluate import Access
from store.access.ownership import AccessBlock
from store.access.sealed import Keyring, new_master_key, parse_keyring
from store.identity.book import Book, Change
from store.identity.callers import Caller, Callers, Context, user_context
from store.identity.errors import NoSuchEntity
from store.identity.holders import Holders
from store.identity.keys import Keys
from store.identity.names import account_number, entity_arn, new_secret, new_session_key_id
from store.identity.policies import Policies, Providers
from store.identity.records import AccountSettings, Group, Kind, Role, User
from store.identity.sessions import Session, seal_session

# The name of the one record that an account has of its settings.
_SETTINGS = "settings"


class Identity:
    """Users, groups, roles, keys, policies and providers of all accounts.

    Accounts are named by their canonical ids (64 hex digits).
    """

    def __init__(self, engine: Engine, keyring: Keyring | None) -> None:
        """keyring: seals secrets; None makes one that ends with the process (for tests)."""
        ring = keyring or parse_keyring(new_master_key())
        self._book = Book(engine)
        self.callers = Callers(self._book, ring)
        self.holders = Holders(self._book, self.callers)
        self.keys = Keys(self._book, ring)
        self.policies = Policies(self._book, self.callers)
        self.providers = Providers(self._book)

    def load(self) -> None:
        """Read everything; before anybody asks."""
        self._book.load()

    @property
    def changes(self) -> int:
        """Goes up with every change, for those who remember what they compiled."""
        return self._book.changes

    def find(self, access_key: str) -> Caller | None:
        """Who stands behind a lasting key; None where there is none that works now."""
        return self.callers.find(access_key, time.time())

    def find_session(self, access_key: str, token: str) -> Caller | None:
        """Who stands behind a temporary key, perhaps one that has expired."""
        return self.callers.find_session(access_key, token)

    def find_role(self, arn: str) -> tuple[str, Role] | None:
        """The role with this ARN, in whatever account, and the account's canonical id."""
        number, _, resource = arn.removeprefix("arn:aws:iam::").partition(":")
        name = resource.rpartition("/")[2]
        for account in self._book.accounts_numbered(number):
            role = self._book.find(account, Role, name)
            if role and entity_arn(account, Kind.ROLE, role.name, role.path) == arn:
                return account, role
        return None

    def simulated(self, account: str, arn: str) -> tuple[Access, Context]:
        """What the user, group or role with this ARN may do, and what is known of it.

        Raises NoSuchEntity.
        """
        kind, _, rest = arn.partition(f"arn:aws:iam::{account_number(account)}:")[2].partition("/")
        name = rest.rpartition("/")[2]
        callers, holders = self.callers, self.holders
        if kind == Kind.USER.value:
            user = holders.get(account, User, name)
            return callers.access_of(account, user), user_context(account, user)
        if kind == Kind.GROUP.value:
            return callers.access_of(account, holders.get(account, Group, name)), {}
        if kind == Kind.ROLE.value:
            return callers.access_of(account, holders.get(account, Role, name)), {}
        raise NoSuchEntity(f"{arn} is no user, group or role.")

    def access_block(self, account: str) -> AccessBlock | None:
        """The account's own block of public access; None where it has none."""
        found = self._book.find(account, AccountSettings, _SETTINGS)
        return None if found is None else found.block

    async def set_access_block(self, account: str, block: AccessBlock | None) -> None:
        """None takes it away."""
        record = None if block is None else AccountSettings(block=block)
        await self._book.commit(account, Change(kind=Kind.ACCOUNT, name=_SETTINGS, record=record))

    def start_session(self, session: Session) -> tuple[str, str]:
        """Access key id and token of a new session. Raises TokenTooLarge."""
        access_key = new_session_key_id()
        return access_key, seal_session(self.callers.keyring, access_key, session)

    def new_secret(self) -> str:
        """For a session."""
        return new_secret()

    async def rotate_master_key(self, keyring: Keyring) -> int:
        """Seal everything under the ring's current key; how many secrets that were.

        Sessions go on as long as the ring has the key they were sealed with: see `use_keyring`.
        Raises SealBroken.
        """
        self.use_keyring(keyring)
        return await self.keys.reseal()

    def use_keyring(self, keyring: Keyring) -> None:
        """Seal and open with this ring from now on."""
        self.keys.use_keyring(keyring)
        self.callers.use_keyring(keyring)
