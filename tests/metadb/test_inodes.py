"""Rows of inodes, as far as they are remembered: metadb.inodes, `Tx.inodes`."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from metadb import inodes
from metadb.records import InodeId, InodeRow
from metadb.sqlite import SqliteEngine
from metadb.statements import Tx
from tests.metadb.copies import Pool

ROW = InodeRow(
    id=InodeId(99),
    bucket=InodeId(99),
    mode=stat.S_IFREG | 0o644,
    uid=0,
    gid=0,
    nlink=1,
    size=0,
    rdev=0,
    atime_ns=1,
    mtime_ns=1,
    ctime_ns=1,
    stored_ns=1,
    content_version=0,
    etag=None,
    version_id=None,
    meta=None,
    target=None,
    parent=None,
    flags=0,
)


def statements_of(engine: SqliteEngine) -> list[str]:
    """Where the statements that the loop runs from now on are listed."""
    seen: list[str] = []
    engine._connection.set_trace_callback(seen.append)
    return seen


async def test_a_row_that_was_read_is_remembered(tmp_path: Path) -> None:
    async with Pool(tmp_path, 1).open(create=True) as engine:
        engine.transact(inodes.insert, ROW)
        engine._tx.forget()
        first = engine.read(inodes.get, ROW.id)
        assert first == ROW
        seen = statements_of(engine)
        assert engine.read(inodes.get, ROW.id) is first
        assert not [sql for sql in seen if "inode" in sql]


async def test_what_a_transaction_did_to_a_row_goes_with_it(tmp_path: Path) -> None:
    def bad(tx: Tx) -> None:
        inodes.touch(tx, ROW.id, 77)
        found = inodes.get(tx, ROW.id)
        assert found is not None
        assert found.mtime_ns == 77
        raise ZeroDivisionError

    async with Pool(tmp_path, 1).open(create=True) as engine:
        engine.transact(inodes.insert, ROW)
        with pytest.raises(ZeroDivisionError):
            engine.transact(bad)
        assert engine.read(inodes.get, ROW.id) == ROW


async def test_an_inode_that_is_gone_is_not_remembered(tmp_path: Path) -> None:
    async with Pool(tmp_path, 1).open(create=True) as engine:
        engine.transact(inodes.insert, ROW)
        assert engine.read(inodes.get, ROW.id) == ROW
        engine.transact(inodes.remove, ROW.id)
        assert engine.read(inodes.get, ROW.id) is None
