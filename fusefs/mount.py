"""The mount's life: clear what a dead process left, mount, serve, stop in order.

One mount to a process: pyfuse3 keeps its session in module globals.
Invariants: requests are answered until the mount is gone or a deadline has passed, also while
the rest of the daemon is being cancelled, since a plain unmount needs answers; the session is
freed only when no thread calls into it any more.
Concurrency: `serve_mount` owns every task of the mount. Blocking calls run in threads; the loop
never touches the mount. Source: pyfuse3's documentation, libfuse's fuse_session_unmount,
umount(2).
"""

from __future__ import annotations

import logging
import subprocess
from dataclasses import dataclass
from typing import Final

import pyfuse3
import trio

from fusefs import mountpoint
from fusefs.invalidate import MountInvalidator
from fusefs.kernelcache import KernelCache
from fusefs.operations import Operations
from fusefs.readlock import one_wakeup_a_request
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
    """path: an existing, empty directory.

    allow_other: all users, by the permission bits (needs root, or user_allow_other).
    writeback_cache: the kernel gathers small writes; S3 then sees them at close or fsync only.
    xattrs: off, no extended attributes, and one round trip less before each write.
    readahead_bytes: how far the kernel reads ahead. background_max: its requests under way.
    stop_timeout_s: how long a stop may publish and wait for answers.
    """

    path: str
    allow_other: bool = True
    read_only: bool = False
    writeback_cache: bool = False
    xattrs: bool = True
    readahead_bytes: int = 4 * 1024 * 1024
    background_max: int = 64
    stop_timeout_s: float = 10.0

    def as_flags(self) -> set[str]:
        """For `mount -o`. max_read must not be among them: it caps every read."""
        flags = {"default_permissions", "fsname=twofold", "subtype=twofold"}
        if self.allow_other:
            flags.add("allow_other")
        if self.read_only:
            flags.add("ro")
        return flags


async def serve_mount(
    namespace: Namespace,
    options: MountOptions,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount, report started once requests are answered, serve until cancelled or unmounted.

    Cancelled, it publishes what is open, unmounts (lazily where the mount is busy) and closes,
    within the time that the options give. Raises MountFailed.
    """
    path = mountpoint.resolved(options.path)
    await _make_room(path)
    cache = KernelCache()
    operations = Operations(
        namespace.files, cache, xattrs=options.xattrs, writeback_cache=options.writeback_cache
    )
    try:
        await trio.to_thread.run_sync(pyfuse3.init, operations, path, options.as_flags())
    except RuntimeError as error:
        raise MountFailed(f"can't mount at {path}: {error}") from error
    session = _Session(namespace, options, path, MountInvalidator(cache))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.answer)
        nursery.start_soon(session.invalidator.run)
        try:
            with trio.fail_after(_INIT_S):
                await operations.initialized.wait()
            session.start()
            task_status.started()
            await session.ended.wait()
            log.warning("%s was unmounted from outside", path)
        finally:
            await session.stop()
            nursery.cancel_scope.cancel()


async def _make_room(path: str) -> None:
    """Take away what a dead process left. Raises MountFailed."""
    while (mounted := mountpoint.mounted_at(path)) is not None:
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
        invalidator: MountInvalidator,
    ) -> None:
        self.invalidator = invalidator
        self.ended = trio.Event()
        self._namespace = namespace
        self._options = options
        self._path = path
        self._device = ""
        # Against cancellation from outside: `stop` needs answers until the mount is gone.
        self._answering = trio.CancelScope(shield=True)

    async def answer(self) -> None:
        """Answer requests until the mount is gone, `terminate` is called or `stop` gives up."""
        try:
            with self._answering, one_wakeup_a_request():
                await pyfuse3.main(TASKS_MIN, TASKS_MAX)
        finally:
            self.ended.set()

    def start(self) -> None:
        """INIT was answered: set what follows it, and take part in invalidation."""
        mounted = mountpoint.mounted_at(self._path)
        if mounted is not None:
            self._device = mounted.device
            mountpoint.tune(
                mounted.device,
                readahead_bytes=self._options.readahead_bytes,
                background_max=self._options.background_max,
            )
        self._namespace.set_invalidator(self.invalidator)

    async def stop(self) -> None:
        """Publish, unmount, free the session; never longer than the options and `_END_S` say."""
        self._namespace.set_invalidator(None)
        with trio.CancelScope(shield=True):
            if not self.ended.is_set():
                await self._unmount()
            with trio.move_on_after(_END_S):
                await self.ended.wait()
            self._answering.cancel()
            await self.ended.wait()
            if self._is_mounted():
                await self._try_unmount(lazily=True)
            with trio.move_on_after(_END_S) as waiting:
                await self.invalidator.close()
            if waiting.cancelled_caught:
                log.error("the kernel never answered an invalidation: the session is left open")
                return
            # What is mounted is gone from the path by now, and anything else there isn't ours.
            pyfuse3.close(unmount=False)

    def _is_mounted(self) -> bool:
        """Whether what is topmost at the path is this mount, and not another's."""
        mounted = mountpoint.mounted_at(self._path)
        return mounted is not None and mounted.device == self._device

    async def _unmount(self) -> None:
        with trio.move_on_after(self._options.stop_timeout_s):
            if await self._try_unmount(lazily=False):
                return
            log.warning("%s is busy: what is open there ends with this process", self._path)
            # Shared mappings hold bytes that only a sync brings out of the kernel.
            await trio.run_process(
                ["sync", "-f", self._path], check=False, stdin=subprocess.DEVNULL
            )
            try:
                await self._namespace.files.publish_all()
            except StoreError as error:
                log.error("not everything open could be published: %s", error)
        with trio.move_on_after(_END_S):
            await self._try_unmount(lazily=True)
        pyfuse3.terminate()

    async def _try_unmount(self, *, lazily: bool) -> bool:
        try:
            return await mountpoint.unmount(self._path, lazily=lazily)
        except OSError as error:
            log.error("can't unmount %s: %s", self._path, error)
            return False
