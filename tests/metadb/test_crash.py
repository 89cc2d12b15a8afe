"""Every point at which the power may fail while copies are written (Y1 to Y3, E2).

The primary's drive is taken as lost with the cut, so that all there is stands on the copies.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from metadb.mirror import STATE
from tests.metadb.copies import Pool, get, put, reboot, sqlite_rows
from tests.metadb.recorder import Recorder, restore, snapshot


@pytest.mark.slow
async def test_each_copy_alone_holds_what_was_acknowledged_at_any_cut(tmp_path: Path) -> None:
    pool, recorder = Pool(tmp_path / "live", 3), Recorder()
    async with pool.open(create=True) as engine:
        pass
    async with pool.open(folder_type=recorder.folder_type()) as engine:
        recorder.steps.clear()
        base = snapshot(pool.path("d1")) | snapshot(pool.path("d2"))
        failed = False

        async def fail_once_behind_a_restart() -> None:
            nonlocal failed
            if engine._flusher.generation == 2 and not failed:
                failed = True
                raise RuntimeError("injected")

        engine.before_flush(fail_once_behind_a_restart)
        for round_number in range(4):
            for index in range(3):
                name = f"{round_number}-{index}"
                engine.transact(put, name, "x" * 3000 * index)
                engine.transact(put, "same", name)
                await engine.barrier()
                recorder.note(name)
            engine.transact(put, f"{round_number}-tail")
            # Where the flush behind it fails, the next one begins the log with several frames.
            with suppress(RuntimeError):
                assert await engine.checkpoint()
    assert failed
    cuts = 0
    for number, variation, files in recorder.cuts(base):
        cuts += 1
        for drive in ("d1", "d2"):
            one = {p: c for p, c in files.items() if p.is_relative_to(pool.path(drive))}
            after = tmp_path / "cut" / f"{number}{variation}{drive}"
            restore(one, pool.path(drive), after)
            assert recorder.acknowledged(number) <= sqlite_rows(after), (number, variation, drive)
    assert cuts > 50


@pytest.mark.slow
async def test_engine_opens_on_the_copies_at_any_cut(tmp_path: Path) -> None:
    pool, recorder = Pool(tmp_path / "live", 3), Recorder()
    async with pool.open(create=True) as engine:
        pass
    async with pool.open(folder_type=recorder.folder_type()) as engine:
        recorder.steps.clear()
        base = snapshot(pool.path("d1")) | snapshot(pool.path("d2"))
        for index in range(3):
            engine.transact(put, f"k{index}")
            await engine.barrier()
            recorder.note(f"k{index}")
        assert await engine.checkpoint()
        engine.transact(put, "k3")
        await engine.barrier()
        recorder.note("k3")
        used = len(recorder.steps)
    for number, variation, files in recorder.cuts(base):
        if number > used:
            break
        if variation not in ("lost", "torn", "late"):
            continue
        after = Pool(tmp_path / "cut" / f"{number}{variation}", 3)
        restore(files, tmp_path / "live", after.base)
        reboot(after)
        async with after.open() as engine:
            for name in recorder.acknowledged(number):
                assert engine.read(get, name) == "x", (number, variation)
            assert len(engine.copy_drives) == 2


@pytest.mark.slow
async def test_copy_being_built_never_says_it_is_whole_before_it_is(tmp_path: Path) -> None:
    pool, recorder = Pool(tmp_path / "live", 2), Recorder()
    async with pool.open(pool.without("d1"), create=True) as engine:
        for index in range(5):
            engine.transact(put, f"old{index}", "x" * 3000)
        await engine.barrier()
    base = snapshot(pool.path("d1"))
    async with pool.open(folder_type=recorder.folder_type()) as engine:
        engine.transact(put, "new")
        await engine.barrier()
        recorder.note("new")
        assert await engine.checkpoint()
    whole = 0
    for number, variation, files in recorder.cuts(base):
        if pool.path("d1") / STATE in files:
            whole += 1
            after = tmp_path / "cut" / f"{number}{variation}"
            restore(files, pool.path("d1"), after)
            rows = sqlite_rows(after)
            assert {f"old{i}" for i in range(5)} | recorder.acknowledged(number) <= rows
    assert whole > 5
