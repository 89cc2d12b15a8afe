"""What stands at a mount point, how to take it away, and the kernel's knobs for a mount.

Nothing here touches what is mounted but `is_dead`, which runs in a thread with a deadline: a
question to a mount whose server hangs, hangs too. The loop never does such a thing.
Source: proc(5), mountinfo; umount(2); statfs(2); linux Documentation/filesystems/fuse.rst and
Documentation/ABI/testing/sysfs-class-bdi.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import trio

log = logging.getLogger(__name__)

TYPE: Final = "fuse.twofold"
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8
_ANSWER_S: Final = 5.0
_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
_libc = ctypes.CDLL(None, use_errno=True)


class Mounted(NamedTuple):
    """A line of mountinfo. device: "major:minor". type: with its subtype."""

    device: str
    path: str
    type: str


def mounted_at(path: str) -> Mounted | None:
    """The topmost mount at `path` (absolute, links resolved), by mountinfo alone."""
    top = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split(" ")
            where = _unescape(fields[4])
            if where == path:
                top = Mounted(fields[2], where, fields[fields.index("-", 6) + 1])
    return top


def _unescape(field: str) -> str:
    """mountinfo writes blank, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def resolved(path: str) -> str:
    """`path` as mountinfo writes it, without a look at what is mounted there."""
    whole = os.path.abspath(path)
    return os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))


async def is_dead(path: str) -> bool:
    """Whether the process that served the mount at `path` is gone (ENOTCONN)."""
    with trio.move_on_after(_ANSWER_S):
        try:
            # Not stat(2): the kernel answers that from its cache long after the process is gone.
            await trio.to_thread.run_sync(os.statvfs, path, abandon_on_cancel=True)
        except OSError as error:
            return error.errno == errno.ENOTCONN
    return False


async def unmount(path: str, *, lazily: bool) -> bool:
    """Unmount what is topmost at `path`; False where it is busy. Raises OSError.

    lazily: take it out of the tree now, whoever has it open.
    """
    if os.geteuid() == 0:
        flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazily else 0)
        number = await trio.to_thread.run_sync(_umount2, path, flags, abandon_on_cancel=True)
    else:
        command = ["fusermount3", "-u", *(["-z"] if lazily else []), "--", path]
        ended = await trio.run_process(
            command, check=False, capture_stderr=True, stdin=subprocess.DEVNULL
        )
        number = _errno_of_fusermount(ended.returncode, ended.stderr)
    if number == errno.EBUSY:
        return False
    if number:
        raise OSError(number, os.strerror(number), path)
    return True


def _umount2(path: str, flags: int) -> int:
    """umount2(2) in a thread; 0 or the errno."""
    return ctypes.get_errno() if _libc.umount2(os.fsencode(path), flags) else 0


def _errno_of_fusermount(code: int, output: bytes) -> int:
    if code == 0:
        return 0
    return errno.EBUSY if b"busy" in output else errno.EINVAL


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
