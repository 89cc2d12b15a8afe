"""Drives that hold a copy fail, come back, or are emptied: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import errno
import random
import shutil
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from metadb.errors import MetadataFull, NoUsableCopy, PrimaryLost
from metadb.lanes import Batch
from metadb.mirror import DATABASE, LOG, STATE
from metadb.sqlite import SqliteEngine
from tests.faultrows import FaultRow
from tests.metadb.copies import CONFIG, Pool, count, end_round, get, put, reboot, sqlite_rows
from tests.metadb.faults import Faults


async def commit(engine: SqliteEngine, name: str, value: str = "x") -> None:
    """One acknowledged commit."""
    engine.transact(put, name, value)
    await engine.barrier()


async def test_copy_whose_folder_is_gone_is_ejected_before_the_barrier_returns(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        await commit(engine, "a")
        shutil.rmtree(pool.path("d1"))
        await commit(engine, "b")
        assert pool.ejected == ["d1"]
        assert engine.copy_drives == ("d2",)
    assert sqlite_rows(pool.path("d2")) == {"a", "b"}


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS])
async def test_copy_that_can_not_be_written_is_ejected(tmp_path: Path, code: int) -> None:
    pool, faults = Pool(tmp_path, 3), Faults()
    async with pool.open(create=True, folder_type=faults.folder_type()) as engine:
        faults.error["d2"] = OSError(code, "injected")
        await commit(engine, "a")
        assert pool.ejected == ["d2"]
    assert sqlite_rows(pool.path("d1")) == {"a"}


async def test_copy_that_hangs_is_ejected_at_the_deadline(tmp_path: Path) -> None:
    pool, faults = Pool(tmp_path, 3), Faults()
    config = replace(CONFIG, flush_deadline_s=0.1)
    async with pool.open(create=True, config=config, folder_type=faults.folder_type()) as engine:
        faults.hung["d1"] = threading.Event()
        with trio.fail_after(2):
            await commit(engine, "a")
            await commit(engine, "b")
        assert pool.ejected == ["d1"]
        faults.hung["d1"].set()
    assert sqlite_rows(pool.path("d2")) == {"a", "b"}


async def test_another_drive_takes_the_place_of_one_ejected(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 4)
    async with pool.open(create=True, running=True) as engine:
        assert engine.copy_drives == ("d1", "d2")
        await commit(engine, "a")
        shutil.rmtree(pool.path("d1"))
        await commit(engine, "b")
        with trio.fail_after(2):
            while engine.copy_drives != ("d2", "d3"):  # noqa: ASYNC110
                await trio.sleep(0.005)
        await commit(engine, "c")
    assert sqlite_rows(pool.path("d3")) == {"a", "b", "c"}


async def test_drive_that_is_taken_back_holds_a_copy_again(tmp_path: Path) -> None:
    pool, faults = Pool(tmp_path, 2), Faults()
    async with pool.open(create=True, running=True, folder_type=faults.folder_type()) as engine:
        faults.error["d1"] = OSError(errno.EIO, "injected")
        await commit(engine, "a")
        assert engine.copy_drives == ()
        faults.error.clear()
        await engine.take_back(pool.places[1])
        with trio.fail_after(2):
            while engine.copy_drives != ("d1",):  # noqa: ASYNC110
                await trio.sleep(0.005)
        await commit(engine, "b")
    assert sqlite_rows(pool.path("d1")) == {"a", "b"}


async def test_copy_on_a_drive_that_is_taken_back_and_not_needed_is_disowned(
    tmp_path: Path,
) -> None:
    pool, faults = Pool(tmp_path, 4), Faults()
    async with pool.open(create=True, running=True, folder_type=faults.folder_type()) as engine:
        faults.error["d1"] = OSError(errno.EIO, "injected")
        await commit(engine, "a")
        with trio.fail_after(2):
            while engine.copy_drives != ("d2", "d3"):  # noqa: ASYNC110
                await trio.sleep(0.005)
        faults.error.clear()
        assert (pool.path("d1") / STATE).exists()
        await engine.take_back(pool.places[1])
        assert not (pool.path("d1") / STATE).exists()
        assert engine.copy_drives == ("d2", "d3")


async def test_primary_that_hangs_is_lost_at_the_deadline_and_no_copy_is_ejected(
    tmp_path: Path,
) -> None:
    pool, answered = Pool(tmp_path, 3), threading.Event()
    config = replace(CONFIG, flush_deadline_s=0.1)
    async with pool.open(create=True, config=config) as engine:
        engine._primary.lane.submit(answered.wait, Batch())
        with trio.fail_after(2), pytest.raises(PrimaryLost):
            await commit(engine, "a")
        assert pool.ejected == []
        answered.set()


async def test_copy_on_a_full_drive_is_ejected_while_two_others_are_well(tmp_path: Path) -> None:
    pool, faults = Pool(tmp_path, 3), Faults()
    async with pool.open(create=True, folder_type=faults.folder_type()) as engine:
        faults.error["d1"] = OSError(errno.ENOSPC, "injected")
        await commit(engine, "a")
        assert pool.ejected == ["d1"]


async def test_full_drives_fail_barriers_until_there_is_room(tmp_path: Path) -> None:
    pool, faults = Pool(tmp_path, 3), Faults()
    async with pool.open(create=True, folder_type=faults.folder_type()) as engine:
        faults.error["d1"] = faults.error["d2"] = OSError(errno.ENOSPC, "injected")
        with pytest.raises(MetadataFull):
            await commit(engine, "a")
        assert engine.read(get, "a") == "x"
        assert pool.ejected == []
        faults.error.clear()
        await engine.barrier()
    assert sqlite_rows(pool.path("d1")) == sqlite_rows(pool.path("d2")) == {"a"}


async def test_primary_that_is_full_rolls_back_and_reads_on(tmp_path: Path) -> None:
    async with Pool(tmp_path, 2).open(create=True) as engine:
        await commit(engine, "a")
        pages = engine._connection.execute("PRAGMA page_count").fetchone()[0]
        engine._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(MetadataFull):
            engine.transact(put, "big", "x" * 100_000)
        assert engine.read(get, "a") == "x"
        assert engine.read(get, "big") is None
        await commit(engine, "b")


@pytest.mark.parametrize("how", ["moved", "emptied"])
async def test_primary_lost_while_running_goes_on_from_a_copy(tmp_path: Path, how: str) -> None:
    pool = Pool(tmp_path, 3)
    acknowledged = {f"k{index}" for index in range(50)}
    async with pool.open(create=True) as engine:
        for name in acknowledged:
            await commit(engine, name)
        if how == "moved":
            pool.path("d0").rename(tmp_path / "away")
        else:
            shutil.rmtree(pool.path("d0"))
        with pytest.raises(PrimaryLost):
            await commit(engine, "never acknowledged")
    async with pool.open(pool.without("d0")) as engine:
        assert engine.primary_drive == "d1"
        assert all(engine.read(get, name) for name in acknowledged)
        await commit(engine, "after")
    assert acknowledged | {"after"} <= sqlite_rows(pool.path("d2"))


async def test_run_raises_primary_lost_when_its_drive_counts_as_gone(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    with trio.fail_after(5):
        async with pool.open(create=True) as engine:
            await commit(engine, "a")
            with pytest.RaisesGroup(PrimaryLost):
                async with trio.open_nursery() as nursery:
                    await nursery.start(engine.run)
                    shutil.rmtree(pool.path("d0"))
                    engine.transact(put, "b")
                    await trio.sleep_forever()
            assert pool.ejected == ["d0"]
            with pytest.raises(PrimaryLost):
                engine.transact(put, "c")
            with pytest.raises(PrimaryLost):
                await engine.barrier()


@pytest.mark.parametrize("drives", [2, 3])
async def test_primary_emptied_while_stopped_goes_on_from_a_copy(
    tmp_path: Path, drives: int
) -> None:
    pool = Pool(tmp_path / "a", drives)
    async with pool.open(create=True) as engine:
        await commit(engine, "a")
        killed = pool.crashed(tmp_path / "b")
    for stopped in (pool, killed):
        shutil.rmtree(stopped.path("d0"))
        async with stopped.open() as engine:
            assert engine.primary_drive == "d1"
            assert engine.read(get, "a") == "x"
            await commit(engine, "b")
        # The emptied drive holds a copy again.
        assert sqlite_rows(stopped.path("d0")) == {"a", "b"}


async def test_stale_copy_is_never_read(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 3)
    async with pool.open(create=True) as engine:
        await commit(engine, "a")
        await commit(engine, "b")
    with pytest.raises(NoUsableCopy):
        async with pool.open(pool.distrust("d0", "d1", "d2")):
            pass
    connection = sqlite3.connect(pool.path("d2") / DATABASE)
    connection.execute("DELETE FROM setting WHERE name = 'a'")
    connection.commit()
    connection.close()
    async with pool.open(pool.distrust("d0", "d2")) as engine:
        assert engine.primary_drive == "d1"
        assert engine.read(count) == 2
        assert set(engine.copy_drives) == {"d0", "d2"}
    assert sqlite_rows(pool.path("d2")) == {"a", "b"}


async def test_copy_of_an_older_run_is_not_used_even_when_trusted(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        await commit(engine, "a")
        for _ in range(3):
            await engine.checkpoint()
    # Without their logs the others count restarts from 0 again, and seem to be behind.
    for drive in ("d0", "d1"):
        (pool.path(drive) / LOG).unlink()
    async with pool.open(pool.without("d2")) as engine:
        await commit(engine, "b")
    async with pool.open() as engine:
        assert engine.primary_drive == "d0"
        assert engine.read(count) == 2


async def test_copy_that_missed_a_flush_while_it_began_is_whole_only_with_it(
    tmp_path: Path,
) -> None:
    pool, faults = Pool(tmp_path / "a", 2), Faults()
    async with pool.open(
        create=True, config=replace(CONFIG, copies=1), folder_type=faults.folder_type()
    ) as engine:
        begun, go_on = threading.Event(), threading.Event()
        faults.hung["d1"] = go_on
        faults.begun["d1"] = begun
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine._upkeep.join_missing, 2)
            await trio.to_thread.run_sync(begun.wait)
            await commit(engine, "meanwhile")
            go_on.set()
        assert engine.copy_drives == ("d1",)
        after = pool.crashed(tmp_path / "b")
    assert sqlite_rows(after.path("d1")) == {"meanwhile"}


async def test_copy_that_is_added_while_a_flush_ends_is_whole_only_with_that_flush(
    tmp_path: Path,
) -> None:
    pool, faults = Pool(tmp_path / "a", 2), Faults()
    async with pool.open(
        create=True, config=replace(CONFIG, copies=1), folder_type=faults.folder_type()
    ) as engine:
        flusher = engine._upkeep._flusher
        flush_piece = flusher._flush_piece

        async def flush_and_let_join(start: int, stop: int, *, last: bool) -> None:
            """Between the moment that says who is given the piece, and the end of the flush."""
            await flush_piece(start, stop, last=last)
            if not flusher.copies:
                with trio.fail_after(5):
                    while not flusher.copies:  # noqa: ASYNC110
                        await trio.sleep(0.001)

        flusher._flush_piece = flush_and_let_join  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit, engine, "in the flush")
            await trio.lowlevel.checkpoint()
            nursery.start_soon(engine._upkeep.join_missing, 2)
        assert engine.copy_drives == ("d1",)
        after = pool.crashed(tmp_path / "b")
    assert sqlite_rows(after.path("d1")) == {"in the flush"}


@pytest.mark.parametrize("name", [DATABASE, LOG, STATE])
async def test_primary_without_one_of_its_files_is_passed_over(tmp_path: Path, name: str) -> None:
    pool = Pool(tmp_path / "a", 2)
    async with pool.open(create=True) as engine:
        await commit(engine, "a")
        killed = pool.crashed(tmp_path / "b")
    (killed.path("d0") / name).unlink()
    async with killed.open() as engine:
        assert engine.read(get, "a") == "x"
        assert engine.primary_drive == "d1"


async def test_flipped_byte_in_the_primarys_log_loses_nothing(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 2)
    async with pool.open(create=True) as engine:
        for index in range(10):
            await commit(engine, f"k{index}")
        killed = pool.crashed(tmp_path / "b")
    log = killed.path("d0") / LOG
    content = bytearray(log.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 1
    log.write_bytes(content)
    async with killed.open() as engine:
        assert engine.primary_drive == "d1"
        assert engine.read(count) == 10
    assert len(sqlite_rows(killed.path("d0"))) == 10


def flip(path: Path, text: bytes) -> None:
    """Flip a bit of `text`, which must stand in the file."""
    content = path.read_bytes()
    overwrite(path, content.index(text), bytes([text[0] ^ 1]))


def overwrite(path: Path, at: int, content: bytes) -> None:
    """Change bytes of a file in place."""
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(content)


@pytest.mark.parametrize("clean", [True, False])
async def test_primary_with_a_flipped_bit_in_a_row_is_passed_over(
    tmp_path: Path, clean: bool
) -> None:
    pool = Pool(tmp_path / "a", 2)
    async with pool.open(create=True) as engine:
        for index in range(100):
            engine.transact(put, f"k{index}", "x" * 300)
        engine.transact(put, "row", "precious")
        await engine.checkpoint()
        await engine.barrier()
        killed = pool.crashed(tmp_path / "b")
    stopped = pool if clean else killed
    flip(stopped.path("d0") / DATABASE, b"precious")
    async with stopped.open() as engine:
        assert engine.primary_drive == "d1"
        assert engine.read(get, "row") == "precious"
        assert engine.copy_drives == ("d0",)
    connection = sqlite3.connect(stopped.path("d0") / DATABASE)
    assert connection.execute("SELECT value FROM setting WHERE name = 'row'").fetchone() == (
        "precious",
    )
    connection.close()


async def test_primary_whose_schema_is_no_utf_8_is_passed_over(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    pool = Pool(tmp_path / "a", 2)
    async with pool.open(create=True) as engine:
        await commit(engine, "a")
        await engine.checkpoint()
        await engine.barrier()
        killed = pool.crashed(tmp_path / "b")
    database = killed.path("d0") / DATABASE
    content = database.read_bytes()
    assert b"settingsetting" in content
    changed = content.replace(b"settingsetting", b"\xffettingsetting")
    database.write_bytes(changed.replace(b"CREATE TABLE setting", b"\xffREATE TABLE setting"))
    async with killed.open() as engine:
        assert engine.primary_drive == "d1"
        assert engine.read(get, "a") == "x"
    fault_row(
        "the primary's schema page rots, even to bytes that are no text",
        client="nothing",
        status="another drive's copy is the primary",
    )


async def test_copy_with_a_flipped_bit_is_built_anew(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        engine.transact(put, "row", "precious")
        await engine.checkpoint()
        flip(pool.path("d2") / DATABASE, b"precious")
        await engine._upkeep.verify()
        assert engine.copy_drives == ("d1",)
        await engine._upkeep.join_missing(3)
        assert engine.copy_drives == ("d1", "d2")
        await commit(engine, "a")
        await engine._upkeep.verify()
        assert engine.copy_drives == ("d1", "d2")
        assert pool.ejected == []
    assert b"precious" in (pool.path("d2") / DATABASE).read_bytes()


async def test_primary_with_a_flipped_bit_is_lost_when_it_is_found(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        engine.transact(put, "row", "precious")
        await engine.checkpoint()
        flip(pool.path("d0") / DATABASE, b"precious")
        await engine._upkeep.verify()
        with pytest.raises(PrimaryLost):
            engine.transact(put, "a")


async def test_verify_finds_nothing_while_commits_and_checkpoints_go_on(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        done = False

        async def write() -> None:
            number = 0
            while not done:
                number += 1
                await commit(engine, f"k{number % 50}", "x" * (number * 37 % 3000))
                if number % 10 == 0:
                    await engine.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            for _ in range(10):
                await engine._upkeep.verify()
            done = True
        assert engine.copy_drives == ("d1", "d2")


async def test_kill_between_restart_and_the_next_flush_loses_nothing(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 3)
    killed: list[Pool] = []
    async with pool.open(create=True) as engine:
        await commit(engine, "acknowledged")

        async def hook() -> None:
            if engine._flusher.generation == 1 and not killed:
                engine.transact(put, "new generation")
                end_round(engine)
                killed.append(pool.crashed(tmp_path / "b"))
                killed.append(pool.crashed(tmp_path / "c"))

        engine.before_flush(hook)
        assert await engine.checkpoint()
        engine.before_flush(trio.lowlevel.checkpoint)
    same_boot, other_boot = killed
    async with same_boot.open() as engine:
        assert engine.read(count) == 2
        assert len(engine.copy_drives) == 2
    reboot(other_boot)
    async with other_boot.open() as engine:
        assert engine.primary_drive != "d0"
        assert engine.read(count) == 1
        assert len(engine.copy_drives) == 2


async def test_log_restarts_wait_for_a_reader_and_go_on_after_it(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        await commit(engine, "a")
        reader = sqlite3.connect(pool.path("d0") / DATABASE, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM setting").fetchone() == (1,)
        await commit(engine, "b")
        assert not await engine.checkpoint()
        await commit(engine, "c")
        assert reader.execute("SELECT count(*) FROM setting").fetchone() == (1,)
        reader.close()
        await commit(engine, "d")
        assert await engine.checkpoint()
        await commit(engine, "e")
    assert sqlite_rows(pool.path("d2")) == {"a", "b", "c", "d", "e"}


async def test_checkpoint_gets_its_turn_between_flushes_that_follow_each_other(
    tmp_path: Path,
) -> None:
    async with Pool(tmp_path, 2).open(create=True) as engine:
        done = False

        async def write(name: str) -> None:
            while not done:
                await commit(engine, name)

        async with trio.open_nursery() as nursery:
            for index in range(8):
                nursery.start_soon(write, f"k{index}")
            with trio.fail_after(10):
                assert await engine.checkpoint()
            done = True


async def test_log_grown_by_a_huge_transaction_is_cut_when_it_restarts(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)
    config = replace(CONFIG, wal_bytes=1 << 20)
    async with pool.open(create=True, config=config) as engine:
        await commit(engine, "big", "x" * (4 << 20))
        for drive in ("d0", "d1"):
            assert (pool.path(drive) / LOG).stat().st_size > 4 << 20
        assert await engine.checkpoint()
        await commit(engine, "a")
        for drive in ("d0", "d1"):
            assert (pool.path(drive) / LOG).stat().st_size <= 3 << 20
    assert sqlite_rows(pool.path("d1")) == {"big", "a"}


async def test_drive_where_the_primary_can_not_be_written_is_ejected_at_start(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        await commit(engine, "a")
    for drive in ("d0", "d1"):
        (pool.path(drive) / LOG).unlink()
    # A write version that SQLite doesn't know: it reads such a file and refuses to write it.
    overwrite(pool.path("d0") / DATABASE, 18, b"\x03")
    async with pool.open() as engine:
        assert engine.primary_drive == "d1"
        assert engine.read(get, "a") == "x"
        assert pool.ejected == ["d0"]


async def test_copies_taken_at_any_moment_hold_every_acknowledged_row(tmp_path: Path) -> None:
    """Random transactions, readers and restarts; the copies are looked at while all goes on."""
    chance = random.Random(7)
    pool = Pool(tmp_path / "live", 3)
    config = replace(CONFIG, wal_bytes=256 << 10)
    acknowledged: set[str] = set()
    restarts = 0
    async with pool.open(create=True, config=config) as engine:
        for step in range(150):
            names = [f"{step}-{n}" for n in range(chance.randrange(1, 6))]
            for name in names:
                engine.transact(put, name, "x" * chance.randrange(2000))
            if chance.random() < 0.7:
                await engine.barrier()
                acknowledged |= {row[0] for row in engine._execute("SELECT name FROM setting")}
            if chance.random() < 0.15:
                restarts += await engine.checkpoint()
            if step % 10 == 9:
                after = pool.crashed(tmp_path / f"at{step}")
                for drive in ("d0", "d1", "d2"):
                    assert acknowledged <= sqlite_rows(after.path(drive)), (step, drive)
    assert restarts > 10


async def test_copy_built_while_commits_and_restarts_go_on_is_whole(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    config = replace(CONFIG, copies=2, wal_bytes=128 << 10)
    async with pool.open(create=True, config=config) as engine:
        for index in range(300):
            engine.transact(put, f"old{index}", "x" * 8000)
        await engine.checkpoint()
        done = trio.Event()
        written = 0

        async def write() -> None:
            nonlocal written
            while not done.is_set():
                await commit(engine, f"old{written % 300}", f"new {written}")
                written += 1
                if written % 20 == 0:
                    await engine.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await engine._upkeep.join_missing(3)
            done.set()
        assert written > 3
        assert engine.copy_drives == ("d1", "d2")
    contents = {(pool.path(f"d{i}") / DATABASE).read_bytes() for i in range(3)}
    assert len(contents) == 1


def rot_log(folder: Path) -> None:
    """Change the newest row in a log, after it was written."""
    log = folder / LOG
    at = log.read_bytes().rfind(b"the right value")
    with log.open("r+b") as file:
        file.seek(at)
        file.write(b"THE")


async def test_what_rots_in_the_log_of_a_copy_does_not_get_into_its_database(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        await commit(engine, "a", "the right value")
        await commit(engine, "b")
        rot_log(pool.path("d1"))
        await engine.checkpoint()
        assert pool.ejected == ["d1"]
        assert engine.copy_drives == ("d2",)
    async with pool.open([place for place in pool.places if place.drive == "d2"]) as engine:
        assert engine.read(get, "a") == "the right value"


async def test_what_rots_in_the_log_of_the_primary_is_found_when_copies_are_checkpointed(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        await commit(engine, "a", "the right value")
        await commit(engine, "b")
        rot_log(pool.path("d0"))
        with contextlib.suppress(PrimaryLost):
            await engine.checkpoint()
        with pytest.raises(PrimaryLost):
            await engine.barrier()
        assert engine.copy_drives == ("d1", "d2")
    async with pool.open(pool.distrust("d0")) as engine:
        assert engine.read(get, "a") == "the right value"
