"""Errors of the primary's drive are told from everybody else's, and named PrimaryLost."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

import pytest

from metadb.check import find_violations
from metadb.errors import MetadbError, NoUsableCopy, PrimaryLost
from metadb.mirror import DATABASE
from metadb.sqlite import SqliteEngine
from metadb.statements import Tx
from metadb.wal import PAGE_BYTES
from tests.faultrows import FaultRow
from tests.metadb.copies import CONFIG, Pool, end_round, get, put


def rot_schema(engine: SqliteEngine) -> None:
    """The next statement reads the schema anew, and finds a name that is no text."""
    execute = engine._connection.execute
    execute("PRAGMA writable_schema = ON")
    execute(
        "UPDATE sqlite_schema SET name = CAST(X'FFFF' AS TEXT), sql = 'CREATE TABLE' "
        "WHERE name = 'setting'"
    )
    (version,) = execute("PRAGMA schema_version").fetchone()
    execute(f"PRAGMA schema_version = {version + 1}")
    execute("PRAGMA writable_schema = OFF")


@pytest.mark.parametrize("call", ["transact", "read"])
async def test_a_rotting_schema_that_is_no_text_loses_the_primary(
    tmp_path: Path, call: str
) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
        await engine.barrier()
        rot_schema(engine)
        with pytest.raises(PrimaryLost):
            getattr(engine, call)(get, "a")
        with pytest.raises(PrimaryLost):
            await engine.barrier()


async def test_a_commit_of_a_rotting_schema_loses_the_primary(tmp_path: Path) -> None:
    async with Pool(tmp_path, 2).open(create=True) as engine:
        engine.transact(put, "a")

        def execute(*arguments: object) -> sqlite3.Cursor:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "injected")

        engine._groups._execute = execute
        end_round(engine)
        with pytest.raises(PrimaryLost):
            engine.transact(put, "b")


async def test_a_caller_that_meets_bad_text_is_told_so_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    def read_bad_text(tx: Tx) -> None:
        put(tx, "undone")
        b"\xff".decode()

    async with Pool(tmp_path, 2).open(create=True) as engine:
        with pytest.raises(UnicodeDecodeError):
            engine.transact(read_bad_text)
        engine.transact(put, "a")
        await engine.barrier()
        assert engine.read(get, "undone") is None


def own_locks(path: Path) -> int:
    """Record locks that this process holds on a file. See proc_locks(5)."""
    wanted = (str(os.getpid()), str(path.stat().st_ino))
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sum((row[4], row[5].rpartition(":")[2]) == wanted for row in rows if row[1] == "POSIX")


async def test_looking_for_damage_takes_no_lock_from_sqlite(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
        await engine.barrier()
        held = own_locks(pool.path("d0") / DATABASE)
        assert held
        await engine._upkeep.verify()
        assert own_locks(pool.path("d0") / DATABASE) == held


async def test_pages_that_can_not_be_read_are_damaged_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault_row: FaultRow
) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a", "x" * 100_000)
        await engine.checkpoint()
        real, broken = os.pread, 7

        def pread(descriptor: int, size: int, offset: int) -> bytes:
            primary = descriptor == engine._primary.database_fd
            if primary and offset <= broken * PAGE_BYTES < offset + size:
                raise OSError(errno.EIO, "injected")
            return real(descriptor, size, offset)

        monkeypatch.setattr(os, "pread", pread)
        (copy,) = engine._flusher.copies
        assert copy.verify(engine._primary.database_fd, 0, 1000) == [broken + 1]
        assert copy.verify(None, 0, 1000) == []
        await engine._upkeep.verify()
        monkeypatch.undo()
        with pytest.raises(PrimaryLost):
            engine.transact(put, "b")
    async with pool.open(pool.without("d0")) as engine:
        assert engine.read(get, "a") == "x" * 100_000
    fault_row(
        "a page of the primary can't be read",
        client="nothing",
        status="another drive's copy is the primary",
    )


async def test_a_primary_that_fails_while_it_is_opened_is_left_for_a_copy(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
    (pool.path("d0") / "state.new").mkdir()  # Its state can't be written.
    with pytest.raises(PrimaryLost):
        async with pool.open():
            pass
    assert pool.ejected == ["d0"]
    async with pool.open(pool.distrust("d0")) as engine:
        assert engine.primary_drive == "d1"
        assert engine.read(get, "a") == "x"


async def test_a_primary_that_can_not_be_read_is_not_taken_for_a_copy_that_can_not_be_written(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(pool.without("d2"), create=True) as engine:
        engine.transact(put, "a")
    async with pool.open(pool.without("d2")) as engine:
        engine._upkeep._places["d2"] = pool.places[2]
        descriptor = engine._primary.database_fd
        engine._primary.database_fd = 1 << 20
        with pytest.raises(PrimaryLost):
            await engine._upkeep.join_missing(3)
        engine._primary.database_fd = descriptor
        assert pool.ejected == []
        assert engine.copy_drives == ("d1",)


async def test_the_last_copy_there_is_goes_on_with_a_sector_that_can_not_be_read(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(pool.without("d1"), create=True) as engine:
        engine.transact(put, "a")
    async with pool.open(pool.without("d1"), config=CONFIG, running=True) as engine:
        descriptor = engine._primary.database_fd
        engine._primary.database_fd = 1 << 20
        await engine.take_back(pool.places[1])
        engine.transact(put, "b")
        await engine.barrier()
        engine._primary.database_fd = descriptor
    with pytest.raises(NoUsableCopy):
        async with pool.open(pool.without("d0")):
            pass


async def test_the_log_outlives_a_primary_that_was_lost_before_its_first_checkpoint(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path, 1)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
    async with pool.open() as engine:
        engine.transact(put, "b")
        await engine.barrier()
        engine._flusher.lose(PrimaryLost("injected"))
    async with pool.open() as engine:
        assert engine.read(get, "b") == "x"


async def test_a_scan_of_a_drive_that_is_gone_says_so(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)
    with contextlib.suppress(PrimaryLost):
        async with pool.open(create=True) as engine:
            pool.path("d0").rename(tmp_path / "away")
            with pytest.raises(MetadbError):
                await find_violations(engine)
