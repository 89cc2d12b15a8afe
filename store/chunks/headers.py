"""Looks at the headers of fragments: is what rows name where they say it is.

A header tells its fragment from any other and has a checksum of its own, so 4 KiB of each are
enough to find what is missing, cut off, overwritten or another's. Shards are scrub's business.
Concurrency: blocking, for threads; reads only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from store.chunks.drive import Drive
from store.chunks.fragment import identity, verify_header
from store.chunks.geometry import HEADER_BYTES, Window, windows
from store.chunks.types import Run, RunId, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A fragment whose header is not in its place."""

    run: RunId
    stripe: int
    shard: int


def absent_fragments(
    store: bytes, segment: Segment, shard: int, drive: Drive, runs: Iterable[Run]
) -> list[Absent]:
    """Those of the runs' fragments that the member of `shard` on `drive` doesn't hold.

    Fragments that are known to be missing (`Run.missing`) are not looked for. Raises OSError,
    FileNotFoundError among it when there is no member file.
    """
    handle = drive.handle(segment.id)
    found: list[Absent] = []
    header = bytearray(HEADER_BYTES)
    for run, window in _stripes(segment, runs):
        if run.missing >> shard & 1:
            continue
        size = drive.io.read(handle, [header], window.offset)
        known = _known(store, segment, run, window, shard)
        if size != HEADER_BYTES or verify_header(header, known) is None:
            found.append(Absent(run=run.id, stripe=window.index, shard=shard))
    return found


def shard_on(store: bytes, segment: Segment, drive: Drive, runs: Iterable[Run]) -> int | None:
    """Which of the segment's shards the member file on `drive` holds, by the runs' first headers.

    None when none of them is intact there. Raises OSError.
    """
    handle = drive.handle(segment.id)
    header = bytearray(HEADER_BYTES)
    for run, window in _stripes(segment, runs):
        if drive.io.read(handle, [header], window.offset) != HEADER_BYTES:
            continue
        for shard in range(segment.k + segment.m):
            known = _known(store, segment, run, window, shard)
            if verify_header(header, known) is not None:
                return shard
    return None


def _stripes(segment: Segment, runs: Iterable[Run]) -> Iterator[tuple[Run, Window]]:
    for run in runs:
        for window in windows(segment, run, 0, run.size):
            yield run, window


def _known(store: bytes, segment: Segment, run: Run, window: Window, shard: int) -> bytes:
    return identity(
        store,
        segment,
        run.id,
        window.index,
        shard,
        payload=window.payload,
        size=window.shard,
    )
