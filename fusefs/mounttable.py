"""The kernel's table of mounts, and the calls that change it.

Standard library only, so that the mount helper starts quickly. All of it blocks: the loop reads
the table (which never waits for a mount), the rest runs in threads or in programs of its own.
`clone` to `attach` make a bind mount in three steps, so that it is in the tree only once all its
options are set, and a path below the mount is never followed out of it.
Source: proc(5), mountinfo; mount(2), umount(2), open_tree(2), openat2(2), mount_setattr(2),
move_mount(2), all there since Linux 5.12; linux Documentation/filesystems/fuse.rst.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

TYPE: Final = "fuse.twofold"
DEVICE: Final = "/dev/fuse"

MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8
_MS_NOSUID_NODEV: Final = 0x2 | 0x4
_MS_RDONLY: Final = 0x1
# Tells the kernel to leave the umask to the server: a default ACL goes before it.
_MS_POSIXACL: Final = 1 << 16

# Attributes of one mount, mount_setattr(2).
RDONLY: Final = 0x01
NOSUID: Final = 0x02
NODEV: Final = 0x04
NOEXEC: Final = 0x08
ATIME: Final = 0x70
"""All bits that say how access times are kept; RELATIME is none of them."""
RELATIME: Final = 0x00
NOATIME: Final = 0x10
STRICTATIME: Final = 0x20
NODIRATIME: Final = 0x80

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
_OPEN_TREE_CLONE: Final = 1
_RESOLVE_NO_SYMLINKS_BENEATH: Final = 0x04 | 0x08
# These calls have the same numbers on every architecture.
_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_OPENAT2: Final = 437
_MOUNT_SETATTR: Final = 442

_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
_libc = ctypes.CDLL(None, use_errno=True)


class Mounted(NamedTuple):
    """A line of mountinfo.

    device: "major:minor", the same for all mounts of one file system. root: what of it is shown.
    options: of this one mount, as "ro". type: with its subtype.
    """

    device: str
    root: str
    path: str
    options: tuple[str, ...]
    type: str
    source: str


def mounts() -> list[Mounted]:
    """All that this process can see, in the order of mounting."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return [_parsed(line) for line in lines]


def mounted_at(path: str) -> Mounted | None:
    """The topmost mount at `path` (absolute, links resolved), by mountinfo alone."""
    return next((each for each in reversed(mounts()) if each.path == path), None)


def mounts_of(device: str) -> list[Mounted]:
    """All mounts of one file system, in the order of mounting."""
    return [each for each in mounts() if each.device == device]


def resolved(path: str) -> str:
    """`path` as mountinfo writes it, without a look at what is mounted there."""
    whole = os.path.abspath(path)
    return os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))


def _parsed(line: str) -> Mounted:
    fields = line.rstrip("\n").split(" ")
    dash = fields.index("-", 6)
    return Mounted(
        device=fields[2],
        root=_unescape(fields[3]),
        path=_unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        type=fields[dash + 1],
        source=_unescape(fields[dash + 2]),
    )


def _unescape(field: str) -> str:
    """mountinfo writes blank, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


# -- making mounts -------------------------------------------------------------------------


def mount_fuse(
    path: str, descriptor: int, *, source: str, allow_other: bool, read_only: bool
) -> None:
    """Mount the file system whose server will answer at `descriptor` (of /dev/fuse).

    The kernel checks permissions. max_read is left out: it would cap every read. Raises OSError.
    """
    options = [f"fd={descriptor}", "rootmode=40000", f"user_id={os.getuid()}"]
    options += [f"group_id={os.getgid()}", "default_permissions"]
    if allow_other:
        options.append("allow_other")
    flags = _MS_NOSUID_NODEV | _MS_POSIXACL | (_MS_RDONLY if read_only else 0)
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(path),
            TYPE.encode(),
            ctypes.c_ulong(flags),
            ",".join(options).encode(),
        ),
        path,
    )


def clone(path: str, below: str) -> int:
    """A mount of the directory `below` the mount at `path`, in no tree yet: its descriptor.

    below: "" for the whole. Symbolic links on the way are refused (ELOOP). Raises OSError.
    """
    top = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = (ctypes.c_uint64 * 3)(
            os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS_BENEATH
        )
        name = os.fsencode(below or ".")
        found = _syscall(_OPENAT2, top, name, ctypes.byref(how), ctypes.sizeof(how), named=below)
        try:
            flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
            return _syscall(_OPEN_TREE, found, b"", flags, named=below)
        finally:
            os.close(found)
    finally:
        os.close(top)


def set_attributes(tree: int, *, added: int, cleared: int) -> None:
    """Set the attributes of the mount at the descriptor `tree`. Raises OSError."""
    attributes = (ctypes.c_uint64 * 4)(added, cleared, 0, 0)
    size = ctypes.sizeof(attributes)
    _syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size, named="")


def attach(tree: int, path: str) -> None:
    """Put the mount at the descriptor `tree` into the tree at `path`. Raises OSError."""
    target = os.fsencode(path)
    _syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH, named=path)


def unmount_now(path: str, *, lazily: bool) -> None:
    """Unmount what is topmost at `path`. Raises OSError, EBUSY where it is in use."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazily else 0)
    _check(_libc.umount2(os.fsencode(path), flags), path)


# -- the kernel's knobs --------------------------------------------------------------------


def tune(device: str, *, readahead_bytes: int, background_max: int) -> None:
    """Raise what INIT could not: bytes read ahead, and requests under way for nobody waiting.

    Best effort: it needs root. Sysfs only, so this never waits for the mount.
    """
    _write_knob(Path("/sys/class/bdi") / device / "read_ahead_kb", readahead_bytes // 1024)
    _, minor = device.split(":")
    connection = _CONNECTIONS / minor
    if not connection.exists() and os.geteuid() == 0:
        _mount_fusectl()
    _write_knob(connection / "max_background", background_max)
    _write_knob(connection / "congestion_threshold", background_max * 3 // 4)


def _write_knob(knob: Path, value: int) -> None:
    try:
        knob.write_text(str(value))
    except OSError as error:
        log.info("left %s as it is: %s", knob, error)


def _mount_fusectl() -> None:
    if _libc.mount(b"fusectl", os.fsencode(_CONNECTIONS), b"fusectl", 0, None):
        log.info("no fusectl: %s", os.strerror(ctypes.get_errno()))


def _syscall(number: int, *arguments: object, named: str) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    return _check(result, named)


def _check(result: int, named: str) -> int:
    """The result of a call; the OSError of a call that failed."""
    if result < 0:
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            raise OSError(number, "it takes Linux 5.12 or later", named)
        raise OSError(number, os.strerror(number), named)
    return result
