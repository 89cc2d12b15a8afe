"""How changes born on one face reach the caches of the other.

A PUT answers only after the kernel has dropped what it knew of the name (rule R8). The mount
registers an `Invalidator`; without a mount nothing is called and nothing is paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from metadb.records import InodeId


class Invalidator(Protocol):
    """Implemented by `fusefs`."""

    def knows(self, parent: InodeId, name: bytes) -> bool:
        """Whether the kernel may hold this POSIX name, as present or as absent. Cheap, no await."""
        ...

    def holds(self, inode: InodeId) -> bool:
        """Whether the kernel may still ask for this inode by its number. Cheap, no await.

        Once it no longer does, the mount says so by `Files.forgotten`.
        """
        ...

    async def invalidate(
        self, entries: Sequence[tuple[InodeId, bytes]], inodes: Sequence[InodeId]
    ) -> None:
        """Make the kernel forget these (parent, POSIX name) entries and these inodes' attributes.

        Bounded in time by the implementation; it logs what it could not do and returns.
        """
        ...
