"""Each invariant's query finds its violation, and nothing in a sound database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table

from metadb import schema
from metadb.check import QUERIES, find_violations
from metadb.statements import Tx, insert_row
from tests.metadb.copies import Pool

_FILE, _DIRECTORY = 0o100644, 0o040755
_INSERTS = {table.name: insert_row(table) for table in schema.METADATA.sorted_tables}


def add(tx: Tx, table: Table, **values: Any) -> None:
    """Insert a row; columns that aren't given are 0, or NULL where they may be."""
    row = [
        values.get(c.name, None if c.nullable else b"" if str(c.type) == "BLOB" else 0)
        for c in table.columns
    ]
    tx.run(_INSERTS[table.name], *row)


def sound(tx: Tx) -> None:
    """A root, a directory with a file of two extents and two names, an inline one, an open one."""
    add(tx, schema.inode, id=1, mode=_DIRECTORY, nlink=3)
    add(tx, schema.inode, id=2, mode=_DIRECTORY, nlink=2, parent=1)
    add(tx, schema.inode, id=3, mode=_FILE, nlink=2, size=30)
    add(tx, schema.inode, id=4, mode=_FILE, nlink=1, size=1)
    add(tx, schema.inode, id=5, mode=_FILE, nlink=0)
    add(tx, schema.orphan, inode=5)
    add(tx, schema.dentry, parent=1, name=b"b/", inode=2)
    add(tx, schema.dentry, parent=2, name=b"f", inode=3)
    add(tx, schema.dentry, parent=2, name=b"g", inode=3)
    add(tx, schema.dentry, parent=2, name=b"i", inode=4)
    add(tx, schema.inline, inode=4, content=b"x")
    add(tx, schema.segment, id=7)
    add(tx, schema.run, id=7 << 28, size=100, refs=2)
    add(tx, schema.extent, inode=3, start=0, size=10, run=7 << 28, run_start=0)
    add(tx, schema.extent, inode=3, start=10, size=10, run=7 << 28, run_start=90)


BREAKS = {
    "M1 a dentry names an inode that exists": [
        (schema.dentry, {"parent": 2, "name": b"z", "inode": 99})
    ],
    "M1 nlink of a file counts its dentries": [
        (schema.dentry, {"parent": 2, "name": b"z", "inode": 5})
    ],
    "M1 nlink of a directory is 2 and its child directories": [
        (schema.inode, {"id": 9, "mode": _DIRECTORY, "nlink": 2}),
        (schema.dentry, {"parent": 2, "name": b"z/", "inode": 9}),
    ],
    "M2 an extent lies within a run that exists": [
        (schema.extent, {"inode": 5, "start": 0, "size": 1, "run": 7 << 28 | 1})
    ],
    "M2 refs of a run counts its extents": [
        (schema.run, {"id": 7 << 28 | 5, "size": 1, "refs": 1})
    ],
    "M3 a run's segment exists": [
        (schema.run, {"id": 8 << 28, "size": 1, "refs": 1}),
        (schema.extent, {"inode": 5, "start": 0, "size": 1, "run": 8 << 28}),
    ],
    "M4 an inode is inline or has extents": [(schema.inline, {"inode": 3, "content": b"x"})],
    "M5 extents of an inode don't overlap": [
        (schema.run, {"id": 7 << 28 | 9, "size": 9, "refs": 1}),
        (schema.extent, {"inode": 3, "start": 5, "size": 1, "run": 7 << 28 | 9}),
    ],
    "M6 a version's inode exists, has no name and no other version": [
        (schema.version, {"sequence": 1, "key": b"k", "inode": 4})
    ],
    "M6 an inode is one version": [
        (schema.version, {"sequence": 1, "key": b"k", "inode": 5, "version_id": "1"}),
        (schema.version, {"sequence": 2, "key": b"l", "inode": 5, "version_id": "2"}),
    ],
    "M6 version ids of a key differ": [
        (schema.version, {"sequence": 1, "key": b"k", "inode": 5, "version_id": "1"}),
        (schema.version, {"sequence": 2, "key": b"k", "version_id": "1"}),
    ],
    "M7 usage is the sum over a bucket's inodes": [
        (schema.usage, {"bucket": 2, "size": 5, "inodes": 1})
    ],
    "M8 an inode has a dentry, or is a version, a part or an orphan": [
        (schema.inode, {"id": 9, "mode": _FILE})
    ],
}


def test_every_query_is_tried() -> None:
    assert list(BREAKS) == [name for name, _ in QUERIES]


@pytest.mark.parametrize("invariant", [None, *BREAKS])
async def test_check_finds_what_is_broken_and_nothing_else(
    tmp_path: Path, invariant: str | None
) -> None:
    async with Pool(tmp_path, 1).open(create=True) as engine:
        engine.transact(sound)
        for table, values in BREAKS[invariant] if invariant else ():
            engine.transact(lambda tx, t=table, v=values: add(tx, t, **v))
        found = {violation.invariant for violation in await find_violations(engine)}
        assert found == ({invariant} if invariant else set())
