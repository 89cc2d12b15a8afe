"""The mount as a service that may be off, unable or ended from outside without harm to the rest.

The session begins in one of two ways: at start, where the configuration names a folder; or when
the mount program (daemon/mounter.py) hands a descriptor over that it has mounted with. Either may
have bind mounts, which that program makes. When the store is restarted in this process, the
session ends with the old store; then those mounts are made once more by the same program, run from
here. In a sandbox that is not allowed to mount they stay away until somebody mounts them again.
Concurrency: one task for the session, owned by the context `mounted`, one that looks whether
anybody still sees it, and one for each talk with a mount program; the last two take turns.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import trio

from daemon.lifecycle import StartError
from daemon.mountoptions import options_text
from daemon.mountwire import LINE_BYTES_MAX, Handover, Outcome, Terms
from daemon.settings import MountSettings
from fusefs.idmap import SQUASH_WORDS, OwnersError, owners_of
from fusefs.mount import MountFailed, MountOptions, Served, serve_mount
from fusefs.mountpoint import unmount
from fusefs.mounttable import DEVICE, Mounted, mounts_of, resolved
from store.namespace import Namespace

log = logging.getLogger(__name__)

_STOP_S_MAX = 10.0
_STARTING_S = 45.0
_TALK_S = 120.0
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    """A session that is being served. root, device: where all of the store is mounted."""

    root: str
    device: str
    allow_other: bool
    owners: tuple[str, ...]
    is_idle: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where sessions can be served, as long as the store is up."""

    namespace: Namespace
    nursery: trio.Nursery


