"""If-Match, If-None-Match and their like, evaluated in the transaction that acts on them.

Pure functions. Source: RFC 9110 (13); Amazon S3 user guide, "Conditional requests".
"""

from __future__ import annotations

from metadb.records import InodeRow
from store.errors import NoSuchKey, PreconditionFailed
from store.types import Precondition

_NS_PER_S = 1_000_000_000


def check(precondition: Precondition, key: str, row: InodeRow | None) -> None:
    """Raises PreconditionFailed, NoSuchKey. row: the visible object, or None."""
    wanted, unwanted = precondition.if_match, precondition.if_none_match
    if unwanted and row is not None and ("*" in unwanted or row.etag in unwanted):
        raise PreconditionFailed(key, "If-None-Match")
    size, modified_ns = precondition.if_match_size, precondition.if_match_modified_ns
    if not wanted and size is None and modified_ns is None:
        return
    if row is None:
        raise NoSuchKey(key)
    if wanted and "*" not in wanted and row.etag not in wanted:
        raise PreconditionFailed(key, "If-Match")
    if size is not None and row.size != size:
        raise PreconditionFailed(key, "x-amz-if-match-size")
    if modified_ns is not None and row.stored_ns // _NS_PER_S != modified_ns // _NS_PER_S:
        raise PreconditionFailed(key, "x-amz-if-match-last-modified-time")
