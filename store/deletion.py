"""Deleting by key: the current object, or one version for good (rules R4 and R14).

Concurrency: inside one transaction. Source: Amazon S3 API reference, DeleteObject; user guide,
"Deleting object versions".
"""

from __future__ import annotations

import stat
from collections.abc import Sequence

from metadb import dentries, inodes
from metadb import versions as version_rows
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import locks, tree, versions
from store.errors import StoreError
from store.names import check_length, split_key
from store.preconditions import check
from store.resolve import is_object, visible
from store.rules import NULL_VERSION, OFF, rules_of, unsaid
from store.state import Rules, State, now_ns
from store.told import Told
from store.tree import Place
from store.types import ANY, Deletion, Doomed


def delete(
    tx: Tx, state: State, bucket: str, doomed: Doomed, bypass: bool, now: int, told: Told
) -> Deletion:
    """Raises what `Objects.delete` raises."""
    number = tree.bucket_id(tx, bucket)
    rules = rules_of(tx, state, number)
    components = split_key(doomed.key)
    place = tree.find(tx, number, components)
    row = None if place is None else dentries.stat(tx, place.parent, place.name)
    if row is not None and not (is_object(row) or stat.S_ISLNK(row.mode)):
        row = None  # Not to be seen by S3, nor to be removed by it.
    if doomed.version is None:
        return _delete_current(tx, state, rules, number, doomed, place, row, now, told)
    if rules.versioning == OFF and doomed.version != NULL_VERSION:
        return Deletion(version_id=doomed.version, marker=False)
    return _delete_version(tx, state, rules, number, doomed, bypass, place, row, now, told)


def delete_batch(
    tx: Tx, state: State, bucket: str, batch: Sequence[Doomed], bypass: bool, told: Told
) -> list[Deletion | StoreError]:
    """Delete each; for each what was done, or why it was refused before anything changed."""
    outcomes: list[Deletion | StoreError] = []
    now = now_ns()
    for doomed in batch:
        try:
            outcomes.append(delete(tx, state, bucket, doomed, bypass, now, told))
        except StoreError as exc:
            outcomes.append(exc)
    return outcomes


def _delete_current(
    tx: Tx,
    state: State,
    rules: Rules,
    bucket: InodeId,
    doomed: Doomed,
    place: Place | None,
    row: InodeRow | None,
    now: int,
    told: Told,
) -> Deletion:
    key = doomed.key
    if doomed.precondition is not ANY:
        check(doomed.precondition, key, visible(tx, bucket, split_key(key)))
    check_length_of_missing(key, row)
    if row is None and rules.versioning == OFF:
        return Deletion(version_id=None, marker=False)
    if row is not None and place is not None:
        told.leaf(tx, state, place, row)
    done = versions.bury(tx, state, rules, bucket, key.encode(), place, row, now)
    if row is not None and place is not None:
        tree.note(tx, "delete", bucket, place, row.id, now, unsaid(done.version_id))
        prune(tx, state, place, now, told)
    return done


def _delete_version(
    tx: Tx,
    state: State,
    rules: Rules,
    bucket: InodeId,
    doomed: Doomed,
    bypass: bool,
    place: Place | None,
    row: InodeRow | None,
    now: int,
    told: Told,
) -> Deletion:
    assert doomed.version is not None
    key = doomed.key.encode()
    wanted = unsaid(doomed.version)
    if place is not None and row is not None and is_object(row) and row.version_id == wanted:
        locks.check_free(rules, row, doomed.key, now, bypass=bypass)
        check(doomed.precondition, doomed.key, row)
        told.leaf(tx, state, place, row)
        dentries.remove(tx, place.parent, place.name)
        inodes.touch(tx, place.parent, now)
        tree.drop_link(tx, state, row, now)
        tree.note(tx, "delete", bucket, place, row.id, now, wanted)
        versions.restore_newest(tx, state, bucket, key, now, told)
        prune(tx, state, place, now, told)
        return Deletion(version_id=doomed.version, marker=False)
    kept = version_rows.find(tx, bucket, key, wanted)
    if kept is None:
        return Deletion(version_id=doomed.version, marker=False)
    if kept.inode is not None:
        old = inodes.get(tx, kept.inode)
        locks.check_free(rules, old, doomed.key, now, bypass=bypass)
        check(doomed.precondition, doomed.key, old)
    versions.drop(tx, state, kept)
    if row is None:
        versions.restore_newest(tx, state, bucket, key, now, told)
    return Deletion(version_id=doomed.version, marker=kept.inode is None)


def check_length_of_missing(key: str, row: InodeRow | None) -> None:
    """Raises KeyTooLong for a key that only the mount could have made, and didn't."""
    if row is None:
        check_length(key)


def prune(tx: Tx, state: State, place: Place, now: int, told: Told) -> None:
    """Remove the directories that this leaf was the last one of (rule R4)."""
    for gone in tree.prune(tx, state, place.parent, now):
        told.directory(gone)
