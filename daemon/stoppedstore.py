"""Which store a command is about, and the drives of one that no daemon serves.

A store is named by its configuration or by its drives. Whoever has the drives' locks
(`store.chunks.drive_io`) is alone with them, so a store that is served is refused here.
Concurrency: blocking, before any loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.config import control_socket_of, load_settings
from daemon.control import connect
from daemon.drives import copy_place
from daemon.ellipses import expand
from metadb.recovery import CopyPlace
from store.chunks.pool import Pool, open_drives
from store.chunks.types import DriveState

_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedStore:
    """config: its configuration, None for the usual one or where `drives` name it.

    drives: given instead of a configuration.
    """

    config: Path | None
    drives: tuple[str, ...]

    def socket(self) -> Path | None:
        """Where a daemon of it can be asked; None where drives were named. Raises ConfigError."""
        return None if self.drives else control_socket_of(self.config, os.environ)

    def paths(self) -> tuple[str, ...]:
        """Where its drives stand. Raises ConfigError."""
        return self.drives or tuple(load_settings(self.config, os.environ).pool.drives)


def named_store(words: Sequence[str]) -> NamedStore:
    """What the words of a command name: nothing or a file is a configuration, others are drives.

    Raises RangeError.
    """
    if not words:
        return NamedStore(config=None, drives=())
    if len(words) == 1 and os.path.isfile(words[0]):
        return NamedStore(config=Path(words[0]), drives=())
    return NamedStore(config=None, drives=tuple(map(os.path.abspath, expand(words))))


def is_served(socket: Path) -> bool:
    """Whether a daemon listens there, or may."""
    try:
        connect(socket, _CONNECT_S).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True
    return True


@contextmanager
def stopped_pool(paths: Sequence[str], *, allow_missing: int | None = None) -> Iterator[Pool]:
    """The drives, locked. Raises LabelError, DriveBusy among it when a daemon uses them."""
    pool = open_drives(paths, allow_missing=allow_missing)
    try:
        yield pool
    finally:
        pool.close()


def copy_places(pool: Pool) -> list[CopyPlace]:
    """Where copies of the metadata may stand, on the drives that are there."""
    return [copy_place(drive) for drive in pool.drives if drive.state is not DriveState.OFFLINE]
