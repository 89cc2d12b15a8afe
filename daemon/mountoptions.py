"""What `-o` may say to a mount, as a value.

Three kinds of words. Of one mount: ro, nosuid, nodev, noexec, the ways of keeping access times,
and subdir=BUCKET/PREFIX. Of the session, which all mounts of a daemon share: allow_other, the
owners and who root is (fusefs/idmap.py). And what fstab and mount(8) say to each other, which is
passed over. A word that is none of these is refused, since who wrote it expects something of it.
As mount(8) has it, a mount is rw, suid, dev and exec unless it says otherwise: it doesn't even
pass those words on.
Standard library only. Source: mount(8), fstab(5), systemd.mount(5), mount.fuse3(8).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fusefs import mounttable as table
from fusefs.idmap import AS_KEPT, SQUASH_WORDS, Owners, OwnersError, owners_of

_SWITCHES: Final = table.RDONLY | table.NOSUID | table.NODEV | table.NOEXEC | table.NODIRATIME

# Each word, the bits it sets and the bits it takes away.
_ATTRIBUTES: Final = {
    "ro": (table.RDONLY, 0),
    "rw": (0, table.RDONLY),
    "nosuid": (table.NOSUID, 0),
    "suid": (0, table.NOSUID),
    "nodev": (table.NODEV, 0),
    "dev": (0, table.NODEV),
    "noexec": (table.NOEXEC, 0),
    "exec": (0, table.NOEXEC),
    "nodiratime": (table.NODIRATIME, 0),
    "diratime": (0, table.NODIRATIME),
    "noatime": (table.NOATIME, table.ATIME),
    "strictatime": (table.STRICTATIME, table.ATIME),
    "relatime": (table.RELATIME, table.ATIME),
    "atime": (table.RELATIME, table.ATIME),
}
_OWNERS: Final = frozenset({"uid", "gid", "uidmap", "gidmap", *SQUASH_WORDS})
_PASSED_OVER: Final = frozenset(
    {
        *("defaults", "auto", "noauto", "user", "users", "nouser", "owner", "group", "async"),
        *("_netdev", "nofail", "comment", "silent", "loud", "nonempty", "helper", "uhelper"),
        # What the kernel shows of a FUSE mount, and a remount brings back.
        *("fsname", "subtype", "default_permissions", "user_id", "group_id", "rootmode", "fd"),
    }
)
_WORD: Final = re.compile(r'(?:[^,"]|"[^"]*")+')


class OptionsError(ValueError):
    """Options that can't be meant. The text is one sentence, without its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """What is wanted of a mount.

    subdir: BUCKET/PREFIX as the mount names it, "" for everything. attributes: bits of
    mount_setattr(2), the others are off. socket: where the daemon is asked, "" for where its
    configuration says. remount: change the mount that is there.
    """

    subdir: str = ""
    attributes: int = 0
    allow_other: bool = False
    owners: Owners = AS_KEPT
    socket: str = ""
    remount: bool = False

    @property
    def cleared(self) -> int:
        """The bits of mount_setattr(2) that are to be off."""
        return (_SWITCHES & ~self.attributes) | table.ATIME


def parse_options(text: str, *, sloppy: bool = False) -> MountRequest:
    """From what stands behind -o. sloppy: unknown words are passed over. Raises OptionsError."""
    attributes, allow_other, remount, subdir, socket = 0, False, False, "", ""
    owners: list[str] = []
    for word in _words(text):
        name, _, value = word.partition("=")
        if word in _ATTRIBUTES:
            added, taken = _ATTRIBUTES[word]
            attributes = attributes & ~taken | added
        elif name in _OWNERS:
            owners.append(word)
        elif name == "subdir":
            subdir = _subdir(value)
        elif name == "socket":
            socket = value
        elif word == "allow_other":
            allow_other = True
        elif word == "remount":
            remount = True
        elif not (sloppy or name in _PASSED_OVER or name.lower().startswith("x-")):
            raise OptionsError(f"there is no option {word}")
    try:
        return MountRequest(
            subdir=subdir,
            attributes=attributes,
            allow_other=allow_other,
            owners=owners_of(owners),
            socket=socket,
            remount=remount,
        )
    except OwnersError as error:
        raise OptionsError(str(error)) from None


def options_text(mounted: table.Mounted, more: Sequence[str]) -> str:
    """The options that make such a mount once more, and `more` words."""
    switches = [word for word in mounted.options if word in _ATTRIBUTES]
    subdir = mounted.root.strip("/")
    words = [*switches, *([f"subdir={subdir}"] if subdir else []), *more]
    return ",".join(f'"{word}"' if "," in word else word for word in words)


def _words(text: str) -> list[str]:
    return [word.replace('"', "") for word in _WORD.findall(text)]


def _subdir(value: str) -> str:
    """BUCKET/PREFIX without slashes around it."""
    path = value.strip("/")
    if any(piece in ("", ".", "..") for piece in path.split("/")):
        raise OptionsError(f"subdir={value} is not of the form BUCKET or BUCKET/PREFIX")
    return path