class Mount:
    """state: mounted, off, or why there is no mount just now."""

    def __init__(
        self, settings: MountSettings, stop_deadline_s: float, control_socket: Path
    ) -> None:
        self.state = "starting" if settings.path else "off"
        self._control_socket = control_socket
        self._options = MountOptions(
            path=settings.path,
            allow_other=settings.allow_other,
            read_only=settings.read_only,
            writeback_cache=settings.writeback_cache,
            xattrs=settings.xattrs,
            acls=settings.acls,
            readahead_bytes=settings.readahead_bytes,
            background_max=settings.background_max,
            stop_timeout_s=min(stop_deadline_s, _STOP_S_MAX),
            owners=owners_of(_squash_words(settings)),
        )
        self._place: _Place | None = None
        self._has_place = trio.Event()
        self._live: _Live | None = None
        self._turn = trio.Lock()
        self._lost: list[tuple[Mounted, Sequence[str]]] = []

    @property
    def path(self) -> str:
        """Where people see the store; "" for nowhere. Of several mounts the oldest."""
        live, configured = self._live, self._options.path
        if live is None or (configured and live.root == resolved(configured)):
            return configured
        seen = (each.path for each in mounts_of(live.device) if each.path != live.root)
        return next(seen, live.root)

    @asynccontextmanager
    async def mounted(self, namespace: Namespace) -> AsyncIterator[None]:
        """Mounted, where the configuration says so, while the body runs; ready for handovers.

        Raises StartError (in a group) when it can't be mounted.
        """
        async with trio.open_nursery() as nursery:
            await self._mount_as_configured(namespace, nursery)
            self._place = _Place(namespace=namespace, nursery=nursery)
            self._has_place.set()
            nursery.start_soon(self._mount_what_was_lost)
            try:
                yield
            finally:
                self._place = None
                self._has_place = trio.Event()
                nursery.cancel_scope.cancel()

    async def talk(self, stream: trio.SocketStream) -> None:
        """Answer a mount program, one at a time, until it hangs up: see daemon/mountwire.py."""
        with trio.move_on_after(_TALK_S):
            async with self._turn:
                terms = await self._terms()
                await _send(stream, terms)
                if not terms.error and not terms.root:
                    await self._take_over(stream)
                await stream.receive_some(1)

    async def _terms(self) -> Terms:
        with trio.move_on_after(_STARTING_S):
            await self._has_place.wait()
        if self._place is None:
            return Terms(error="the daemon is not ready to serve a mount: see twofold status")
        options, live = self._options, self._live
        return Terms(
            root=live.root if live else "",
            device=live.device if live else "",
            allow_other=live.allow_other if live else options.allow_other,
            owners=live.owners if live else (),
            read_only=options.read_only,
            readahead_bytes=options.readahead_bytes,
            background_max=options.background_max,
        )

    async def _take_over(self, stream: trio.SocketStream) -> None:
        """Serve the session that the asker hands over."""
        received = await _receive_handover(stream)
        if received is None:
            return  # It could not mount, and has told so.
        handover, descriptor = received
        place = self._place
        if place is None:
            os.close(descriptor)
            await _send(stream, Outcome(error="the daemon is stopping"))
            return
        try:
            options = replace(
                self._options,
                path=handover.root,
                descriptor=descriptor,
                device=handover.device,
                allow_other=handover.allow_other,
                owners=owners_of(self._agreed(handover.owners)),
            )
        except OwnersError as error:
            os.close(descriptor)
            await _send(stream, Outcome(error=str(error)))
            return
        try:
            await self._begin(place.namespace, place.nursery, options)
        except MountFailed as error:
            await _send(stream, Outcome(error=str(error)))
            return
        place.nursery.start_soon(self._end_when_unseen)
        log.info("serving what was mounted at %s and handed over", handover.root)
        await _send(stream, Outcome())

    def _agreed(self, words: Sequence[str]) -> Sequence[str]:
        """The words of a mount; the configured root_squash holds where it has none of its own."""
        if any(word.partition("=")[0] in SQUASH_WORDS for word in words):
            return words
        return (*words, *self._options.owners.words)

    async def _end_when_unseen(self) -> None:
        """End the session when it is mounted nowhere but at its root.

        Our program sees to that at umount(8); umount(2) and `umount -i` tell nobody.
        """
        live = self._live
        while live is not None and self._live is live:
            await trio.sleep(_LOOK_S)
            async with self._turn:
                seen = [each.path for each in mounts_of(live.device)]
                # What was unmounted lazily may be in use, and the next mount is to join it.
                if self._live is not live or seen != [live.root] or not live.is_idle():
                    continue
                try:
                    await unmount(live.root, lazily=False)
                except OSError as error:
                    log.info("the session at %s stays, unseen: %s", live.root, error)
                    return

    async def _mount_as_configured(self, namespace: Namespace, nursery: trio.Nursery) -> None:
        options = self._options
        if not options.path:
            return
        reason = _lacking()
        if reason:
            log.warning("no mount at %s: %s; all else runs", options.path, reason)
            self.state = reason
            return
        try:
            await self._begin(namespace, nursery, options)
        except MountFailed as error:
            raise StartError(str(error)) from error

    async def _begin(
        self, namespace: Namespace, nursery: trio.Nursery, options: MountOptions
    ) -> None:
        """Have a session served in `nursery`; returns once it answers. Raises MountFailed."""
        failed: MountFailed | None = None
        self.state = "starting"
        try:
            await nursery.start(self._serve, namespace, options)
        except* MountFailed as group:
            failed = _first(group)
        if failed is not None:
            raise failed

    async def _serve(
        self, namespace: Namespace, options: MountOptions, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """One session to its end. Raises MountFailed (also in a group) when it doesn't begin."""

        def note_begun(served: Served) -> None:
            self._live = _Live(
                root=resolved(options.path),
                device=served.device,
                is_idle=served.is_idle,
                allow_other=options.allow_other,
                owners=options.owners.words,
            )
            self.state = "mounted"
            task_status.started()

        try:
            await serve_mount(
                namespace, options, on_begun=note_begun, on_stop=self._note_what_is_lost
            )
        finally:
            self._live = None
            self.state = "unmounted" if self._options.path else "off"

    def _note_what_is_lost(self, mounts: Sequence[Mounted]) -> None:
        """Remember the bind mounts of a session that is about to stop."""
        live = self._live
        if live is not None:
            words = (*(["allow_other"] if live.allow_other else []), *live.owners)
            self._lost = [(each, words) for each in mounts if each.path != live.root]

    async def _mount_what_was_lost(self) -> None:
        """After a restart of the store: make the mounts once more that went with the old one."""
        lost, self._lost = self._lost, []
        for mounted, words in lost:
            options = options_text(mounted, [*words, f"socket={self._control_socket}"])
            program = [sys.executable, "-m", "daemon.mountprogram", "mount"]
            ended = await trio.run_process(
                [*program, mounted.source, mounted.path, "-o", options],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_stderr=True,
            )
            if ended.returncode:
                reason = ended.stderr.decode(errors="replace").strip()
                log.warning("%s is not mounted any more: %s", mounted.path, reason)


def _squash_words(settings: MountSettings) -> list[str]:
    if not settings.root_squash:
        return []
    uid, gid = settings.anonymous_uid, settings.anonymous_gid
    return ["root_squash", f"anonuid={uid}", f"anongid={gid}"]


async def _send(stream: trio.SocketStream, message: msgspec.Struct) -> None:
    await stream.send_all(msgspec.json.encode(message) + b"\n")


async def _receive_handover(stream: trio.SocketStream) -> tuple[Handover, int] | None:
    """The message, and the descriptor of /dev/fuse that came with it; None at a hang-up.

    Raises ValueError.
    """
    size = array.array("i").itemsize
    line, ancillary, _, _ = await stream.socket.recvmsg(
        LINE_BYTES_MAX, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC
    )
    if not line:
        return None
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % size])
    try:
        if len(descriptors) != 1 or not _is_fuse(descriptors[0]):
            raise ValueError(f"a handover comes with one descriptor of {DEVICE}")
        return msgspec.json.decode(line, type=Handover), descriptors[0]
    except (ValueError, RecursionError):
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _is_fuse(descriptor: int) -> bool:
    """Whether it is the character device 10:229 (linux Documentation/admin-guide/devices.txt)."""
    status = os.fstat(descriptor)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(10, 229)


def _first(group: BaseExceptionGroup[MountFailed]) -> MountFailed:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, MountFailed), error
    return error


def _lacking() -> str:
    """Why this machine can't mount, "" if it can."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {DEVICE} on this machine"
    except OSError as error:
        return f"{DEVICE} can't be opened: {error.strerror}"
    return ""
