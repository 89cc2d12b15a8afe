"""What stands at a mount point, and how to take it away, from the loop.

Nothing here touches what is mounted but `is_dead`, which runs in a thread with a deadline: a
question to a mount whose server hangs, hangs too. The loop never does such a thing.
Source: umount(2); statfs(2); fusermount3(1).
"""

from __future__ import annotations

import errno
import os
import subprocess
from typing import Final

import trio

from fusefs.mounttable import unmount_now

_ANSWER_S: Final = 5.0


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
    try:
        if os.geteuid() == 0:
            await trio.to_thread.run_sync(_unmount_now, path, lazily, abandon_on_cancel=True)
        else:
            await _unmount_by_fusermount(path, lazily)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True


def _unmount_now(path: str, lazily: bool) -> None:
    unmount_now(path, lazily=lazily)


async def _unmount_by_fusermount(path: str, lazily: bool) -> None:
    command = ["fusermount3", "-u", *(["-z"] if lazily else []), "--", path]
    ended = await trio.run_process(
        command, check=False, capture_stderr=True, stdin=subprocess.DEVNULL
    )
    if ended.returncode:
        number = errno.EBUSY if b"busy" in ended.stderr else errno.EINVAL
        raise OSError(number, os.strerror(number), path)
