"""Drives come and go under load, and the daemon is killed in the middle of it.

TWOFOLD_FULL=1: also sixteen drives, drives of several sizes, and drives without room.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.daemon.harness import DaemonHarness
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.loops import LoopDrive
from tests.fault.watching import away, wait_until
from tests.faultrows import FaultRow

BUCKET = "bucket"
MiB = 1 << 20
FULL = pytest.mark.skipif(not os.environ.get("TWOFOLD_FULL"), reason="TWOFOLD_FULL=1 asks for it")
SLOW = {"heal.rate_bytes_s": MiB // 2}
"""So that there is a middle, however busy the machine is."""
FAST = {"heal.rate_bytes_s": 0}
Report = dict[str, Any]


class Load:
    """Puts, gets, deletes, and reads of the mount, one after the other, until the block is left.

    kept: what each key may hold; more than one thing after an error.
    """

    def __init__(self, harness: DaemonHarness) -> None:
        self.kept: dict[str, list[bytes | None]] = {}
        self.count = 0
        self._harness = harness
        self._noise = random.Random(7)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._client = harness.client(retries={"max_attempts": 8, "mode": "standard"})

    def __enter__(self) -> Load:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def fill(self, count: int, size: int = 600_000) -> None:
        """So many objects."""
        for number in range(count):
            self._put(f"k{number}", size + number)

    def check(self) -> None:
        """Every key holds what it may."""
        for key in self.kept:
            assert self._get(key), key

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.02):
                key = f"k{self._noise.randrange(10)}"
                with contextlib.suppress(BotoCoreError, ClientError, OSError):
                    self._step(key)
                self.count += 1
        except BaseException as error:
            self._failure = error

    def _step(self, key: str) -> None:
        match self._noise.randrange(6):
            case 0:
                self._change(key, None, lambda: self._client.delete_object(Bucket=BUCKET, Key=key))
            case 1 | 2:
                self._put(key, self._noise.randrange(17_000, 700_000))
            case 3 | 4:
                assert self._get(key), key
            case 5 if self._harness.is_mounted():
                with contextlib.suppress(FileNotFoundError):
                    found = (self._harness.mount / BUCKET / key).read_bytes()
                    assert found in self.kept[key], key

    def _put(self, key: str, size: int) -> None:
        body = random.Random(f"{key} {size} {self.count}").randbytes(size)
        self._change(key, body, lambda: self._client.put_object(Bucket=BUCKET, Key=key, Body=body))

    def _change(self, key: str, body: bytes | None, do: Callable[[], object]) -> None:
        may = self.kept.get(key, [None])
        self.kept[key] = [*may, body]
        do()
        self.kept[key] = [body]

    def _get(self, key: str) -> bool:
        try:
            found = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            found = None
        return found in self.kept.get(key, [None])


def _order(harness: DaemonHarness, *words: str) -> subprocess.CompletedProcess[str]:
    return harness.run("drive", *words, "--config", str(harness.config_file))


def _done(harness: DaemonHarness, *words: str) -> str:
    result = _order(harness, *words)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def _drives(report: Report) -> dict[str, Report]:
    return {each["path"]: each for each in report["pool"]["drives"]} if report["pool"] else {}


def _state(report: Report) -> str:
    return str(report["pool"]["rebalance"]["state"]) if report["pool"] else ""


def _kill_in_the_middle(harness: DaemonHarness, state: str) -> None:
    harness.wait_for(
        lambda report: _state(report) == state and report["pool"]["rebalance"]["bytes_left"] > 0
    )
    harness.kill()
    harness.change(FAST)
    harness.start()


def _gone(harness: DaemonHarness, drive: Path, *, is_mount: bool = False) -> None:
    """Wait until it left the pool; it is of no use any more."""
    harness.wait_for(lambda report: bool(found := _drives(report)) and str(drive) not in found, 90)
    if not is_mount:
        drive.rename(away(drive))


def _sound(harness: DaemonHarness) -> None:
    result = harness.run("fsck", str(harness.config_file))
    assert result.returncode == 0, result.stdout
    assert harness.run("scrub", "start", "--config", str(harness.config_file)).returncode == 0

    def done(report: Report) -> bool:
        scrub = report["pool"]["scrub"]
        return scrub["last"] is not None and scrub["state"] == "resting"

    last = harness.wait_for(done, 90)["pool"]["scrub"]["last"]
    assert (last["damaged"], last["lost_stripes"], last["violations"]) == (0, 0, 0)


def _without(harness: DaemonHarness, load: Load, *drives: Path) -> None:
    """All reads without these drives."""
    harness.kill()
    for drive in drives:
        drive.rename(away(drive))
    harness.start(wait=False)  # It is not ready where one drive is too few to write.
    wait_until(lambda: _serves(harness), "S3 answers", harness)
    load.check()
    harness.kill()


def _serves(harness: DaemonHarness) -> bool:
    try:
        harness.client().list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


@pytest.mark.slow
def test_four_drives_become_two_and_not_one(daemon: StartDaemon, fault_row: FaultRow) -> None:
    harness = daemon(settings=SLOW)
    harness.client().create_bucket(Bucket=BUCKET)
    load = Load(harness)
    load.fill(8)
    first, second, third, last = harness.drives
    with load:
        told = _done(harness, "drain", str(first))
        assert "rewritten as 1 data + 2 parity" in told
        assert "draining" in _done(harness, "list")
        _kill_in_the_middle(harness, "rewriting")
        _gone(harness, first)
    assert load.count > 10
    _sound(harness)
    load.check()
    assert harness.stop() == 0
    harness.start()
    told = _done(harness, "drain", str(second))
    assert "rewritten as 1 data + 1 parity" in told
    assert "1 drive may be lost from then on, not 2" in told
    _gone(harness, second)
    refused = _order(harness, "drain", str(third))
    assert refused.returncode == 1
    assert "nothing may be lost: add a drive first" in refused.stderr
    _sound(harness)
    load.check()
    _without(harness, load, third)
    assert last.exists()
    fault_row(
        "a drive that every segment spans is drained, from 4 to 3 to 2 drives and from 16 "
        "to 15, under load, and the daemon is killed meanwhile",
        client="refused connections, then service",
        status="rewriting, how much is left",
    )


@FULL
@pytest.mark.slow
def test_one_of_sixteen_drives_leaves(daemon: StartDaemon) -> None:
    harness = daemon(drives=16, settings=SLOW)
    harness.client().create_bucket(Bucket=BUCKET)
    load = Load(harness)
    load.fill(16)
    with load:
        assert "rewritten as 11 data + 4 parity" in _done(harness, "drain", str(harness.drives[5]))
        _kill_in_the_middle(harness, "rewriting")
        _gone(harness, harness.drives[5])
    _sound(harness)
    load.check()
    _without(harness, load, *harness.drives[:4])


@pytest.mark.slow
def test_a_pool_that_grew_is_rewritten_when_asked(daemon: StartDaemon) -> None:
    harness = daemon(settings=SLOW)
    harness.client().create_bucket(Bucket=BUCKET)
    load = Load(harness)
    load.fill(8)
    more = harness.folder / "more"
    with load:
        _done(harness, "add", str(more))
        assert "rewritten as 3 data + 2 parity" in _done(harness, "rebalance", "--geometry")
        _kill_in_the_middle(harness, "rewriting")
        assert _done(harness, "rebalance", "--pause").startswith("paused")
        _done(harness, "rebalance", "--geometry")
        harness.wait_for(lambda report: report["pool"]["rebalance"]["old_segments"] == 0, 90)
    harness.wait_for(lambda report: _state(report) == "idle", 60)
    assert harness.status()["pool"]["rebalance"]["history"]
    _sound(harness)
    _without(harness, load, *harness.drives[:2])


@FULL
@pytest.mark.slow
def test_drives_of_other_sizes_take_their_share(
    loops: MakeLoops, daemon: StartDaemon, fault_row: FaultRow
) -> None:
    loops(4, 128 * MiB)
    harness = daemon(settings={**SLOW, "pool.segment_bytes": 16 * MiB})
    harness.client().create_bucket(Bucket=BUCKET)
    load = Load(harness)
    load.fill(16, 4 * MiB)
    with (
        LoopDrive(harness.folder / "bigger", 256 * MiB) as bigger,
        LoopDrive(harness.folder / "smaller", 96 * MiB) as smaller,
    ):
        for drive in (bigger, smaller):
            _done(harness, "add", str(drive.path))
        harness.kill()
        harness.start()
        with load:
            _done(harness, "rebalance")
            _kill_in_the_middle(harness, "evening")

            def is_even(report: Report) -> bool:
                rebalance = report["pool"]["rebalance"]
                return bool(rebalance["history"]) and rebalance["want"] == ""

            report = harness.wait_for(is_even, 90)
        drives = _drives(report)
        assert drives[str(bigger.path)]["segments"] > drives[str(smaller.path)]["segments"] > 0
        assert report["pool"]["rebalance"]["spread_points"] < 25  # A member may be 18.
        _sound(harness)
        load.check()
        assert harness.stop() == 0
    fault_row(
        "drives of other sizes are added, and members moved, under load, and the daemon "
        "is killed meanwhile",
        client="refused connections, then service",
        status="evening, how much is left",
    )


@FULL
@pytest.mark.slow
def test_without_room_a_drain_is_refused_or_waits(
    loops: MakeLoops, daemon: StartDaemon, fault_row: FaultRow
) -> None:
    loops(4, 128 * MiB)
    harness = daemon(settings={"heal.rate_bytes_s": 6 * MiB})
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    load = Load(harness)
    load.fill(16, 7 * MiB)
    drive = harness.drives[3]
    refused = _order(harness, "drain", str(drive))
    assert refused.returncode == 1
    assert "have no room for the" in refused.stderr
    for number in range(8):
        client.delete_object(Bucket=BUCKET, Key=f"k{number}")
        load.kept[f"k{number}"] = [None]
    harness.wait_for(lambda _: _order(harness, "drain", str(drive)).returncode == 0)
    harness.wait_for(lambda report: _state(report) == "rewriting")
    # Somebody else takes the room meanwhile.
    ballast = harness.drives[0] / "ballast"
    with ballast.open("wb") as file:
        free = os.statvfs(ballast)
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 30 * MiB)
    report = harness.wait_for(lambda report: _state(report) == "waiting", 60)
    assert "room" in report["pool"]["rebalance"]["cause"]
    load.check()
    ballast.unlink()
    harness.kill()
    harness.change(FAST)
    harness.start()
    _gone(harness, drive, is_mount=True)
    _sound(harness)
    load.check()
    fault_row(
        "a drain has no room",
        client="nothing",
        status="refused in a sentence, or waiting where room ran out on the way",
    )
