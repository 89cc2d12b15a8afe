"""What the mount must forget when S3 changed the namespace (rule R8).

Concurrency: inside a transaction; the list is handed to the kernel after the barrier.
"""

from __future__ import annotations

from typing import NamedTuple

from metadb import dentries
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store.names import BODY, name_of
from store.state import State
from store.tree import Place


class Told(NamedTuple):
    """(directory, POSIX name) entries and inodes."""

    entries: list[tuple[InodeId, bytes]]
    inodes: list[InodeId]

    def directory(self, place: Place) -> None:
        """A directory came or went at `place`."""
        self.entries.append((place.parent, name_of(place.name)))
        self.inodes.append(place.parent)

    def leaf(self, tx: Tx, state: State, place: Place, old: InodeRow | None) -> None:
        """A leaf came, went or changed its inode. old: the one it had."""
        if state.invalidator is None:
            return
        self.entries.append((place.parent, name_of(place.name)))
        self.inodes.append(place.parent)
        twin = dentries.directory_of(tx, place.parent, place.name + b"/")
        if twin is not None:
            self.entries.append((twin, BODY))
            self.inodes.append(twin)
        if old is not None:
            self.inodes.append(old.id)  # Whoever holds it open, or by another name, sees its links.


def nothing() -> Told:
    """A new list, to be added to."""
    return Told([], [])
