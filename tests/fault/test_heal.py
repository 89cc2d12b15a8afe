"""Drives emptied, replaced, away for a while or rotten under a real daemon: it heals unasked.

What shows it: once heal is through, as many other drives are taken away as may be lost, and every
byte is still there.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.crash.content import Piece
from tests.daemon.harness import DaemonHarness
from tests.fault.conftest import StartDaemon
from tests.fault.watching import move_away, move_back, wait_drive, wait_until
from tests.faultrows import FaultRow

MiB = 1 << 20
BUCKET = "bucket"
AT_ONCE = {"heal.wait_s": 0}
PATIENT = {"retries": {"max_attempts": 8, "mode": "standard"}}


def _body(seed: int) -> bytes:
    """Small ones inline, large ones on the drives."""
    sizes = (10, 20_000, 300_000, 3 * MiB + 17)
    return bytes(Piece(seed, sizes[seed % len(sizes)], 0).view())


def _fill(client: Any, count: int = 24, first: int = 0) -> dict[str, int]:
    for seed in range(first, first + count):
        client.put_object(Bucket=BUCKET, Key=f"k{seed}", Body=_body(seed))
    return {f"k{seed}": seed for seed in range(first, first + count)}


def _check(client: Any, kept: dict[str, int]) -> None:
    for key, seed in kept.items():
        found = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert found == _body(seed), key


def _heal(harness: DaemonHarness) -> dict[str, Any]:
    while (pool := harness.status()["pool"]) is None:
        time.sleep(0.05)  # It restarts on a copy.
    heal: dict[str, Any] = pool["heal"]
    return heal


def _wait_healed(harness: DaemonHarness, episodes: int = 1, within_s: float = 60) -> None:
    """Until so many episodes are over and nothing is left."""

    def healed() -> bool:
        heal = _heal(harness)
        return heal["state"] == "idle" and len(heal["history"]) >= episodes and not heal["suspects"]

    wait_until(healed, "everything is healed", harness, within_s)


def _wait_copies(harness: DaemonHarness) -> None:
    def whole() -> bool:
        pool = harness.status()["pool"]
        return pool is not None and len(pool["copies"]) == int(pool["copies_wanted"])

    wait_until(whole, "the metadata has all its copies", harness)


def _empty(harness: DaemonHarness, *numbers: int) -> None:
    """As if new drives were mounted in place of these."""
    for number in numbers:
        path = harness.drives[number]
        path.rename(path.with_name(f"{path.name}.old"))
        path.mkdir()
        shutil.rmtree(path.with_name(f"{path.name}.old"))


def _lose_others(harness: DaemonHarness, kept: dict[str, int], *numbers: int) -> None:
    harness.stop()
    for number in numbers:
        move_away(harness, number)
    harness.start()
    _check(harness.client(**PATIENT), kept)
    assert harness.status()["pool"]["heal"]["given_up_segments"] == 0


@contextmanager
def _load(harness: DaemonHarness, kept: dict[str, int]) -> Iterator[list[str]]:
    """A client that writes and reads all the while, with the retries that SDKs do by themselves."""
    done = threading.Event()
    failed: list[str] = []

    def work() -> None:
        client = harness.client(**PATIENT)
        seed = 1000
        while not done.is_set():
            try:
                kept.update(_fill(client, 1, seed))
                _check(client, {f"k{seed}": seed, "k3": 3})
            except Exception as error:
                failed.append(repr(error))
            seed += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield failed
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2], ids=["with the primary", "another"])
@pytest.mark.parametrize("running", [True, False], ids=["while running", "while stopped"])
def test_an_emptied_drive_is_filled_again(
    daemon: StartDaemon, running: bool, number: int, fault_row: FaultRow
) -> None:
    harness = daemon(settings=AT_ONCE)
    client = harness.client(**PATIENT)
    client.create_bucket(Bucket=BUCKET)
    kept = _fill(client)
    if not running:
        assert harness.stop() == 0
    _empty(harness, number)
    if not running:
        harness.start()
    wait_drive(harness, number, "online")
    _wait_healed(harness)
    _wait_copies(harness)
    kept |= _fill(client, 4, 100)
    _lose_others(harness, kept, *({1, 3} if number in (0, 2) else {0, 2}))
    fault_row(
        "a drive is emptied, or an empty one mounted in its place, the primary's among them",
        client="nothing beyond an SDK's own retries",
        status="the drive is back and empty; healing",
    )


@pytest.mark.slow
def test_drives_that_missed_writes_get_them_when_they_are_back(
    daemon: StartDaemon, fault_row: FaultRow
) -> None:
    harness = daemon()
    client = harness.client(**PATIENT)
    client.create_bucket(Bucket=BUCKET)
    with _load(harness, kept := _fill(client)) as failed:
        for number in (1, 2):
            move_away(harness, number)
        for number in (1, 2):
            wait_drive(harness, number, "offline")
        kept |= _fill(client, 8, 100)
        for number in (1, 2):
            move_back(harness, number)
        for number in (1, 2):
            wait_drive(harness, number, "online")
        kept |= _fill(client, 8, 200)
    assert failed == []
    _wait_healed(harness)
    _wait_copies(harness)
    # What was written while two were away is 1+1 on the other two: those are still needed,
    # one of each pair may go.
    _lose_others(harness, kept, 0)
    fault_row(
        "a drive is away while others are written, and comes back",
        client="nothing",
        status="the drive was away and is being looked through; healing",
    )


@pytest.mark.slow
def test_heal_that_is_killed_again_and_again_ends_all_the_same(
    daemon: StartDaemon, fault_row: FaultRow
) -> None:
    harness = daemon(
        settings={**AT_ONCE, "heal.rate_bytes_s": 8 * MiB, "pool.segment_bytes": 16 << 20}
    )
    client = harness.client(**PATIENT)
    client.create_bucket(Bucket=BUCKET)
    kept = _fill(client, 64)
    _empty(harness, 3)
    wait_until(lambda: _heal(harness)["state"] == "healing", "heal begins", harness)
    for turn in range(4):
        time.sleep(0.3 * turn)
        harness.kill()
        harness.start()
        kept |= _fill(client, 2, 100 + 2 * turn)
    _wait_healed(harness, within_s=120)
    _check(client, kept)
    _wait_copies(harness)
    _lose_others(harness, kept, 0, 1)
    fault_row(
        "the daemon is killed while it heals, again and again",
        client="refused connections, then service",
        status="healing goes on",
    )
    fault_row("writes, deletes and heal at once", client="nothing", status="healing")


@pytest.mark.slow
def test_four_of_sixteen_drives_emptied_at_once_under_load(
    daemon: StartDaemon, fault_row: FaultRow
) -> None:
    harness = daemon(drives=16, settings=AT_ONCE)
    client = harness.client(**PATIENT)
    client.create_bucket(Bucket=BUCKET)
    kept = _fill(client, 32)
    assert (harness.status()["pool"]["k"], harness.status()["pool"]["m"]) == (12, 4)
    with _load(harness, kept) as failed:
        _empty(harness, 2, 5, 9, 15)
        for number in (2, 5, 9, 15):
            wait_drive(harness, number, "online")
        _wait_healed(harness)
    assert failed == []
    _wait_healed(harness)
    _wait_copies(harness)
    _lose_others(harness, kept, 1, 3, 4, 8)
    fault_row(
        "four of sixteen drives (12+4) are emptied at once under load",
        client="nothing beyond an SDK's own retries",
        status="healing",
    )


@pytest.mark.slow
@pytest.mark.parametrize("drives", [2, 3, 5])
def test_small_pools_heal_an_emptied_drive(daemon: StartDaemon, drives: int) -> None:
    harness = daemon(drives=drives, settings={**AT_ONCE, "pool.allow_single_copy": True})
    client = harness.client(**PATIENT)
    client.create_bucket(Bucket=BUCKET)
    kept = _fill(client)
    _empty(harness, 1)
    wait_drive(harness, 1, "online")
    _wait_healed(harness)
    _wait_copies(harness)
    _lose_others(harness, kept, 0)
