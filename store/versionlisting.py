"""Listing all versions: the walk of current objects, merged with the history under their keys.

Both come in byte order of keys; of one key the current object is first, then its history from the
newest on. Each side is fetched in batches as the merge uses them up.
Concurrency: as `store.listing`: each batch is one read on the loop, with checkpoints between.
Source: Amazon S3 API reference, ListObjectVersions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from metadb import versions
from metadb.records import InodeId, VersionEntryRow
from store.rules import NULL_VERSION, unsaid
from store.state import State
from store.types import ObjectStat, VersionEntry, VersionPage, decode_listed_meta

# Above every byte of UTF-8: `key + PAST` is behind all keys that start with `key`.
PAST = b"\xff"
_BATCH_MAX = 500

Walk = Callable[[InodeId, bytes, bytes, int], Awaitable[list[ObjectStat]]]
"""(bucket, prefix, after, limit) -> objects in order of keys: `Listing.walk`."""


class VersionWalk:
    """One listing of versions. Made for one page."""

    def __init__(
        self, state: State, walk: Walk, bucket: InodeId, prefix: str, delimiter: str
    ) -> None:
        self._state = state
        self._walk = walk
        self._bucket = bucket
        self._prefix = prefix.encode(errors="surrogateescape")
        self._delimiter = delimiter.encode(errors="surrogateescape")
        self._batch = _BATCH_MAX
        self._found: list[VersionEntry | str] = []

    async def page(self, after: tuple[str, str], limit: int) -> VersionPage:
        """See `Listing.versions`."""
        if limit <= 0:
            return VersionPage(entries=[], next=None)
        wanted = limit + 1
        self._batch = min(_BATCH_MAX, wanted)
        position = after[0].encode(errors="surrogateescape")
        common = self._common(position)
        if after[1] and common is None and position.startswith(self._prefix):
            await self._rest_of_key(position, after[1], wanted)
        elif common == position:
            position += PAST
        await self._merge(position, wanted)
        entries = self._found[:limit]
        if len(self._found) <= limit:
            return VersionPage(entries=entries, next=None)
        last = entries[-1]
        if isinstance(last, str):
            return VersionPage(entries=entries, next=(last, ""))
        return VersionPage(entries=entries, next=(last.key, last.version_id))

    async def _rest_of_key(self, key: bytes, version_id: str, wanted: int) -> None:
        """The versions of one key that are older than the one of this id.

        Where that one is gone, those whose ids are lower: ids begin with the time they were made.
        """
        read = self._state.engine.read
        id_ = unsaid(version_id)
        kept = read(versions.find, self._bucket, key, id_)
        below, bound = 1 << 62, None
        if kept is not None:
            below = kept.sequence
        else:
            current = await self._current(key)
            if current is None or current.version_id != id_:
                bound = id_
                if current is not None and _is_before(current.version_id, bound):
                    self._found.append(_current(current))
        while len(self._found) < wanted:
            rows = read(versions.older, self._bucket, key, below, self._batch)
            self._found += [
                _entry(row, latest=False) for row in rows if _is_before(row.version_id, bound)
            ]
            if len(rows) < self._batch:
                return
            below = rows[-1].sequence
            await trio.lowlevel.checkpoint()

    async def _current(self, key: bytes) -> ObjectStat | None:
        found = await self._walk(self._bucket, key, b"", 1)
        return found[0] if found and found[0].key.encode() == key else None

    async def _merge(self, position: bytes, wanted: int) -> None:
        """Add what lies behind `position`, until there are `wanted` entries."""
        currents: list[ObjectStat] = []
        history: list[VersionEntryRow] = []
        more_currents = more_history = True
        last = b""  # The key of the entry added last: only a key's first is its latest.
        given: tuple[bytes, str | None] = b"", None  # The current object added last.
        after, first = position, max(position + b"\0" * bool(position), self._prefix)
        below: int | None = None  # History goes on within the key `first`.
        while len(self._found) < wanted:
            if not currents and more_currents:
                currents = await self._walk(self._bucket, self._prefix, after, self._batch)
                more_currents = len(currents) == self._batch
                currents.reverse()
                # Anew, and after them: what was replaced meanwhile is there twice, never missing.
                history, more_history = [], True
            if not history and more_history:
                history = self._history(first, below)
                more_history = len(history) == self._batch
                history.reverse()
            current = currents[-1].key.encode() if currents else None
            older = history[-1].key if history else None
            key = older if current is None else current
            if key is None:
                return
            if older is not None and older < key:
                key = older
            common = self._common(key)
            if common is not None:
                self._found.append(common.decode())
                currents, history = [], []
                more_currents = more_history = True
                after = first = common + PAST
                below = None
                continue
            if key == current:
                stat = currents.pop()
                given = key, stat.version_id
                self._found.append(_current(stat))
                after = first = key
                below = None
            else:
                row = history.pop()
                first, below = row.key, row.sequence
                if (row.key, row.version_id) != given:
                    self._found.append(_entry(row, latest=key != last))
            last = key

    def _history(self, first: bytes, below: int | None) -> list[VersionEntryRow]:
        """A batch of history from a key on, or from below a sequence within it."""
        read = self._state.engine.read
        rows: list[VersionEntryRow] = []
        if below is not None:
            rows = read(versions.older, self._bucket, first, below, self._batch)
            first += b"\0"
        if len(rows) < self._batch:
            rows += read(versions.page, self._bucket, first, self._batch - len(rows))
        if rows and not rows[-1].key.startswith(self._prefix):
            rows = [row for row in rows if row.key.startswith(self._prefix)]
        return rows

    def _common(self, key: bytes) -> bytes | None:
        """The common prefix this key rolls up into, or None."""
        if not self._delimiter:
            return None
        cut = key.find(self._delimiter, len(self._prefix))
        return None if cut < 0 else key[: cut + len(self._delimiter)]


def _is_before(version_id: str | None, bound: str | None) -> bool:
    """Whether it may have been made before `bound`; None: there is no telling."""
    return version_id is None or bound is None or version_id < bound


def _current(stat: ObjectStat) -> VersionEntry:
    return VersionEntry(
        key=stat.key,
        version_id=stat.version_id or NULL_VERSION,
        latest=True,
        modified_ns=stat.modified_ns,
        stat=stat,
    )


def _entry(row: VersionEntryRow, *, latest: bool) -> VersionEntry:
    stat = None
    if row.inode is not None:
        assert row.size is not None and row.etag is not None, row
        stat = ObjectStat(
            key=row.key.decode(),
            inode=row.inode,
            size=row.size,
            etag=row.etag,
            modified_ns=row.stored_ns,
            version_id=row.version_id or NULL_VERSION,
            meta=decode_listed_meta(row.meta),
        )
    return VersionEntry(
        key=row.key.decode(),
        version_id=row.version_id or NULL_VERSION,
        latest=latest,
        modified_ns=row.stored_ns,
        stat=stat,
    )
