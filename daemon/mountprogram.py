"""The programs that mount(8) and umount(8) run: mount.twofold, umount.twofold.

Linked into /sbin as mount.twofold, mount.fuse.twofold and umount.twofold, so that `mount -t`,
fstab and systemd find them. `python -m daemon.mountprogram mount ...` is the same.
Errors are one sentence on stderr; exit codes are mount(8)'s: 0 done, 1 wrong usage or not root,
2 the machine can't, 4 a bug of ours, 8 interrupted, 32 failed.
Source: mount(8), EXTERNAL HELPERS and EXIT STATUS; umount(8).
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from daemon.config import ConfigError
from daemon.control import NoDaemon
from daemon.mounter import MountError, SystemFault, mount_store, unmount_store
from daemon.mountoptions import OptionsError, parse_options

EXIT_USAGE: Final = 1
EXIT_SYSTEM: Final = 2
EXIT_BUG: Final = 4
EXIT_INTERRUPTED: Final = 8
EXIT_FAILED: Final = 32


class _UsageError(Exception):
    """The text is one sentence, without its end."""


def mount() -> NoReturn:
    """mount.twofold CONFIG DIRECTORY [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]"""
    _run("mount.twofold", _mount, sys.argv[1:])


def umount() -> NoReturn:
    """umount.twofold DIRECTORY [-flnrv] [-N NAMESPACE] [-t TYPE]"""
    _run("umount.twofold", _umount, sys.argv[1:])


def _mount(arguments: Sequence[str]) -> None:
    switches, operands = getopt.gnu_getopt(list(arguments), "sfnvo:t:N:")
    if len(operands) != 2:
        raise _UsageError("say mount.twofold CONFIG DIRECTORY [-o OPTIONS]")
    names = [name for name, _ in switches]
    options = ",".join(value for name, value in switches if name == "-o")
    request = parse_options(options, sloppy="-s" in names)
    if "-f" not in names:  # With it, mount(8) only wants to know whether we would.
        mount_store(operands[0], operands[1], request)


def _umount(arguments: Sequence[str]) -> None:
    # -f is passed over: the kernel would end the whole session, and with it all other mounts.
    switches, operands = getopt.gnu_getopt(list(arguments), "flnrvt:N:")
    if len(operands) != 1:
        raise _UsageError("say umount.twofold DIRECTORY [-l]")
    unmount_store(operands[0], lazily=any(name == "-l" for name, _ in switches), by_umount=True)


def _run(name: str, work: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> NoReturn:
    try:
        if os.geteuid() != 0:
            raise _UsageError("only root can mount and unmount here")
        work(arguments)
    except (_UsageError, OptionsError, ConfigError, getopt.GetoptError) as error:
        _fail(name, EXIT_USAGE, error)
    except SystemFault as error:
        _fail(name, EXIT_SYSTEM, error)
    except (MountError, NoDaemon) as error:
        _fail(name, EXIT_FAILED, error)
    except KeyboardInterrupt:
        _fail(name, EXIT_INTERRUPTED, "interrupted")
    except Exception as error:
        # The border to a person: what gets here is our own mistake, told in one line.
        text = f"{type(error).__name__}: {error}"
        _fail(name, EXIT_BUG, f"this is a bug, please report it: {text}")
    raise SystemExit(0)


def _fail(name: str, code: int, sentence: object) -> NoReturn:
    sys.stderr.write(f"{name}: {' '.join(str(sentence).split())}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    programs = {"mount": mount, "umount": umount}
    programs[sys.argv.pop(1)]()
