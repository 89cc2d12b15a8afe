"""Mounting and unmounting from outside of the daemon, as root.

pyfuse3 serves one session to a process (module globals), so all mounts of a daemon are of one
FUSE file system: they share its caches, and what S3 changes reaches all of them. The session
itself is mounted where only root gets to, below /run/twofold, or where the daemon has mounted by
its own configuration. What people see are bind mounts of it, each of the whole or of a directory,
with options of its own that the kernel keeps: ro, nosuid, nodev, noexec, access times.
So the daemon needs no right to mount. It may live in a mount name space of its own: it is handed
the descriptor of /dev/fuse that this program mounted with (daemon/mountwire.py).
What can't differ from mount to mount is what the kernel asks of a session: allow_other and owners.
So that umount(8), too, ends the session with its last mount, each is marked helper=twofold in
libmount's table, by which umount(8) runs our program instead of doing it alone.
Invariants: a mount is in the tree only once its options are set, and is left there only if its
root answered; the session ends with the last mount that is seen.
Concurrency: plain blocking code in a process of its own; a lock lets one at a time change mounts.
Source: mount(8), EXTERNAL HELPERS; fuse(4); mount_setattr(2); flock(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from daemon.config import control_socket_of
from daemon.mountoptions import MountRequest
from daemon.mountwire import Handover, MountTalk, Terms
from fusefs import mounttable as table
from fusefs.mounttable import Mounted

T = TypeVar("T")

ROOTS: Final = "/run/twofold"
_TURN_S: Final = 120.0
_ANSWER_S: Final = 20.0
_ENDING_S: Final = 10.0
_RETRY_S: Final = 0.05
_DEFAULT_SOURCES: Final = frozenset({"twofold", "none"})


class MountError(Exception):
    """Not done. The text is one sentence without its end, for people."""


class SystemFault(MountError):
    """This machine can't mount."""


def mount_store(source: str, directory: str, request: MountRequest) -> None:
    """Mount at `directory`, and return when the root has answered.

    source: the daemon's configuration file, or "twofold" for the one at the usual place.
    Raises MountError, ConfigError, NoDaemon.
    """
    path = _place(directory)
    if request.remount:
        _remount(path, request)
        return
    source, socket = _addresses(source, request)
    with _turn():
        _make_room(path)
        if not os.path.isdir(path):
            there = os.path.lexists(path)
            raise MountError(f"{path} {'is no directory' if there else 'does not exist'}")
        talk, terms = _ask(socket)
        try:
            if terms.root:
                _check_agreement(terms, request)
                root, device = terms.root, terms.device
            else:
                root = _root_of(socket)
                device = _begin_session(talk, terms, request, source, root)
            try:
                _bind(root, path, request)
            except MountError:
                _end_unused(device)
                raise
            _tell_libmount("mount", "--bind", "-ohelper=twofold", f"{root}/{request.subdir}", path)
        finally:
            talk.close()


def unmount_store(directory: str, *, lazily: bool, by_umount: bool) -> None:
    """Unmount what is at `directory`, and end the session with its last mount. Raises MountError.

    lazily: take it out of the tree now; it ends when nobody has it open any more.
    by_umount: umount(8) has called us, and sees to libmount's table.
    """
    path = _place(directory)
    with _turn():
        mounted = table.mounted_at(path)
        if mounted is None:
            raise MountError(f"nothing is mounted at {path}")
        if mounted.type != table.TYPE:
            raise MountError(f"what is mounted at {path} is {mounted.type}, not twofold")
        try:
            _unmount(path, lazily=False)
        except MountError:
            if not lazily:
                raise
            # Who has something open there keeps the session, and the next mount joins it.
            _unmount(path, lazily=True)
        else:
            _end_unused(mounted.device)
        if not by_umount:
            _tell_libmount("umount", path)


def unmount_dead() -> None:
    """Take away every mount whose daemon is gone: nobody can do anything with them any more.

    What a daemon leaves that was killed, or that may not unmount. Raises MountError where another
    mount is under way for too long.
    """
    with _turn():
        for mounted in reversed(table.mounts()):
            if mounted.type != table.TYPE:
                continue
            with contextlib.suppress(MountError):  # A daemon that is late isn't gone.
                if _is_dead(mounted):
                    _unmount(mounted.path, lazily=True)
                    _tell_libmount("umount", mounted.path)
        _tidy()


