"""Multipart uploads: parts are inodes without a name until Complete puts their extents together.

Invariants: a part's bytes are durable before its row names them; Complete is one transaction
that moves extents, never bytes, and repeats itself harmlessly (`completed`).
Concurrency: any task. Source: Amazon S3 API reference, CompleteMultipartUpload, UploadPart.
"""

from __future__ import annotations

import hashlib
import secrets
import stat
from collections.abc import Sequence

from msgspec.structs import replace

from metadb import content, inodes, uploads
from metadb.records import InodeId, InodeRow, PartRow, UploadRow
from metadb.statements import Tx
from store import locks, partcopies, tree, versions
from store.buckets import drop_upload
from store.errors import (
    InvalidArgument,
    InvalidPart,
    InvalidPartOrder,
    NoSuchUpload,
    PartTooSmall,
    PreconditionFailed,
    TooLarge,
)
from store.keys import Found, new_object, publish, snapshot_of, stat_of
from store.names import check_length, split_key
from store.rules import check_quota, rules_of, said
from store.state import State, now_ns
from store.told import Told, nothing
from store.translate import translated
from store.types import (
    ANY,
    STORE,
    Body,
    Digester,
    Digests,
    Maker,
    ObjectMeta,
    ObjectStat,
    Part,
    PartClaim,
    Precondition,
    Upload,
    UploadPage,
    decode_meta,
    encode_meta,
)
from store.writing import OBJECT_BYTES_MAX, put_content, write_body

PARTS_MAX = 10_000
PART_BYTES_MIN = 5 << 20
PART_BYTES_MAX = 5 << 30


