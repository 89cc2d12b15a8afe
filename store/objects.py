"""Objects: put, stat, open, copy, change, delete and rename by key (and version).

Invariants: R0 (a PUT or Copy makes a new inode and re-points the dentry in one transaction; an
inode's bytes never change from this side); a precondition is evaluated in the transaction that
acts on it; success is answered only after the barrier, and after the mount forgot the old name
(R8).
Concurrency: any task. Between the transaction's check and its act there is no await.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from msgspec.structs import replace

from metadb import content, inodes
from metadb import versions as version_rows
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import locks, tree
from store.deletion import delete, delete_batch
from store.errors import PreconditionFailed, StoreError
from store.keys import Found, find, new_object, publish, snapshot_of, stat_of
from store.names import check_length, split_key
from store.preconditions import check
from store.publication import note_names
from store.reading import ContentReader
from store.renames import rename_object
from store.resolve import visible
from store.rules import ENABLED, SUSPENDED, check_quota, rules_of, said
from store.state import Rules, State, now_ns
from store.told import Told, nothing
from store.translate import translated
from store.types import (
    ANY,
    STORE,
    Body,
    Deletion,
    Doomed,
    Maker,
    ObjectMeta,
    ObjectStat,
    Precondition,
    decode_meta,
    encode_meta,
)
from store.writing import Written, put_content, write_body

_DELETES_PER_TRANSACTION = 100


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
        maker: Maker = STORE,
    ) -> ObjectStat:
        """Receive `body` and publish it under `key`.

        The bucket's default retention is given to it unless `meta` has its own.
        Raises NoSuchBucket, InvalidKey, KeyTooLong, PreconditionFailed, NoSuchKey (If-Match),
        NotRegular, LockNotEnabled, QuotaExceeded, TooLarge, NoSpace, Unavailable, and whatever
        the body raises.
        """
        state = self._state
        components = split_key(key)
        check_length(key)
        state.engine.read(_precheck, state, bucket, key, components, precondition, meta, body.size)
        inode = state.new_inode()
        written = await write_body(
            state, body, inode, inline_max_bytes=state.config.inline_max_bytes
        )
        if written.digests.checksums:
            meta = replace(meta, checksums={**meta.checksums, **written.digests.checksums})
        with translated(key):
            found, told = state.engine.transact(
                _put, state, inode, bucket, key, written, meta, precondition, maker
            )
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)
        return stat_of(key, *found)

    def stat(self, bucket: str, key: str, version: str | None = None) -> ObjectStat:
        """version: None for the current one, "null" for the null version, or an id.

        Raises NoSuchBucket, NoSuchKey, KeyDeleted, NoSuchVersion, VersionIsMarker, InvalidKey,
        KeyTooLong.
        """
        return stat_of(key, *self._state.engine.read(find, self._state, bucket, key, version))

    def open(self, bucket: str, key: str, version: str | None = None) -> ContentReader:
        """The version as it is now, held for reading. Raises like `stat`."""
        state = self._state
        found, snapshot = state.engine.read(snapshot_of, state, bucket, key, version)
        return ContentReader(state, stat_of(key, *found), snapshot)

    async def copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        meta: ObjectMeta | None,
        *,
        source_etag: str,
        source_version: str | None = None,
        checksums: dict[str, str] | None = None,
        precondition: Precondition = ANY,
        maker: Maker = STORE,
    ) -> ObjectStat:
        """Publish the source's bytes under the target, by reference: no byte moves.

        meta None: the source's, but for its retention. source_etag: the ETag its conditions were
        evaluated on. checksums: of the whole object, None for those the source has. Raises
        PreconditionFailed when the source changed since, and like `stat` and `put`.
        """
        state = self._state

        def publish_copy(tx: Tx) -> tuple[Found, Told]:
            old = find(tx, state, *source, source_version).row
            if old.etag != source_etag:
                raise PreconditionFailed(source[1], "x-amz-copy-source-if-match")
            return _copy(tx, state, old, target, _copied(old, meta, checksums), precondition, maker)

        with translated(target[1]):
            found, told = state.engine.transact(publish_copy)
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)
        return stat_of(target[1], *found)

    async def set_meta(
        self, bucket: str, key: str, meta: ObjectMeta, version: str | None = None
    ) -> ObjectStat:
        """Replace headers, user metadata or tags in place; retention stays. Raises like `stat`."""

        def changed(_: Rules, old: ObjectMeta) -> ObjectMeta:
            return locks.with_lock_of(old, meta)

        return await self._change(bucket, key, version, changed)

    async def set_retention(
        self,
        bucket: str,
        key: str,
        mode: str,
        until_ns: int,
        *,
        version: str | None = None,
        bypass: bool = False,
    ) -> ObjectStat:
        """Retain a version until then; mode "" ends retention. bypass: of GOVERNANCE.

        Raises LockNotEnabled, Locked (it would weaken what holds), and like `stat`.
        """

        def changed(rules: Rules, old: ObjectMeta) -> ObjectMeta:
            return locks.with_retention(rules, old, mode, until_ns, now_ns(), bypass=bypass)

        return await self._change(bucket, key, version, changed)

    async def set_legal_hold(
        self, bucket: str, key: str, on: bool, *, version: str | None = None
    ) -> ObjectStat:
        """Hold a version until this is called again. Raises LockNotEnabled, and like `stat`."""

        def changed(rules: Rules, old: ObjectMeta) -> ObjectMeta:
            return locks.with_legal_hold(rules, old, on)

        return await self._change(bucket, key, version, changed)

    async def _change(
        self,
        bucket: str,
        key: str,
        version: str | None,
        changed: Callable[[Rules, ObjectMeta], ObjectMeta],
    ) -> ObjectStat:
        state = self._state
        with translated(key):
            found = state.engine.transact(_set_meta, state, bucket, key, version, changed)
            await state.engine.barrier()
        await state.tell_kernel([], [found.row.id])
        return stat_of(key, *found)

    async def delete(
        self,
        bucket: str,
        key: str,
        *,
        version: str | None = None,
        bypass: bool = False,
        precondition: Precondition = ANY,
    ) -> Deletion:
        """Delete the key (leaving a marker where versions are kept), or one version for good.

        Deleting what isn't there is fine. bypass: of GOVERNANCE retention.
        Raises NoSuchBucket, PreconditionFailed, NoSuchKey (a condition on what isn't there),
        Locked.
        """
        state = self._state
        doomed = Doomed(key=key, version=version, precondition=precondition)
        told = nothing()
        with translated(key):
            done = state.engine.transact(delete, state, bucket, doomed, bypass, now_ns(), told)
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)
        return done

    async def delete_many(
        self, bucket: str, doomed: Sequence[Doomed], *, bypass: bool = False
    ) -> list[Deletion | StoreError]:
        """Delete many; for each what was done or stood in the way. Raises NoSuchBucket."""
        state = self._state
        outcomes: list[Deletion | StoreError] = []
        told = nothing()
        with translated(bucket):
            state.engine.read(tree.bucket_id, bucket)
            for first in range(0, len(doomed), _DELETES_PER_TRANSACTION):
                batch = doomed[first : first + _DELETES_PER_TRANSACTION]
                outcomes += state.engine.transact(delete_batch, state, bucket, batch, bypass, told)
                await trio.lowlevel.checkpoint()
            await state.engine.barrier()
        await state.tell_kernel(told.entries, list(dict.fromkeys(told.inodes)))
        return outcomes

    async def rename(
        self,
        bucket: str,
        source: str,
        target: str,
        *,
        precondition: Precondition = ANY,
        source_precondition: Precondition = ANY,
        maker: Maker = STORE,
    ) -> None:
        """Make the object at `source` the one at `target`, as a rename on the mount does.

        maker: of the directories that are made on the way; the object's owner stays who it is.
        Raises NoSuchKey, PreconditionFailed, Locked, NotRegular, and like `put`.
        """
        state = self._state
        told = nothing()
        with translated(target):
            state.engine.transact(
                rename_object,
                state,
                bucket,
                (source, source_precondition),
                (target, precondition),
                told,
                maker,
            )
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)


def _precheck(
    tx: Tx,
    state: State,
    bucket: str,
    key: str,
    components: list[bytes],
    precondition: Precondition,
    meta: ObjectMeta,
    size: int | None,
) -> None:
    """Refuse what is bound to fail before its body is received; decides nothing else."""
    number = tree.bucket_id(tx, bucket)
    rules = rules_of(tx, state, number)
    locks.retained(rules, meta, 0)
    check_quota(tx, state, number, rules, _growth(tx, rules, number, components, size or 0))
    if precondition is not ANY:
        check(precondition, key, visible(tx, number, components))


def _growth(tx: Tx, rules: Rules, bucket: InodeId, components: list[bytes], size: int) -> int:
    """How much more the bucket holds once `size` bytes stand under the key."""
    if rules.quota_bytes is None or rules.versioning == ENABLED:
        return size
    row = visible(tx, bucket, components)
    if rules.versioning == SUSPENDED and (row is None or row.version_id is not None):
        kept = version_rows.find(tx, bucket, b"/".join(components), None)
        row = None if kept is None or kept.inode is None else inodes.get(tx, kept.inode)
    return size if row is None or row.nlink > 1 else size - row.size


def _put(
    tx: Tx,
    state: State,
    inode: InodeId,
    bucket: str,
    key: str,
    written: Written,
    meta: ObjectMeta,
    precondition: Precondition,
    maker: Maker,
) -> tuple[Found, Told]:
    number = tree.bucket_id(tx, bucket)
    row = new_object(tx, state, number, inode, meta, maker)._replace(
        size=written.size, etag=written.digests.md5
    )
    told = publish(tx, state, number, key, row, precondition, "put", maker)
    put_content(tx, state, inode, written)
    rules = rules_of(tx, state, number)
    check_quota(tx, state, number, rules)
    return Found(row, said(rules, row.version_id)), told


def _copied(old: InodeRow, meta: ObjectMeta | None, checksums: dict[str, str] | None) -> ObjectMeta:
    """What a copy carries: the given headers, and what is known of the source's bytes."""
    kept = locks.without_lock(decode_meta(old.meta))
    if checksums is not None:
        kept = replace(kept, checksums=checksums, checksum_type="FULL_OBJECT", part_checksums=())
    if meta is None:
        return kept
    return replace(
        meta,
        checksums=kept.checksums,
        checksum_type=kept.checksum_type,
        part_sizes=kept.part_sizes,
        part_checksums=kept.part_checksums,
    )


def _copy(
    tx: Tx,
    state: State,
    old: InodeRow,
    target: tuple[str, str],
    meta: ObjectMeta,
    precondition: Precondition,
    maker: Maker,
) -> tuple[Found, Told]:
    bucket = tree.bucket_id(tx, target[0])
    row = new_object(tx, state, bucket, state.numbers.take(tx), meta, maker)._replace(
        size=old.size, etag=old.etag
    )
    # The content first: publishing over the source itself takes the old inode away.
    inline = content.inline_of(tx, old.id)
    if inline is not None:
        content.set_inline(tx, row.id, inline)
    else:
        content.share_extents(tx, old.id, row.id, 0)
    told = publish(tx, state, bucket, target[1], row, precondition, "copy", maker)
    rules = rules_of(tx, state, bucket)
    check_quota(tx, state, bucket, rules)
    return Found(row, said(rules, row.version_id)), told


def _set_meta(
    tx: Tx,
    state: State,
    bucket: str,
    key: str,
    version: str | None,
    changed: Callable[[Rules, ObjectMeta], ObjectMeta],
) -> Found:
    found = find(tx, state, bucket, key, version)
    row = found.row
    meta = encode_meta(changed(rules_of(tx, state, row.bucket), decode_meta(row.meta)))
    now = now_ns()
    inodes.set_meta(tx, row.id, meta, now)
    note_names(tx, "attributes", row, now)
    return Found(row._replace(meta=meta), found.version_id)
