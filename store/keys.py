"""From a key to its object inside transactions, and making a key mean a new one (R0, R14).

Concurrency: inside one transaction. Between a precondition and what it guards there is no await.
"""

from __future__ import annotations

import stat
from typing import NamedTuple

from metadb import dentries
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import inheritance, locks, reading, tree, versions
from store.errors import NotRegular, PreconditionFailed
from store.names import check_length, split_key
from store.preconditions import check
from store.resolve import visible
from store.rules import OFF, rules_of, said
from store.state import State, now_ns
from store.told import Told, nothing
from store.types import (
    ANY,
    STORE,
    Maker,
    ObjectMeta,
    ObjectStat,
    Precondition,
    decode_meta,
    encode_meta,
)


class Found(NamedTuple):
    """An object's inode, and the version id S3 is told."""

    row: InodeRow
    version_id: str | None


def stat_of(key: str, row: InodeRow, version_id: str | None) -> ObjectStat:
    """What a face is told of a published inode. version_id: as S3 tells it (`rules.said`)."""
    assert row.etag is not None, row
    return ObjectStat(
        key=key,
        inode=row.id,
        size=row.size,
        etag=row.etag,
        modified_ns=row.stored_ns,
        version_id=version_id,
        meta=decode_meta(row.meta),
    )


def publish(
    tx: Tx,
    state: State,
    bucket: InodeId,
    key: str,
    row: InodeRow,
    precondition: Precondition,
    what: str,
    maker: Maker = STORE,
) -> Told:
    """Make `key` mean the new inode `row`; the caller gives it its content.

    maker: of the directories on the way to it.

    Raises KeyTooLong, what `conditions.check` raises, and NotRegular where a FIFO, socket or
    device stands (R12).
    """
    now = row.stored_ns
    components = split_key(key)
    check_length(key)
    rules = rules_of(tx, state, bucket)
    if precondition is not ANY:
        check(precondition, key, visible(tx, bucket, components))
    place, made = tree.make_place(tx, state, bucket, components, now, maker)
    row = inheritance.born_by_s3(tx, state, place.parent, row)
    old = dentries.stat(tx, place.parent, place.name)
    if old is not None and "*" in precondition.if_none_match:
        # A file that the mount makes, and S3 doesn't see before it is closed, has its name.
        raise PreconditionFailed(key, "If-None-Match")
    if rules.versioning != OFF:
        versions.make_room(tx, state, rules, bucket, key.encode())
    if old is None:
        tree.add_leaf(tx, state, place, row, now)
    elif stat.S_ISREG(old.mode) or stat.S_ISLNK(old.mode):
        tree.replace_leaf(tx, state, place, row, now)
        versions.retire(tx, state, rules, bucket, key.encode(), old, now)
    else:
        raise NotRegular(key)
    tree.note(tx, what, bucket, place, row.id, now, row.version_id)
    told = nothing()
    told.leaf(tx, state, place, old)
    if made is not None:
        told.directory(made)
    return told


def new_object(
    tx: Tx,
    state: State,
    bucket: InodeId,
    number: InodeId,
    meta: ObjectMeta,
    maker: Maker = STORE,
) -> InodeRow:
    """The row of an object about to be published: its version id, retention and owner.

    Raises LockNotEnabled. The caller replaces size and etag.
    """
    now = now_ns()
    rules = rules_of(tx, state, bucket)
    mode = stat.S_IFREG | state.config.file_mode
    return tree.made_by(tree.new_inode(state, number, bucket, now, mode), maker)._replace(
        content_version=1,
        version_id=versions.new_id(rules, now),
        meta=encode_meta(locks.retained(rules, meta, now)),
    )


def find(tx: Tx, state: State, bucket: str, key: str, version: str | None) -> Found:
    """Raises what `Objects.stat` raises."""
    number = tree.bucket_id(tx, bucket)
    rules = rules_of(tx, state, number)
    row = versions.find(tx, rules, number, key, version)
    return Found(row, said(rules, row.version_id))


def snapshot_of(
    tx: Tx, state: State, bucket: str, key: str, version: str | None = None
) -> tuple[Found, reading.Content]:
    """An object and where its bytes are. Raises what `Objects.stat` raises."""
    found = find(tx, state, bucket, key, version)
    return found, reading.load(tx, found.row)
