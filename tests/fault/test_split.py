"""A pool that is started with half of its drives, and then with the other half."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.daemon.harness import DaemonDied, DaemonHarness
from tests.fault.conftest import StartDaemon
from tests.fault.watching import move_away, move_back, wait_until
from tests.faultrows import FaultRow

BUCKET = "bucket"


@pytest.mark.slow
def test_the_other_half_of_a_pool_does_not_go_on_from_old_metadata(
    daemon: StartDaemon, fault_row: FaultRow
) -> None:
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    _put(client, "before")
    _stop_and_swap(harness, away=(2, 3), back=())
    harness.start()  # As many are missing as there is parity, and the witness knows of nobody else.
    _put(client, "with one half")

    _stop_and_swap(harness, away=(0, 1), back=(2, 3))
    with pytest.raises(DaemonDied, match="went on with other drives"):
        harness.start()
    assert "--accept-missing" in harness.run("serve", "--help").stdout

    for number in (0, 1):
        move_back(harness, number)
    harness.start()
    assert _keys(client) == {"before", "with one half"}
    fault_row(
        "a pool is started with half of its drives, and then with the other half",
        client="the second start is refused",
        status="the pool went on with other drives, which are named",
    )


@pytest.mark.slow
def test_halves_that_went_on_without_each_other_are_not_joined(
    daemon: StartDaemon, fault_row: FaultRow
) -> None:
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    _put(client, "before")
    _stop_and_swap(harness, away=(2, 3), back=())
    harness.start()
    _put(client, "with one half")
    _stop_and_swap(harness, away=(0, 1), back=(2, 3))
    harness._settings["pool.accept_missing"] = True
    harness.start()
    assert _keys(client) == {"before"}
    _put(client, "with the other half")

    harness._settings["pool.accept_missing"] = False
    _stop_and_swap(harness, away=(), back=(0, 1))
    with pytest.raises(DaemonDied, match="went on without each other"):
        harness.start()
    # Whoever decides for one side empties the drives of the other.
    for number in (0, 1):
        shutil.rmtree(harness.drives[number])
        harness.drives[number].mkdir()
    harness.start()
    wait_until(lambda: _states(harness) == {"online"}, "all drives are back", harness)
    assert _keys(client) == {"before", "with the other half"}
    assert client.get_object(Bucket=BUCKET, Key="before")["Body"].read() == b"x" * 100_000
    fault_row(
        "halves of a pool went on without each other (`--accept-missing`, or on two machines)",
        client="the start with both is refused",
        status="both sides are named",
        lost="what one side wrote: whoever runs the store chooses which",
    )


def _stop_and_swap(harness: DaemonHarness, away: tuple[int, ...], back: tuple[int, ...]) -> None:
    assert harness.stop() == 0
    for number in away:
        move_away(harness, number)
    for number in back:
        move_back(harness, number)


def _states(harness: DaemonHarness) -> set[str]:
    return {drive["state"] for drive in harness.status()["pool"]["drives"]}


def _put(client: Any, key: str) -> None:
    client.put_object(Bucket=BUCKET, Key=key, Body=b"x" * 100_000)


def _keys(client: Any) -> set[str]:
    return {row["Key"] for row in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
