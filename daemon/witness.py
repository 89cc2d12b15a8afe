"""What this machine remembers of the pool beside its drives: which epoch was the last.

One small file in the state folder, replaced whole. With it a start knows whether the drives that
are here are those that went on (rule Q2 of `store.chunks.lineage`). Losing it costs a question at
most: a start with half of the drives then has to be told that the others are lost.
Blocking; run in threads. One daemon holds the state folder.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from store.chunks.lineage import Standing

log = logging.getLogger(__name__)

_FILE = "pool.json"


class Witness:
    """The file in the state folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def seen(self) -> Standing | None:
        """Where the pool stood when it was last told; None when that is not known."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Standing)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s can't be read, and counts as lost: %s", self._path, error)
            return None

    def note(self, standing: Standing) -> None:
        """Remember it, durably. What fails is logged: then the file must not speak any more."""
        beside = self._path.with_name(f"{_FILE}.new")
        try:
            with open(beside, "wb") as file:
                file.write(msgspec.json.encode(standing) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            self._sync_folder()
        except OSError as error:
            log.error("%s can't be written: %s", self._path, error.strerror or error)
            try:
                self._path.unlink(missing_ok=True)
                self._sync_folder()
            except OSError as again:
                log.error("%s can't be removed either: %s", self._path, again.strerror or again)

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
