"""Managed policies and their versions, and OpenID providers: what has an ARN of its own.

Invariants: a policy has one to five versions, of which one counts; none is deleted while somebody
has it.
Concurrency: each change looks and commits without an await between. Source: AWS IAM API reference,
the actions of the same names; IAM user guide, "Versioning IAM policies".
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from msgspec.structs import replace

from store.access.parse import parse_policy
from store.identity.book import Book, Change, put
from store.identity.callers import Callers
from store.identity.errors import (
    EntityExists,
    InUse,
    Invalid,
    LimitReached,
    NoSuchEntity,
    Unmodifiable,
)
from store.identity.managed import MANAGED
from store.identity.names import (
    check_issuer,
    check_name,
    check_path,
    check_tags,
    new_id,
    provider_arn,
    provider_host,
)
from store.identity.records import (
    Group,
    Kind,
    ManagedPolicy,
    PolicyVersion,
    Provider,
    Role,
    Tags,
    User,
)

POLICIES_MAX = 1500
VERSIONS_MAX = 5
PROVIDERS_MAX = 100
CLIENTS_MAX = 100

Entity = User | Group | Role


class Policies:
    """Managed policies of an account, by their ARNs."""

    def __init__(self, book: Book, callers: Callers) -> None:
        self._book = book
        self._callers = callers

    def get(self, account: str, arn: str) -> ManagedPolicy:
        """Raises NoSuchEntity."""
        found = self._callers.policy(account, arn)
        if found is None:
            raise NoSuchEntity(f"Policy {arn} was not found.")
        return found

    def all(self, account: str) -> list[ManagedPolicy]:
        """The account's own, by name."""
        return self._book.all(account, ManagedPolicy)

    def holders(self, account: str, arn: str) -> list[Entity]:
        """Who has it attached."""
        return [each for each in self._entities(account) if arn in each.attached]

    def bounded(self, account: str, arn: str) -> list[Entity]:
        """Whose boundary it is."""
        return [each for each in self._entities(account) if arn == each.boundary]

    def _entities(self, account: str) -> list[Entity]:
        book = self._book
        return [*book.all(account, User), *book.all(account, Group), *book.all(account, Role)]

    async def create(
        self,
        account: str,
        name: str,
        document: str,
        *,
        path: str = "/",
        description: str = "",
        tags: Tags,
    ) -> ManagedPolicy:
        """Raises EntityExists, Invalid, MalformedPolicy, LimitReached."""
        check_name(Kind.POLICY, name)
        check_path(path)
        check_tags(tags)
        parse_policy(document, name=name)
        if self._book.find(account, ManagedPolicy, name) is not None:
            raise EntityExists(
                f"A policy called {name} already exists. Duplicate names are not allowed."
            )
        if self._book.count(account, ManagedPolicy) >= POLICIES_MAX:
            raise LimitReached(f"Cannot exceed quota for policies: {POLICIES_MAX}")
        now_s = int(time.time())
        policy = ManagedPolicy(
            name=name,
            id=new_id(Kind.POLICY),
            path=path,
            made_s=now_s,
            changed_s=now_s,
            description=description,
            versions=(PolicyVersion(number=1, document=document, made_s=now_s),),
            tags=tags,
        )
        await self._book.commit(account, put(policy))
        return policy

    async def add_version(
        self, account: str, arn: str, document: str, *, default: bool
    ) -> PolicyVersion:
        """Raises NoSuchEntity, Unmodifiable, MalformedPolicy, LimitReached."""
        policy = self._own(account, arn)
        parse_policy(document, name=policy.name)
        if len(policy.versions) >= VERSIONS_MAX:
            raise LimitReached(
                f"A managed policy can have up to {VERSIONS_MAX} versions. Before you create a new "
                "version, you must delete an existing version."
            )
        now_s = int(time.time())
        number = max(each.number for each in policy.versions) + 1
        version = PolicyVersion(number=number, document=document, made_s=now_s)
        versions = (*policy.versions, version)
        chosen = number if default else policy.default
        changed = replace(policy, versions=versions, default=chosen, changed_s=now_s)
        await self._book.commit(account, put(changed))
        return version

    def version(self, account: str, arn: str, version: str) -> PolicyVersion:
        """version: "v1". Raises NoSuchEntity."""
        policy = self.get(account, arn)
        for each in policy.versions:
            if f"v{each.number}" == version:
                return each
        raise NoSuchEntity(f"Policy {arn} version {version} does not exist.")

    async def set_default(self, account: str, arn: str, version: str) -> None:
        """Raises NoSuchEntity, Unmodifiable."""
        policy = self._own(account, arn)
        number = self.version(account, arn, version).number
        changed = replace(policy, default=number, changed_s=int(time.time()))
        await self._book.commit(account, put(changed))

    async def delete_version(self, account: str, arn: str, version: str) -> None:
        """Raises NoSuchEntity, Unmodifiable, InUse."""
        policy = self._own(account, arn)
        number = self.version(account, arn, version).number
        if number == policy.default:
            raise InUse("Cannot delete the default version of a policy.")
        versions = tuple(each for each in policy.versions if each.number != number)
        changed = replace(policy, versions=versions, changed_s=int(time.time()))
        await self._book.commit(account, put(changed))

    async def delete(self, account: str, arn: str) -> None:
        """Raises NoSuchEntity, Unmodifiable, InUse."""
        policy = self._own(account, arn)
        if self.holders(account, arn) or self.bounded(account, arn):
            raise InUse("Cannot delete a policy attached to entities.")
        if len(policy.versions) > 1:
            raise InUse(
                "This policy has more than one version. Before you delete a policy, you must "
                "delete the policy's versions."
            )
        await self._book.commit(account, Change(kind=Kind.POLICY, name=policy.name, record=None))

    async def set_tags(self, account: str, arn: str, add: Tags, remove: Iterable[str]) -> None:
        """Raises NoSuchEntity, Unmodifiable, Invalid."""
        policy = self._own(account, arn)
        tags = _retagged(policy.tags, add, remove)
        await self._book.commit(account, put(replace(policy, tags=tags)))

    def _own(self, account: str, arn: str) -> ManagedPolicy:
        if arn in MANAGED:
            raise Unmodifiable(f"Policy {arn} is always there, and as it is.")
        return self.get(account, arn)


