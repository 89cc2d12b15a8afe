"""One drive: what it may be used for, why, and the counters. Its system calls are in `io`.

                      ENOSPC, below reserve            EROFS, stale label
          FULL <---------------------------- ONLINE --------------------> READ_ONLY
                ---------------------------->   |  <--------------------
                            probe               |          probe
        OFFLINE <-------------------------------+---------------------> FENCED (to the end)
                 no label, another's, moved away   EIO on write, failed flush, hung

Invariants:
  D1 a drive whose write or flush failed for any reason but lack of room or a read-only mount is
     FENCED, and stays so while the daemon runs: what a failed flush lost can't be asked for again;
  D2 a drive whose label has a lower epoch than the pool is stale: read, never written;
  D3 segments are placed and opened for writing only on drives that are ONLINE.
Concurrency: state changes on the loop; `handle` may be called in threads.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import replace

import trio

from store.chunks.config import ChunkConfig
from store.chunks.drive_io import DriveIO, Handle, Probe
from store.chunks.errors import LabelError
from store.chunks.label import Label
from store.chunks.threads import NoMemory, in_thread
from store.chunks.types import DriveId, DriveState, DriveStatus, SegmentId

log = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.ESTALE)
_MIN_RESERVE_BYTES = 16 << 20
_MAX_RESERVE_BYTES = 1 << 30


class Drive:
    """A drive of the pool. `label` is None while no label of ours was seen at its path."""

    def __init__(
        self,
        drive: DriveId,
        io: DriveIO,
        label: Label | None,
        *,
        cause: str = "",
        config: ChunkConfig | None = None,
    ) -> None:
        self.id = drive
        self.io = io
        self.label = label
        self.state = DriveState.OFFLINE if label is None else DriveState.ONLINE
        self.cause = cause
        self.stale = False
        self.draining = False
        self.retired = False
        self.hung = False
        self._refused = False
        self.overdue_reads = 0
        self.device = 0
        self.total_bytes = 0
        self.free_bytes = 0
        self.read_errors = 0
        self.write_errors = 0
        self.damaged_fragments = 0
        self.on_change: Callable[[Drive, DriveState], None] = lambda drive, before: None
        self.use(config or ChunkConfig())
        self.belongs: Callable[[Label], bool] = lambda label: True
        """Whether a label is of this pool's past, as `Pool` knows; called in threads."""
        self._handles: dict[SegmentId, Handle] = {}
        self._handles_lock = threading.Lock()
        self._probing = trio.Lock()

    def use(self, config: ChunkConfig) -> None:
        """Take the settings. Before any I/O."""
        self._config = config
        self.readers = trio.CapacityLimiter(config.reads_per_drive)

    # -- what it may be used for -------------------------------------------------------

    @property
    def writable(self) -> bool:
        return self.state is DriveState.ONLINE

    @property
    def placeable(self) -> bool:
        """Whether new members may come to it."""
        return self.writable and not self.draining

    @property
    def readable(self) -> bool:
        return self.state not in (DriveState.OFFLINE, DriveState.FENCED)

    @property
    def prompt(self) -> bool:
        """Whether a read may expect an answer soon."""
        return self.readable and not self.overdue_reads

    @property
    def reachable(self) -> bool:
        """Whether reading is worth a try when nothing better is left."""
        return self.state is not DriveState.OFFLINE and not self.hung

    @property
    def epoch(self) -> int:
        return 0 if self.label is None else self.label.epoch

    @property
    def reserve_bytes(self) -> int:
        if self._config.reserve_bytes is not None:
            return self._config.reserve_bytes
        return min(max(self.total_bytes // 100, _MIN_RESERVE_BYTES), _MAX_RESERVE_BYTES)

    def status(self) -> DriveStatus:
        return DriveStatus(
            id=self.id,
            path=str(self.io.path),
            state=self.state,
            cause=self.cause,
            epoch=self.epoch,
            total_bytes=self.total_bytes,
            free_bytes=self.free_bytes,
            read_errors=self.read_errors,
            write_errors=self.write_errors,
            damaged_fragments=self.damaged_fragments,
        )

    def retire(self) -> None:
        """It is out of the pool for good."""
        self.retired = True
        self.on_change = lambda drive, before: None
        self._change(DriveState.OFFLINE, "it was taken out of the pool")
        self.forget_handles()
        self.io.detach()

    # -- what happens to it ------------------------------------------------------------

    def fence(self, cause: str) -> None:
        """Use it no more (D1)."""
        self._change(DriveState.FENCED, cause)

    def note_hung(self, work: str) -> None:
        """`work` had no answer within its deadline."""
        self.hung = True
        self.write_errors += work != "read"
        self.read_errors += work == "read"
        self.fence(f"{work} hung")

    def note_write_error(self, error: BaseException) -> None:
        """A write failed. `error` that isn't the world's is raised again."""
        if not isinstance(error, OSError):
            raise error
        self.write_errors += 1
        cause = f"write failed: {error.strerror or error}"
        if error.errno in _OURS:
            log.error("drive %s: %s, which is not the drive's fault", self.io.path, cause)
        elif error.errno in _NO_ROOM:
            self._change(DriveState.FULL, cause)
        elif error.errno == errno.EROFS:
            self._refused = True
            self._change(DriveState.READ_ONLY, cause)
        elif error.errno in _GONE:
            self._change(DriveState.OFFLINE, cause)
        else:
            self.fence(cause)

    def note_flush_error(self, error: BaseException) -> None:
        """A flush failed: pages may be lost and marked clean, so no later flush is believed."""
        if not isinstance(error, OSError):
            raise error
        if isinstance(error, NoMemory):
            log.error("drive %s was not flushed: %s", self.io.path, error.strerror)
            return
        self.write_errors += 1
        self.fence(f"flush failed: {error.strerror or error}")

    def note_read_error(self, error: BaseException) -> None:
        """A read failed. One bad sector is no reason to give up a drive."""
        if not isinstance(error, OSError):
            raise error
        self.read_errors += 1

    def _change(self, state: DriveState, cause: str) -> None:
        before = self.state
        if before is DriveState.FENCED or (before is state and self.cause == cause):
            return
        self.state, self.cause = state, cause
        if state is DriveState.OFFLINE:
            self.forget_handles()
            self.io.detach()
        if before is not state:
            level = logging.INFO if state is DriveState.ONLINE else logging.WARNING
            log.log(level, "drive %s is %s%s", self.io.path, state.value, cause and f": {cause}")
            self.on_change(self, before)

    # -- the probe ---------------------------------------------------------------------

    async def watch(self, pool_epoch: Callable[[], int]) -> None:
        """Probe again and again; for a task of its own."""
        while not self.retired:
            await self.check(pool_epoch())
            await trio.sleep(self._config.probe_interval_s)

    async def check(self, pool_epoch: int) -> None:
        """Look at the drive's path once and take the state that follows."""
        async with self._probing:
            await self._check(pool_epoch)

    async def _check(self, pool_epoch: int) -> None:
        if self.hung or self.retired:
            return
        known = self.label
        try:
            seen = await in_thread(self._look, self._config.io_deadline_s)
            if not seen.attached:
                # Handles still open are of another folder: what was not flushed there is lost.
                self._change(DriveState.OFFLINE, "another folder stands at its path")
                await in_thread(self.io.attach, self._config.io_deadline_s)
        except TimeoutError:
            self.note_hung("probe")
        except LabelError as error:
            self._change(DriveState.OFFLINE, str(error))
        except OSError as error:
            if error.errno not in _OURS:
                self._change(DriveState.OFFLINE, error.strerror or str(error))
        else:
            # Where a label was written meanwhile, the one seen may be the old one: the next look
            # tells.
            if self.label is known:
                self.settle(seen, pool_epoch)

    def _look(self) -> Probe:
        """In a thread: probe, and refuse what isn't this drive."""
        seen = self.io.probe()
        if seen.label is None:
            raise LabelError("no label")
        if self.label is not None and seen.label.store != self.label.store:
            raise LabelError("a drive of another store stands here")
        if seen.label.drive != self.id:
            raise LabelError("another drive stands here")
        if not self.belongs(seen.label):
            raise LabelError("it went on without the other drives: empty it to take it back")
        if self._refused and seen.attached and not seen.read_only:
            # An ext4 that found an error in itself refuses all writes but doesn't say so (ext4(5)).
            self._refused = self._refuses_writes()
            return replace(seen, read_only=self._refused)
        return seen

    def _refuses_writes(self) -> bool:
        try:
            self.io.try_write()
        except OSError as error:
            return error.errno == errno.EROFS
        return False

    def settle(self, seen: Probe, pool_epoch: int) -> None:
        """Take the state that follows from what a probe saw of this drive."""
        assert seen.label is not None
        self.label = seen.label
        self.device = seen.device
        self.total_bytes, self.free_bytes = seen.total_bytes, seen.free_bytes
        self.stale = seen.label.epoch < pool_epoch
        if self.stale:
            cause = f"stale: its epoch is {seen.label.epoch}, the pool's {pool_epoch}"
            self._change(DriveState.READ_ONLY, cause)
        elif seen.read_only:
            self._change(DriveState.READ_ONLY, "it can only be read")
        elif seen.free_bytes < self.reserve_bytes:
            self._change(DriveState.FULL, "free space is below the reserve")
        else:
            self._change(DriveState.ONLINE, "")

    def took(self, size: int) -> None:
        """A member grew by `size` bytes: the next probe may come too late for the reserve."""
        self.free_bytes -= size
        if self.state is DriveState.ONLINE and self.free_bytes < self.reserve_bytes:
            self._change(DriveState.FULL, "free space is below the reserve")

    # -- handles of members ------------------------------------------------------------

    def handle_nowait(self, segment: SegmentId) -> Handle | None:
        """The member's handle if it is open and the drive is in use."""
        return self._handles.get(segment)

    def handle(self, segment: SegmentId) -> Handle:
        """The member's handle, opened if need be. For threads. Raises OSError."""
        found = self._handles.get(segment)
        if found is not None:
            return found
        opened = self.io.open_segment(segment)
        self.keep_handle(segment, opened)
        return opened

    def keep_handle(self, segment: SegmentId, handle: Handle) -> None:
        """Remember an open member; the one remembered longest makes room."""
        with self._handles_lock:
            self._handles[segment] = handle
            if len(self._handles) > self._config.files_per_drive:
                del self._handles[next(iter(self._handles))]

    def forget_handle(self, segment: SegmentId) -> None:
        with self._handles_lock:
            self._handles.pop(segment, None)

    def forget_handles(self) -> None:
        with self._handles_lock:
            self._handles.clear()
