"""Directories as the mount sees them: pages of names with stable cookies.

`.` and `..` are the mount's own: they are never among the entries. A directory shows first the
object of its own key as `%tf.data` (rule R1) and its marker, if that has content, as `%tf.empty`
(rule R3), then its entries in listing order.
Concurrency: one trio loop, no await inside; a page is one short read.
"""

from __future__ import annotations

import stat

from metadb import dentries, inodes
from metadb.records import ROOT, InodeId, InodeRow
from metadb.statements import Tx
from store.errors import InvalidArgument
from store.handles import Drafts
from store.names import BODY, name_of
from store.state import State

COOKIES_KEPT = 65_536
# Where an entry stands in the listing: one of these, the last with the dentry's name behind it.
_BODY_KEY, _MARKER_KEY, _NAME_KEY = b"0", b"1", b"2"
# A directory's own two; each one below adds one more (M1).
_LINKS_OF_A_LEAF_DIRECTORY = 2

Entry = tuple[bytes, bytes, InodeRow]


class DirectoryHandle:
    """One open directory. Cookies hold for this handle alone."""

    __slots__ = ("_drafts", "_first", "_keys", "_state", "inode")

    def __init__(self, state: State, drafts: Drafts, inode: InodeId) -> None:
        self.inode = inode
        self._state = state
        self._drafts = drafts
        # Cookie `_first + i` stands behind the entry `_keys[i]`; cookie 0 before all.
        self._keys: list[bytes] = []
        self._first = 1

    def page(self, cookie: int, limit: int) -> list[tuple[bytes, int, InodeRow]]:
        """Up to `limit` (name, next cookie, attributes) of what follows `cookie`; [] at the end.

        cookie: 0 for the beginning, else what came with the last entry that was taken. Entries
        that stay are neither left out nor given twice, whatever comes or goes between the calls.
        The entries are of this moment: ask for no more than one answer holds (limit >= 1), and
        for the rest again, so that nothing older than an invalidation reaches the kernel.
        Raises InvalidArgument for a cookie that never was, or is one of 65,536 given out since.
        """
        after = b"" if cookie == 0 else self._key(cookie)
        entries = self._state.engine.read(_entries, self.inode, after, limit)
        over = self._drafts.over
        found = []
        for key, name, row in entries:
            cookie = self._cookie(cookie, key)
            found.append((name, cookie, over(row)))
        return found

    def close(self) -> None:
        """Done. Idempotent."""
        self._keys.clear()

    def _key(self, cookie: int) -> bytes:
        index = cookie - self._first
        if not 0 <= index < len(self._keys):
            raise InvalidArgument(cookie, "cookie")
        return self._keys[index]

    def _cookie(self, before: int, key: bytes) -> int:
        """The cookie behind `key`, which follows the entry behind which `before` stands."""
        index = before + 1 - self._first
        if 0 <= index < len(self._keys) and self._keys[index] == key:
            return before + 1
        self._keys.append(key)
        if len(self._keys) > 2 * COOKIES_KEPT:
            del self._keys[:COOKIES_KEPT]
            self._first += COOKIES_KEPT
        return self._first + len(self._keys) - 1


def _entries(tx: Tx, directory: InodeId, after: bytes, limit: int) -> list[Entry]:
    """Up to `limit` (key, name on the mount, inode) of what stands behind the key `after`."""
    found: list[Entry] = []
    if after < _NAME_KEY:
        found = [entry for entry in _first_entries(tx, directory) if entry[0] > after][:limit]
        if len(found) == limit:
            return found
        after = _NAME_KEY
    own = inodes.get(tx, directory)
    page = dentries.visible_page(
        tx,
        directory,
        after[1:],
        limit - len(found),
        leaves_only=own is not None and own.nlink == _LINKS_OF_A_LEAF_DIRECTORY,
    )
    for name, alias, row in page:
        component = name[:-1] if stat.S_ISDIR(row.mode) else name
        found.append((_NAME_KEY + name, alias or name_of(component), row))
    return found


def _first_entries(tx: Tx, directory: InodeId) -> list[Entry]:
    found: list[Entry] = []
    for entry in dentries.of_inode(tx, directory):
        if entry.parent != ROOT:
            body = dentries.stat(tx, entry.parent, entry.name[:-1])
            if body is not None:
                found.append((_BODY_KEY, BODY, body))
    marker = dentries.stat(tx, directory, b"")
    # Beside a directory of the same, empty component it is shown inside that one.
    if marker is not None and marker.size and dentries.inode_of(tx, directory, b"/") is None:
        found.append((_MARKER_KEY, name_of(b""), marker))
    return found
