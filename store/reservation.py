"""What an open file will add to its bucket when it is published, set aside from the quota.

Publication must not fail for the quota: the program has closed the file by then, and nobody
listens. So a write that would go too far fails, and what was written before is sure to fit.
Concurrency: one trio loop, no await.
"""

from __future__ import annotations

from metadb.records import InodeId
from store.rules import OFF, check_quota, rules_of
from store.state import State


class Reservation:
    """Of one draft. bucket: where the file is; it may move between two publications."""

    __slots__ = ("_bytes", "_state", "bucket")

    def __init__(self, state: State, bucket: InodeId) -> None:
        self.bucket = bucket
        self._state = state
        self._bytes = 0

    def cover(self, size: int, published_size: int) -> None:
        """The file is going to be `size` bytes. Raises QuotaExceeded."""
        state = self._state
        rules = state.rules.get(self.bucket) or state.engine.read(rules_of, state, self.bucket)
        # Where versions are kept, what is published stays beside what comes.
        replaced = published_size if rules.versioning == OFF else 0
        wanted = max(0, size - replaced)
        if wanted > self._bytes:
            state.engine.read(check_quota, state, self.bucket, rules, wanted - self._bytes)
        self._set(wanted)

    def release(self) -> None:
        """It was published, or given up."""
        self._set(0)

    def _set(self, wanted: int) -> None:
        if wanted == self._bytes:
            return
        reserved = self._state.reserved
        left = reserved.get(self.bucket, 0) + wanted - self._bytes
        self._bytes = wanted
        if left:
            reserved[self.bucket] = left
        else:
            reserved.pop(self.bucket, None)