class Uploads:
    """Multipart uploads as the S3 face sees them."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def create(self, bucket: str, key: str, meta: ObjectMeta, owner: str = "") -> str:
        """A new upload's id. Raises NoSuchBucket, InvalidKey, KeyTooLong."""
        state = self._state
        with translated(key):
            upload_id: str = state.engine.transact(_create, state, bucket, key, meta, owner)
            await state.engine.barrier()
        return upload_id

    def get(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Raises NoSuchBucket, NoSuchUpload."""
        row = self._state.engine.read(_upload, bucket, key, upload_id)
        return _told_upload(bucket, row)

    async def put_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Body
    ) -> Part:
        """Store one part; an earlier one of the same number is replaced.

        number: 1 to 10,000. Raises NoSuchUpload, InvalidArgument, TooLarge, NoSpace, Unavailable,
        and whatever the body raises.
        """
        state = self._state
        _check_part(number, body.size or 0)
        state.engine.read(_precheck, state, bucket, key, upload_id, number, body.size or 0)
        inode = state.new_inode()
        written = await write_body(state, body, inode, inline_max_bytes=-1)

        def store(tx: Tx) -> PartRow:
            upload = _upload(tx, bucket, key, upload_id)
            row = _new_part(tx, state, upload, inode, written.size)
            put_content(tx, state, inode, written)
            return _end_part(tx, state, upload, number, row, written.digests)

        with translated(key):
            part = state.engine.transact(store)
            await state.engine.barrier()
        return _told_part(part)

    async def copy_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        source: tuple[str, str],
        start: int,
        stop: int,
        *,
        source_etag: str,
        digester: Digester,
        source_version: str | None = None,
    ) -> Part:
        """Bytes [start, stop) of another object, or a version of it, as a part.

        The bytes are read for their digests and shared, not written anew. Raises like `put_part`,
        NoSuchKey, PreconditionFailed when the source changed, InvalidArgument for a range outside.
        """
        state = self._state
        (row, _), snapshot = state.engine.read(snapshot_of, state, *source, source_version)
        if row.etag != source_etag:
            raise PreconditionFailed(source[1], "x-amz-copy-source-if-match")
        if not 0 <= start <= stop <= row.size:
            raise InvalidArgument(f"{start}-{stop}", "the source is shorter")
        _check_part(number, stop - start)
        state.engine.read(_precheck, state, bucket, key, upload_id, number, stop - start)
        inode = state.new_inode()

        def store(tx: Tx, digests: Digests) -> PartRow | None:
            upload = _upload(tx, bucket, key, upload_id)
            extents = partcopies.shared_extents(tx, row, start, stop)
            if extents is None:
                return None
            part = _new_part(tx, state, upload, inode, stop - start)
            content.add_extents(tx, inode, extents)
            return _end_part(tx, state, upload, number, part, digests)

        token = state.readers.begin()
        try:
            digests = await partcopies.digest(state, snapshot, start, stop, digester)
            with translated(key):
                made = state.engine.transact(store, digests)
            if made is None:
                body = partcopies.CopiedBody(state, snapshot, start, stop, digests)
                return await self.put_part(bucket, key, upload_id, number, body)
            await state.engine.barrier()
            return _told_part(made)
        finally:
            state.readers.end(token)

    def parts(
        self, bucket: str, key: str, upload_id: str, after: int = 0, limit: int = 1000
    ) -> list[Part]:
        """Up to `limit` parts with number > after. Raises NoSuchUpload."""
        read = self._state.engine.read
        read(_upload, bucket, key, upload_id)
        return [_told_part(row) for row in read(uploads.parts, upload_id, after, limit)]

    async def complete(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        claims: Sequence[PartClaim],
        *,
        precondition: Precondition = ANY,
        checksums: dict[str, str] | None = None,
        checksum_type: str = "",
        maker: Maker = STORE,
    ) -> ObjectStat:
        """Publish the claimed parts, in order, as the object; all others are dropped.

        checksums, checksum_type: what the face computed of the parts, kept with the object.
        Raises NoSuchUpload, InvalidPart, InvalidPartOrder, PartTooSmall, TooLarge,
        InvalidArgument (no parts), PreconditionFailed.
        """
        state = self._state
        with translated(key):
            found, told = state.engine.transact(
                _complete,
                state,
                (bucket, key, upload_id),
                claims,
                precondition,
                checksums or {},
                checksum_type,
                maker,
            )
            await state.engine.barrier()
        await state.tell_kernel(told.entries, told.inodes)
        return stat_of(key, *found)

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop the upload and its parts. Raises NoSuchUpload."""
        state = self._state

        def drop(tx: Tx) -> None:
            drop_upload(tx, state, _upload(tx, bucket, key, upload_id).id)

        with translated(key):
            state.engine.transact(drop)
            await state.engine.barrier()

    async def page(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: tuple[str, str] = ("", ""),
        limit: int = 1000,
    ) -> UploadPage:
        """Up to `limit` uploads and common prefixes behind (key, upload id), by key and time."""
        read = self._state.engine.read
        number = read(tree.bucket_id, bucket)
        position = (after[0].encode(), after[1] or "\U0010ffff" * bool(after[0]))
        if position[0] < prefix.encode():
            position = (prefix.encode(), "")
        entries: list[Upload | str] = []
        marks: list[tuple[str, str]] = []
        while len(entries) <= limit:
            rows = read(uploads.page, number, position, limit + 1)
            for row in rows:
                position = (row.key, row.id)
                text = row.key.decode()
                if not text.startswith(prefix):
                    return UploadPage(entries=entries, next=None)
                cut = text.find(delimiter, len(prefix)) if delimiter else -1
                if cut < 0:
                    entries.append(_told_upload(bucket, row))
                    marks.append((text, row.id))
                elif (common := text[: cut + len(delimiter)]) <= after[0]:
                    continue
                else:
                    entries.append(common)
                    marks.append((common, ""))
                    position = (common.encode() + b"\xff", "")
                    break
                if len(entries) > limit:
                    break
            else:
                if len(rows) <= limit:
                    break
        more = len(entries) > limit > 0
        return UploadPage(entries=entries[:limit], next=marks[limit - 1] if more else None)


def _create(tx: Tx, state: State, bucket: str, key: str, meta: ObjectMeta, owner: str) -> str:
    number = tree.bucket_id(tx, bucket)
    locks.retained(rules_of(tx, state, number), meta, 0)
    split_key(key)
    check_length(key)
    now = now_ns()
    upload_id = f"{now:016x}{secrets.token_hex(12)}"
    uploads.insert(tx, UploadRow(upload_id, number, key.encode(), now, owner, encode_meta(meta)))
    return upload_id


def _upload(tx: Tx, bucket: str, key: str, upload_id: str) -> UploadRow:
    number = tree.bucket_id(tx, bucket)
    row = uploads.get(tx, upload_id)
    if row is None or row.bucket != number or row.key != key.encode(errors="surrogateescape"):
        raise NoSuchUpload(upload_id)
    return row


def _check_part(number: int, size: int) -> None:
    if not 1 <= number <= PARTS_MAX:
        raise InvalidArgument(number, "part numbers are 1 to 10,000")
    if size > PART_BYTES_MAX:
        raise TooLarge(size)


def _precheck(
    tx: Tx, state: State, bucket: str, key: str, upload_id: str, number: int, size: int
) -> None:
    """Refuse a part that is bound to fail before its bytes are received."""
    upload = _upload(tx, bucket, key, upload_id)
    rules = rules_of(tx, state, upload.bucket)
    if rules.quota_bytes is not None:
        old = uploads.part_of(tx, upload_id, number)
        check_quota(tx, state, upload.bucket, rules, size - (old.size if old is not None else 0))


def _new_part(tx: Tx, state: State, upload: UploadRow, inode: InodeId, size: int) -> InodeRow:
    now = now_ns()
    row = tree.new_inode(state, inode, upload.bucket, now, stat.S_IFREG | state.config.file_mode)
    row = row._replace(size=size, nlink=0)
    inodes.insert(tx, row)
    state.inode_count += 1
    return row


def _end_part(
    tx: Tx, state: State, upload: UploadRow, number: int, row: InodeRow, digests: Digests
) -> PartRow:
    old = uploads.part_of(tx, upload.id, number)
    if old is not None:
        tree.erase(tx, state, old.inode)
    checksums = " ".join(f"{name}:{value}" for name, value in digests.checksums.items())
    part = PartRow(upload.id, number, row.id, row.size, digests.md5, checksums, row.stored_ns)
    uploads.set_part(tx, part)
    check_quota(tx, state, upload.bucket, rules_of(tx, state, upload.bucket))
    return part


def _complete(
    tx: Tx,
    state: State,
    target: tuple[str, str, str],
    claims: Sequence[PartClaim],
    precondition: Precondition,
    checksums: dict[str, str],
    checksum_type: str,
    maker: Maker,
) -> tuple[Found, Told]:
    bucket, key, upload_id = target
    if uploads.get(tx, upload_id) is None:
        return _completed_before(tx, state, target), nothing()
    upload = _upload(tx, bucket, key, upload_id)
    parts = _claimed(tx, upload_id, claims)
    digest = hashlib.md5(b"".join(bytes.fromhex(p.etag) for p in parts), usedforsecurity=False)
    meta = replace(
        decode_meta(upload.meta),
        checksums=checksums,
        checksum_type=checksum_type if checksums else "",
        part_sizes=tuple(part.size for part in parts),
        part_checksums=_part_checksums(parts, checksums),
    )
    row = new_object(tx, state, upload.bucket, state.numbers.take(tx), meta, maker)._replace(
        size=sum(part.size for part in parts), etag=f"{digest.hexdigest()}-{len(parts)}"
    )
    told = publish(tx, state, upload.bucket, key, row, precondition, "complete", maker)
    start = 0
    for part in parts:
        content.share_extents(tx, part.inode, row.id, start)
        start += part.size
    drop_upload(tx, state, upload_id)
    assert row.etag is not None
    uploads.note_completed(tx, upload_id, upload.bucket, upload.key, row.etag, row.stored_ns)
    rules = rules_of(tx, state, upload.bucket)
    check_quota(tx, state, upload.bucket, rules)
    return Found(row, said(rules, row.version_id)), told


def _completed_before(tx: Tx, state: State, target: tuple[str, str, str]) -> Found:
    """The version a repeated Complete made, if it is still there. Raises NoSuchUpload."""
    bucket, key, upload_id = target
    ended = uploads.completed_as(tx, upload_id)
    if ended is None or ended[0] != tree.bucket_id(tx, bucket) or ended[1] != key.encode():
        raise NoSuchUpload(upload_id)
    row = versions.find_etag(tx, ended[0], key, ended[2])
    if row is None:
        raise NoSuchUpload(upload_id)
    return Found(row, said(rules_of(tx, state, ended[0]), row.version_id))


def _claimed(tx: Tx, upload_id: str, claims: Sequence[PartClaim]) -> list[PartRow]:
    """The parts that were claimed, checked."""
    if not claims or len(claims) > PARTS_MAX:
        raise InvalidArgument(len(claims), "1 to 10,000 parts make an object")
    parts: list[PartRow] = []
    last = 0
    for claim in claims:
        if claim.number <= last:
            raise InvalidPartOrder(claim.number)
        last = claim.number
    for claim in claims:
        part = uploads.part_of(tx, upload_id, claim.number)
        if part is None or part.etag != claim.etag:
            raise InvalidPart(claim.number)
        known = _checksums(part)
        if any(known.get(name) != value for name, value in claim.checksums.items()):
            raise InvalidPart(claim.number, "the checksum differs")
        parts.append(part)
    for part in parts[:-1]:
        if part.size < PART_BYTES_MIN:
            raise PartTooSmall(part.number, f"{part.size} bytes")
    if sum(part.size for part in parts) > OBJECT_BYTES_MAX:
        raise TooLarge(upload_id)
    return parts


def _part_checksums(parts: Sequence[PartRow], checksums: dict[str, str]) -> tuple[str, ...]:
    for algorithm in checksums:
        values = tuple(_checksums(part).get(algorithm, "") for part in parts)
        if all(values):
            return values
    return ()


def _checksums(part: PartRow) -> dict[str, str]:
    return dict(pair.split(":", 1) for pair in part.checksums.split())


def _told_part(row: PartRow) -> Part:
    return Part(
        number=row.number,
        size=row.size,
        etag=row.etag,
        checksums=_checksums(row),
        modified_ns=row.stored_ns,
    )


def _told_upload(bucket: str, row: UploadRow) -> Upload:
    return Upload(
        id=row.id,
        bucket=bucket,
        key=row.key.decode(),
        initiated_ns=row.initiated_ns,
        owner=row.owner,
        meta=decode_meta(row.meta),
    )
