"""Directories as the mount sees them: pages of names with stable cookies.

`.` and `..` are the mount's own: they are never among the entries.
"""

from __future__ import annotations

from metadb.records import InodeId, InodeRow


class DirectoryHandle:
    """One open directory. Cookies hold for this handle alone."""

    __slots__ = ("inode",)

    inode: InodeId

    def page(self, cookie: int, limit: int) -> list[tuple[bytes, int, InodeRow]]:
        """Up to `limit` (name, next cookie, attributes) of what follows `cookie`; [] at the end.

        cookie: 0 for the beginning, else what came with the last entry that was taken. Entries
        that stay are neither left out nor given twice, whatever comes or goes between the calls.
        The entries are of this moment: ask for no more than one answer holds (limit >= 1), and
        for the rest again, so that nothing older than an invalidation reaches the kernel.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Done. Idempotent."""