class Providers:
    """OpenID providers of an account, by their ARNs."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def all(self, account: str) -> list[Provider]:
        """By their hosts."""
        return self._book.all(account, Provider)

    def get(self, account: str, arn: str) -> Provider:
        """Raises NoSuchEntity."""
        host = arn.partition(":oidc-provider/")[2]
        found = self._book.find(account, Provider, host)
        if found is None or provider_arn(account, found.url) != arn:
            raise NoSuchEntity(f"OpenIDConnect Provider not found for arn {arn}")
        return found

    def of_issuer(self, account: str, issuer: str) -> Provider | None:
        """The provider that names itself so in its tokens."""
        found = self._book.find(account, Provider, provider_host(issuer))
        return found if found is not None and found.url == issuer else None

    async def create(
        self,
        account: str,
        url: str,
        clients: tuple[str, ...],
        *,
        thumbprints: tuple[str, ...] = (),
        tags: Tags,
    ) -> Provider:
        """Raises EntityExists, Invalid, LimitReached."""
        check_issuer(url)
        check_tags(tags)
        self._check_clients(clients)
        if self._book.find(account, Provider, provider_host(url)) is not None:
            raise EntityExists(f"Provider with url {url} already exists.")
        if self._book.count(account, Provider) >= PROVIDERS_MAX:
            raise LimitReached(f"Cannot exceed quota for providers: {PROVIDERS_MAX}")
        provider = Provider(
            url=url,
            made_s=int(time.time()),
            clients=clients,
            thumbprints=thumbprints,
            tags=tags,
        )
        await self._keep(account, provider)
        return provider

    def fix(self, account: str, provider: Provider) -> None:
        """Believe this provider as long as the process lives: the configuration says so.

        Nobody can change or delete it, and it is kept nowhere.
        """
        name = provider_host(provider.url)
        self._book.fix(account, Change(kind=Kind.PROVIDER, name=name, record=provider))

    async def add_client(self, account: str, arn: str, client: str) -> None:
        """Raises NoSuchEntity, Invalid."""
        provider = self.get(account, arn)
        clients = tuple(dict.fromkeys((*provider.clients, client)))
        self._check_clients(clients)
        await self._keep(account, replace(provider, clients=clients))

    async def remove_client(self, account: str, arn: str, client: str) -> None:
        """Raises NoSuchEntity."""
        provider = self.get(account, arn)
        clients = tuple(each for each in provider.clients if each != client)
        await self._keep(account, replace(provider, clients=clients))

    async def set_thumbprints(self, account: str, arn: str, thumbprints: tuple[str, ...]) -> None:
        """Kept for those who ask; certificates are verified by the system's authorities."""
        provider = self.get(account, arn)
        await self._keep(account, replace(provider, thumbprints=thumbprints))

    async def set_tags(self, account: str, arn: str, add: Tags, remove: Iterable[str]) -> None:
        """Raises NoSuchEntity, Invalid."""
        provider = self.get(account, arn)
        tags = _retagged(provider.tags, add, remove)
        await self._keep(account, replace(provider, tags=tags))

    async def delete(self, account: str, arn: str) -> None:
        """What its tokens gave ends when it expires. Raises NoSuchEntity, Unmodifiable."""
        provider = self.get(account, arn)
        name = provider_host(provider.url)
        await self._book.commit(account, Change(kind=Kind.PROVIDER, name=name, record=None))

    def _check_clients(self, clients: tuple[str, ...]) -> None:
        if len(clients) > CLIENTS_MAX or any(not 0 < len(each) <= 255 for each in clients):
            raise Invalid("A provider has at most 100 client ids, of 1 to 255 letters.")

    async def _keep(self, account: str, provider: Provider) -> None:
        name = provider_host(provider.url)
        await self._book.commit(account, Change(kind=Kind.PROVIDER, name=name, record=provider))


def _retagged(tags: Tags, add: Tags, remove: Iterable[str]) -> Tags:
    gone = frozenset(remove)
    kept = {key: value for key, value in {**tags, **add}.items() if key not in gone}
    check_tags(kept)
    return kept
