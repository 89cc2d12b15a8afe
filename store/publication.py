"""The transaction that makes a draft the published content of its inode (R0, R5, R6, R14).

Only extents under changed ranges are touched. ETag: the MD5 of a file written once from front
to back, else an opaque one that changes with the content; checksums and part sizes that S3
clients gave go, since they were of other bytes. Where versions are kept, what the inode held
becomes one first; but what the same open session published by an fsync is only replaced, unless
object lock is on: one program's many fsyncs are one version.
Concurrency: inside one transaction.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from metadb import content, dentries, inodes
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import locks, tree, versions
from store.chunks.types import Run
from store.rules import OFF, rules_of
from store.state import Rules, State, now_ns
from store.types import decode_meta, encode_meta
from store.writing import note_runs

_NAMES_NOTED_MAX = 1000
_END = 1 << 62


class Publication(NamedTuple):
    """What a draft amounts to.

    transient: the version id that this open session published last, "" where it has none.
    inline: all bytes of a small file, None where `extents` (start, size, run, run_start) and
    what is left of the published extents below `floor` make it up.
    runs: new ones, whether or not an extent names them. anchors: nameless inodes that held
    other runs so far.
    """

    size: int
    mtime_ns: int
    md5: str | None
    inline: bytes | None
    floor: int
    extents: Sequence[tuple[int, int, int, int]]
    runs: Sequence[Run]
    anchors: Sequence[InodeId]
    transient: str | None = ""


def publish(
    tx: Tx, state: State, number: InodeId, publication: Publication, now: int
) -> InodeRow | None:
    """Publish; the row as it is then. None, and nothing done, where the inode has no name."""
    row = inodes.get(tx, number)
    if row is None or row.nlink == 0:
        return None
    note_runs(tx, state, publication.runs)
    rules = rules_of(tx, state, row.bucket)
    if rules.versioning != OFF and not versions.is_own(rules, row, publication.transient):
        versions.keep_before_change(tx, state, rules, row)
    if publication.inline is None:
        _put_extents(tx, row, publication)
    else:
        if row.size and (not publication.inline or content.inline_of(tx, number) is None):
            content.remove_content(tx, number)
        if publication.inline:
            content.set_inline(tx, number, publication.inline)
    for anchor in publication.anchors:
        tree.erase_orphan(tx, state, anchor)
    content.free_unnamed(tx, [run.id for run in publication.runs])
    row = row._replace(
        size=publication.size,
        mtime_ns=publication.mtime_ns,
        ctime_ns=now,
        stored_ns=now,
        content_version=row.content_version + 1,
        version_id=versions.new_id(rules, now),
        meta=_meta_of_new_content(rules, row.meta, now),
    )
    row = row._replace(etag=publication.md5 or opaque_etag(state, row))
    inodes.set_content(tx, row)
    note_names(tx, "publish", row, now)
    return row


def _put_extents(tx: Tx, row: InodeRow, publication: Publication) -> None:
    if row.size:
        content.remove_inline(tx, row.id)
    cleared: list[tuple[int, int]] = []
    if row.size > publication.floor:
        cleared.append((publication.floor, _END))
    for start, size, _, _ in publication.extents:
        if start >= min(row.size, publication.floor):
            continue
        if cleared and cleared[-1][1] == start:
            cleared[-1] = (cleared[-1][0], start + size)
        else:
            cleared.append((start, start + size))
    content.replace_ranges(tx, row.id, cleared, publication.extents)


def _meta_of_new_content(rules: Rules, meta: str | None, now: int) -> str | None:
    """The JSON of `inode.meta` without what described the bytes as they were."""
    if meta is None and rules.lock is None:
        return None
    kept = replace(
        locks.without_lock(decode_meta(meta)),
        checksums={},
        checksum_type="",
        part_sizes=(),
        part_checksums=(),
    )
    return encode_meta(locks.retained(rules, kept, now))


def opaque_etag(state: State, row: InodeRow) -> str:
    """An ETag that is no MD5 (the dash says so) and differs for each version of content."""
    text = f"{state.store_id}:{row.id}:{row.content_version}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + "-1"


def note_names(tx: Tx, what: str, row: InodeRow, now: int) -> None:
    """A change of the inode itself is one of each of its names."""
    for entry in dentries.of_inode(tx, row.id, _NAMES_NOTED_MAX if row.nlink > 1 else 1):
        place = tree.Place(entry.parent, entry.name.removesuffix(b"/"))
        tree.note(tx, what, row.bucket, place, row.id, now, row.version_id)


def anchor(tx: Tx, state: State, runs: Sequence[Run]) -> InodeId:
    """A nameless inode that holds `runs` until they are published; a start erases it."""
    row = tree.new_inode(state, state.numbers.take(tx), InodeId(0), now_ns(), stat.S_IFREG)
    inodes.insert(tx, row._replace(nlink=0, size=sum(run.size for run in runs)))
    inodes.add_orphan(tx, row.id)
    note_runs(tx, state, runs)
    extents, start = [], 0
    for run in runs:
        extents.append((start, run.size, run.id, 0))
        start += run.size
    content.add_extents(tx, row.id, extents)
    state.inode_count += 1
    return row.id


def drop_anchors(tx: Tx, state: State, anchors: Sequence[InodeId]) -> None:
    """What they held is not going to be published."""
    for number in anchors:
        tree.erase_orphan(tx, state, number)
