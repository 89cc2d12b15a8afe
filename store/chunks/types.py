"""The vocabulary of the bytes side, and the seam behind which drives are hidden.

`ChunkStore` is one of the two interfaces a cluster plugs in behind (the other is
`metadb.Engine`): it keeps immutable *runs* of bytes and gives any range of them back,
verified. It knows nothing of keys, inodes' names or SQL; whoever calls it remembers the
`Segment` and `Run` records it hands out, and brings the segments back at start (`adopt`).

Invariants:
  C1 a run's bytes never change, and no place in a segment is ever used twice;
  C2 `sync` and `finish(durable=True)` return only when every run named is on stable storage
     on all members that are alive, and on no fewer than k + 1 of them (k, where m is 0);
  C3 no byte is returned whose checksum did not verify.
Concurrency: one trio loop; every method may be called from any task of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NewType, Protocol

Buffer = bytes | bytearray | memoryview
DriveId = NewType("DriveId", str)
"""Random identity of a drive, 32 hex digits, written into its label by `init`."""
SegmentId = NewType("SegmentId", int)
"""1 <= id < 2**35, given out once and never again."""
RunId = NewType("RunId", int)
"""Where the run starts: segment id << 28 | member offset / 4096. Never reused (C1)."""

ALIGN_BYTES = 4096
_OFFSET_BITS = 28


def run_id(segment: SegmentId, offset: int) -> RunId:
    """The id of the run at member `offset` (bytes, a multiple of 4096, below 1 TiB)."""
    assert offset % ALIGN_BYTES == 0, offset
    assert offset >> 12 < 1 << _OFFSET_BITS, offset
    return RunId(segment << _OFFSET_BITS | offset >> 12)


def segment_of(run: RunId) -> SegmentId:
    """The segment a run stands in."""
    return SegmentId(run >> _OFFSET_BITS)


def offset_of(run: RunId) -> int:
    """The run's first byte in each member, in bytes."""
    return (run & (1 << _OFFSET_BITS) - 1) << 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A group of k + m member files with the same offsets in all, one to a drive.

    nonce: 64 random bits, repeated in every fragment header, so that a file of the same id
    from another life of the store is never taken for this one.
    stripe_size: bytes of a full stripe; all stripes of a run are full but its last.
    members: drive of shard 0, 1, ... k + m - 1; no drive twice.
    """

    id: SegmentId
    nonce: int
    k: int
    m: int
    stripe_size: int
    members: tuple[DriveId, ...]

    def moved_to(self, drives: Mapping[int, DriveId]) -> Segment:
        """The same segment with these shards on other drives."""
        members = [drives.get(shard, member) for shard, member in enumerate(self.members)]
        return replace(self, members=tuple(members))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An allocated, written piece of a segment.

    size: payload bytes, >= 1.
    missing: bit i is set when shard i could not be written, so that it waits to be healed.
    """

    id: RunId
    size: int
    missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whom a run's bytes belong to: goes into fragment headers, for salvage alone.

    inode: the inode's number, or 0 where it isn't known yet; offset: place in the file, bytes.
    """

    inode: int = 0
    offset: int = 0


class DriveState(Enum):
    """What a drive may be used for."""

    ONLINE = "online"  # read and write
    READ_ONLY = "read-only"  # mounted read-only, or full beyond its reserve
    FULL = "full"  # no new segments, reads go on
    FENCED = "fenced"  # a write or sync failed, or it hung: no use until it is healed
    OFFLINE = "offline"  # gone, emptied, or another drive's label stands there


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveStatus:
    """One drive as `status` shows it. Sizes in bytes; counters since the daemon started."""

    id: DriveId
    path: str
    state: DriveState
    cause: str
    epoch: int
    total_bytes: int
    free_bytes: int
    read_errors: int
    write_errors: int
    damaged_fragments: int


class Appender(Protocol):
    """One writer's stream of bytes on its way into runs."""

    async def append(self, piece: Buffer) -> None:
        """Take `piece` as the next bytes; waits while too many stripes are under way.

        The piece is kept by reference until its stripe is written: it must not change.
        Raises NoSpace, BelowWriteQuorum (ChunkError).
        """
        ...

    async def finish(self, *, durable: bool) -> tuple[Run, ...]:
        """Write what is left and return the runs in order of their bytes (none for no bytes).

        durable=True also does what `sync` does. The appender is spent after this call.
        """
        ...

    async def abandon(self) -> None:
        """Give up: what was written is reclaimed. Idempotent; safe after `finish` failed."""
        ...


class ChunkStore(Protocol):
    """A place for immutable runs of bytes. See the module's invariants C1 to C3."""

    def appender(self, owner: Owner, size_hint: int | None = None) -> Appender:
        """A new appender. size_hint: bytes to come, if known, so that few runs are made."""
        ...

    async def sync(self, runs: Iterable[Run]) -> None:
        """Make `runs` durable (C2). Calls are coalesced: one flush per member at a time.

        Raises BelowWriteQuorum when too few members are left.
        """
        ...

    def read_nowait(self, run: Run, start: int, stop: int) -> list[Buffer] | None:
        """`read` if all bytes are in the page cache and intact, else None. Never blocks."""
        ...

    async def read(self, run: Run, start: int, stop: int) -> list[Buffer]:
        """The run's bytes [start, stop), 0 <= start < stop <= size, verified (C3).

        Returns buffers whose lengths add up to stop - start. Damage and missing members are
        mended from parity on the way, counted and reported.
        Raises Unrecoverable when fewer than k shards of a stripe verify.
        """
        ...

    async def free(self, runs: Iterable[Run]) -> None:
        """Give the runs' space back (punched holes). Idempotent. Errors of a drive are counted."""
        ...

    def segment(self, segment: SegmentId) -> Segment:
        """The record of a known segment. Raises KeyError."""
        ...

    async def drop_segments(self, segments: Iterable[SegmentId]) -> None:
        """Remove segments that no row names any more: sealed ones only; others are left."""
        ...

    async def adopt(
        self, segments: Sequence[Segment], named: Mapping[SegmentId, Sequence[Run]]
    ) -> None:
        """At start: these segments exist and these runs in them are named; all else is reclaimed.

        All adopted segments are sealed (C1: places that a dead daemon may have written to are
        never used again). Member files of unknown segments are removed.
        """
        ...

    def naming(self, run: Run) -> Run:
        """`run` as it is to be remembered: called in the transaction that names it.

        Its segment may have been healed since it was handed out, without it.
        """
        ...

    def sealed(self, segment: SegmentId) -> bool:
        """Whether nothing will be appended to this segment any more."""
        ...

    def usable_bytes(self) -> tuple[int, int]:
        """(total, free) payload bytes at today's geometry, for statfs."""
        ...

    def status(self) -> list[DriveStatus]:
        """All drives of the pool, in the order they were given."""
        ...
