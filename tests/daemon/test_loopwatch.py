"""Whose loop hangs gives up, and nobody else; drives that don't answer are left out."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
import trio

from daemon import loopwatch, patience
from daemon.loopwatch import LoopWatch
from metadb import trial
from metadb.sqlite import CopyPlace
from store.chunks.label import format_drives
from store.chunks.pool import open_drives
from store.chunks.types import DriveState
from tests.faultrows import FaultRow

BEAT_S = 0.02


def sleep_in_the_kernel(until: threading.Event) -> None:
    """As a write to a drive that hangs: without the GIL, and without CPU time."""
    until.wait(30)


def compute(until: threading.Event) -> None:
    """As a transaction over very many rows."""
    while not until.is_set():
        sum(range(1000))


async def watched(watch: LoopWatch, block: object, until: threading.Event) -> None:
    """Run the loop with `block(until)` on it."""
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        block(until)  # type: ignore[operator]
        nursery.cancel_scope.cancel()


def test_a_loop_that_hangs_gives_up_and_says_where(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopwatch, "LATE_S", BEAT_S)
    given_up = threading.Event()
    watch = LoopWatch(5 * BEAT_S, given_up.set, beat_s=BEAT_S)
    trio.run(watched, watch, sleep_in_the_kernel, given_up)
    assert given_up.is_set()
    assert "giving up" in caplog.text
    assert "sleep_in_the_kernel (test_loopwatch.py:" in caplog.text


def test_a_loop_that_computes_is_told_of_and_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopwatch, "LATE_S", BEAT_S)
    given_up, enough = threading.Event(), threading.Event()
    watch = LoopWatch(5 * BEAT_S, given_up.set, beat_s=BEAT_S)
    threading.Timer(20 * BEAT_S, enough.set).start()
    trio.run(watched, watch, compute, enough)
    assert not given_up.is_set()
    assert "the loop is busy" in caplog.text


def test_a_loop_that_turns_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    given_up = threading.Event()

    async def turn() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(LoopWatch(1.0, given_up.set, beat_s=BEAT_S).run)
            await trio.sleep(5 * BEAT_S)
            nursery.cancel_scope.cancel()

    trio.run(turn)
    assert not given_up.is_set()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_drive_whose_label_is_not_answered_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault_row: FaultRow
) -> None:
    paths = [tmp_path / f"d{number}" for number in range(4)]
    format_drives(paths)
    monkeypatch.setattr(patience, "ANSWER_S", 0.2)
    ended = threading.Event()

    class Hanging(patience.PatientIO):
        def attach(self):  # type: ignore[no-untyped-def]
            if self.path == paths[2]:
                return patience.within(0.05, lambda: ended.wait(30))
            return super().attach()

    pool = open_drives(paths, io=Hanging)
    ended.set()
    try:
        assert pool.drives[2].state is DriveState.OFFLINE
        assert pool.drives[2].cause == "it does not answer"
        assert [drive.state for drive in pool.drives].count(DriveState.ONLINE) == 3
    finally:
        pool.close()
    fault_row(
        "a drive does not answer when the daemon starts",
        client="nothing, but the start takes half a minute more",
        status=f"offline: {pool.drives[2].cause}",
    )


async def test_only_drives_that_take_no_write_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [CopyPlace(drive=f"d{n}", path=tmp_path / f"d{n}") for n in range(3)]
    places[0].path.mkdir()
    places[1].path.mkdir()
    ended, real = threading.Event(), trial.write_trial

    def write(folder: Path) -> None:
        if folder == places[1].path:
            ended.wait(30)
        real(folder)

    monkeypatch.setattr(trial, "write_trial", write)
    begun_s = time.monotonic()
    # The third isn't there: that is no hang, and for others to find out.
    assert await trial.hanging(places, 0.3) == [places[1]]
    assert time.monotonic() - begun_s < 20
    ended.set()
    assert list(places[0].path.iterdir()) == []


def test_what_was_kept_for_the_next_process_is_taken_once(tmp_path: Path) -> None:
    assert loopwatch.inherited_journal(tmp_path) == b""
    loopwatch._keep(tmp_path / "answered", b"steps")
    assert loopwatch.inherited_journal(tmp_path) == b"steps"
    assert loopwatch.inherited_journal(tmp_path) == b""


async def test_whole_drives_are_made_durable_and_those_that_fail_are_named(tmp_path: Path) -> None:
    places = [CopyPlace(drive=f"d{n}", path=tmp_path / f"d{n}") for n in range(2)]
    places[0].path.mkdir()
    assert await trial.sync_whole(places, 60) == [places[1]]