def _tell_libmount(command: str, *arguments: str) -> None:
    """Have libmount note what was done. Best effort: only umount(8) looks there.

    -f: without doing it once more; -i: without us.
    """
    fake = "--fake" if command == "umount" else "-f"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [command, fake, "-i", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S,
            check=False,
        )


def _place(directory: str) -> str:
    """The mount point as the mount table writes it. A dead mount is not asked."""
    return os.path.realpath(directory) if os.path.islink(directory) else table.resolved(directory)


def _addresses(source: str, request: MountRequest) -> tuple[str, Path]:
    """The name that the mount table is to show, and the control socket."""
    if request.socket:
        return source, Path(request.socket)
    if source in _DEFAULT_SOURCES:
        return source, control_socket_of(None, os.environ)
    config = Path(os.path.abspath(source))
    return str(config), control_socket_of(config, os.environ)


def _root_of(socket: Path) -> str:
    """Where the session of the daemon at `socket` is mounted if the daemon doesn't do it."""
    return f"{ROOTS}/{hashlib.sha256(os.fsencode(os.path.realpath(socket))).hexdigest()[:16]}"


# -- the session ---------------------------------------------------------------------------


def _ask(socket: Path) -> tuple[MountTalk, Terms]:
    """A turn with the daemon, and its terms: a root is one that can be seen from here."""
    deadline = time.monotonic() + _ENDING_S
    while True:
        talk = MountTalk(socket)
        try:
            terms = talk.ask()
            if terms.error:
                raise MountError(terms.error)
            if not terms.root:
                return talk, terms
            mounts = table.mounts_of(terms.device)
            if any((each.path, each.root) == (terms.root, "/") for each in mounts):
                return talk, terms
            # Somebody has unmounted it a moment ago, and the daemon is about to notice.
            if mounts or time.monotonic() > deadline:
                seen = ", ".join(each.path for each in mounts)
                raise MountError(
                    f"the daemon's mount is not at {terms.root} any more: unmount {seen} first"
                    if seen
                    else f"the daemon's mount at {terms.root} can't be seen from here"
                )
        except BaseException:
            talk.close()
            raise
        talk.close()
        time.sleep(_RETRY_S)


def _check_agreement(terms: Terms, request: MountRequest) -> None:
    """All mounts share what belongs to the session. Raises MountError."""
    if request.allow_other and not terms.allow_other:
        raise MountError(
            "the daemon is mounted without allow_other already, and all its mounts share that"
        )
    if not set(request.owners.words) <= set(terms.owners):
        shown = ",".join(terms.owners) or "their own owners"
        raise MountError(
            f"the daemon is mounted with {shown} already, and all its mounts share that"
        )


