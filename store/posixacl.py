"""POSIX access control lists as values: their bytes, their checks, their ties to mode bits.

Bytes, little-endian, as setxattr(2) takes them and the kernel hands them on:

    0   4   version: 2
    4   8*n entries: tag (2 bytes), permissions (2 bytes: 4 read, 2 write, 1 execute), id (4)

Entries stand by tag: the owner, named users, the owning group, named groups, the mask, all others.
The id of an entry that names nobody is 2**32 - 1.
Invariants: a list has one entry each for owner, owning group and others, and a mask wherever
somebody is named; the mode's group bits are the mask's, or without a mask the owning group's.
Pure functions. Source: acl(5); POSIX.1e draft 17, 23.1; linux include/uapi/linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from store.errors import InvalidArgument

ACCESS: Final = b"system.posix_acl_access"
DEFAULT: Final = b"system.posix_acl_default"
NAMES: Final = (ACCESS, DEFAULT)

OWNER: Final = 0x01
USER: Final = 0x02
OWNING_GROUP: Final = 0x04
GROUP: Final = 0x08
MASK: Final = 0x10
OTHERS: Final = 0x20

NOBODY: Final = 2**32 - 1
_VERSION: Final = 2
_HEAD: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_NAMING: Final = (USER, GROUP)
_ONCE: Final = (OWNER, OWNING_GROUP, MASK, OTHERS)
_TAGS: Final = frozenset((*_NAMING, *_ONCE))
_RIGHTS: Final = 0o7
_MODE_RIGHTS: Final = 0o777


class Entry(NamedTuple):
    """What one of them may. rights: 0 to 7. id: of USER and GROUP, else NOBODY."""

    tag: int
    rights: int
    id: int = NOBODY


Acl = tuple[Entry, ...]


def parse(packed: bytes) -> Acl:
    """The list that the bytes are. Raises InvalidArgument for what is none."""
    size = len(packed) - _HEAD.size
    if size < 0 or size % _ENTRY.size or _HEAD.unpack_from(packed)[0] != _VERSION:
        raise InvalidArgument(packed[:16], "no ACL of version 2")
    acl = tuple(Entry._make(each) for each in _ENTRY.iter_unpack(packed[_HEAD.size :]))
    fault = fault_of(acl)
    if fault:
        raise InvalidArgument(packed[:16], fault)
    return tuple(each if each.tag in _NAMING else each._replace(id=NOBODY) for each in acl)


def fault_of(acl: Acl) -> str:
    """Why this is no list, "" if it is one."""
    tags = [each.tag for each in acl]
    if not _TAGS.issuperset(tags) or tags != sorted(tags):
        return "entries are not in order"
    if any(tags.count(tag) > 1 for tag in _ONCE):
        return "an entry stands twice"
    if not {OWNER, OWNING_GROUP, OTHERS}.issubset(tags):
        return "owner, group and others are not all there"
    if MASK not in tags and (USER in tags or GROUP in tags):
        return "somebody is named, and there is no mask"
    if any(each.rights & ~_RIGHTS for each in acl):
        return "a right that there is not"
    if any(each.id == NOBODY for each in acl if each.tag in _NAMING):
        return "an entry for nobody"
    return ""


def pack(acl: Acl) -> bytes:
    """The bytes of a list."""
    return _HEAD.pack(_VERSION) + b"".join(_ENTRY.pack(*each) for each in acl)


def is_minimal(acl: Acl) -> bool:
    """Whether it says no more than nine mode bits do."""
    return all(each.tag in (OWNER, OWNING_GROUP, OTHERS) for each in acl)


def mode_of(acl: Acl, mode: int) -> int:
    """`mode` with the nine bits that go with the list."""
    return mode & ~_MODE_RIGHTS | _rights_of(acl)


def with_mode(acl: Acl, mode: int) -> Acl:
    """The list after chmod(2): the mode's group bits are the mask's, where there is one."""
    wanted = _mode_rights(acl, mode)
    return tuple(each._replace(rights=wanted.get(each.tag, each.rights)) for each in acl)


def inherited(default: Acl, mode: int) -> Acl:
    """The access list of what is made with `mode` in a directory of this default list.

    mode: as the program asks, the umask not taken off.
    """
    asked = _mode_rights(default, mode)
    return tuple(
        each._replace(rights=each.rights & asked.get(each.tag, _RIGHTS)) for each in default
    )


def with_ids(acl: Acl, users: Callable[[int], int], groups: Callable[[int], int]) -> Acl:
    """The list with other ids; each group of entries keeps its order by id."""
    ways = {USER: users, GROUP: groups}
    changed = [
        each._replace(id=ways[each.tag](each.id)) if each.tag in ways else each for each in acl
    ]
    return tuple(sorted(changed, key=lambda each: (each.tag, each.id)))


def _group_tag(acl: Acl) -> int:
    """The entry that the mode's group bits stand for."""
    return MASK if any(each.tag == MASK for each in acl) else OWNING_GROUP


def _mode_rights(acl: Acl, mode: int) -> dict[int, int]:
    """Rights by tag, of those entries that the mode's bits stand for."""
    return {
        OWNER: mode >> 6 & _RIGHTS,
        _group_tag(acl): mode >> 3 & _RIGHTS,
        OTHERS: mode & _RIGHTS,
    }


def _rights_of(acl: Acl) -> int:
    rights = {each.tag: each.rights for each in acl if each.tag in _ONCE}
    return rights[OWNER] << 6 | rights[_group_tag(acl)] << 3 | rights[OTHERS]
