"""The mount's life: clear what a dead process left, mount, serve, stop in order.

One session to a process: pyfuse3 keeps it in module globals. There may be more mounts of it: bind
mounts, which the mount helper makes (daemon/mountprogram.py) and which go when the session goes.
A session may also begin with a descriptor: then another process, which is allowed to, has mounted,
and this one only serves (libfuse takes the mount point /dev/fd/N for that).
Invariants: requests are answered until the mount is gone or a deadline has passed, also while
the rest of the daemon is being cancelled, since a plain unmount needs answers; the session is
freed only when no thread calls into it any more.
Concurrency: `serve_mount` owns every task of the mount. Blocking calls run in threads; the loop
never touches the mount. Source: pyfuse3's documentation, libfuse's fuse_session_unmount,
umount(2); fuse_session_mount(3) on /dev/fd/N, which leaves unmounting to others and closing to us.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pyfuse3
import trio

from fusefs import mountpoint, mounttable
from fusefs.idmap import AS_KEPT, Owners
from fusefs.invalidate import MountInvalidator
from fusefs.kernelcache import KernelCache
from fusefs.mounttable import Mounted
from fusefs.operations import Operations
from fusefs.owners import owned
from fusefs.readlock import one_wakeup_a_request
from fusefs.squash import SquashedOperations
from store.errors import StoreError
from store.namespace import Namespace

log = logging.getLogger(__name__)

TASKS_MIN: Final = 4
TASKS_MAX: Final = 64
_INIT_S: Final = 10.0
_END_S: Final = 5.0


class MountFailed(Exception):
    """The mount could not be made; the message says why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """path: an existing, empty directory; with a descriptor, where it was mounted by another.

    allow_other: all users, by the permission bits (needs root, or user_allow_other).
    writeback_cache: the kernel gathers small writes; S3 then sees them at close or fsync only.
    xattrs: off, no extended attributes, and one round trip less before each write.
    acls: POSIX ACLs; off, one round trip less before each open of a file of another user.
    readahead_bytes: how far the kernel reads ahead. background_max: its requests under way.
    stop_timeout_s: how long a stop may publish and wait for answers.
    owners: how users and groups are shown, and who root is. descriptor, device: of /dev/fuse and
    in the mount table, where another process has mounted; the descriptor is the session's to close.
    """

    path: str
    allow_other: bool = True
    read_only: bool = False
    writeback_cache: bool = False
    xattrs: bool = True
    acls: bool = True
    readahead_bytes: int = 4 * 1024 * 1024
    background_max: int = 64
    stop_timeout_s: float = 10.0
    owners: Owners = AS_KEPT
    descriptor: int | None = None
    device: str = ""

    def as_flags(self) -> set[str]:
        """For `mount -o`. max_read must not be among them: it caps every read."""
        flags = {"default_permissions", "fsname=twofold", "subtype=twofold"}
        if self.allow_other:
            flags.add("allow_other")
        if self.read_only:
            flags.add("ro")
        return flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A session that has begun. device: in the mount table. is_idle: nothing is open now."""

    device: str
    is_idle: Callable[[], bool]


OnBegun = Callable[[Served], None]
OnStop = Callable[[Sequence[Mounted]], None]


async def serve_mount(
    namespace: Namespace,
    options: MountOptions,
    *,
    on_begun: OnBegun | None = None,
    on_stop: OnStop | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount, report started once requests are answered, serve until cancelled or unmounted.

    on_begun: told of the session just before that.

    Cancelled, it publishes what is open, unmounts (lazily where the mount is busy) and closes,
    within the time that the options give; `on_stop` is told first what was mounted where.
    Raises MountFailed.
    """
    path = mounttable.resolved(options.path)
    cache = KernelCache()
    operations = _operations(namespace, options, cache)
    device = await _begin(operations, options, path)
    session = _Session(namespace, options, path, device, MountInvalidator(cache))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.answer)
        nursery.start_soon(session.invalidator.run)
        try:
            await _wait_first(operations.initialized, session.ended, within_s=_INIT_S)
            if not operations.initialized.is_set():
                raise MountFailed(f"the kernel did not begin to use {path}")
            session.start()
            if on_begun is not None:
                on_begun(Served(device=device, is_idle=operations.is_idle))
            task_status.started()
            await session.ended.wait()
            log.warning("%s was unmounted from outside", path)
            await operations.let_go()
        finally:
            await session.stop(on_stop)
            nursery.cancel_scope.cancel()


def _operations(namespace: Namespace, options: MountOptions, cache: KernelCache) -> Operations:
    files = owned(namespace.files, options.owners)
    anonymous = options.owners.root
    kind = (
        Operations
        if anonymous is None
        else functools.partial(SquashedOperations, anonymous=anonymous)
    )
    return kind(
        files,
        cache,
        xattrs=options.xattrs,
        acls=options.acls,
        writeback_cache=options.writeback_cache,
    )


