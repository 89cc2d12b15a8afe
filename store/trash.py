"""Trash: what was deleted or replaced in a bucket comes back, for as many days as it is set to.

There is no folder for it: what is gone is a version (rule R14). A bucket with trash keeps versions;
once a version has been out of sight for so many days it is removed for good, and so is a delete
marker that nothing is left below. What object lock retains stays until it is free.
Invariant: nothing goes that was current at any time of the last `days` days.
Concurrency: `sweep` belongs to one task, that of `Namespace.run`; the rest may be called from any.
Source: rule R14 of SEMANTICS.md; Amazon S3 user guide, "Restoring previous versions".
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import trio

from metadb import buckets, content, dentries, inodes
from metadb import versions as version_rows
from metadb.errors import MetadataFull
from metadb.records import InodeId, InodeRow, VersionRow
from metadb.statements import Row, Tx
from store import locks, tree, versions
from store.errors import EntryExists, NoSuchVersion, StoreError
from store.keys import publish
from store.names import split_key
from store.resolve import is_object
from store.rules import NULL_VERSION, TRASH, check_quota, rules_of, said, unsaid
from store.state import State, now_ns
from store.told import Told, nothing
from store.translate import translated
from store.types import ANY, decode_meta, encode_meta

log = logging.getLogger(__name__)

_DAY_NS = 86_400 * 10**9
_PAGE = 500
_PER_TRANSACTION = 50
_NEWEST = 1 << 62
_ID_LENGTH = 32
_ID_TIME_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Content that can be had back. version_id: as S3 tells it.

    stored_ns: when it was recorded; gone_ns: when it was deleted or replaced.
    deleted: its key has no current object, and this is the newest content it had.
    """

    key: str
    version_id: str
    size: int
    stored_ns: int
    gone_ns: int
    deleted: bool


class Trash:
    """What people see of it."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def lost(
        self, bucket: str, prefix: str, after: str, limit: int
    ) -> tuple[list[Lost], str | None]:
        """Up to `limit` versions that can be had back: by key, of a key the newest first.

        prefix: of keys, which stand behind `after`. Returns with it what to go on after, None at
        the end. Of one key no more than `limit` are told. Raises NoSuchBucket.
        """
        await trio.lowlevel.checkpoint()
        return self._state.engine.read(_lost, bucket, prefix, after, limit)

    def check(self, bucket: str) -> None:
        """Raises NoSuchBucket."""
        self._state.engine.read(tree.bucket_id, bucket)

    async def restore(self, bucket: str, key: str, version: str | None = None) -> str:
        """Have content back; its version id. version: None for what was deleted last.

        What was deleted is as it was; a version given by its id is repeated above all others.
        Raises NoSuchBucket, NoSuchVersion, EntryExists (it is not deleted, or its name is taken
        by what is no object), QuotaExceeded.
        """
        state = self._state
        told = nothing()
        with translated(key):
            restored = state.engine.transact(_restore, state, bucket, key, version, told)
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)
        return restored


def _lost(
    tx: Tx, bucket: str, prefix: str, after: str, limit: int
) -> tuple[list[Lost], str | None]:
    number = tree.bucket_id(tx, bucket)
    wanted = prefix.encode(errors="surrogateescape")
    first = max(wanted, after.encode(errors="surrogateescape") + b"\0" if after else b"")
    found: list[Lost] = []
    key, gone_ns, deleted = b"", 0, False
    rows = version_rows.page(tx, number, first, limit)
    cut = rows[-1].key if len(rows) == limit else None
    if cut is not None and rows[0].key != cut:
        # There may be more of the last key: it comes whole with the next page.
        rows = [row for row in rows if row.key != cut]
    for row in rows:
        if not row.key.startswith(wanted):
            return found, None
        if row.key != key:
            key = row.key
            current = _leaf(tx, number, key)
            deleted = current is None
            gone_ns = row.stored_ns if current is None else became_ns(current)
        if row.inode is not None:
            found.append(
                Lost(
                    key=key.decode(),
                    version_id=row.version_id or NULL_VERSION,
                    size=row.size or 0,
                    stored_ns=row.stored_ns,
                    gone_ns=gone_ns,
                    deleted=deleted,
                )
            )
            deleted = False
        gone_ns = _moment(row.version_id, row.stored_ns)
    return found, None if cut is None else rows[-1].key.decode()


def _restore(tx: Tx, state: State, bucket: str, key: str, version: str | None, told: Told) -> str:
    number = tree.bucket_id(tx, bucket)
    rules = rules_of(tx, state, number)
    name = key.encode(errors="surrogateescape")
    now = now_ns()
    there = _leaf(tx, number, name)
    if there is not None and (version is None or not is_object(there)):
        raise EntryExists(key)
    if version is not None:
        kept = version_rows.find(tx, number, name, unsaid(version))
        if kept is None or kept.inode is None:
            raise NoSuchVersion(key, version)
        row, changed = _repeat(tx, state, number, key, kept.inode, now)
        told.entries.extend(changed.entries)
        told.inodes.extend(changed.inodes)
        check_quota(tx, state, number, rules)
        return said(rules, row.version_id) or NULL_VERSION
    while (newest := version_rows.newest(tx, number, name)) is not None:
        if newest.inode is not None:
            versions.restore_newest(tx, state, number, name, now, told)
            place = tree.find(tx, number, split_key(key))
            assert place is not None, key
            tree.note(tx, "put", number, place, newest.inode, now, newest.version_id)
            return said(rules, newest.version_id) or NULL_VERSION
        versions.drop(tx, state, newest)
    raise NoSuchVersion(key, NULL_VERSION)


def _repeat(
    tx: Tx, state: State, bucket: InodeId, key: str, number: InodeId, now: int
) -> tuple[InodeRow, Told]:
    """A new version with content and attributes of an old one, which it shares the runs of."""
    old = inodes.get(tx, number)
    assert old is not None, number
    rules = rules_of(tx, state, bucket)
    meta = locks.retained(rules, locks.without_lock(decode_meta(old.meta)), now)
    row = old._replace(
        id=state.numbers.take(tx),
        nlink=1,
        ctime_ns=now,
        stored_ns=now,
        version_id=versions.new_id(rules, now),
        meta=encode_meta(meta),
    )
    inline = content.inline_of(tx, old.id)
    if inline is not None:
        content.set_inline(tx, row.id, inline)
    else:
        content.share_extents(tx, old.id, row.id, 0)
    told = publish(tx, state, bucket, key, row, ANY, "put")
    # It is what it was, whatever the directory hands down by now.
    inodes.remove_xattrs(tx, row.id)
    for name, value in inodes.xattrs(tx, old.id):
        inodes.set_xattr(tx, row.id, name, value)
    inodes.set_attributes(tx, row)
    return row, told


def _leaf(tx: Tx, bucket: InodeId, key: bytes) -> InodeRow | None:
    """What stands at a key, object or not."""
    place = tree.find(tx, bucket, key.split(b"/"))
    return None if place is None else dentries.stat(tx, place.parent, place.name)


def became_ns(row: InodeRow) -> int:
    """When the inode became current under its name, which may be later than its content."""
    return _moment(row.version_id, row.stored_ns)


def _moment(version_id: str | None, stored_ns: int) -> int:
    """When a version came to be: its id begins with that (versions.new_id)."""
    if version_id is None or len(version_id) != _ID_LENGTH:
        return stored_ns
    try:
        return max(stored_ns, int(version_id[:_ID_TIME_LENGTH], 16))
    except ValueError:
        return stored_ns


# -- removing what has been there for long -------------------------------------------------


async def run(state: State) -> None:
    """Sweep all buckets with trash for ever."""
    while True:
        await trio.sleep(state.config.trash_interval_s)
        try:
            await sweep(state, now_ns())
        except (StoreError, MetadataFull) as error:
            log.warning("the trash is swept later: %s", error)


async def sweep(state: State, now: int) -> int:
    """Remove what has been in any bucket's trash for long enough; how many versions went."""
    removed = 0
    after = 0
    while asking := state.engine.read(buckets.with_document, TRASH, after, _PAGE):
        for bucket, days in asking:
            removed += await _sweep_bucket(state, bucket, now - int(days) * _DAY_NS)
        after = asking[-1][0]
    return removed


