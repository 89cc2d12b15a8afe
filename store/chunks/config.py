"""The settings of the bytes side. The daemon fills them from its configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkConfig:
    """Sizes in bytes, times in seconds.

    stripe_bytes: payload of a full stripe, rounded up so that shards are whole 64 KiB blocks.
    segment_bytes: a member that has grown this long is sealed.
    allow_single_copy: go on writing, without any redundancy, on the last of several drives.
    stripes_in_flight: batches of 1 to 4 stripes encoded and written at once (store.chunks.writer);
      each holds its bytes and their parity.
    reads_per_drive: threads that may read one drive at once.
    files_per_drive: member files kept open for reading, per drive.
    reserve_bytes: a drive with less free takes no new segments; None: 1 % of it, but
      16 MiB at least and 1 GiB at most.
    read_patience_s: a drive that takes longer is passed over where parity can answer.
    io_deadline_s: a read or write that takes longer fences its drive; flush_deadline_s: a flush.
    naming_grace_s: how long after a run was handed out its segment isn't dropped, so that whoever
      got the run has time to remember it.
    probe_interval_s: how often each drive's label is looked at.
    """

    stripe_bytes: int = 1 << 20
    segment_bytes: int = 1 << 30
    allow_single_copy: bool = False
    stripes_in_flight: int = 8
    reads_per_drive: int = 16
    files_per_drive: int = 128
    reserve_bytes: int | None = None
    read_patience_s: float = 3.0
    io_deadline_s: float = 30.0
    flush_deadline_s: float = 60.0
    naming_grace_s: float = 300.0
    probe_interval_s: float = 1.0