async def _wait_first(*events: trio.Event, within_s: float) -> None:
    """Wait until one of the events is set, or for so long."""

    async def wait(event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + within_s
        for each in events:
            nursery.start_soon(wait, each)


async def _begin(operations: Operations, options: MountOptions, path: str) -> str:
    """Make pyfuse3's session; the device of its mount. Raises MountFailed."""
    descriptor = options.descriptor
    if descriptor is None:
        await _make_room(path)
        if os.geteuid() == 0:
            descriptor = await trio.to_thread.run_sync(_mount, path, options)
    place = path if descriptor is None else f"/dev/fd/{descriptor}"
    try:
        await trio.to_thread.run_sync(pyfuse3.init, operations, place, options.as_flags())
    except RuntimeError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise MountFailed(f"can't mount at {path}: {error}") from error
    if options.descriptor is not None:
        return options.device
    mounted = mounttable.mounted_at(path)
    return mounted.device if mounted is not None else ""


def _mount(path: str, options: MountOptions) -> int:
    """Mount by ourselves: libfuse would have the kernel take the umask off what is made.

    Returns the descriptor to be served. Raises MountFailed.
    """
    try:
        descriptor = os.open(mounttable.DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            mounttable.mount_fuse(
                path,
                descriptor,
                source="twofold",
                allow_other=options.allow_other,
                read_only=options.read_only,
            )
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise MountFailed(f"can't mount at {path}: {error.strerror}") from error
    return descriptor


async def _make_room(path: str) -> None:
    """Take away what a dead process left. Raises MountFailed."""
    while (mounted := mounttable.mounted_at(path)) is not None:
        if not mounted.type.startswith("fuse"):
            break
        if not await mountpoint.is_dead(path):
            raise MountFailed(f"{path} is mounted already ({mounted.type})")
        log.warning("clearing a mount at %s whose process is gone", path)
        await mountpoint.unmount(path, lazily=True)
    if not await trio.Path(path).is_dir():
        raise MountFailed(f"{path} is no directory")


class _Session:
    """pyfuse3's one session, from INIT to its end."""

    def __init__(
        self,
        namespace: Namespace,
        options: MountOptions,
        path: str,
        device: str,
        invalidator: MountInvalidator,
    ) -> None:
        self.invalidator = invalidator
        self.ended = trio.Event()
        self._namespace = namespace
        self._options = options
        self._path = path
        self._device = device
        self._terminated = False
        # Against cancellation from outside: `stop` needs answers until the mount is gone.
        self._answering = trio.CancelScope(shield=True)

    async def answer(self) -> None:
        """Answer requests until the mount is gone, `terminate` is called or `stop` gives up."""
        try:
            with self._answering, one_wakeup_a_request():
                await pyfuse3.main(TASKS_MIN, TASKS_MAX)
        except* OSError as group:
            self._terminated = True
            log.error("the kernel's requests can't be read any more: %s", group.exceptions[0])
        finally:
            self.ended.set()

    def start(self) -> None:
        """INIT was answered: set what follows it, and take part in invalidation."""
        # Who has handed a descriptor over has seen to the knobs: we may not be allowed to.
        if self._device and self._options.descriptor is None:
            mounttable.tune(
                self._device,
                readahead_bytes=self._options.readahead_bytes,
                background_max=self._options.background_max,
            )
        self._namespace.set_invalidator(self.invalidator)

    async def stop(self, on_stop: OnStop | None) -> None:
        """Publish, unmount, free the session; never longer than the options and `_END_S` say."""
        self._namespace.set_invalidator(None)
        with trio.CancelScope(shield=True):
            if not self.ended.is_set():
                if on_stop is not None:
                    on_stop(self._mounts())
                await self._unmount()
            with trio.move_on_after(_END_S):
                await self.ended.wait()
            self._answering.cancel()
            await self.ended.wait()
            await self._clear()
            with trio.move_on_after(_END_S) as waiting:
                await self.invalidator.close()
            if waiting.cancelled_caught:
                log.error("the kernel never answered an invalidation: the session is left open")
                return
            # What is mounted is gone from the path by now, and anything else there isn't ours.
            pyfuse3.close(unmount=False)

    def _mounts(self) -> list[Mounted]:
        """All mounts of the session that this process can see."""
        mounts = mounttable.mounts_of(self._device)
        return [each for each in mounts if each.type == mounttable.TYPE]

    async def _clear(self) -> None:
        """Take away what is still mounted of a session that has ended."""
        for each in reversed(self._mounts()):
            # If the kernel ended it, the device may by now be another's, and that one answers.
            if self._terminated or await mountpoint.is_dead(each.path):
                await self._try_unmount(each.path, lazily=True)

    async def _unmount(self) -> None:
        with trio.move_on_after(self._options.stop_timeout_s):
            if await self._unmount_all(lazily=False):
                return
            log.warning(
                "%s is busy, or not ours to unmount: what is open there ends with this process",
                self._path,
            )
            if self._mounts():
                # Shared mappings hold bytes that only a sync brings out of the kernel.
                await trio.run_process(
                    ["sync", "-f", self._path], check=False, stdin=subprocess.DEVNULL
                )
            try:
                await self._namespace.files.publish_all()
            except StoreError as error:
                log.error("not everything open could be published: %s", error)
        with trio.move_on_after(_END_S):
            await self._unmount_all(lazily=True)
        self._terminated = True
        pyfuse3.terminate()

    async def _unmount_all(self, *, lazily: bool) -> bool:
        """Whether there was something mounted, and now is nothing. Bind mounts go first."""
        mounts = self._mounts()
        gone = [await self._try_unmount(each.path, lazily=lazily) for each in reversed(mounts)]
        return bool(gone) and all(gone)

    async def _try_unmount(self, path: str, *, lazily: bool) -> bool:
        try:
            return await mountpoint.unmount(path, lazily=lazily)
        except PermissionError:
            return False  # Another did the mounting because we may not.
        except OSError as error:
            log.error("can't unmount %s: %s", path, error)
            return False
