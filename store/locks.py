"""Object lock: retention and legal holds of versions (write once, read many).

A version under retention or on hold is never removed by its id before its time; putting a newer
one above it, or a delete marker, is no removal. GOVERNANCE retention gives way to a caller with
the right to bypass it, COMPLIANCE to nobody.
Pure functions. Source: Amazon S3 user guide, "Locking objects with Object Lock".
"""

from __future__ import annotations

import calendar
import datetime

from msgspec.structs import replace

from metadb.records import InodeRow
from store.errors import Locked, LockNotEnabled
from store.state import Rules
from store.types import LockRule, ObjectMeta, decode_meta

GOVERNANCE, COMPLIANCE = "GOVERNANCE", "COMPLIANCE"
_NS_PER_DAY = 86_400 * 1_000_000_000


def retained(rules: Rules, meta: ObjectMeta, now: int) -> ObjectMeta:
    """`meta` of new content with the bucket's default retention, unless it has its own.

    Raises LockNotEnabled where it has its own in a bucket without object lock.
    """
    if rules.lock is None:
        if meta.lock_mode or meta.legal_hold:
            raise LockNotEnabled()
        return meta
    if meta.lock_mode or not rules.lock.mode:
        return meta
    return replace(meta, lock_mode=rules.lock.mode, lock_until_ns=_end(rules.lock, now))


def _end(rule: LockRule, now: int) -> int:
    if not rule.years:
        return now + rule.days * _NS_PER_DAY
    day = datetime.datetime.fromtimestamp(now // 10**9, datetime.UTC)
    year = day.year + rule.years
    last = calendar.monthrange(year, day.month)[1]
    ends = day.replace(year=year, day=min(day.day, last))
    return int(ends.timestamp()) * 10**9


def is_locked(meta: ObjectMeta, now: int, *, bypass: bool = False) -> bool:
    """Whether the version must stay. bypass: its GOVERNANCE retention doesn't count."""
    if meta.legal_hold:
        return True
    if meta.lock_until_ns <= now:
        return False
    return meta.lock_mode == COMPLIANCE or (meta.lock_mode == GOVERNANCE and not bypass)


def check_free(
    rules: Rules, row: InodeRow | None, subject: object, now: int, *, bypass: bool = False
) -> None:
    """Raises Locked if the version may not go, or (on the mount) change."""
    if rules.lock is None or row is None or row.meta is None:
        return
    if is_locked(decode_meta(row.meta), now, bypass=bypass):
        raise Locked(subject)


def with_retention(
    rules: Rules, meta: ObjectMeta, mode: str, until_ns: int, now: int, *, bypass: bool
) -> ObjectMeta:
    """Another retention. Raises LockNotEnabled, and Locked where it would weaken what holds."""
    if rules.lock is None:
        raise LockNotEnabled()
    weaker = until_ns < meta.lock_until_ns or mode != meta.lock_mode
    held = replace(meta, legal_hold=False)
    if weaker and is_locked(held, now, bypass=bypass):
        raise Locked("retention")
    return replace(meta, lock_mode=mode, lock_until_ns=until_ns if mode else 0)


def with_legal_hold(rules: Rules, meta: ObjectMeta, on: bool) -> ObjectMeta:
    """A legal hold, or none any more. Raises LockNotEnabled."""
    if rules.lock is None:
        raise LockNotEnabled()
    return replace(meta, legal_hold=on)


def with_lock_of(old: ObjectMeta, meta: ObjectMeta) -> ObjectMeta:
    """`meta`, retention and hold as in `old`."""
    return replace(
        meta, lock_mode=old.lock_mode, lock_until_ns=old.lock_until_ns, legal_hold=old.legal_hold
    )


def without_lock(meta: ObjectMeta) -> ObjectMeta:
    """`meta` of a copy: retention and hold stay with the source."""
    return with_lock_of(ObjectMeta(), meta)
