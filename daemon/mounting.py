"""The mount as a service that may be off, unable or ended from outside without harm to the rest.

Concurrency: one task of its own, owned by the context `mounted`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from daemon.lifecycle import StartError
from daemon.services import running
from daemon.settings import MountSettings
from fusefs.mount import MountFailed, MountOptions, serve_mount
from store.namespace import Namespace

log = logging.getLogger(__name__)

_DEVICE = "/dev/fuse"
_STOP_S_MAX = 10.0


class Mount:
    """state: mounted, off, or why there is no mount just now."""

    def __init__(self, settings: MountSettings, stop_deadline_s: float) -> None:
        self.state = "starting" if settings.path else "off"
        self._options = MountOptions(
            path=settings.path,
            allow_other=settings.allow_other,
            read_only=settings.read_only,
            writeback_cache=settings.writeback_cache,
            xattrs=settings.xattrs,
            readahead_bytes=settings.readahead_bytes,
            background_max=settings.background_max,
            stop_timeout_s=min(stop_deadline_s, _STOP_S_MAX),
        )

    @asynccontextmanager
    async def mounted(self, namespace: Namespace) -> AsyncIterator[None]:
        """Mounted while the body runs. Raises StartError (in a group) when it can't be."""
        if not self._options.path:
            yield
            return
        reason = _lacking()
        if reason:
            log.warning("no mount at %s: %s; all else runs", self._options.path, reason)
            self.state = reason
            yield
            return
        async with running(partial(self._serve, namespace)):
            yield

    async def _serve(self, namespace: Namespace, *, task_status: trio.TaskStatus[None]) -> None:
        self.state = "starting"
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_mount, namespace, self._options)
                self.state = "mounted"
                task_status.started()
        except* MountFailed as group:
            raise StartError(str(group.exceptions[0])) from group
        finally:
            self.state = "unmounted"


def _lacking() -> str:
    """Why this machine can't mount, "" if it can."""
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {_DEVICE} on this machine"
    except OSError as error:
        return f"{_DEVICE} can't be opened: {error.strerror}"
    return ""
