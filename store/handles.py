"""Open files, as the mount holds them.

A `Handle` is one open(2); what was written through any handle of an inode stands in the inode's
`Draft`, which they share. Rules R0 and R6 of SEMANTICS.md.
Concurrency: one trio loop; methods of one handle may be called from many tasks at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from metadb.records import InodeId
from store.types import Buffer


class Handle:
    """One open file. Every handle must be released, once."""

    __slots__ = ("inode",)

    inode: InodeId

    def read_nowait(self, offset: int, size: int) -> Sequence[Buffer] | None:
        """`read` if it can be answered without waiting, else None."""
        raise NotImplementedError

    async def read(self, offset: int, size: int) -> Sequence[Buffer]:
        """Up to `size` bytes from `offset`: buffers to be sent one behind the other.

        Fewer at the end of the file, an empty list behind it; holes are zeros. What was written
        through any handle is seen at once. The access time is left alone (noatime).
        Raises Unrecoverable.
        """
        raise NotImplementedError

    async def write(self, offset: int, piece: bytes) -> int:
        """Take all of `piece`; returns its length. The piece is kept: it must not change.

        Set-user-id and set-group-id bits are the kernel's to clear: unless told otherwise
        (HANDLE_KILLPRIV) it sends a setattr before the write.
        Raises NoSpace, Unavailable: then nothing of the piece was taken.
        """
        raise NotImplementedError

    async def flush(self) -> None:
        """Publish what was written, as every close(2) does; nothing happens if nothing was.

        Raises NoSpace, Unavailable, Unrecoverable: what was published stays as it is, and what
        was written stays in the draft for the next try.
        """
        raise NotImplementedError

    async def fsync(self, datasync: bool) -> None:
        """Publish and make durable. Raises what `flush` raises."""
        raise NotImplementedError

    async def release(self) -> None:
        """The last close of this open. Publishes if `flush` didn't; an unlinked file goes."""
        raise NotImplementedError
