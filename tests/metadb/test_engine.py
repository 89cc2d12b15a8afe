"""E1 to E3 of `metadb.engine`, on three drives."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio
from sqlalchemy import select

from metadb import schema
from metadb.errors import NoUsableCopy
from metadb.statements import Tx
from tests.metadb.copies import CONFIG, Pool, count, end_round, get, put, reboot, sqlite_rows


async def test_transact_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def put_and_fail(tx: Tx) -> None:
        put(tx, "a")
        raise KeyError("no")

    async with Pool(tmp_path, 1).open(create=True) as engine:
        with pytest.raises(KeyError):
            engine.transact(put_and_fail)
        assert engine.read(get, "a") is None
        engine.transact(put, "b")
        assert engine.read(get, "b") == "x"


async def test_transact_that_breaks_a_constraint_raises_it_and_rolls_back(tmp_path: Path) -> None:
    def put_null(tx: Tx) -> None:
        put(tx, "a")
        put(tx, "b", None)  # type: ignore[arg-type]

    async with Pool(tmp_path, 1).open(create=True) as engine:
        with pytest.raises(sqlite3.IntegrityError) as caught:
            engine.transact(put_null)
        assert caught.value.__cause__ is None, "an error that causes itself can't be told"
        assert engine.read(count) == 0


async def test_barrier_makes_commits_durable_on_every_copy(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 3)
    async with pool.open(create=True) as engine:
        engine.transact(put, "before")
        await engine.barrier()
        engine.transact(put, "after")
        end_round(engine)
        after = pool.crashed(tmp_path / "b")
    assert sqlite_rows(after.path("d0")) == {"before", "after"}
    assert sqlite_rows(after.path("d1")) == {"before"}
    assert sqlite_rows(after.path("d2")) == {"before"}


async def test_barrier_with_nothing_new_flushes_nothing(tmp_path: Path) -> None:
    flushes = 0

    async def hook() -> None:
        nonlocal flushes
        flushes += 1

    async with Pool(tmp_path, 3).open(create=True) as engine:
        engine.before_flush(hook)
        engine.transact(put, "a")
        await engine.barrier()
        await engine.barrier()
        assert flushes == 1


async def test_barriers_that_wait_together_share_a_flush(tmp_path: Path) -> None:
    flushes = 0

    async def hook() -> None:
        nonlocal flushes
        flushes += 1

    async with Pool(tmp_path, 3).open(create=True) as engine:
        engine.before_flush(hook)

        async def commit(name: str) -> None:
            engine.transact(put, name)
            await engine.barrier()

        async with trio.open_nursery() as nursery:
            for index in range(20):
                nursery.start_soon(commit, f"k{index}")
        assert flushes <= 2
        assert engine.read(count) == 20


async def test_barrier_survives_the_cancellation_of_who_leads_it(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 3)
    async with pool.open(create=True) as engine:
        scope = trio.CancelScope()

        async def hook() -> None:
            scope.cancel()
            await trio.lowlevel.checkpoint()

        engine.before_flush(hook)
        engine.transact(put, "a")
        with scope:
            await engine.barrier()
        assert sqlite_rows(pool.crashed(tmp_path / "b").path("d2")) == {"a"}


async def test_hook_finishes_before_a_copy_sees_the_commit(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 3)
    async with pool.open(create=True) as engine:
        seen: list[set[str]] = []

        async def hook() -> None:
            engine.transact(put, f"during {len(seen)}")
            seen.append(sqlite_rows(pool.crashed(tmp_path / f"b{len(seen)}").path("d1")))

        engine.before_flush(hook)
        engine.transact(put, "a")
        await engine.barrier()
        # What was committed while the hook ran waits for the next flush, with its own hook.
        assert seen == [set()]
        assert sqlite_rows(pool.crashed(tmp_path / "c").path("d1")) == {"a"}
        engine.before_flush(trio.lowlevel.checkpoint)


async def test_hook_that_fails_fails_the_barrier_and_the_next_one_tries_again(
    tmp_path: Path,
) -> None:
    async def broken() -> None:
        raise RuntimeError("chunks")

    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        engine.before_flush(broken)
        engine.transact(put, "a")
        with pytest.raises(RuntimeError):
            await engine.barrier()
        engine.before_flush(trio.lowlevel.checkpoint)
        await engine.barrier()
    assert sqlite_rows(pool.path("d1")) == {"a"}


async def test_timer_flushes_without_a_barrier(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 2)
    async with pool.open(create=True, running=True) as engine:
        flushed = trio.Event()

        async def hook() -> None:
            flushed.set()

        engine.before_flush(hook)
        engine.transact(put, "a")
        with trio.fail_after(2):
            await flushed.wait()


async def test_commits_only_the_primary_holds_are_dropped_after_a_reboot(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 3)
    async with pool.open(create=True) as engine:
        engine.transact(put, "acknowledged")
        await engine.barrier()
        engine.transact(put, "not")
        end_round(engine)
        killed = pool.crashed(tmp_path / "b")
        rebooted = pool.crashed(tmp_path / "c")
    async with killed.open() as engine:
        assert engine.primary_drive == "d0"
        assert engine.read(count) == 2
    reboot(rebooted)
    async with rebooted.open() as engine:
        assert engine.primary_drive == "d0"
        assert engine.read(get, "acknowledged") == "x"
        assert engine.read(count) == 1
        engine.transact(put, "next")
        await engine.barrier()
        assert rebooted.ejected == []
    assert sqlite_rows(rebooted.path("d2")) == {"acknowledged", "next"}


async def test_one_drive_alone_keeps_all_it_has_after_a_reboot(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "a", 1)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
        end_round(engine)
        after = pool.crashed(tmp_path / "b")
    reboot(after)
    async with after.open() as engine:
        assert engine.read(count) == 1


async def test_create_where_metadata_is_opens_it(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
    async with pool.open(create=True) as engine:
        assert engine.read(count) == 1


async def test_open_without_any_copy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoUsableCopy):
        async with Pool(tmp_path, 2).open():
            pass


async def test_clean_stop_leaves_all_copies_equal(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        for index in range(200):
            engine.transact(put, f"k{index}", "x" * 200)
    for name in ("meta.db", "meta.db-wal"):
        contents = {pool.path(f"d{i}").joinpath(name).read_bytes().rstrip(b"\0") for i in range(3)}
        assert len(contents) == 1, name


async def test_scan_gives_pages_of_one_snapshot(tmp_path: Path) -> None:
    async with Pool(tmp_path, 1).open(create=True) as engine:
        for index in range(25):
            engine.transact(put, f"k{index:02}")
        statement = (
            select(schema.setting.c.name)
            .where(schema.setting.c.name >= "k05")
            .order_by(schema.setting.c.name)
        )
        pages = []
        async for page in engine.scan(statement, 8):
            pages.append([row[0] for row in page])
            engine.transact(put, f"k9{len(pages)}")
        assert [len(page) for page in pages] == [8, 8, 4]
        names = [name for page in pages for name in page]
        assert names == [f"k{index:02}" for index in range(5, 25)]


async def test_first_scans_at_once_share_the_lane_and_one_may_be_cancelled(tmp_path: Path) -> None:
    found: list[int] = []

    async with Pool(tmp_path, 1).open(create=True) as engine:
        engine.transact(put, "a")

        async def scan(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            with trio.CancelScope() as scope:
                task_status.started(scope)
                async for page in engine.scan(select(schema.setting.c.name), 8):
                    found.append(len(page))

        async with trio.open_nursery() as nursery:
            first: trio.CancelScope = await nursery.start(scan)
            await nursery.start(scan)
            await nursery.start(scan)
            first.cancel()
    assert found == [1, 1]


async def test_scan_that_is_read_slowly_does_not_keep_the_log_from_restarting(
    tmp_path: Path,
) -> None:
    async with Pool(tmp_path, 2).open(create=True, config=CONFIG) as engine:
        for index in range(20):
            engine.transact(put, f"k{index}")
        pages = engine.scan(select(schema.setting.c.name), 5)
        assert len(await anext(pages)) == 5
        engine.transact(put, "more")
        assert await engine.checkpoint()
        assert len([row async for page in pages for row in page]) == 15
        await pages.aclose()
