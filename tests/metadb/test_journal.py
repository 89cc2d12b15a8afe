"""The primary fails: what was answered is on the copy that the store goes on from, J1 to J4."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from sqlalchemy import bindparam, delete, func, literal_column, select, update

from metadb import journal as journal_module
from metadb.errors import MetadataFull, PrimaryLost
from metadb.journal import Journal, Lack
from metadb.lanes import Batch
from metadb.schema import setting
from metadb.sqlite import SqliteEngine
from metadb.statements import Statement, Tx
from tests.faultrows import FaultRow
from tests.metadb.copies import CONFIG, Pool, count, end_round, get, put
from tests.metadb.faults import Faults

# Done twice, or on another value, it shows.
_APPEND = Statement(
    update(setting)
    .where(setting.c.name == bindparam("key"))
    .values(value=setting.c.value.op("||")(bindparam("more"))),
    "more",
    "key",
)
_APPEND_AND_TELL = Statement(
    update(setting)
    .where(setting.c.name == bindparam("key"))
    .values(value=setting.c.value.op("||")(bindparam("more")))
    .returning(setting.c.value),
    "more",
    "key",
)
_DELETE = Statement(delete(setting).where(setting.c.name == bindparam("key")), "key")
_ALL = Statement(select(setting.c.name, setting.c.value))
_RANDOM = Statement(
    update(setting)
    .where(setting.c.name == bindparam("key"))
    .values(name=func.hex(func.randomblob(literal_column("8")))),
    "key",
)


def rows(tx: Tx) -> dict[str, str]:
    return dict(tx.all(_ALL))


def fail_commit(engine: SqliteEngine) -> None:
    """The log takes no more writes."""
    real = engine._groups._execute

    def execute(sql: str) -> sqlite3.Cursor:
        if sql == "COMMIT":
            real("ROLLBACK")
            raise io_error()
        return real(sql)

    engine._groups._execute = execute  # type: ignore[assignment]


def fail_sync(engine: SqliteEngine) -> None:
    """What was written can't be made durable; the copies do get it."""

    def sync_log() -> None:
        raise OSError(errno.EIO, "injected")

    engine._primary.sync_log = sync_log  # type: ignore[method-assign]


def fail_reading(engine: SqliteEngine) -> None:
    """What was written can't be read any more: the copies don't get it."""

    def read_log(start: int, stop: int) -> bytes:
        raise PrimaryLost("injected")

    engine._primary.read_log = read_log  # type: ignore[method-assign]


FAILURES: list[Callable[[SqliteEngine], None]] = [fail_commit, fail_sync, fail_reading]


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


async def find_out(engine: SqliteEngine) -> None:
    """Have the engine meet the failure, as its timers do by and by."""
    engine.transact(count)
    with pytest.raises(PrimaryLost):
        await engine.barrier()


@pytest.mark.parametrize("fail", FAILURES)
async def test_what_was_answered_is_there_when_the_primary_fails(
    tmp_path: Path, fail: Callable[[SqliteEngine], None]
) -> None:
    pool, journal = Pool(tmp_path, 3), Journal()
    async with pool.open(create=True, journal=journal) as engine:
        engine.transact(put, "flushed")
        await engine.barrier()
        engine.transact(put, "committed")
        end_round(engine)
        engine.transact(put, "under way")
        fail(engine)
        await find_out(engine)
        with pytest.raises(PrimaryLost):
            engine.read(count)
    async with pool.open(pool.without("d0"), journal=journal) as engine:
        assert engine.read(rows) == {"flushed": "x", "committed": "x", "under way": "x"}
        assert journal.steps == [], "the other copy has it, too"


def change_something(engine: SqliteEngine, model: dict[str, str], dice: random.Random) -> None:
    """One transaction, whole or failing, done to the model as well when it was answered."""
    after = dict(model)
    fails = dice.random() < 0.2

    def work(tx: Tx) -> None:
        for _ in range(dice.randrange(1, 5)):
            name, value = f"k{dice.randrange(8)}", f"{dice.randrange(10)}"
            what = dice.randrange(4)
            if what == 0 or name not in after:
                put(tx, name, after.setdefault(name, value))
                tx.run(_APPEND, "", "no such row")
            elif what == 1:
                tx.run(_APPEND, value, name)
                after[name] += value
            elif what == 2:
                after[name] += value
                assert tx.one(_APPEND_AND_TELL, value, name) == (after[name],)
            else:
                tx.run(_DELETE, name)
                del after[name]
        if fails:
            raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            engine.transact(work)
    else:
        engine.transact(work)
        model.clear()
        model.update(after)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60 if "TWOFOLD_FULL" in os.environ else 5))
