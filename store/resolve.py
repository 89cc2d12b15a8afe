"""From a key to the object a reader may see: rules R1, R6 and R12, inside a transaction.

A key is an object when its leaf is a published regular file, or a symbolic link that leads to
one in the same bucket. Links are followed as path_resolution(7) has it, `..` included, but never
out of the bucket; absolute targets are outside by definition.
"""

from __future__ import annotations

import stat

from metadb import dentries
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import tree
from store.errors import InvalidName, NameTooLong
from store.names import component_of

LINKS_FOLLOWED_MAX = 40


def is_object(row: InodeRow | None) -> bool:
    """Whether this inode by itself is one: regular and published."""
    return row is not None and row.etag is not None and stat.S_ISREG(row.mode)


def visible(tx: Tx, bucket: InodeId, components: list[bytes]) -> InodeRow | None:
    """The inode behind a key, or None where S3 has no such object."""
    place = tree.find(tx, bucket, components)
    row = None if place is None else dentries.stat(tx, place.parent, place.name)
    if row is not None and stat.S_ISREG(row.mode):
        return row if row.etag is not None else None
    if row is not None and not stat.S_ISLNK(row.mode):
        return None
    # The rare way: the leaf is a link, or a directory on the way may be one.
    return _follow(tx, bucket, components)


def _follow(tx: Tx, bucket: InodeId, components: list[bytes]) -> InodeRow | None:
    todo = list(reversed(components))
    directories = [bucket]
    followed = 0
    while todo:
        component = todo.pop()
        last = not todo
        if component == b".." and followed:
            if len(directories) == 1:
                return None
            directories.pop()
            continue
        if not last:
            below = dentries.directory_of(tx, directories[-1], component + b"/")
            if below is not None:
                directories.append(below)
                continue
        row = dentries.stat(tx, directories[-1], component)
        if row is None:
            return None
        if not stat.S_ISLNK(row.mode):
            return row if last and is_object(row) else None
        followed += 1
        target = row.target or b""
        if followed > LINKS_FOLLOWED_MAX or target.startswith(b"/"):
            return None
        for name in reversed([n for n in target.split(b"/") if n not in (b"", b".")]):
            try:
                step = b".." if name == b".." else component_of(name)
            except (InvalidName, NameTooLong):
                return None
            if step is None:
                return None
            todo.append(step)
    return None
