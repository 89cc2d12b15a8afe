"""Owners as a mount shows them, and as the store keeps them; and who root is taken for.

Two ways for users, and the same two for groups: all files belong to one of them (`uid=N`), or
ranges of ids are shown as others (`uidmap=STORED:SHOWN[:COUNT]`, several may be given). As in the
kernel's idmapped mounts, an id outside of all ranges is shown as the overflow id, and can't be
given to a file. With `root_squash`, root is taken for `anonuid=N` and `anongid=N` (squash.py).
Values only, standard library only. Source: mount_setattr(2), ID-mapped mounts; user_namespaces(7);
exports(5).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

OVERFLOW_ID: Final = 65534
_ID_MAX: Final = 2**32 - 2  # the last number is nobody's: chown(2) takes it as "leave it"
_RANGE: Final = re.compile(r"(\d{1,10}):(\d{1,10})(?::(\d{1,10}))?", re.ASCII)


class OwnersError(ValueError):
    """The words can't be meant. The text is one sentence, without its end."""


class IdRefused(Exception):
    """An id that can't be a file's owner here. number: the errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """Ids [stored, stored + count) of the store are [shown, shown + count) on the mount."""

    stored: int
    shown: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMap:
    """only: the one id all have. Else by ranges; without any, ids are what they are."""

    only: int | None = None
    ranges: tuple[IdRange, ...] = ()

    def shown(self, stored: int) -> int:
        """What the mount shows for an id of the store."""
        if self.only is not None:
            return self.only
        for each in self.ranges:
            if each.stored <= stored < each.stored + each.count:
                return each.shown + stored - each.stored
        return OVERFLOW_ID if self.ranges else stored

    def kept(self, shown: int) -> int:
        """What the store keeps for who makes a file. Raises IdRefused: EOVERFLOW, in no range."""
        if self.only is not None:
            return self.only
        for each in self.ranges:
            if each.shown <= shown < each.shown + each.count:
                return each.stored + shown - each.shown
        if self.ranges:
            raise IdRefused(errno.EOVERFLOW)
        return shown

    def changed(self, shown: int) -> int:
        """What the store keeps for a new owner. Raises IdRefused: EPERM, there is only one."""
        if self.only is not None and shown != self.only:
            raise IdRefused(errno.EPERM)
        return self.kept(shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anonymous:
    """Who root is taken for, by ids as the mount shows them; never root."""

    uid: int = OVERFLOW_ID
    gid: int = OVERFLOW_ID


SQUASH_WORDS: Final = ("root_squash", "anonuid", "anongid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """How users and groups are shown, and who root is taken for, None for itself.

    words: the options that say so, for another to parse.
    """

    users: IdMap = IdMap()
    groups: IdMap = IdMap()
    root: Anonymous | None = None
    words: tuple[str, ...] = ()

    @property
    def are_kept(self) -> bool:
        """Whether all is shown as the store has it."""
        return self.users == self.groups == IdMap()


AS_KEPT: Final = Owners()


def owners_of(words: Sequence[str]) -> Owners:
    """From options as `uid=1000`, `gidmap=0:100:10` and `root_squash`. Raises OwnersError."""
    maps: dict[str, IdMap] = {"uid": IdMap(), "gid": IdMap()}
    squash: dict[str, str] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name in SQUASH_WORDS:
            squash[name] = word
            continue
        kind = name.removesuffix("map")
        known = maps[kind]
        if name == kind:
            if known.ranges:
                raise OwnersError(f"{kind} and {kind}map exclude each other")
            maps[kind] = IdMap(only=_id(word, text))
        else:
            if known.only is not None:
                raise OwnersError(f"{kind} and {kind}map exclude each other")
            maps[kind] = IdMap(ranges=(*known.ranges, _range(word, text, known.ranges)))
    root = _anonymous(squash)
    return Owners(users=maps["uid"], groups=maps["gid"], root=root, words=tuple(words))


def _anonymous(words: dict[str, str]) -> Anonymous | None:
    if words and words.get("root_squash") != "root_squash":
        raise OwnersError(f"{next(iter(words.values()))} takes root_squash with it")
    ids: dict[str, int] = {}
    for name in ("uid", "gid"):
        word = words.get(f"anon{name}")
        if word is not None:
            ids[name] = _id(word, word.partition("=")[2])
            if ids[name] == 0:
                raise OwnersError(f"{word} is root again")
    return Anonymous(**ids) if words else None


def _range(word: str, text: str, others: Sequence[IdRange]) -> IdRange:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise OwnersError(f"{word} is not STORED:SHOWN or STORED:SHOWN:COUNT")
    stored, shown, count = int(match[1]), int(match[2]), int(match[3] or 1)
    if count == 0 or max(stored, shown) + count - 1 > _ID_MAX:
        raise OwnersError(f"{word} holds no ids, or ids that there are not")
    for other in others:
        if _meet(stored, count, other.stored, other.count) or _meet(
            shown, count, other.shown, other.count
        ):
            raise OwnersError(f"{word} overlaps a range before it")
    return IdRange(stored=stored, shown=shown, count=count)


def _meet(start: int, count: int, other_start: int, other_count: int) -> bool:
    return start < other_start + other_count and other_start < start + count


def _id(word: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII) or int(text) > _ID_MAX:
        raise OwnersError(f"{word} is not a number that an owner can have")
    return int(text)
