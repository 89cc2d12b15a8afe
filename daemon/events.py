"""What happened: each change of a drive's state with its cause, and what else people ask for later.

The last of it is kept in memory for `twofold status` and `twofold events`, and in a file of the
state folder, so that it outlives the daemon: what was seen before the restart is what people ask
about after it. Everything is in the log, too.
Invariant: bounded; a state folder that hangs or is full holds nobody up.
Concurrency: `note` on the loop, at any time; the file is written by the one task of `run`, in a
thread.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec
import trio

from daemon.report import EventReport
from store.chunks.drive import Drive
from store.chunks.events import ChunkEvent, DriveChanged, FragmentDamaged

log = logging.getLogger(__name__)

_FILE = "events.json"
_KEPT_MAX = 200
_WRITE_EVERY_S = 0.2
_LAST_WRITE_S = 2.0


class History:
    """The last events, oldest first."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._events: deque[EventReport] = deque(self._load(), maxlen=_KEPT_MAX)
        self._changed = trio.Event()

    def recent(self, count: int = _KEPT_MAX) -> list[EventReport]:
        """The newest `count`, oldest first."""
        return list(self._events)[-count:]

    def note(
        self, what: str, cause: str, *, path: str = "", before: str = "", after: str = ""
    ) -> None:
        """Remember that it happened just now."""
        self._events.append(
            EventReport(
                at_s=round(time.time(), 3),
                what=what,
                path=path,
                before=before,
                after=after,
                cause=cause,
            )
        )
        self._changed.set()

    def hear(self, event: ChunkEvent) -> None:
        """What the bytes side reports. Changes of drives are logged where they happen."""
        if isinstance(event, DriveChanged):
            self.note(
                "drive",
                event.cause,
                path=event.path,
                before=event.before.value,
                after=event.after.value,
            )
        elif isinstance(event, FragmentDamaged):
            log.warning(
                "damaged fragment on drive %s: run %s, stripe %s, shard %s",
                event.drive,
                event.run,
                event.stripe,
                event.shard,
            )

    def begin(self, drives: Iterable[Drive]) -> None:
        """The drives as a start found them: noted where that isn't what was known of them."""
        known = {event.path: event.after for event in self._events if event.what == "drive"}
        for drive in drives:
            path, state = str(drive.io.path), drive.state.value
            before = known.get(path, "online")
            if before != state:
                cause = drive.cause or "the daemon was started anew"
                self.note("drive", cause, path=path, before=before, after=state)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the file up to date, until cancelled; then once more."""
        task_status.started()
        try:
            while True:
                await self._changed.wait()
                self._changed = trio.Event()
                await self._save()
                await trio.sleep(_WRITE_EVERY_S)
        finally:
            with trio.move_on_after(_LAST_WRITE_S, shield=True):
                await self._save()

    async def _save(self) -> None:
        text = msgspec.json.encode(list(self._events)) + b"\n"
        await trio.to_thread.run_sync(self._write, text, abandon_on_cancel=True)

    def _write(self, text: bytes) -> None:
        beside = self._path.with_name(f"{_FILE}.new")
        try:
            with open(beside, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            log.warning("%s can't be written: %s", self._path, error.strerror or error)

    def _load(self) -> list[EventReport]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[EventReport])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s can't be read, and begins anew: %s", self._path, error)
            return []
