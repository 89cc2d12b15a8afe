"""What the kernel may hold of the namespace: inodes it knows, and names, present or absent.

Invariants: whatever the kernel caches is noted here (the reverse need not hold: the kernel drops
names without a word, so a note may outlive what it notes). A name is noted before the reply that
tells of it leaves. A directory's names go when the kernel forgets the directory, since a cached
entry keeps its directory cached.
Bounded: inodes by the kernel's own cache, which gives each back with FORGET; names by
`names_max`, beyond which a directory counts as known with all its names.
Concurrency: one trio loop, no await inside any method.
Source: fuse(4), FUSE_FORGET; pyfuse3's rules on lookup counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from metadb.records import ROOT, InodeId

NAMES_MAX: Final = 250_000


class KernelCache:
    """See the module's header."""

    __slots__ = ("_counts", "_names", "_names_left")

    def __init__(self, names_max: int = NAMES_MAX) -> None:
        self._counts: dict[int, int] = {}
        self._names: dict[int, set[bytes] | None] = {}  # None: every name
        self._names_left = names_max

    # -- inodes ------------------------------------------------------------------------

    def count(self, inode: int) -> None:
        """A reply brings `inode` to the kernel, once more."""
        counts = self._counts
        counts[inode] = counts.get(inode, 0) + 1

    def forget(self, inode: int, lookups: int) -> bool:
        """The kernel gives back `lookups` of the times it was told of `inode`.

        Returns whether that was the last: then it holds the inode no more.
        """
        left = self._counts.get(inode, 0) - lookups
        if left > 0:
            self._counts[inode] = left
            return False
        self._counts.pop(inode, None)
        names = self._names.pop(inode, None)
        if names is not None:
            self._names_left += len(names)
        return True

    def forget_all(self) -> list[InodeId]:
        """The kernel gave everything back at once: it has unmounted. What it held."""
        gone = [InodeId(inode) for inode in self._counts]
        for inode in gone:
            self.forget(inode, self._counts[inode])
        return gone

    def holds(self, inode: InodeId) -> bool:
        """Whether the kernel may have `inode`, and ask for it by its number; the root always."""
        return inode in self._counts or inode == ROOT

    # -- names -------------------------------------------------------------------------

    def note(self, parent: int, name: bytes) -> None:
        """The kernel is about to learn of `name`, or that there is none."""
        names = self._names.get(parent)
        if names is None:
            if parent in self._names:
                return
            names = self._names[parent] = set()
        if name not in names:
            if self._names_left <= 0:
                self._names_left += len(names)
                self._names[parent] = None
                return
            names.add(name)
            self._names_left -= 1

    def knows(self, parent: InodeId, name: bytes) -> bool:
        """Whether the kernel may hold `name` of `parent`, as present or as absent."""
        names = self._names.get(parent, ())
        return names is None or name in names

    def drop(self, entries: Iterable[tuple[InodeId, bytes]]) -> None:
        """These names are about to be taken out of the kernel's cache."""
        for parent, name in entries:
            names = self._names.get(parent)
            if names is not None and name in names:
                names.remove(name)
                self._names_left += 1

    @property
    def inode_count(self) -> int:
        """Inodes the kernel holds."""
        return len(self._counts)
