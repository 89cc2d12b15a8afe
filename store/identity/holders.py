"""Users, groups and roles: who holds policies.

What the three have in common is done once, for each by its type (`User`, `Group`, `Role`).

Invariants: a name is taken whatever its upper and lower case; nothing is deleted that something
hangs on; a document is parsed before it is kept.
Concurrency: each change looks and commits without an await between. Source: AWS IAM API reference,
the actions of the same names; IAM user guide, "IAM and STS quotas".
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, TypeVar

from msgspec.structs import replace

from store.access.parse import parse_policy
from store.access.policy import (
    GROUP_INLINE_LIMITS,
    ROLE_INLINE_LIMITS,
    USER_INLINE_LIMITS,
    Limits,
    PolicyKind,
)
from store.identity.book import Book, Change, put
from store.identity.callers import Callers
from store.identity.errors import EntityExists, InUse, Invalid, LimitReached, NoSuchEntity
from store.identity.names import check_name, check_path, check_policy_name, check_tags, new_id
from store.identity.records import Group, Key, Kind, Role, Tags, User

H = TypeVar("H", bound=User | Group | Role)

COUNTS_MAX: dict[type[Any], int] = {User: 5000, Group: 300, Role: 1000}
ATTACHED_MAX = 20
INLINE_MAX = 100
GROUPS_OF_USER_MAX = 10
SESSION_S = range(3600, 12 * 3600 + 1)
_INLINE_LIMITS: dict[type[Any], Limits] = {
    User: USER_INLINE_LIMITS,
    Group: GROUP_INLINE_LIMITS,
    Role: ROLE_INLINE_LIMITS,
}
_KINDS: dict[type[Any], Kind] = {User: Kind.USER, Group: Kind.GROUP, Role: Kind.ROLE}


class Holders:
    """See the module's header. Accounts are named by their canonical ids."""

    def __init__(self, book: Book, callers: Callers) -> None:
        self._book = book
        self._callers = callers

    def get(self, account: str, made: type[H], name: str) -> H:
        """Raises NoSuchEntity."""
        return self._book.get(account, made, name)

    def all(self, account: str, made: type[H], path: str = "/") -> list[H]:
        """Those below a path, by name."""
        return [each for each in self._book.all(account, made) if each.path.startswith(path)]

    def members(self, account: str, group: str) -> list[User]:
        """The users of a group. Raises NoSuchEntity."""
        self._book.get(account, Group, group)
        return [each for each in self._book.all(account, User) if group.lower() in each.groups]

    # -- one by one ---------------------------------------------------------------------

    async def create_user(
        self, account: str, name: str, *, path: str = "/", tags: Tags, boundary: str = ""
    ) -> User:
        """Raises EntityExists, Invalid, LimitReached, NoSuchEntity (the boundary)."""
        self._check_new(account, User, name, path)
        check_tags(tags)
        self._check_policy(account, boundary)
        user = User(
            name=name,
            id=new_id(Kind.USER),
            path=path,
            made_s=int(time.time()),
            tags=tags,
            boundary=boundary,
        )
        await self._book.commit(account, put(user))
        return user

    async def create_group(self, account: str, name: str, *, path: str = "/") -> Group:
        """Raises EntityExists, Invalid, LimitReached."""
        self._check_new(account, Group, name, path)
        group = Group(name=name, id=new_id(Kind.GROUP), path=path, made_s=int(time.time()))
        await self._book.commit(account, put(group))
        return group

    async def create_role(
        self,
        account: str,
        name: str,
        trust: str,
        *,
        path: str = "/",
        description: str = "",
        session_max_s: int = SESSION_S.start,
        tags: Tags,
        boundary: str = "",
    ) -> Role:
        """Raises EntityExists, Invalid, LimitReached, MalformedPolicy, NoSuchEntity."""
        self._check_new(account, Role, name, path)
        check_tags(tags)
        check_session_max(session_max_s)
        parse_policy(trust, PolicyKind.TRUST, name=name)
        self._check_policy(account, boundary)
        role = Role(
            name=name,
            id=new_id(Kind.ROLE),
            path=path,
            made_s=int(time.time()),
            trust=trust,
            description=description,
            session_max_s=session_max_s,
            tags=tags,
            boundary=boundary,
        )
        await self._book.commit(account, put(role))
        return role

    async def rename_user(self, account: str, name: str, new_name: str, path: str) -> User:
        """new_name, path: as before where they shall stay. Raises as create_user."""
        user = self._book.get(account, User, name)
        changed = self._renamed(account, user, new_name, path)
        keys = [each for each in self._book.all(account, Key) if each.user == name.lower()]
        await self._book.commit(
            account,
            Change(kind=Kind.USER, name=user.name, record=None),
            put(changed),
            *(
                Change(kind=Kind.KEY, name=key.id, record=replace(key, user=new_name.lower()))
                for key in keys
            ),
        )
        return changed

    async def rename_group(self, account: str, name: str, new_name: str, path: str) -> Group:
        """As `rename_user`."""
        members = self.members(account, name)
        group = self._book.get(account, Group, name)
        changed = self._renamed(account, group, new_name, path)
        old, new = name.lower(), new_name.lower()
        moved = [
            replace(user, groups=tuple(new if each == old else each for each in user.groups))
            for user in members
        ]
        await self._book.commit(
            account,
            Change(kind=Kind.GROUP, name=group.name, record=None),
            put(changed),
            *map(put, moved),
        )
        return changed

    def _renamed(self, account: str, holder: H, new_name: str, path: str) -> H:
        if new_name.lower() != holder.name.lower():
            self._check_new(account, type(holder), new_name, path)
        check_name(_KINDS[type(holder)], new_name)
        check_path(path)
        return replace(holder, name=new_name, path=path)

    async def change_role(
        self,
        account: str,
        name: str,
        *,
        trust: str | None = None,
        description: str | None = None,
        session_max_s: int | None = None,
    ) -> Role:
        """None leaves it as it is. Raises NoSuchEntity, Invalid, MalformedPolicy."""
        role = self._book.get(account, Role, name)
        if trust is not None:
            parse_policy(trust, PolicyKind.TRUST, name=name)
            role = replace(role, trust=trust)
        if description is not None:
            role = replace(role, description=description)
        if session_max_s is not None:
            check_session_max(session_max_s)
            role = replace(role, session_max_s=session_max_s)
        await self._book.commit(account, put(role))
        return role

    async def delete(self, account: str, made: type[H], name: str) -> None:
        """Raises NoSuchEntity, InUse."""
        holder = self._book.get(account, made, name)
        if holder.inline:
            raise InUse("Cannot delete entity, must delete policies first.")
        if holder.attached:
            raise InUse("Cannot delete entity, must detach all policies first.")
        if isinstance(holder, User):
            if holder.groups:
                raise InUse("Cannot delete entity, must remove users from group first.")
            if any(key.user == name.lower() for key in self._book.all(account, Key)):
                raise InUse("Cannot delete entity, must delete access keys first.")
        if isinstance(holder, Group) and self.members(account, name):
            raise InUse("Cannot delete entity, must remove users from group first.")
        change = Change(kind=_KINDS[made], name=holder.name, record=None)
        await self._book.commit(account, change)

    # -- groups -------------------------------------------------------------------------

    async def join(self, account: str, user: str, group: str) -> None:
        """Raises NoSuchEntity, LimitReached."""
        self._book.get(account, Group, group)
        found = self._book.get(account, User, user)
        groups = tuple(dict.fromkeys((*found.groups, group.lower())))
        if len(groups) > GROUPS_OF_USER_MAX:
            raise LimitReached(f"A user can be in at most {GROUPS_OF_USER_MAX} groups.")
        await self._book.commit(account, put(replace(found, groups=groups)))

    async def leave(self, account: str, user: str, group: str) -> None:
        """Raises NoSuchEntity."""
        self._book.get(account, Group, group)
        found = self._book.get(account, User, user)
        if group.lower() not in found.groups:
            raise NoSuchEntity(f"The user {user} is not in the group {group}.")
        groups = tuple(each for each in found.groups if each != group.lower())
        await self._book.commit(account, put(replace(found, groups=groups)))

    # -- policies -----------------------------------------------------------------------

    async def put_inline(
        self, account: str, made: type[H], name: str, policy: str, document: str
    ) -> None:
        """Raises NoSuchEntity, Invalid, MalformedPolicy, LimitReached."""
        holder = self._book.get(account, made, name)
        check_policy_name(policy)
        parse_policy(document, name=policy, limits=_INLINE_LIMITS[made])
        inline = {**holder.inline, policy: document}
        if len(inline) > INLINE_MAX:
            raise LimitReached(f"Cannot exceed quota for inline policies: {INLINE_MAX}")
        await self._book.commit(account, put(replace(holder, inline=inline)))

    def inline(self, account: str, made: type[H], name: str, policy: str) -> str:
        """The document. Raises NoSuchEntity."""
        found = self._book.get(account, made, name).inline.get(policy)
        if found is None:
            kind = _KINDS[made].value
            raise NoSuchEntity(f"The {kind} policy with name {policy} cannot be found.")
        return found

    async def remove_inline(self, account: str, made: type[H], name: str, policy: str) -> None:
        """Raises NoSuchEntity."""
        self.inline(account, made, name, policy)
        holder = self._book.get(account, made, name)
        inline = {key: value for key, value in holder.inline.items() if key != policy}
        await self._book.commit(account, put(replace(holder, inline=inline)))

    async def attach(self, account: str, made: type[H], name: str, arn: str) -> None:
        """Raises NoSuchEntity, LimitReached."""
        holder = self._book.get(account, made, name)
        self._check_policy(account, arn)
        attached = _added(holder.attached, arn)
        if len(attached) > ATTACHED_MAX:
            raise LimitReached(f"Cannot exceed quota for attached policies: {ATTACHED_MAX}")
        await self._book.commit(account, put(replace(holder, attached=attached)))

    async def detach(self, account: str, made: type[H], name: str, arn: str) -> None:
        """Raises NoSuchEntity."""
        holder = self._book.get(account, made, name)
        if arn not in holder.attached:
            raise NoSuchEntity(f"Policy {arn} was not found.")
        attached = tuple(each for each in holder.attached if each != arn)
        await self._book.commit(account, put(replace(holder, attached=attached)))

    async def set_boundary(self, account: str, made: type[H], name: str, arn: str) -> None:
        """ "" removes it. Raises NoSuchEntity."""
        holder = self._book.get(account, made, name)
        if not arn and not holder.boundary:
            raise NoSuchEntity(f"{name} has no permissions boundary.")
        self._check_policy(account, arn)
        await self._book.commit(account, put(replace(holder, boundary=arn)))

    # -- tags ---------------------------------------------------------------------------

    async def tag(self, account: str, made: type[H], name: str, tags: Tags) -> None:
        """Add these. Raises NoSuchEntity, Invalid."""
        holder = self._book.get(account, made, name)
        kept = {**holder.tags, **tags}
        check_tags(kept)
        await self._book.commit(account, put(replace(holder, tags=kept)))

    async def untag(self, account: str, made: type[H], name: str, keys: Iterable[str]) -> None:
        """Raises NoSuchEntity."""
        holder = self._book.get(account, made, name)
        gone = frozenset(keys)
        kept = {key: value for key, value in holder.tags.items() if key not in gone}
        await self._book.commit(account, put(replace(holder, tags=kept)))

    # -- checks -------------------------------------------------------------------------

    def _check_new(self, account: str, made: type[H], name: str, path: str) -> None:
        kind = _KINDS[made]
        check_name(kind, name)
        check_path(path)
        if self._book.find(account, made, name) is not None:
            raise EntityExists(f"{kind.value.capitalize()} with name {name} already exists.")
        if self._book.count(account, made) >= COUNTS_MAX[made]:
            raise LimitReached(f"Cannot exceed quota for {kind.value}s: {COUNTS_MAX[made]}")

    def _check_policy(self, account: str, arn: str) -> None:
        if arn and self._callers.policy(account, arn) is None:
            raise NoSuchEntity(f"Policy {arn} does not exist or is not attachable.")


def _added(arns: tuple[str, ...], arn: str) -> tuple[str, ...]:
    return arns if arn in arns else (*arns, arn)


def check_session_max(session_max_s: int) -> None:
    """Of a role. Raises Invalid."""
    if session_max_s not in SESSION_S:
        raise Invalid(
            f"MaxSessionDuration lies between {SESSION_S.start} and {SESSION_S.stop - 1} seconds."
        )
