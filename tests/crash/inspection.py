"""A stopped store seen from outside: its database by SQL, its drives by the blocks they use.

Deliberately apart from the code it judges: plain SQLite on copies of the files.
Blocks; for stores whose daemon has ended.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

_RECORD_BYTES = 4096
"""Fragments stand at multiples of this, and have a header that takes about as much."""

_INVARIANTS = {
    "M1 a dentry without its inode": """
        SELECT d.parent, d.name FROM dentry d LEFT JOIN inode i ON i.id = d.inode
        WHERE i.id IS NULL""",
    "M1 wrong nlink of a file": """
        SELECT i.id, i.nlink, count(d.inode) FROM inode i LEFT JOIN dentry d ON d.inode = i.id
        WHERE i.mode & 61440 != 16384 GROUP BY i.id HAVING i.nlink != count(d.inode)""",
    "M1 wrong nlink of a directory": """
        SELECT i.id, i.nlink, count(c.id) FROM inode i
        LEFT JOIN inode c ON c.parent = i.id AND c.mode & 61440 = 16384 AND c.id != i.id
        WHERE i.mode & 61440 = 16384 AND i.id != 1
        GROUP BY i.id HAVING i.nlink != 2 + count(c.id)""",
    "an inode that nothing names": """
        SELECT id FROM inode WHERE nlink = 0 AND id NOT IN (SELECT inode FROM part)
        AND id NOT IN (SELECT inode FROM orphan)
        AND id NOT IN (SELECT inode FROM version WHERE inode IS NOT NULL)""",
    "an orphan, though nothing is open": "SELECT inode FROM orphan",
    "M2 an extent without its run": """
        SELECT e.inode, e.start, e.run FROM extent e LEFT JOIN run r ON r.id = e.run
        WHERE r.id IS NULL""",
    "M2 wrong refs of a run": """
        SELECT r.id, r.refs, count(e.run) FROM run r LEFT JOIN extent e ON e.run = r.id
        GROUP BY r.id HAVING r.refs != count(e.run)""",
    "an extent beyond its run": """
        SELECT e.inode, e.start FROM extent e JOIN run r ON r.id = e.run
        WHERE e.run_start + e.size > r.size OR e.size <= 0""",
    "M3 a run without its segment": """
        SELECT r.id FROM run r LEFT JOIN segment s ON s.id = r.id >> 28 WHERE s.id IS NULL""",
    "M4 both inline and in extents": """
        SELECT inode FROM inline WHERE inode IN (SELECT inode FROM extent)""",
    "M5 extents overlap": """
        SELECT a.inode, a.start FROM extent a JOIN extent b
        ON b.inode = a.inode AND b.start > a.start AND b.start < a.start + a.size""",
    "an extent beyond the end": """
        SELECT e.inode, e.start FROM extent e JOIN inode i ON i.id = e.inode
        WHERE e.start + e.size > i.size""",
    "bytes of an inode that is gone": """
        SELECT inode FROM extent WHERE inode NOT IN (SELECT id FROM inode)
        UNION SELECT inode FROM inline WHERE inode NOT IN (SELECT id FROM inode)""",
    "inline bytes of another length": """
        SELECT i.id FROM inode i JOIN inline n ON n.inode = i.id
        WHERE length(n.content) != i.size""",
    "a part of no upload": "SELECT upload FROM part WHERE upload NOT IN (SELECT id FROM upload)",
}


def database_faults(drives: Sequence[Path], scratch: Path, *, copies: int) -> list[str]:
    """What is wrong with the metadata on these drives, [] when nothing is.

    copies: how many whole and equal copies there must be. scratch: a folder for copies.
    """
    faults, texts = [], {}
    folders = [drive / "twofold" / "meta" for drive in drives]
    for folder in folders:
        if not (folder / "state").exists():
            continue
        with opened(folder, scratch) as database:
            for row in database.execute("PRAGMA integrity_check"):
                if row != ("ok",):
                    faults.append(f"{folder}: {row[0]}")
            for name, query in _INVARIANTS.items():
                rows = database.execute(query).fetchmany(3)
                if rows:
                    faults.append(f"{folder}: {name}: {rows}")
            texts[folder] = list(database.iterdump())
    if len(texts) != copies:
        faults.append(f"{len(texts)} copies instead of {copies}")
    first, *others = texts
    faults += [f"{other} differs from {first}" for other in others if texts[other] != texts[first]]
    return faults


@contextmanager
def opened(folder: Path, scratch: Path) -> Iterator[sqlite3.Connection]:
    """A copy of the database in `folder` (of one drive), with its log."""
    copy = scratch / "inspected"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("meta.db", "meta.db-wal"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, copy / name)
    with closing(sqlite3.connect(copy / "meta.db")) as database:
        yield database


def named_bytes(folder: Path, scratch: Path) -> int:
    """How much a drive needs, at most, for the runs that its database names.

    Those count that were freed and whose turn to be given back has not come yet.
    """
    with opened(folder, scratch) as database:
        rows = database.execute(
            "SELECT r.size, s.k, s.stripe_size FROM "
            "(SELECT id, size FROM run UNION ALL SELECT run, size FROM freed) r "
            "JOIN segment s ON s.id = r.id >> 28"
        ).fetchall()
    total = 0
    for size, k, stripe_bytes in rows:
        stripes = -(-size // stripe_bytes)
        total += -(-size // k) + stripes * 3 * _RECORD_BYTES
    return total


def stored_bytes(drive: Path) -> int:
    """Blocks that all segments of a drive take, and nothing else."""
    files = (drive / "twofold" / "segments").rglob("*.seg")
    return sum(file.stat().st_blocks * 512 for file in files)
