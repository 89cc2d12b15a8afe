"""What the tests of the mount's side share: short ways to do things, and the invariants as SQL."""

from __future__ import annotations

import os
from contextlib import aclosing, closing

from metadb.records import ROOT, InodeId
from metadb.statements import Tx
from store.files import Caller, Files
from store.handles import Handle
from store.namespace import Namespace
from store.types import Buffer

CALLER = Caller(uid=1000, gid=100)

_BROKEN = {
    "M1 leaf links": """
        SELECT i.id, i.nlink FROM inode i WHERE i.mode & 61440 != 16384
        AND i.nlink != (SELECT count(*) FROM dentry d WHERE d.inode = i.id)""",
    "M1 directory links": """
        SELECT i.id, i.nlink FROM inode i WHERE i.mode & 61440 = 16384 AND i.nlink != 2 +
        (SELECT count(*) FROM dentry d WHERE d.parent = i.id AND substr(d.name, -1) = X'2F')""",
    "M1 parents": """
        SELECT d.inode FROM dentry d JOIN inode i ON i.id = d.inode
        WHERE substr(d.name, -1) = X'2F' AND i.parent IS NOT d.parent""",
    "buckets": """
        SELECT d.inode FROM dentry d JOIN inode i ON i.id = d.inode JOIN inode p ON p.id = d.parent
        WHERE d.parent != 1 AND i.bucket != p.bucket""",
    "M2 references": """
        SELECT r.id, r.refs FROM run r
        WHERE r.refs != (SELECT count(*) FROM extent e WHERE e.run = r.id) OR r.refs = 0""",
    "M2 runs": "SELECT run FROM extent WHERE run NOT IN (SELECT id FROM run)",
    "M3 segments": "SELECT id FROM run WHERE id >> 28 NOT IN (SELECT id FROM segment)",
    "M4 inline": "SELECT inode FROM inline WHERE inode IN (SELECT inode FROM extent)",
    "M5 overlap": """
        SELECT a.inode, a.start FROM extent a JOIN extent b ON a.inode = b.inode
        AND a.start < b.start AND a.start + a.size > b.start""",
    "M5 end": """
        SELECT e.inode FROM extent e JOIN inode i ON i.id = e.inode
        WHERE e.start + e.size > i.size""",
    "runs hold extents": """
        SELECT e.inode FROM extent e JOIN run r ON r.id = e.run
        WHERE e.run_start < 0 OR e.size < 1 OR e.run_start + e.size > r.size""",
    "content of nobody": """
        SELECT inode FROM extent WHERE inode NOT IN (SELECT id FROM inode) UNION
        SELECT inode FROM inline WHERE inode NOT IN (SELECT id FROM inode) UNION
        SELECT inode FROM xattr WHERE inode NOT IN (SELECT id FROM inode)""",
    "inodes of nobody": """
        SELECT id FROM inode WHERE id != 1 AND id NOT IN (SELECT inode FROM dentry)
        AND id NOT IN (SELECT inode FROM orphan) AND id NOT IN (SELECT inode FROM part)
        AND id NOT IN (SELECT inode FROM version WHERE inode IS NOT NULL)""",
    "M6 versions": """
        SELECT v.sequence FROM version v LEFT JOIN inode i ON i.id = v.inode
        WHERE v.inode IS NOT NULL AND (i.id IS NULL OR i.nlink != 0 OR i.bucket != v.bucket)""",
    "M6 version ids": """
        SELECT bucket, key, version_id FROM version
        GROUP BY bucket, key, version_id HAVING count(*) > 1""",
    "M6 current version ids": """
        WITH RECURSIVE path(inode, bucket, key) AS (
            SELECT id, id, X'' FROM bucket
            UNION ALL
            SELECT d.inode, p.bucket, CAST(p.key || d.name AS BLOB)
            FROM path p JOIN dentry d ON d.parent = p.inode)
        SELECT p.key, i.version_id FROM path p JOIN inode i ON i.id = p.inode
        JOIN version v ON v.bucket = p.bucket AND v.key = p.key AND v.version_id IS i.version_id
        WHERE i.etag IS NOT NULL""",
    "V2 versions that are open": """
        SELECT inode FROM version WHERE inode IN (SELECT inode FROM orphan)""",
    "M7 usage": """
        SELECT u.bucket, u.size, u.inodes FROM usage u
        WHERE u.size != (SELECT coalesce(sum(size), 0) FROM inode i WHERE i.bucket = u.bucket)
        OR u.inodes != (SELECT count(*) FROM inode i WHERE i.bucket = u.bucket)""",
}


def broken(namespace: Namespace) -> dict[str, list[object]]:
    """What doesn't hold of the invariants of metadb.schema, by name; empty when all do."""

    def ask(tx: Tx) -> dict[str, list[object]]:
        found = {name: list(tx._execute(sql)) for name, sql in _BROKEN.items()}
        return {name: rows for name, rows in found.items() if rows}

    return namespace._state.engine.read(ask)


def box(files: Files) -> InodeId:
    """The directory of the bucket `box`."""
    return files.lookup(ROOT, b"box").id


def joined(buffers: object) -> bytes:
    """The bytes of what a read gave."""
    found: list[Buffer] = list(buffers)  # type: ignore[call-overload]
    return b"".join(found)


async def made(files: Files, parent: InodeId, name: bytes, content: bytes = b"") -> InodeId:
    """A closed file with this content."""
    handle, row = files.create(parent, name, 0o644, os.O_WRONLY, CALLER)
    if content:
        await handle.write(0, content)
    await handle.flush()
    await handle.release()
    return row.id


async def contents(files: Files, inode: InodeId) -> bytes:
    """All bytes of a file, through the mount's side."""
    handle = files.open(inode, os.O_RDONLY)
    try:
        return joined(await handle.read(0, files.attributes(inode).size + 1))
    finally:
        await handle.release()


async def object_bytes(namespace: Namespace, key: str, bucket: str = "box") -> bytes:
    """What S3 gives for a key."""
    return await version_bytes(namespace, key, None, bucket)


async def version_bytes(
    namespace: Namespace, key: str, version: str | None, bucket: str = "box"
) -> bytes:
    """What S3 gives for a version of a key."""
    with closing(namespace.objects.open(bucket, key, version)) as reader:
        found = bytearray()
        async with aclosing(reader.stream(0, reader.stat.size)) as stream:  # type: ignore[type-var]
            async for buffers in stream:
                for buffer in buffers:
                    found += buffer
        return bytes(found)


def listed(files: Files, directory: InodeId, limit: int = 100) -> list[bytes]:
    """The names in a directory, read in pages of `limit`."""
    handle = files.open_directory(directory)
    found: list[bytes] = []
    cookie = 0
    while page := handle.page(cookie, limit):
        found += [name for name, _, _ in page]
        cookie = page[-1][1]
    handle.close()
    return found


async def read_back(handle: Handle, size: int) -> bytes:
    """Up to `size` bytes from the start."""
    return joined(await handle.read(0, size))
