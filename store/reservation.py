"""What an open file will add to its bucket when it is published, set aside from the quota.

Publication must not fail for the quota: the program has closed the file by then, and nobody
listens. So a write that would go too far fails, and what was written before is sure to fit.
Concurrency: one trio loop, no await.
"""

from __future__ import annotations

from metadb import inodes
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import versions
from store.rules import OFF, check_quota, rules_of
from store.state import State


class Reservation:
    """Of one draft."""

    __slots__ = ("_bucket", "_bytes", "_inode", "_size", "_state")

    def __init__(self, state: State, row: InodeRow) -> None:
        self._state = state
        self._inode = row.id
        self._bucket = row.bucket
        self._bytes = 0
        # The size that was covered last; -1 where there is none.
        self._size = -1

    def cover(self, size: int, published_size: int, transient: str | None) -> None:
        """The file is going to be `size` bytes. Raises QuotaExceeded.

        transient: as in `publication.Publication`.
        """
        if size == self._size:
            return
        state = self._state
        rules = state.rules.get(self._bucket) or state.engine.read(rules_of, state, self._bucket)
        if rules.quota_bytes is not None:
            wanted = state.engine.read(self._growth, size, transient)
        else:
            # For a quota that comes later. Where versions are kept, what is published may stay.
            wanted = size if rules.versioning != OFF else size - published_size
        self._set(max(0, wanted))
        self._size = size

    def _growth(self, tx: Tx, size: int, transient: str | None) -> int:
        """Raises QuotaExceeded."""
        rules = rules_of(tx, self._state, self._bucket)
        row = inodes.get(tx, self._inode)
        assert row is not None, self._inode
        # What has no name will not be published, but takes room while it is open.
        wanted = versions.growth(rules, row, transient, size) if row.nlink else size
        if wanted > self._bytes:
            check_quota(tx, self._state, self._bucket, rules, wanted - self._bytes)
        return wanted

    def release(self) -> None:
        """It was published, or given up."""
        self._set(0)
        self._size = -1

    def move(self, bucket: InodeId) -> None:
        """The file has been renamed: what is set aside is so in this bucket from now on."""
        reserved = self._bytes
        self._set(0)
        self._bucket = bucket
        self._set(reserved)
        self._size = -1

    def _set(self, wanted: int) -> None:
        if wanted == self._bytes:
            return
        reserved = self._state.reserved
        left = reserved.get(self._bucket, 0) + wanted - self._bytes
        self._bytes = wanted
        if left:
            reserved[self._bucket] = left
        else:
            reserved.pop(self._bucket, None)
