"""What a bucket asks of every change: versioning, object lock, quota, and its other documents.

Kept in memory per bucket (`State.rules`), since every PUT asks; whoever changes them forgets them
in the same transaction.
Concurrency: inside a transaction, but for `said`, which is pure.
"""

from __future__ import annotations

import msgspec

from metadb import buckets
from metadb.records import InodeId
from metadb.statements import Tx
from store.errors import QuotaExceeded
from store.state import Rules, State
from store.types import LockRule

OFF, ENABLED, SUSPENDED = "off", "enabled", "suspended"
LOCK, QUOTA, TRASH = "object-lock", "quota", "trash"
NULL_VERSION = "null"
_BUCKETS_KEPT = 10_000
NO_RULES = Rules(OFF, None, None, {})


def rules_of(tx: Tx, state: State, bucket: InodeId) -> Rules:
    """The bucket's rules; those of no bucket (0: anonymous inodes) ask for nothing."""
    rules = state.rules.get(bucket)
    return _load(tx, state, bucket) if rules is None else rules


def _load(tx: Tx, state: State, bucket: InodeId) -> Rules:
    row = buckets.by_id(tx, bucket)
    if row is None:
        return NO_RULES
    documents = buckets.documents(tx, bucket)
    lock, quota = documents.pop(LOCK, None), documents.pop(QUOTA, None)
    rules = Rules(
        row.versioning,
        None if lock is None else msgspec.json.decode(lock, type=LockRule),
        None if quota is None else int(quota),
        documents,
        row.owner,
    )
    if len(state.rules) >= _BUCKETS_KEPT:
        state.rules.clear()
    state.rules[bucket] = rules
    return rules


def set_versioning(tx: Tx, state: State, bucket: InodeId, versioning: str) -> None:
    """ENABLED or SUSPENDED."""
    buckets.set_versioning(tx, bucket, versioning)
    state.rules.pop(bucket, None)


def set_document(tx: Tx, state: State, bucket: InodeId, name: str, document: str | None) -> None:
    """Write one document, or remove it (None)."""
    buckets.set_document(tx, bucket, name, document)
    state.rules.pop(bucket, None)


def set_lock(tx: Tx, state: State, bucket: InodeId, rule: LockRule) -> None:
    """Turn object lock on, with this default retention."""
    set_document(tx, state, bucket, LOCK, msgspec.json.encode(rule).decode())


def set_quota(tx: Tx, state: State, bucket: InodeId, quota_bytes: int | None) -> None:
    """Bound what the bucket may hold; None for no bound."""
    set_document(tx, state, bucket, QUOTA, None if quota_bytes is None else str(quota_bytes))


def set_trash(tx: Tx, state: State, bucket: InodeId, days: int | None) -> None:
    """Keep what is deleted or replaced for so many days; None: as versioning has it."""
    set_document(tx, state, bucket, TRASH, None if days is None else str(days))


def trash_days(rules: Rules) -> int | None:
    """How long the bucket keeps what is deleted or replaced; None where it has no trash."""
    days = rules.documents.get(TRASH)
    return None if days is None else int(days)


def said(rules: Rules, version_id: str | None) -> str | None:
    """A version id as S3 tells it: None where versioning was never on."""
    if rules.versioning == OFF:
        return None
    return NULL_VERSION if version_id is None else version_id


def unsaid(version_id: str | None) -> str | None:
    """A version id that S3 tells, or was told, as rows have it: None for the null version."""
    return None if version_id == NULL_VERSION else version_id


def bounded(tx: Tx, state: State, *asked: InodeId) -> dict[InodeId, int]:
    """Those of the buckets that have a quota, and the bytes they hold now."""
    return {
        bucket: buckets.usage_of(tx, bucket)[0]
        for bucket in asked
        if rules_of(tx, state, bucket).quota_bytes is not None
    }


def check_grown(tx: Tx, state: State, before: dict[InodeId, int]) -> None:
    """Raises QuotaExceeded for one that grew since `bounded` and holds more than it may."""
    for bucket, held in before.items():
        if buckets.usage_of(tx, bucket)[0] > held:
            check_quota(tx, state, bucket, rules_of(tx, state, bucket))


def check_quota(tx: Tx, state: State, bucket: InodeId, rules: Rules, more: int = 0) -> None:
    """Raises QuotaExceeded when the bucket, with `more` bytes, holds more than it may.

    At the end of a transaction with more = 0, this is exact: it undoes what went too far.
    """
    if rules.quota_bytes is None:
        return
    held = buckets.usage_of(tx, bucket)[0] + state.reserved.get(bucket, 0) + more
    if held > rules.quota_bytes:
        raise QuotaExceeded(bucket, f"the bucket may hold {rules.quota_bytes} bytes")
