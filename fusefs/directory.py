"""Listing a directory: READDIRPLUS pages of names with their attributes.

Cookies: 0 the beginning, 1 behind `.`, 2 behind `..`, and from there on the store's plus 2.
Every entry of an answer is of the moment of the answer, as each may be cached for an hour: what
did not fit is fetched again. So pages grow until an answer is full, and from then on the first
asks for as many entries as the last answer held.
Concurrency: one trio loop, no await inside any method.
Source: fuse(4), FUSE_READDIRPLUS; readdir(3); pyfuse3's `readdir_reply`.
"""

from __future__ import annotations

import stat
from typing import Final

import pyfuse3
from pyfuse3 import EntryAttributes, ReaddirToken

from fusefs.attributes import entry_of
from fusefs.kernelcache import KernelCache
from metadb.records import InodeId
from store.directories import DirectoryHandle

_DOTS: Final = 2
PAGE_MIN: Final = 16
PAGE_MAX: Final = 1024


class OpenDirectory:
    """One opendir(3)."""

    __slots__ = ("_cache", "_handle", "_page_size", "_parent", "inode")

    def __init__(self, handle: DirectoryHandle, parent: InodeId, cache: KernelCache) -> None:
        """parent: what `..` is shown as; the root is its own."""
        self.inode = handle.inode
        self._handle = handle
        self._parent = parent
        self._cache = cache
        self._page_size = PAGE_MIN

    def answer(self, start: int, token: ReaddirToken) -> None:
        """Put into the answer of `token` as many entries behind cookie `start` as it holds."""
        if start < 1 and not pyfuse3.readdir_reply(token, b".", _dot(self.inode), 1):
            return
        if start < _DOTS and not pyfuse3.readdir_reply(token, b"..", _dot(self._parent), _DOTS):
            return
        cookie = max(start - _DOTS, 0)
        limit = self._page_size
        sent = 0
        while page := self._handle.page(cookie, limit):
            for name, next_cookie, row in page:
                # Noted although it may not fit: a note too many does no harm.
                self._cache.note(self.inode, name)
                if not pyfuse3.readdir_reply(token, name, entry_of(row), next_cookie + _DOTS):
                    self._page_size = min(max(sent + 1, PAGE_MIN), PAGE_MAX)
                    return
                self._cache.count(row.id)
                cookie = next_cookie
                sent += 1
            if len(page) < limit:
                return
            # Of an answer whose size is known little room is left; of the first, nobody knows.
            limit = PAGE_MIN if self._page_size > PAGE_MIN else min(2 * limit, PAGE_MAX)

    def close(self) -> None:
        """The kernel is done with it."""
        self._handle.close()


def _dot(inode: int) -> EntryAttributes:
    """`.` or `..`: the kernel takes number and type, and counts no lookup."""
    entry = EntryAttributes()
    entry.st_ino = inode
    entry.st_mode = stat.S_IFDIR
    return entry