def _begin_session(
    talk: MountTalk, terms: Terms, request: MountRequest, source: str, root: str
) -> str:
    """Mount everything at `root` and have the daemon serve it; the device. Raises MountError."""
    _make_room(root)
    os.makedirs(root, mode=0o700, exist_ok=True)
    allow_other = terms.allow_other or request.allow_other
    try:
        descriptor = os.open(table.DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFault(f"{table.DEVICE} can't be opened: {error.strerror}") from error
    try:
        try:
            table.mount_fuse(
                root,
                descriptor,
                source=source,
                allow_other=allow_other,
                read_only=terms.read_only,
            )
        except OSError as error:
            raise SystemFault(f"the kernel refused to mount: {error.strerror}") from error
        mounted = table.mounted_at(root)
        assert mounted is not None, root
        try:
            outcome = talk.hand_over(
                Handover(
                    root=root,
                    device=mounted.device,
                    allow_other=allow_other,
                    owners=request.owners.words,
                ),
                descriptor,
            )
            if outcome.error:
                raise MountError(outcome.error)
        except BaseException:
            _unmount(root, lazily=True)
            raise
    finally:
        os.close(descriptor)
    table.tune(
        mounted.device,
        readahead_bytes=terms.readahead_bytes,
        background_max=terms.background_max,
    )
    return mounted.device


def _end_unused(device: str) -> None:
    """Unmount the session when nothing is left of it that people see."""
    left = [each for each in table.mounts_of(device) if each.type == table.TYPE]
    if all(each.path.startswith(f"{ROOTS}/") for each in left):
        for each in reversed(left):
            try:
                _unmount(each.path, lazily=True)
            except MountError:
                # The daemon, too, looks for sessions that nobody sees.
                if table.mounted_at(each.path) is not None:
                    raise
        _tidy()


def _tidy() -> None:
    """Remove the folders of sessions that have ended. What is mounted on stays (EBUSY)."""
    for name in os.listdir(ROOTS):
        with contextlib.suppress(OSError):
            os.rmdir(f"{ROOTS}/{name}")


# -- one mount -----------------------------------------------------------------------------


def _bind(root: str, path: str, request: MountRequest) -> None:
    """Show the directory that is wanted at `path`, with its options. Raises MountError."""
    tree = _answered(_clone, root, request.subdir)
    try:
        table.set_attributes(tree, added=request.attributes, cleared=request.cleared)
        table.attach(tree, path)
    except OSError as error:
        raise MountError(f"can't mount at {path}: {error.strerror}") from error
    finally:
        os.close(tree)
    try:
        _answered(os.statvfs, path)
    except OSError as error:
        _unmount(path, lazily=True)
        raise MountError(f"{path} is mounted but answers {error.strerror}") from error
    except MountError:
        _unmount(path, lazily=True)
        raise


def _clone(root: str, subdir: str) -> int:
    try:
        return table.clone(root, subdir)
    except FileNotFoundError:
        raise MountError(f"there is no directory {subdir} in the store") from None
    except NotADirectoryError:
        raise MountError(f"{subdir} is no directory of the store") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV):
            raise MountError(f"{subdir} leads over a symbolic link") from None
        raise MountError(f"can't mount {subdir or 'the store'}: {error.strerror}") from error


def _remount(path: str, request: MountRequest) -> None:
    """Give the mount at `path` the options of `request`. Raises MountError."""
    mounted = table.mounted_at(path)
    if mounted is None or mounted.type != table.TYPE:
        raise MountError(f"no twofold is mounted at {path}")
    try:
        tree = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            table.set_attributes(tree, added=request.attributes, cleared=request.cleared)
        finally:
            os.close(tree)
    except OSError as error:
        raise MountError(f"can't change the mount at {path}: {error.strerror}") from error


def _make_room(path: str) -> None:
    """Take away what dead daemons left at `path`. Raises MountError if a living one is there."""
    while (mounted := table.mounted_at(path)) is not None and mounted.type == table.TYPE:
        if not _is_dead(mounted):
            raise MountError(f"{path} is mounted already")
        _unmount(path, lazily=True)


def _is_dead(mounted: Mounted) -> bool:
    """Whether the daemon that served it is gone (ENOTCONN)."""
    try:
        # Not stat(2): the kernel answers that from its cache long after the daemon is gone.
        _answered(os.statvfs, mounted.path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def _unmount(path: str, *, lazily: bool) -> None:
    try:
        table.unmount_now(path, lazily=lazily)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise MountError(
                f"{path} is in use: end what uses it, or unmount it lazily (-l)"
            ) from None
        raise MountError(f"can't unmount {path}: {error.strerror}") from error


def _answered(question: Callable[..., T], *arguments: object) -> T:
    """The answer to a question that waits for the daemon. Raises MountError when it is late."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(question(*arguments))
        except BaseException as error:
            errors.append(error)

    # A daemon thread: the process can end although the question never comes back.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_S)
    if errors:
        raise errors[0]
    if not answers:
        raise MountError(f"the daemon gave no answer on the mount within {_ANSWER_S:.0f} s")
    return answers[0]


@contextmanager
def _turn() -> Iterator[None]:
    """Be the only one that changes mounts of twofold. Raises MountError."""
    try:
        os.makedirs(ROOTS, mode=0o700, exist_ok=True)
        lock = os.open(ROOTS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFault(f"{ROOTS} can't be used: {error.strerror}") from error
    try:
        deadline = time.monotonic() + _TURN_S
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise MountError("another mount has been under way for too long")
            time.sleep(_RETRY_S)
        _tidy()
        yield
    finally:
        os.close(lock)