async def _sweep_bucket(state: State, bucket: InodeId, before_ns: int) -> int:
    removed = 0
    pages = state.engine.scan(version_rows.superseded(bucket, before_ns), _PAGE)
    async with aclosing(cast(AsyncGenerator[list[Row], None], pages)) as found:
        async for page in found:
            for first in range(0, len(page), _PER_TRANSACTION):
                batch = page[first : first + _PER_TRANSACTION]
                with translated(bucket):
                    removed += state.engine.transact(_remove, state, bucket, batch, before_ns)
                await trio.lowlevel.checkpoint()
    return removed


def _remove(tx: Tx, state: State, bucket: InodeId, batch: list[Row], before_ns: int) -> int:
    """Remove those that still are versions, and out of sight for so long.

    batch: (sequence, newer version's id, its stored_ns); the latter None for a key's newest.
    """
    removed = 0
    for sequence, newer_id, newer_ns in batch:
        kept = version_rows.at(tx, sequence)
        if kept is None:
            continue
        gone_ns = _gone_ns(tx, bucket, kept) if newer_ns is None else _moment(newer_id, newer_ns)
        if gone_ns is None or gone_ns >= before_ns:
            continue
        if kept.inode is not None and _is_locked(tx, kept.inode):
            continue
        versions.drop(tx, state, kept)
        removed += 1
    return removed


def _gone_ns(tx: Tx, bucket: InodeId, kept: VersionRow) -> int | None:
    """When the newest version in a key's history went out of sight; None for what is in use."""
    current = _leaf(tx, bucket, kept.key)
    if current is not None:
        return became_ns(current) if is_object(current) else None
    if kept.inode is not None:
        return None
    # A delete marker goes once it is the last of its key.
    if version_rows.older(tx, bucket, kept.key, kept.sequence, 1):
        return None
    return _moment(kept.version_id, kept.stored_ns)


def _is_locked(tx: Tx, number: InodeId) -> bool:
    row = inodes.get(tx, number)
    return (
        row is not None
        and row.meta is not None
        and locks.is_locked(decode_meta(row.meta), now_ns())
    )
