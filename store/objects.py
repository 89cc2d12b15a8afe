"""Objects: put, stat, open, copy, delete by key.

Invariants: R0 (a PUT or Copy makes a new inode and re-points the dentry in one transaction; an
inode's bytes never change from this side); a precondition is evaluated in the transaction that
acts on it; success is answered only after the barrier, and after the mount forgot the old name
(R8).
Concurrency: any task. Between the transaction's check and its act there is no await.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NamedTuple

import trio
from msgspec.structs import replace

from metadb import content, dentries, inodes
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import reading, tree
from store.errors import NoSuchKey, NotRegular, PreconditionFailed, StoreError
from store.names import BODY, check_length, name_of, split_key
from store.reading import ContentReader
from store.resolve import is_object, visible
from store.state import State, now_ns
from store.translate import translated
from store.types import (
    ANY,
    Body,
    ObjectMeta,
    ObjectStat,
    Precondition,
    decode_meta,
    encode_meta,
)
from store.writing import Written, put_content, write_body

_DELETES_PER_TRANSACTION = 100


class Told(NamedTuple):
    """What the mount must forget: (directory, POSIX name) entries and inodes."""

    entries: list[tuple[InodeId, bytes]]
    inodes: list[InodeId]


def stat_of(key: str, row: InodeRow) -> ObjectStat:
    """What a face is told of a published inode."""
    assert row.etag is not None, row
    return ObjectStat(
        key=key,
        inode=row.id,
        size=row.size,
        etag=row.etag,
        modified_ns=row.stored_ns,
        version_id=row.version_id,
        meta=decode_meta(row.meta),
    )


def check(precondition: Precondition, key: str, row: InodeRow | None) -> None:
    """Raises PreconditionFailed, NoSuchKey. row: the visible object, or None."""
    wanted, unwanted = precondition.if_match, precondition.if_none_match
    if wanted:
        if row is None:
            raise NoSuchKey(key)
        if "*" not in wanted and row.etag not in wanted:
            raise PreconditionFailed(key, "If-Match")
    if unwanted and row is not None and ("*" in unwanted or row.etag in unwanted):
        raise PreconditionFailed(key, "If-None-Match")


def publish(
    tx: Tx,
    state: State,
    bucket: InodeId,
    key: str,
    row: InodeRow,
    precondition: Precondition,
    what: str,
) -> Told:
    """Make `key` mean the new inode `row`; the caller gives it its content.

    Raises KeyTooLong, what `check` raises, and NotRegular where a FIFO, socket or device stands
    (R12).
    """
    now = row.stored_ns
    components = split_key(key)
    check_length(key)
    if precondition is not ANY:
        check(precondition, key, visible(tx, bucket, components))
    place, made = tree.make_place(tx, state, bucket, components, now)
    old = dentries.stat(tx, place.parent, place.name)
    if old is None:
        tree.add_leaf(tx, state, place, row, now)
    elif stat.S_ISREG(old.mode) or stat.S_ISLNK(old.mode):
        tree.replace_leaf(tx, state, place, old, row, now)
    else:
        raise NotRegular(key)
    tree.note(tx, what, bucket, place, row.id, now)
    told = _told(tx, state, place, old)
    if made is not None:
        told.entries.append((made.parent, name_of(made.name)))
        told.inodes.append(made.parent)
    return told


def _told(tx: Tx, state: State, place: tree.Place, old: InodeRow | None) -> Told:
    """What the kernel may have cached of a leaf that came, went or changed its inode."""
    told = Told([], [])
    if state.invalidator is None:
        return told
    told.entries.append((place.parent, name_of(place.name)))
    told.inodes.append(place.parent)
    twin = dentries.directory_of(tx, place.parent, place.name + b"/")
    if twin is not None:
        told.entries.append((twin, BODY))
        told.inodes.append(twin)
    if old is not None:
        told.inodes.append(old.id)  # Whoever holds it open, or by another name, sees its links.
    return told


class Objects:
    """Objects as the S3 face sees them."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def put(
        self,
        bucket: str,
        key: str,
        body: Body,
        meta: ObjectMeta,
        *,
        precondition: Precondition = ANY,
        owner: str = "",
    ) -> ObjectStat:
        """Receive `body` and publish it under `key`. owner: access key, kept for notifications.

        Raises NoSuchBucket, InvalidKey, KeyTooLong, PreconditionFailed, NoSuchKey (If-Match),
        NotRegular, TooLarge, NoSpace, Unavailable, and whatever the body raises.
        """
        state = self._state
        components = split_key(key)
        check_length(key)
        state.engine.read(_precheck, bucket, key, components, precondition)
        inode = state.new_inode()
        written = await write_body(
            state, body, inode, inline_max_bytes=state.config.inline_max_bytes
        )
        if written.digests.checksums:
            meta = replace(meta, checksums={**meta.checksums, **written.digests.checksums})
        with translated(key):
            row, told = state.engine.transact(
                _put, state, inode, bucket, key, written, meta, precondition
            )
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)
        return stat_of(key, row)

    def stat(self, bucket: str, key: str) -> ObjectStat:
        """Raises NoSuchBucket, NoSuchKey, InvalidKey, KeyTooLong."""
        return stat_of(key, self._state.engine.read(_visible, bucket, key))

    def open(self, bucket: str, key: str) -> ContentReader:
        """The object as it is now, held for reading. Raises like `stat`."""
        row, snapshot = self._state.engine.read(snapshot_of, bucket, key)
        return ContentReader(self._state, stat_of(key, row), snapshot)

    async def copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        meta: ObjectMeta | None,
        *,
        source_etag: str,
        precondition: Precondition = ANY,
        owner: str = "",
    ) -> ObjectStat:
        """Publish the source's bytes under the target, by reference: no byte moves.

        meta None: the source's. source_etag: the ETag its conditions were evaluated on.
        Raises PreconditionFailed when the source changed since, and like `stat` and `put`.
        """
        state = self._state
        with translated(target[1]):
            row, told = state.engine.transact(
                _copy, state, source, target, meta, source_etag, precondition
            )
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)
        return stat_of(target[1], row)

    async def set_meta(self, bucket: str, key: str, meta: ObjectMeta) -> None:
        """Replace headers, user metadata or tags in place. Raises like `stat`."""
        state = self._state
        with translated(key):
            inode = state.engine.transact(_set_meta, bucket, key, meta)
            await state.engine.barrier()
        await state.tell_kernel([], [inode])

    async def delete(self, bucket: str, key: str, *, precondition: Precondition = ANY) -> None:
        """Remove the object, if there is one. Raises NoSuchBucket, PreconditionFailed."""
        state = self._state
        with translated(key):
            told = state.engine.transact(_delete, state, bucket, key, precondition, now_ns())
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> list[StoreError | None]:
        """Remove many; for each key None, or what stood in the way. Raises NoSuchBucket."""
        state = self._state
        outcomes: list[StoreError | None] = []
        told = Told([], [])
        with translated(bucket):
            state.engine.read(tree.bucket_id, bucket)
            for first in range(0, len(keys), _DELETES_PER_TRANSACTION):
                batch = keys[first : first + _DELETES_PER_TRANSACTION]
                outcomes += state.engine.transact(_delete_batch, state, bucket, batch, told)
                await trio.lowlevel.checkpoint()
            await state.engine.barrier()
        await state.tell_kernel(told.entries, list(dict.fromkeys(told.inodes)))
        return outcomes