async def test_over_losses_at_random_moments_every_answer_holds_once(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    pool, journal, faults = Pool(tmp_path / "live", 5), Journal(), Faults()
    model: dict[str, str] = {}
    gone: list[str] = []
    for life in range(4):
        async with pool.open(
            pool.without(*gone),
            create=life == 0,
            journal=journal,
            folder_type=faults.folder_type(),
        ) as engine:
            assert engine.read(rows) == model
            for _ in range(dice.randrange(40)):
                change_something(engine, model, dice)
                if dice.random() < 0.3:
                    end_round(engine)
                if dice.random() < 0.1:
                    await engine.barrier()
                if dice.random() < 0.05:
                    await engine.checkpoint()
                if dice.random() < 0.05 and engine._flusher._turn is None:
                    # The log restarts, and the copies have nothing of it yet.
                    async with engine._flusher.between_flushes:
                        engine._flusher.restart()
                    engine.transact(count)
                    end_round(engine)
            if dice.random() < 0.3:
                # One copy has what the flush brought, another is ejected by it.
                faults.error[engine.copy_drives[-1]] = OSError(errno.EIO, "injected")
            dice.choice(FAILURES)(engine)
            await find_out(engine)
            gone = [engine.primary_drive, *pool.ejected]
            faults.error.clear()
        gone = gone[:2]
    async with pool.open(pool.without(*gone), journal=journal) as engine:
        assert engine.read(rows) == model
        crashed = pool.crashed(tmp_path / "crashed")
        for drive in engine.copy_drives:
            assert held_rows(crashed, drive) == model


def held_rows(crashed: Pool, drive: str) -> dict[str, str]:
    """The rows of a copy."""
    connection = sqlite3.connect(crashed.path(drive) / "meta.db")
    try:
        return dict(connection.execute("SELECT name, value FROM setting").fetchall())
    finally:
        connection.close()


def test_a_group_that_changed_nothing_asks_nothing_of_a_copy() -> None:
    journal = Journal()
    journal.go_on(1, b"saltsalt", 10, Lack(base=0, groups=[]), [])
    header = bytes.fromhex("377f0682") + bytes(12) + b"saltsalt" + bytes(8)
    journal.steps.append(("UPDATE", (), 1))
    journal.committed(12)
    journal.committed(13)
    assert journal.lack_of(1, header, 12).groups == []
    assert journal.lack_of(1, header, 11).groups == [[("UPDATE", (), 1)]]


async def test_the_copy_may_fail_as_well_before_another_has_it(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    pool, journal, faults = Pool(tmp_path, 3), Journal(), Faults()
    async with pool.open(create=True, journal=journal) as engine:
        engine.transact(put, "a")
        await engine.barrier()
        engine.transact(put, "b")
        fail_commit(engine)
        await find_out(engine)
    faults.error["d2"] = OSError(errno.ENOSPC, "injected")
    with pytest.raises(MetadataFull):
        async with pool.open(pool.without("d0"), journal=journal, folder_type=faults.folder_type()):
            pass
    assert len(journal.steps) == 1
    async with pool.open(pool.without("d0", "d1"), journal=journal) as engine:
        assert engine.primary_drive == "d2"
        assert engine.read(rows) == {"a": "x", "b": "x"}
    fault_row(
        "the drive that the store then goes on from fails as well, before any other has all of it",
        client="errors for the calls under way, then service",
        status="another drive's copy is the primary",
    )


async def test_the_lost_primary_itself_is_not_given_twice_what_it_has(tmp_path: Path) -> None:
    pool, journal = Pool(tmp_path, 2), Journal()
    async with pool.open(create=True, journal=journal) as engine:
        engine.transact(put, "a", "1")
        await engine.barrier()
        engine.transact(lambda tx: tx.run(_APPEND, "2", "a"))
        end_round(engine)
        engine.transact(lambda tx: tx.run(_APPEND, "3", "a"))
        # The commit is in the log, but SQLite was told that the write failed.
        real = engine._groups._execute

        def execute(sql: str) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return real(sql)
            real(sql)
            raise io_error()

        engine._groups._execute = execute  # type: ignore[assignment]
        await find_out(engine)
    async with pool.open(journal=journal) as engine:
        assert engine.primary_drive == "d0"
        assert engine.read(get, "a") == "123"


async def test_a_primary_that_takes_no_sync_in_time_is_remembered_as_hung(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    pool, journal, answered = Pool(tmp_path, 3), Journal(), threading.Event()
    config = replace(CONFIG, flush_deadline_s=0.2)
    async with pool.open(create=True, config=config, journal=journal) as engine:
        engine.transact(put, "a")
        engine._primary.lane.submit(answered.wait, Batch())
        with pytest.raises(PrimaryLost):
            await engine.barrier()
        assert journal.hung_drives == {"d0"}
        answered.set()
    async with pool.open(pool.without("d0"), journal=journal) as engine:
        assert engine.read(rows) == {"a": "x"}
    fault_row(
        "the primary's drive takes no sync within the deadline",
        client="errors for the calls under way, then service",
        status="another drive's copy is the primary",
    )


async def test_another_process_is_handed_what_the_hanging_one_answered(tmp_path: Path) -> None:
    pool, journal, after = Pool(tmp_path / "a", 3), Journal(), Journal()
    async with pool.open(create=True, journal=journal) as engine:
        engine.transact(put, "flushed")
        await engine.barrier()
        engine.transact(put, "committed")
        end_round(engine)
        engine.transact(put, "under way")

        def hang(tx: Tx) -> None:
            put(tx, "never answered")
            after.unpack(journal.pack())

        engine.transact(hang)
        crashed = pool.crashed(tmp_path / "b")
    async with crashed.open(crashed.without("d0"), journal=after) as engine:
        assert engine.read(rows) == {"flushed": "x", "committed": "x", "under way": "x"}


def test_what_is_no_whole_journal_is_refused() -> None:
    packed = Journal().pack()
    for wrong in (b"x", packed[:-1], packed[:20] + b"\xff" + packed[21:], bytes(100)):
        with pytest.raises(ValueError, match="journal"):
            Journal().unpack(wrong)
    Journal().unpack(packed)


def test_a_journal_of_before_the_machine_was_started_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = Journal().pack()
    monkeypatch.setattr(journal_module, "boot_id", lambda: "another")
    with pytest.raises(ValueError, match="before the machine's start"):
        Journal().unpack(packed)


@pytest.mark.parametrize("fail", FAILURES)
async def test_a_lost_primary_that_is_the_only_copy_can_be_opened_again(
    tmp_path: Path, fail: Callable[[SqliteEngine], None]
) -> None:
    pool, journal = Pool(tmp_path, 1), Journal()
    async with pool.open(create=True, journal=journal) as engine:
        engine.transact(put, "a")
        await engine.barrier()
        engine.transact(put, "b")
        fail(engine)
        await find_out(engine)
    async with pool.open(journal=journal) as engine:
        assert engine.read(rows) == {"a": "x", "b": "x"}


async def test_a_transaction_too_large_for_the_drive_takes_nothing_with_it(
    tmp_path: Path,
) -> None:
    pool, journal = Pool(tmp_path, 2), Journal()
    config = replace(CONFIG, cache_bytes=16 << 10)
    async with pool.open(create=True, config=config, journal=journal) as engine:
        engine.transact(put, "kept")

        def too_large(tx: Tx) -> None:
            for number in range(200):
                put(tx, f"k{number}", "x" * 3000)
            # What SQLite does by itself when a write fails for want of room.
            engine._execute("ROLLBACK")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        with pytest.raises(MetadataFull):
            engine.transact(too_large)
        assert engine.read(rows) == {"kept": "x"}
        await engine.barrier()
        assert engine.read(rows) == {"kept": "x"}
    assert journal.steps == []


async def test_what_can_not_be_kept_leaves_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FRAMES_MAX", 8)
    pool, journal = Pool(tmp_path, 2), Journal()
    async with pool.open(create=True, journal=journal) as engine:
        await engine.barrier()
        for number in range(20):
            engine.transact(put, f"{number:02}")
            end_round(engine)
        kept = len(journal.steps)
        assert 2 < kept < 20
        fail_reading(engine)
        await find_out(engine)
    async with pool.open(pool.without("d0"), journal=journal) as engine:
        assert sorted(engine.read(rows)) == [f"{number:02}" for number in range(kept)]
        # A flush later all is kept again.
        await engine.barrier()
        engine.transact(put, "next")
        end_round(engine)
        assert len(journal.steps) == 1


async def test_what_grows_long_is_flushed_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, journal = Pool(tmp_path, 2), Journal()
    config = replace(CONFIG, flush_interval_s=60.0)
    async with pool.open(create=True, config=config, running=True, journal=journal) as engine:
        await engine.barrier()
        monkeypatch.setattr(journal_module, "FRAMES_MAX", 50)
        for number in range(30):
            engine.transact(put, f"{number:02}")
            end_round(engine)
        assert journal.steps
        with trio.fail_after(20):
            while journal.steps:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_step_that_does_something_else_ends_it_in_a_whole_group(tmp_path: Path) -> None:
    pool, journal = Pool(tmp_path, 2), Journal()
    async with pool.open(create=True, journal=journal) as engine:
        engine.transact(put, "a")
        end_round(engine)
        engine.transact(put, "b")
        engine.transact(lambda tx: tx.run(_RANDOM, "b"))
        (renamed,) = engine.read(rows).keys() - {"a"}
        engine.transact(lambda tx: tx.run(_DELETE, renamed))
        fail_commit(engine)
        await find_out(engine)
    async with pool.open(pool.without("d0"), journal=journal) as engine:
        assert engine.read(rows) == {"a": "x"}


@pytest.mark.parametrize("works", [True, False])
async def test_bytes_are_synced_before_rows_that_only_the_journal_has(
    tmp_path: Path, works: bool
) -> None:
    pool, journal = Pool(tmp_path, 2), Journal()
    synced: list[int] = []
    async with pool.open(create=True, journal=journal) as engine:

        async def sync_bytes() -> None:
            await trio.lowlevel.checkpoint()
            synced.append(len(journal.steps))
            if not works:
                raise OSError(errno.EIO, "injected")

        engine.before_flush(sync_bytes)
        engine.transact(put, "a")
        fail_commit(engine)
        with pytest.raises(PrimaryLost):
            await engine.barrier()
        synced.clear()
    assert synced == [1]
    # Whoever opens the store next knows whether it still has to be done.
    assert journal.bytes_unsynced is not works
