"""Drives that can only be read: from the start, or because the file system found an error."""

from __future__ import annotations

from typing import Any

import pytest

from tests.crash.content import Piece
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.watching import drive_status, wait_drive, wait_ready, wait_until

MiB = 1 << 20
BUCKET = "bucket"


@pytest.mark.slow
def test_a_drive_mounted_read_only_is_read_and_not_written(
    loops: MakeLoops, daemon: StartDaemon
) -> None:
    drives = loops(4, 256 * MiB)
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    stored = {key: _put(client, key, n) for n, key in enumerate(("a", "b", "c"))}
    assert harness.stop() == 0
    drives[3].remount("ro")
    harness.start()
    assert drive_status(harness, 3)["state"] == "read-only"
    _all_there(client, stored)
    stored["d"] = _put(client, "d", 10)
    _all_there(client, stored)
    assert harness.stop() == 0
    drives[3].remount("rw")
    harness.start()
    wait_drive(harness, 3, "online")
    stored["e"] = _put(client, "e", 11)
    _all_there(client, stored)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 3], ids=["the primary's drive", "a drive of bytes"])
def test_a_drive_whose_file_system_fails_becomes_read_only_and_work_goes_on(
    loops: MakeLoops, daemon: StartDaemon, number: int
) -> None:
    drives = loops(4, 256 * MiB)
    harness = daemon()
    client = harness.client(retries={"max_attempts": 8, "mode": "standard"})
    client.create_bucket(Bucket=BUCKET)
    stored = {key: _put(client, key, n) for n, key in enumerate(("a", "b", "c"))}
    drives[number].fail()
    for n in range(20, 30):
        stored[f"k{n}"] = _put(client, f"k{n}", n)
    _all_there(client, stored)
    wait_until(lambda: drive_status(harness, number)["state"] != "online", "it is noticed", harness)
    wait_ready(harness)
    harness.kill()
    harness.start()
    _all_there(client, stored)


def _put(client: Any, key: str, seed: int) -> Piece:
    piece = Piece(seed, (100, 20_000, 3 * MiB)[seed % 3])
    client.put_object(Bucket=BUCKET, Key=key, Body=bytes(piece.view()))
    return piece


def _all_there(client: Any, stored: dict[str, Piece]) -> None:
    for key, piece in stored.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == piece.view(), key
