"""Being somebody else for a moment, on a real mount."""

from __future__ import annotations

import mmap
import os
import sys

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to be others")


def errno_as(
    user: int, program: str, *arguments: object, groups: tuple[int, ...] = (), umask: int = 0o022
) -> int:
    """The errno that a line of Python fails with as a user of its own group; 0 if it does not.

    In a fork, since the interpreter's own files may be root's alone.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 255
    try:
        os.umask(umask)
        os.setgroups(groups)
        os.setgid(user)
        os.setuid(user)
        sys.argv = ["", *map(str, arguments)]
        exec(program, {"os": os, "sys": sys, "mmap": mmap})
        code = 0
    except OSError as error:
        code = error.errno or 255
    finally:
        os._exit(code)
