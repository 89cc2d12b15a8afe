"""How many shards, how long, and where: pure arithmetic, no I/O.

On every member a run looks like this (offsets from `offset_of(run)`, S = full shard):

    0          4096            4096+S     2*4096+S
    | header 0 | shard, stripe 0 | header 1 | shard, stripe 1 | ... | header n | short shard |

All stripes of a run are full but its last. Shards are zero-padded to whole 4 KiB, so records
are aligned and the padding is covered by the checksums like everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

from store.chunks.types import ALIGN_BYTES, Run, RunId, Segment, offset_of, run_id

HEADER_BYTES = ALIGN_BYTES
BLOCK_BYTES = 64 << 10
"""Unit of verification: one checksum each, so a small read reads no more than this."""
MAX_SHARDS = 16
"""k + m of the code we use, and of the masks in `Run.missing`."""


def default_parity(drives: int) -> int:
    """m for a pool of so many drives: 1: 0, 2-3: 1, 4-5: 2, 6-7: 3, 8 and more: 4."""
    return min(drives // 2, 4)


def choose_shards(writable: int, parity: int) -> tuple[int, int]:
    """(k, m) of a new segment on `writable` >= 1 drives: keeps m before k.

    Four drives with parity 2 give 2+2, three 1+2, two 1+1, one 1+0.
    """
    shards = min(writable, MAX_SHARDS)
    m = min(parity, shards - 1)
    return shards - m, m


def write_quorum(k: int, m: int) -> int:
    """Members that must hold a run before it counts as written (C2): k + 1, or k without parity."""
    return k + 1 if m else k


def round_up(size: int, unit: int) -> int:
    """The smallest multiple of `unit` that is >= size."""
    return -(-size // unit) * unit


def stripe_size(k: int, wanted: int) -> int:
    """Bytes of a full stripe: `wanted` or a little more, so that shards are whole blocks."""
    return k * round_up(-(-wanted // k), BLOCK_BYTES)


def shard_size(payload: int, k: int) -> int:
    """Bytes of a shard (padding in) of a stripe of `payload` bytes."""
    return round_up(-(-payload // k), ALIGN_BYTES)


def record_size(payload: int, k: int) -> int:
    """Bytes that a stripe of `payload` bytes takes on each member."""
    return HEADER_BYTES + shard_size(payload, k)


def full_record_size(segment: Segment) -> int:
    """Bytes that a full stripe takes on each member."""
    return HEADER_BYTES + segment.stripe_size // segment.k


def member_size(segment: Segment, payload: int) -> int:
    """Bytes that a run of `payload` bytes takes on each member."""
    full, rest = divmod(payload, segment.stripe_size)
    size = full * full_record_size(segment)
    return size + record_size(rest, segment.k) if rest else size


def run_id_at(segment: Segment, offset: int) -> RunId:
    """The id of the segment's run at member `offset`."""
    return run_id(segment.id, offset)


def member_range(segment: Segment, run: Run) -> tuple[int, int]:
    """The run's [start, stop) in each member, bytes."""
    start = offset_of(run.id)
    return start, start + member_size(segment, run.size)


@dataclass(slots=True, kw_only=True)
class Window:
    """The part of one stripe that a read wants.

    index: of the stripe in its run; offset: of its record in each member;
    payload: bytes in the stripe; shard: bytes of each of its shards;
    start, stop: wanted bytes of the payload.
    """

    index: int
    offset: int
    payload: int
    shard: int
    start: int
    stop: int

    def shards(self) -> range:
        """Data shards that hold the wanted bytes."""
        return range(self.start // self.shard, (self.stop - 1) // self.shard + 1)

    def columns(self, shard: int) -> tuple[int, int]:
        """[start, stop) of whole blocks in data shard `shard` that cover its wanted bytes."""
        base = shard * self.shard
        low = max(self.start - base, 0)
        high = min(self.stop - base, self.shard)
        return low // BLOCK_BYTES * BLOCK_BYTES, min(round_up(high, BLOCK_BYTES), self.shard)


def windows(segment: Segment, run: Run, start: int, stop: int) -> list[Window]:
    """The stripes of the run's bytes [start, stop), in order."""
    full = segment.stripe_size
    record = full_record_size(segment)
    base = offset_of(run.id)
    found = []
    for index in range(start // full, (stop - 1) // full + 1):
        first = index * full
        payload = min(full, run.size - first)
        found.append(
            Window(
                index=index,
                offset=base + index * record,
                payload=payload,
                shard=shard_size(payload, segment.k),
                start=max(start - first, 0),
                stop=min(stop - first, payload),
            )
        )
    return found
