"""What all parts of the store share: the engine, the chunks, and three small registries.

- `InodeNumbers` gives out inode numbers, each once for ever;
- `Pins` counts the open handles of an inode, so that its last unlink leaves the content in place;
- `Readers` remembers which freed runs somebody may still be reading.
Concurrency: one trio loop, no await inside any method.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from metadb import buckets, inodes
from metadb.engine import Engine
from metadb.records import InodeId
from metadb.statements import Tx
from store.chunks.types import ChunkStore, Run
from store.events import Invalidator
from store.types import LockRule

now_ns = time.time_ns
INODES_RESERVED = 10_000


class InodeNumbers:
    """Inode numbers upwards, never reused, not even after a crash.

    `inode_ceiling` in the database is above every number ever given out; it is raised in the
    transaction that first needs more, and again if anything was rolled back since.
    """

    __slots__ = ("_ceiling", "_next")

    def __init__(self) -> None:
        self._next = 0
        self._ceiling = 0

    def load(self, tx: Tx) -> None:
        """Go on above everything that was ever given out (at start)."""
        kept = int(buckets.setting_of(tx, "inode_ceiling") or 0)
        self._next = self._ceiling = max(kept, inodes.highest(tx) + 1)

    def take(self, tx: Tx) -> InodeId:
        """A new number, in the transaction that uses it."""
        number = self._next
        self._next += 1
        if number >= self._ceiling and number >= tx.inode_ceiling:
            ceiling = number + INODES_RESERVED
            buckets.set_setting(tx, "inode_ceiling", str(ceiling))
            tx.inode_ceiling = ceiling  # Not ours to remember: this may be rolled back.
        return InodeId(number)

    def take_kept(self) -> InodeId:
        """A new number that is below the ceiling already kept."""
        number = self._next
        assert number < self._ceiling, (number, self._ceiling)
        self._next += 1
        return InodeId(number)

    def keep(self, tx: Tx) -> None:
        """Raise the ceiling ahead of need; the caller calls `kept` once it is committed."""
        buckets.set_setting(tx, "inode_ceiling", str(self._next + INODES_RESERVED))

    def kept(self) -> None:
        """The ceiling written by `keep` is committed."""
        self._ceiling = self._next + INODES_RESERVED

    def running_low(self) -> bool:
        """Whether `keep` is due."""
        return self._next + INODES_RESERVED // 2 >= self._ceiling


class Pins:
    """How many open handles an inode has."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[InodeId, int] = {}

    def __contains__(self, number: InodeId) -> bool:
        return number in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, number: InodeId) -> None:
        """One more handle."""
        self._counts[number] = self._counts.get(number, 0) + 1

    def drop(self, number: InodeId) -> bool:
        """One handle less; whether it was the last."""
        left = self._counts[number] - 1
        if left:
            self._counts[number] = left
            return False
        del self._counts[number]
        return True


class Readers:
    """Which readers were under way when a run lost its last reference.

    Reading ends in bounded time only by the client's grace, so a freed run waits for all readers
    that started before it was freed, and for no others.
    """

    __slots__ = ("_active", "_clock")

    def __init__(self) -> None:
        self._clock = 0
        self._active: dict[int, None] = {}

    def begin(self) -> int:
        """A reader starts: its token for `end`."""
        self._clock += 1
        self._active[self._clock] = None
        return self._clock

    def end(self, token: int) -> None:
        """The reader is done. Idempotent."""
        self._active.pop(token, None)

    def mark(self) -> int:
        """Now, on the readers' clock."""
        return self._clock

    def passed(self, mark: int) -> bool:
        """Whether every reader that started up to `mark` is done. Tokens rise in the dict."""
        oldest = next(iter(self._active), None)
        return oldest is None or oldest > mark


class Rules(NamedTuple):
    """What a bucket asks of every change of its objects; made by `store.rules`.

    versioning: 'off', 'enabled' or 'suspended'. lock: None where object lock is off.
    documents: name of a subresource to its JSON. owner: as in `Bucket`. Whoever holds one may
    compare it with `is`: the bucket has another as soon as anything here changed.
    """

    versioning: str
    lock: LockRule | None
    quota_bytes: int | None
    documents: dict[str, str]
    owner: str = ""


@dataclass(slots=True, kw_only=True)
class StoreConfig:
    """inline_max_bytes: content up to this size lives in the database, 0 to 65,536.

    uid, gid: owner of what S3 makes. file_mode, directory_mode: its permission bits.
    reclaim_interval_s: how long reclaim rests when there is nothing to give back.
    trash_interval_s: how often buckets with trash are swept.
    """

    inline_max_bytes: int = 16 * 1024
    uid: int = 0
    gid: int = 0
    file_mode: int = 0o644
    directory_mode: int = 0o755
    reclaim_interval_s: float = 1.0
    trash_interval_s: float = 3600.0


@dataclass(slots=True, kw_only=True)
class State:
    """Handed to every part of the store; see the module's header."""

    engine: Engine
    chunks: ChunkStore
    config: StoreConfig = field(default_factory=StoreConfig)
    numbers: InodeNumbers = field(default_factory=InodeNumbers)
    pins: Pins = field(default_factory=Pins)
    readers: Readers = field(default_factory=Readers)
    nursery: trio.Nursery = field(init=False)
    invalidator: Invalidator | None = None
    inode_count: int = 0
    store_id: str = ""
    # Whether anybody ever set a POSIX ACL: until then none is looked for (store.permissions).
    acls: bool = False
    # Inodes whose last name went while the kernel or a handle held them.
    nameless: set[InodeId] = field(default_factory=set)
    # What buckets ask of every change (store.rules), from memory.
    rules: dict[InodeId, Rules] = field(default_factory=dict)
    # Bytes that drafts will add to their buckets when they are published: they count for quota.
    reserved: dict[InodeId, int] = field(default_factory=dict)
    # Told, in the same breath, of inodes whose extents name other runs with the same bytes now.
    relocated: Callable[[Collection[InodeId]], None] = lambda numbers: None
    # Has rows name what open files have on the drives already.
    name_logs: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    # Runs named by committed rows whose bytes are not synced yet: the barrier syncs them first.
    unsynced: list[Run] = field(default_factory=list)

    def is_held(self, number: InodeId) -> bool:
        """Whether a handle or the kernel has the inode, so that it must outlive its last name.

        The kernel opens a file by the number it was told for the name a moment ago. In between the
        name may have gone to another inode, and by POSIX the old one is then opened all the same.
        """
        if number in self.pins:
            return True
        return self.invalidator is not None and self.invalidator.holds(number)

    def new_inode(self) -> InodeId:
        """A new inode number outside a transaction: for bytes that are written ahead of it."""
        if self.numbers.running_low():
            self.engine.transact(self.numbers.keep)
            self.numbers.kept()
        return self.numbers.take_kept()

    async def tell_kernel(
        self, entries: Sequence[tuple[InodeId, bytes]], inodes: Sequence[InodeId]
    ) -> None:
        """Have the mount forget what a change made untrue (rule R8). Shielded by its bound."""
        if self.invalidator is not None:
            await self.invalidator.invalidate(entries, inodes)
