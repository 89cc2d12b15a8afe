"""Listings: keys in byte order, rolled up by a delimiter, page by page (rules R4, R12, R15).

A directory's entries are kept sorted as S3 sorts (metadb.dentries), so a walk in preorder *is*
byte order of whole keys; with the delimiter '/' a page is one range of one directory.
Concurrency: each database page is one read on the loop, with a checkpoint between pages, so a
listing is consistent within 500 entries, and nothing waits long behind it.
Source: Amazon S3 API reference, ListObjectsV2.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

import trio

from metadb import dentries
from metadb.records import EntryRow, InodeId
from metadb.statements import Tx
from store import tree
from store.keys import stat_of
from store.resolve import is_object, visible
from store.state import State
from store.types import ListPage, ObjectStat, VersionPage, decode_listed_meta
from store.versionlisting import PAST, VersionWalk

_PAGE_ROWS = 500
_BATCH = 100


class _Start(NamedTuple):
    """Where the walk of a directory begins: first name, or descend into a child first."""

    name: bytes
    inside: bytes | None


def _start(path: bytes, prefix: bytes, after: bytes) -> _Start | None:
    """Where to begin in the directory `path` ('' or ending in '/'); None: nothing is left there.

    Only keys that start with `prefix` and lie behind `after` count.
    """
    low = max(prefix, after)
    if not low.startswith(path):
        return _Start(b"", None) if low < path else None
    head, slash, _ = low[len(path) :].partition(b"/")
    if slash:
        return _Start(head + b"/", head + b"/")
    return _Start(head, None)


class _Level(NamedTuple):
    """A directory on the way of a walk: rows still to be looked at, then where to ask on."""

    directory: InodeId
    path: bytes
    rows: Iterator[EntryRow]
    next: bytes | None


class Listing:
    """Listings as the S3 face sees them."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def objects(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        limit: int = 1000,
    ) -> ListPage:
        """Up to `limit` keys and common prefixes behind `after`, in byte order.

        after: a key, or a common prefix of an earlier page (all below it is skipped then).
        Raises NoSuchBucket.
        """
        number = self._state.engine.read(tree.bucket_id, bucket)
        if limit <= 0:
            return ListPage(entries=[], next=None)
        raw = prefix.encode(errors="surrogateescape")
        behind = after.encode(errors="surrogateescape")
        entries: list[ObjectStat | str] = []
        if delimiter == "/":
            entries = await self._one_level(number, raw, behind, limit + 1)
        elif delimiter:
            entries = await self._rolled_up(number, raw, delimiter.encode(), behind, limit + 1)
        else:
            entries += await self.walk(number, raw, behind, limit + 1)
        more = len(entries) > limit
        del entries[limit:]
        last = entries[-1] if more else None
        return ListPage(entries=entries, next=last if last is None else _text(last))

    async def versions(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: tuple[str, str] = ("", ""),
        limit: int = 1000,
    ) -> VersionPage:
        """Up to `limit` versions, delete markers and common prefixes, by key, newest first.

        after: (key or common prefix, version id or "" for all of the key's) to go on behind.
        Raises NoSuchBucket.
        """
        number = self._state.engine.read(tree.bucket_id, bucket)
        walk = VersionWalk(self._state, self.walk, number, prefix, delimiter)
        return await walk.page(after, limit)

    async def _one_level(
        self, bucket: InodeId, prefix: bytes, after: bytes, limit: int
    ) -> list[ObjectStat | str]:
        """Entries of the one directory that `prefix` points into: leaves and common prefixes."""
        path = prefix[: prefix.rfind(b"/") + 1]
        stem = prefix[len(path) :]
        directory = self._state.engine.read(_descend, bucket, path)
        start = _start(path, prefix, after)
        if directory is None or start is None:
            return []
        entries: list[ObjectStat | str] = []
        name = start.name
        if start.inside is not None and after.startswith(path + start.inside):
            # `after` is a common prefix that was given already, or a key below one.
            given = after == path + start.inside
            if given or not await self._any_behind(bucket, path + start.inside, after):
                name += b"\0"
        while len(entries) < limit:
            wanted = min(_PAGE_ROWS, limit - len(entries) + 1)
            rows = self._state.engine.read(dentries.page, directory, name, wanted)
            for row in rows:
                if not row.name.startswith(stem):
                    return entries
                key = path + row.name
                if row.name.endswith(b"/"):
                    entries.append(key.decode())
                elif key > after and (one := self._entry(bucket, key, row)) is not None:
                    entries.append(one)
                if len(entries) >= limit:
                    return entries
            if len(rows) < wanted:
                return entries
            name = rows[-1].name + b"\0"
            await trio.lowlevel.checkpoint()
        return entries

    async def _any_behind(self, bucket: InodeId, prefix: bytes, after: bytes) -> bool:
        return bool(await self.walk(bucket, prefix, after, 1))

    async def _rolled_up(
        self, bucket: InodeId, prefix: bytes, delimiter: bytes, after: bytes, limit: int
    ) -> list[ObjectStat | str]:
        """Any delimiter: walk the keys, and jump behind each common prefix that shows up."""
        entries: list[ObjectStat | str] = []
        if delimiter in after[len(prefix) :] and after.endswith(delimiter):
            after += PAST
        while len(entries) < limit:
            batch = await self.walk(bucket, prefix, after, min(limit, _BATCH))
            for one in batch:
                key = one.key.encode()
                cut = key.find(delimiter, len(prefix))
                if cut >= 0:
                    common = key[: cut + len(delimiter)]
                    entries.append(common.decode())
                    after = common + PAST
                    break
                entries.append(one)
                after = key
                if len(entries) >= limit:
                    break
            if not batch:
                break
        return entries

    async def walk(
        self, bucket: InodeId, prefix: bytes, after: bytes, limit: int
    ) -> list[ObjectStat]:
        """Up to `limit` objects whose keys start with `prefix` and lie behind `after`, in order."""
        read = self._state.engine.read
        found: list[ObjectStat] = []
        path = prefix[: prefix.rfind(b"/") + 1]
        top = read(_descend, bucket, path)
        start = _start(path, prefix, after)
        if top is None or start is None:
            return found
        # Directories under way, innermost last, each with what is left of its page of rows.
        stack = [_Level(top, path, iter(()), start.name)]
        while stack and len(found) < limit:
            level = stack[-1]
            for row in level.rows:
                name = row.name
                key = level.path + name
                if not key.startswith(prefix):
                    return found
                if name[-1:] == b"/":
                    below = _start(key, prefix, after)
                    if below is not None:
                        stack.append(_Level(row.inode, key, iter(()), below.name))
                        break
                elif key > after and (one := self._entry(bucket, key, row)) is not None:
                    found.append(one)
                    if len(found) == limit:
                        return found
            else:
                if level.next is None:
                    stack.pop()
                    continue
                wanted = min(_PAGE_ROWS, limit - len(found) + 1)
                rows = read(dentries.page, level.directory, level.next, wanted)
                more = rows[-1].name + b"\0" if len(rows) == wanted else None
                stack[-1] = level._replace(rows=iter(rows), next=more)
                if more is not None:
                    await trio.lowlevel.checkpoint()
        return found

    def _entry(self, bucket: InodeId, key: bytes, row: EntryRow) -> ObjectStat | None:
        """The listing's entry of a leaf, or None where it is no object."""
        if row.etag is not None and stat.S_ISREG(row.mode):
            return ObjectStat(
                key.decode(),
                row.inode,
                row.size,
                row.etag,
                row.stored_ns,
                row.version_id,
                decode_listed_meta(row.meta),
            )
        if stat.S_ISLNK(row.mode):
            target = self._state.engine.read(visible, bucket, key.split(b"/"))
            if is_object(target):
                assert target is not None
                return stat_of(key.decode(), target, target.version_id)
        return None


def _text(entry: ObjectStat | str) -> str:
    return entry if isinstance(entry, str) else entry.key


def _descend(tx: Tx, bucket: InodeId, path: bytes) -> InodeId | None:
    """The directory of a path that is '' or ends in '/', or None."""
    place = tree.find(tx, bucket, path.split(b"/"))
    return None if place is None else place.parent