def _visible(tx: Tx, bucket: str, key: str) -> InodeRow:
    row = visible(tx, tree.bucket_id(tx, bucket), split_key(key))
    if row is None:
        check_length(key)
        raise NoSuchKey(key)
    return row


def snapshot_of(tx: Tx, bucket: str, key: str) -> tuple[InodeRow, reading.Content]:
    """An object and where its bytes are. Raises NoSuchBucket, NoSuchKey."""
    row = _visible(tx, bucket, key)
    return row, reading.load(tx, row)


def _precheck(
    tx: Tx, bucket: str, key: str, components: list[bytes], precondition: Precondition
) -> None:
    """Refuse what is bound to fail before its body is received; decides nothing else."""
    number = tree.bucket_id(tx, bucket)
    if precondition is not ANY:
        check(precondition, key, visible(tx, number, components))


def _put(
    tx: Tx,
    state: State,
    inode: InodeId,
    bucket: str,
    key: str,
    written: Written,
    meta: ObjectMeta,
    precondition: Precondition,
) -> tuple[InodeRow, Told]:
    number = tree.bucket_id(tx, bucket)
    row = tree.new_inode(
        state, inode, number, now_ns(), stat.S_IFREG | state.config.file_mode
    )._replace(
        size=written.size, content_version=1, etag=written.digests.md5, meta=encode_meta(meta)
    )
    told = publish(tx, state, number, key, row, precondition, "put")
    put_content(tx, state, inode, written)
    return row, told


