"""Open files, as the mount holds them.

A `Handle` is one open(2); what was written through any handle of an inode stands in the inode's
`Draft`, which they share. Rules R0 and R6 of SEMANTICS.md.
Concurrency: one trio loop; methods of one handle may be called from many tasks at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metadb.records import InodeId, InodeRow
from store import tree
from store.drafts import Draft
from store.state import State
from store.translate import translated
from store.types import Buffer


class Drafts:
    """The drafts of all open inodes; `State.pins` counts their handles too."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._drafts: dict[InodeId, Draft] = {}
        state.relocated = self.relocated
        state.name_logs = self.name_logs

    def open(self, row: InodeRow) -> Draft:
        """The draft of an inode, for one more handle."""
        draft = self._drafts.get(row.id)
        if draft is None:
            draft = self._drafts[row.id] = Draft(self._state, row)
        draft.handles += 1
        self._state.pins.add(row.id)
        return draft

    async def close(self, draft: Draft) -> None:
        """One handle less: what it wrote is published, and an unlinked inode goes with the last.

        Raises what `Draft.publish` raises; the handle is gone all the same, and with the last one
        what could not be published.
        """
        try:
            await draft.publish()
            draft.closed()
        finally:
            draft.handles -= 1
            self._state.pins.drop(draft.inode)
            if not draft.handles:
                del self._drafts[draft.inode]
                self.forgotten([draft.inode])
                if draft.dirty:
                    await draft.discard()

    def forgotten(self, numbers: Sequence[InodeId]) -> None:
        """A holder of these inodes is gone: those that have no name and no other holder go."""
        nameless = self._state.nameless
        gone = [n for n in numbers if n in nameless and not self._state.is_held(n)]
        if gone:
            self._state.engine.transact(tree.erase_nameless, self._state, gone)
            nameless.difference_update(gone)

    def get(self, number: InodeId) -> Draft | None:
        """The inode's draft, if it is open."""
        return self._drafts.get(number)

    def over(self, row: InodeRow) -> InodeRow:
        """The row with what its draft has changed."""
        draft = self._drafts.get(row.id)
        if draft is None or not draft.dirty:
            return row
        changed_ns = max(row.ctime_ns, draft.changed_ns)
        return row._replace(size=draft.size, mtime_ns=draft.mtime_ns, ctime_ns=changed_ns)

    async def name_logs(self) -> None:
        """Have rows name all that stands on drives. Raises NoSpace, Unavailable."""
        for draft in list(self._drafts.values()):
            await draft.name_logs()

    def relocated(self, numbers: Collection[InodeId]) -> None:
        """The extents of these inodes name other runs now, with the same bytes."""
        for draft in self._drafts.values():
            draft.relocated(numbers)

    def dirty(self) -> list[Draft]:
        """Those with something to publish."""
        return [draft for draft in self._drafts.values() if draft.dirty]


class Handle:
    """One open file. Every handle must be released, once."""

    __slots__ = ("_draft", "_drafts", "_released", "_state", "inode")

    def __init__(self, state: State, drafts: Drafts, row: InodeRow) -> None:
        self.inode = row.id
        self._state = state
        self._drafts = drafts
        self._draft = drafts.open(row)
        self._released = False

    @property
    def draft(self) -> Draft:
        """What all handles of the inode share."""
        return self._draft

    def read_nowait(self, offset: int, size: int) -> Sequence[Buffer] | None:
        """`read` if it can be answered without waiting, else None."""
        return self._draft.read_nowait(offset, size)

    async def read(self, offset: int, size: int) -> Sequence[Buffer]:
        """Up to `size` bytes from `offset`: buffers to be sent one behind the other.

        Fewer at the end of the file, an empty list behind it; holes are zeros. What was written
        through any handle is seen at once. The access time is left alone (noatime).
        Raises Unrecoverable.
        """
        found = self._draft.read_nowait(offset, size)
        return await self._draft.read(offset, size) if found is None else found

    async def write(self, offset: int, piece: bytes) -> int:
        """Take all of `piece`; returns its length. The piece is kept: it must not change.

        Set-user-id and set-group-id bits are the kernel's to clear, by a setattr before the write,
        unless it is told otherwise (HANDLE_KILLPRIV): see `Files.clear_set_id`.
        Raises NoSpace, QuotaExceeded, Unavailable: then nothing of the piece was taken.
        """
        return await self._draft.write(offset, piece)

    async def flush(self) -> None:
        """Publish what was written, as every close(2) does; nothing happens if nothing was.

        Raises NoSpace, Unavailable, Unrecoverable: what was published stays as it is, and what
        was written stays in the draft for the next try.
        """
        await self._draft.publish()
        self._draft.closed()

    async def fsync(self, datasync: bool) -> None:
        """Publish and make durable. Raises what `flush` raises."""
        await self._draft.publish(durable=True)
        with translated(self.inode):
            await self._state.engine.barrier()

    async def release(self) -> None:
        """The last close of this open. Publishes if `flush` didn't; an unlinked file goes."""
        assert not self._released, self.inode
        self._released = True
        await self._drafts.close(self._draft)
