"""Transactions that commit together: invariants G1 to G3 of metadb.groups."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio

from metadb import dentries
from metadb.errors import MetadataFull
from metadb.groups import LINGER_S
from metadb.records import ROOT, DentryRow, InodeId
from metadb.sqlite import SqliteEngine
from metadb.statements import Tx
from tests.metadb.copies import Pool, count, put, sqlite_rows


def frames(engine: SqliteEngine) -> int:
    return engine._flusher.position()


async def test_waiters_of_one_round_share_a_commit(tmp_path: Path) -> None:
    async with Pool(tmp_path, 3).open(create=True) as engine:
        engine.transact(put, "alone")
        before = frames(engine)
        await engine.barrier()
        alone = frames(engine) - before

        async def one(number: int) -> None:
            engine.transact(put, f"group {number}")
            await engine.barrier()

        before = frames(engine)
        async with trio.open_nursery() as nursery:
            for number in range(32):
                nursery.start_soon(one, number)
        assert frames(engine) - before < 16 * alone
        assert engine.read(count) == 33


async def test_a_transaction_that_raises_leaves_its_group_whole(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)

    def bad(tx: Tx) -> None:
        put(tx, "bad")
        raise ZeroDivisionError

    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
        with pytest.raises(ZeroDivisionError):
            engine.transact(bad)
        engine.transact(put, "b")
        await engine.barrier()
        assert sqlite_rows(pool.path(engine.primary_drive)) == {"a", "b"}


async def test_a_group_is_visible_on_the_loop_at_once_and_elsewhere_soon(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine, trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: engine.run(task_status=task_status))
        engine.transact(put, "a")
        assert engine.read(count) == 1
        assert sqlite_rows(pool.path(engine.primary_drive)) == set()
        with trio.fail_after(5):
            while not sqlite_rows(pool.path(engine.primary_drive)):  # noqa: ASYNC110
                await trio.sleep(LINGER_S)
        assert sqlite_rows(pool.path(engine.primary_drive)) == {"a"}
        nursery.cancel_scope.cancel()


async def test_what_can_not_be_committed_fails_its_barriers_and_is_gone(tmp_path: Path) -> None:
    async with Pool(tmp_path, 2).open(create=True) as engine:
        engine.transact(put, "kept")
        await engine.barrier()
        real = engine._groups._execute

        def full(sql: str) -> sqlite3.Cursor:
            if sql == "COMMIT":
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return real(sql)

        engine._groups._execute = full
        engine.transact(put, "lost")
        with pytest.raises(MetadataFull):
            await engine.barrier()
        engine._groups._execute = real
        assert engine.read(count) == 1
        engine.transact(put, "next")
        await engine.barrier()
        assert engine.read(count) == 2


async def test_without_room_in_the_log_no_group_starts_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Pool(tmp_path, 2).open(create=True) as engine:
        engine.transact(put, "kept")
        await engine.barrier()
        monkeypatch.setattr(engine._primary, "has_room", lambda: False)
        with pytest.raises(MetadataFull):
            engine.transact(put, "refused")
        assert engine.read(count) == 1


async def test_a_directory_seen_in_a_transaction_that_was_undone_is_not_remembered(
    tmp_path: Path,
) -> None:
    row = DentryRow(ROOT, b"d/", InodeId(7), None)

    def make(tx: Tx, error: bool) -> InodeId | None:
        dentries.insert(tx, row)
        found = dentries.directory_of(tx, ROOT, b"d/")
        if error:
            raise ZeroDivisionError
        return found

    async with Pool(tmp_path, 1).open(create=True) as engine:
        with pytest.raises(ZeroDivisionError):
            engine.transact(make, True)
        assert engine.read(dentries.directory_of, ROOT, b"d/") is None
        assert engine.transact(make, False) == 7
        assert engine.read(dentries.directory_of, ROOT, b"d/") == 7
        engine.transact(dentries.repoint, ROOT, b"d/", InodeId(8))
        assert engine.read(dentries.directory_of, ROOT, b"d/") == 8
        engine.transact(dentries.remove, ROOT, b"d/")
        assert engine.read(dentries.directory_of, ROOT, b"d/") is None
