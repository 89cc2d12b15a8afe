"""The drive that holds the primary database goes: the daemon goes on by itself, on a copy."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.crash.content import Piece
from tests.crash.inspection import database_faults
from tests.daemon.harness import DaemonHarness
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.watching import away, primary_drive, wait_ready, wait_until

MiB = 1 << 20
BUCKET = "bucket"
_SIZES = (0, 100, 20_000, MiB + 1)
_COPIES = 3
# As an SDK in production has them, and some more for slow machines.
_RETRIES = {"max_attempts": 12, "mode": "standard"}


class Writer:
    """One client that puts objects without a pause. A context: leaving it ends the stream."""

    def __init__(self, harness: DaemonHarness) -> None:
        self.stored: dict[str, Piece] = {}
        self.failures: list[Exception] = []
        self._client = harness.client(retries=_RETRIES)
        self._ending = threading.Event()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        self.wait_more(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join(60)

    def wait_more(self, count: int) -> None:
        """Wait until that many more were acknowledged."""
        with self._progress:
            wanted = len(self.stored) + count
            done = self._progress.wait_for(
                lambda: len(self.stored) >= wanted or bool(self.failures), timeout=60
            )
        assert done and not self.failures, f"{len(self.stored)} of {wanted}: {self.failures}"

    def _run(self) -> None:
        number = 0
        while not self._ending.is_set():
            key, piece = f"k{number:05}", Piece(number, _SIZES[number % len(_SIZES)])
            try:
                self._client.put_object(Bucket=BUCKET, Key=key, Body=bytes(piece.view()))
            except (ClientError, BotoCoreError) as error:
                with self._progress:
                    self.failures.append(error)
                    self._progress.notify_all()
                return
            with self._progress:
                self.stored[key] = piece
                self._progress.notify_all()
            number += 1


def empty(drive: Path) -> None:
    """Everything on it is deleted, the folder itself stays."""
    shutil.rmtree(drive / "twofold")


def move(drive: Path) -> None:
    """It goes from its path, with everything on it."""
    drive.rename(away(drive))


@pytest.mark.slow
@pytest.mark.parametrize("lose", [empty, move], ids=["emptied", "moved away"])
def test_clients_that_retry_see_no_loss_when_the_primary_goes_under_load(
    daemon: StartDaemon, lose: Callable[[Path], None]
) -> None:
    harness = daemon()
    client = harness.client(retries=_RETRIES)
    client.create_bucket(Bucket=BUCKET)
    with Writer(harness) as writer:
        lost = primary_drive(harness)
        lose(harness.drives[lost])
        writer.wait_more(10)
        wait_until(lambda: primary_drive(harness) != lost, "another copy is primary", harness)
        writer.wait_more(10)
    assert writer.failures == []
    _all_there(client, writer.stored)
    assert harness.status()["restarts"] == 1
    wait_until(lambda: len(_copies(harness)) == _COPIES, "a new copy was made", harness)
    if harness.is_mounted():
        names = os.listdir(harness.mount / BUCKET)
        assert set(writer.stored) <= set(names)

    # The rest may lose another holder of a copy, and the power.
    harness.kill()
    shutil.rmtree(harness.drives[(lost + 1) % 4] / "twofold")
    harness.start()
    _all_there(client, writer.stored)
    assert harness.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("lose", [empty, move], ids=["emptied", "moved away"])
@pytest.mark.parametrize("crash", [True, False], ids=["after a crash", "after a stop"])
def test_the_primary_lost_while_stopped_loses_nothing(
    daemon: StartDaemon, lose: Callable[[Path], None], crash: bool
) -> None:
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    with Writer(harness) as writer:
        writer.wait_more(20)
        lost = primary_drive(harness)
    if crash:
        harness.kill()
    else:
        assert harness.stop() == 0
    lose(harness.drives[lost])
    harness.start()
    assert primary_drive(harness) != lost
    _all_there(client, writer.stored)
    client.put_object(Bucket=BUCKET, Key="after", Body=b"after")
    assert harness.stop() == 0
    others = [drive for number, drive in enumerate(harness.drives) if number != lost]
    assert database_faults(others, harness.folder, copies=_COPIES) == []


@pytest.mark.slow
def test_the_primary_on_a_drive_that_fails_every_call(
    loops: MakeLoops, daemon: StartDaemon
) -> None:
    drives = loops(4, 256 * MiB)
    harness = daemon()
    client = harness.client(retries=_RETRIES)
    client.create_bucket(Bucket=BUCKET)
    with Writer(harness) as writer:
        lost = primary_drive(harness)
        drives[lost].unplug()
        writer.wait_more(20)
    assert writer.failures == []
    wait_ready(harness)
    _all_there(client, writer.stored)
    harness.kill()
    harness.start()
    _all_there(client, writer.stored)


def _copies(harness: DaemonHarness) -> list[Any]:
    copies: list[Any] = harness.status()["pool"]["copies"]
    return copies


def _all_there(client: Any, stored: dict[str, Piece]) -> None:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    listed = {row["Key"] for page in pages for row in page.get("Contents", [])}
    assert set(stored) <= listed
    for key, piece in stored.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == piece.view(), key
