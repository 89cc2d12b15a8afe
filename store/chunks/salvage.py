"""Files out of fragments alone, when no copy of the metadata is left.

Every fragment's header says of which inode it is and where in the file its stripe stands. So the
files come back under the numbers of their inodes, and nothing else of them: no names, no
attributes, no small contents (they are in the database). What else comes back otherwise:
  - parts of multipart uploads are inodes of their own, a file each, also of completed ones;
  - what was deleted or overwritten and not yet reclaimed comes back too; where bytes of one file
    were written twice, those in the later segment and place win, which is the later writing but
    for two streams at once;
  - what a program wrote here and there in a file comes back in the order of its writing, which
    needn't be the place: headers know where a stream of bytes began.

Drives are only read. A fragment counts when its header stands in the very place that it names.
Concurrency: blocking, no loop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from store.chunks.codec import codec
from store.chunks.fragment import Fragment, read_fragment, verify_blocks
from store.chunks.geometry import HEADER_BYTES
from store.chunks.label import FOLDER, SEGMENTS
from store.chunks.reclaim import coalesce
from store.chunks.types import Buffer, RunId, SegmentId, offset_of, segment_of

UNKNOWN = "unknown"
"""Folder of stripes whose owner was not known when they were written."""

Stripe = tuple[int, RunId, int]
"""Nonce of the segment, run, index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A fragment with an intact header, and where its shard stands."""

    descriptor: int
    offset: int
    fragment: Fragment


@dataclass(slots=True, kw_only=True)
class SalvagedFile:
    """One inode's file. written: ranges [start, stop); lost: those too few fragments are of."""

    written: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Salvaged:
    """files: by inode, 0 for all of the unknown. foreign: fragments of other stores.

    unreadable: files of segments, with what the drive said.
    """

    store: str
    files: dict[int, SalvagedFile] = field(default_factory=dict)
    fragments: int = 0
    foreign: int = 0
    unreadable: list[str] = field(default_factory=list)


class NothingFound(Exception):
    """No drive has a fragment."""


def salvage(
    drives: Sequence[Path], into: Path, progress: Callable[[int, int], None] = lambda i, n: None
) -> Salvaged:
    """Write what can be had of the drives' fragments to files in the folder `into`.

    progress: told (segments done, segments) now and then. Raises NothingFound, OSError for `into`.
    """
    members = _members(drives)
    salvaged = Salvaged(store="")
    for count, (segment, paths) in enumerate(sorted(members.items())):
        progress(count, len(members))
        with ExitStack() as stack:
            stripes = _find_stripes(segment, paths, stack, salvaged)
            for stripe in sorted(stripes, key=lambda each: each[1:]):
                _take(stripes[stripe], into, salvaged)
    if not salvaged.fragments:
        raise NothingFound("no drive has a fragment")
    for each in salvaged.files.values():
        each.written = coalesce(each.written)
        each.lost = coalesce(each.lost)
    return salvaged


def _members(drives: Sequence[Path]) -> dict[SegmentId, list[Path]]:
    found: dict[SegmentId, list[Path]] = {}
    for drive in drives:
        for path in sorted((drive / FOLDER / SEGMENTS).glob("*/*.seg")):
            try:
                segment = SegmentId(int(path.stem, 16))
            except ValueError:
                continue
            found.setdefault(segment, []).append(path)
    return found


def _find_stripes(
    segment: SegmentId, paths: Sequence[Path], stack: ExitStack, salvaged: Salvaged
) -> dict[Stripe, dict[int, Found]]:
    """All fragments of one segment, by stripe and shard."""
    stripes: dict[Stripe, dict[int, Found]] = {}
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            for found in _scan(descriptor, segment):
                fragment = found.fragment
                store = fragment.store.hex()
                salvaged.store = salvaged.store or store
                if store != salvaged.store:
                    salvaged.foreign += 1
                    continue
                salvaged.fragments += 1
                stripe = (fragment.nonce, fragment.run, fragment.stripe)
                stripes.setdefault(stripe, {})[fragment.shard] = found
        except OSError as error:
            salvaged.unreadable.append(f"{path}: {error.strerror}")
    return stripes


def _scan(descriptor: int, segment: SegmentId) -> Iterator[Found]:
    """The fragments in one member file, holes and what is damaged passed over."""
    offset = 0
    while (start := _next_written(descriptor, offset)) is not None:
        offset = max(offset, start // HEADER_BYTES * HEADER_BYTES)
        try:
            header = os.pread(descriptor, HEADER_BYTES, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            header = b""  # One bad sector.
        fragment = read_fragment(header) if len(header) == HEADER_BYTES else None
        if fragment is None or not _is_in_place(fragment, segment, offset):
            offset += HEADER_BYTES
            continue
        yield Found(descriptor=descriptor, offset=offset + HEADER_BYTES, fragment=fragment)
        offset += HEADER_BYTES + fragment.size


def _next_written(descriptor: int, offset: int) -> int | None:
    """Where bytes are from `offset` on, None at the end (SEEK_DATA in lseek(2))."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _is_in_place(fragment: Fragment, segment: SegmentId, offset: int) -> bool:
    """Whether a header stands where it says: it may be part of what somebody stored."""
    before = offset - offset_of(fragment.run)
    if segment_of(fragment.run) != segment:
        return False
    if not fragment.stripe:
        return before == 0
    return before > 0 and before % fragment.stripe == 0


def _take(shards: Mapping[int, Found], into: Path, salvaged: Salvaged) -> None:
    """Write one stripe to its file, or note that it is lost."""
    fragment = next(iter(shards.values())).fragment
    owner = fragment.owner
    place = (owner.offset, owner.offset + fragment.payload)
    file = salvaged.files.setdefault(owner.inode, SalvagedFile())
    payload = _payload(fragment, shards)
    if payload is None:
        file.lost.append(place)
        return
    path, start = into / str(owner.inode), owner.offset
    if not owner.inode:
        path, start = into / UNKNOWN / f"{fragment.run}-{fragment.stripe}", 0
        path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while payload:
            written = os.pwrite(descriptor, payload, start)
            payload, start = payload[written:], start + written
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        # No file system here has room for this place; one odd header must not end it all.
        file.lost.append(place)
        return
    finally:
        os.close(descriptor)
    file.written.append(place)


def _payload(fragment: Fragment, shards: Mapping[int, Found]) -> memoryview | None:
    """The stripe's bytes; None when fewer than k shards are intact."""
    intact: dict[int, Buffer] = {}
    for index in sorted(shards):  # The first k are the payload itself.
        if len(intact) < fragment.k and (shard := _intact(fragment, shards[index])) is not None:
            intact[index] = shard
    if len(intact) < fragment.k:
        return None
    wanted = [index for index in range(fragment.k) if index not in intact]
    if wanted:
        intact |= codec(fragment.k, fragment.m).rebuild(intact, wanted)
    return memoryview(b"".join(intact[index] for index in range(fragment.k)))[: fragment.payload]


def _intact(fragment: Fragment, found: Found) -> bytes | None:
    """The shard, if its checksums hold and its header agrees with the stripe's."""
    own = found.fragment
    if (own.k, own.m, own.payload, own.size) != (
        fragment.k,
        fragment.m,
        fragment.payload,
        fragment.size,
    ):
        return None
    try:
        shard = os.pread(found.descriptor, own.size, found.offset)
    except OSError:
        return None
    if len(shard) != own.size or not verify_blocks(own.table, 0, memoryview(shard)):
        return None
    return shard