def _copy(
    tx: Tx,
    state: State,
    source: tuple[str, str],
    target: tuple[str, str],
    meta: ObjectMeta | None,
    source_etag: str,
    precondition: Precondition,
) -> tuple[InodeRow, Told]:
    old = _visible(tx, *source)
    if old.etag != source_etag:
        raise PreconditionFailed(source[1], "x-amz-copy-source-if-match")
    bucket = tree.bucket_id(tx, target[0])
    kept = decode_meta(old.meta)
    if meta is not None:
        kept = replace(
            meta,
            checksums=kept.checksums,
            checksum_type=kept.checksum_type,
            part_sizes=kept.part_sizes,
            part_numbers=kept.part_numbers,
            part_checksums=kept.part_checksums,
        )
    now = now_ns()
    row = tree.new_inode(
        state, state.numbers.take(tx), bucket, now, stat.S_IFREG | state.config.file_mode
    )._replace(size=old.size, content_version=1, etag=old.etag, meta=encode_meta(kept))
    # The content first: publishing over the source itself takes the old inode away.
    inline = content.inline_of(tx, old.id)
    if inline is not None:
        content.set_inline(tx, row.id, inline)
    else:
        content.share_extents(tx, old.id, row.id, 0)
    told = publish(tx, state, bucket, target[1], row, precondition, "copy")
    return row, told


def _set_meta(tx: Tx, bucket: str, key: str, meta: ObjectMeta) -> InodeId:
    row = _visible(tx, bucket, key)
    now = now_ns()
    inodes.set_meta(tx, row.id, encode_meta(meta), now)
    (entry,) = dentries.of_inode(tx, row.id)
    tree.note(tx, "attributes", row.bucket, tree.Place(entry.parent, entry.name), row.id, now)
    return row.id


def _delete(
    tx: Tx, state: State, bucket: str, key: str, precondition: Precondition, now: int
) -> Told:
    number = tree.bucket_id(tx, bucket)
    components = split_key(key)
    place = tree.find(tx, number, components)
    row = None if place is None else dentries.stat(tx, place.parent, place.name)
    if precondition is not ANY:
        check(precondition, key, visible(tx, number, components))
    if place is None or row is None or not (is_object(row) or stat.S_ISLNK(row.mode)):
        check_length(key)
        return Told([], [])
    told = _told(tx, state, place, row)
    tree.remove_leaf(tx, state, place, row, now)
    tree.note(tx, "delete", number, place, row.id, now)
    for gone in tree.prune(tx, state, place.parent, now):
        told.entries.append((gone.parent, name_of(gone.name)))
        told.inodes.append(gone.parent)
    return told


def _delete_batch(
    tx: Tx, state: State, bucket: str, keys: Sequence[str], told: Told
) -> list[StoreError | None]:
    outcomes: list[StoreError | None] = []
    now = now_ns()
    for key in keys:
        try:
            one = _delete(tx, state, bucket, key, ANY, now)
        except StoreError as exc:  # refused before it changed anything: a malformed key
            outcomes.append(exc)
            continue
        told.entries.extend(one.entries)
        told.inodes.extend(one.inodes)
        outcomes.append(None)
    return outcomes
