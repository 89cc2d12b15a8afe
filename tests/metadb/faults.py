"""Files that fail on demand: `FaultyFolder.on_write` decides what each write to a copy meets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from metadb.files import Buffer, File, Folder


class Faults:
    """What writes below a drive's folder raise, or wait for. Keyed by the drive's name."""

    def __init__(self) -> None:
        self.error: dict[str, OSError] = {}
        self.hung: dict[str, threading.Event] = {}
        self.begun: dict[str, threading.Event] = {}

    def meet(self, path: Path) -> None:
        """Called before each write and sync of `path`."""
        drive = path.parent.parent.name
        if (event := self.begun.get(drive)) is not None:
            event.set()
        if (event := self.hung.get(drive)) is not None:
            event.wait()
        if (error := self.error.get(drive)) is not None:
            raise error

    def folder_type(self) -> Callable[[Path], Folder]:
        """For `open_engine`."""
        return lambda path: FaultyFolder(path, self)


class FaultyFolder(Folder):
    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path)
        self._faults = faults

    def open(self, name: str) -> File:
        return FaultyFile(self.path / name, self._faults)

    def replace(self, name: str, content: bytes) -> None:
        self._faults.meet(self.path / name)
        super().replace(name, content)


class FaultyFile(File):
    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path)
        self._faults = faults

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        self._faults.meet(self.path)
        super().write(buffers, offset)

    def write_synced(self, buffer: Buffer, offset: int) -> None:
        self._faults.meet(self.path)
        super().write_synced(buffer, offset)

    def sync(self) -> None:
        self._faults.meet(self.path)
        super().sync()
