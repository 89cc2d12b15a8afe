"""Memory runs short: requests are refused, and what was answered is there."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.daemon.harness import DaemonHarness
from tests.fault.conftest import StartDaemon
from tests.faultrows import FaultRow

MiB = 1 << 20
BUCKET = "bucket"


@pytest.mark.slow
@pytest.mark.parametrize("spare_mib", [48, 96])
def test_when_memory_runs_short_requests_are_refused_and_the_daemon_goes_on(
    daemon: StartDaemon, spare_mib: int, fault_row: FaultRow
) -> None:
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    assert harness.process is not None
    _limit(harness, _address_space(harness) + spare_mib * MiB)
    with ThreadPoolExecutor(16) as workers:
        answers = dict(workers.map(lambda number: _put(client, number), range(48)))
    assert harness.process.poll() is None, harness.log_tail()
    _limit(harness, resource.RLIM_INFINITY)
    for number, answer in answers.items():
        if answer == "200":
            body = client.get_object(Bucket=BUCKET, Key=str(number))["Body"].read()
            assert body == _body(number)
    client.put_object(Bucket=BUCKET, Key="after", Body=_body(99))
    assert client.get_object(Bucket=BUCKET, Key="after")["Body"].read() == _body(99)
    assert {each["state"] for each in harness.status()["pool"]["drives"]} == {"online"}
    assert set(answers.values()) <= {"200", "503", "no answer"}
    fault_row(
        "the daemon gets no more memory",
        client="503 SlowDown or a connection that ends, then service; what was answered is there",
        status="nothing",
    )


def _put(client: Any, number: int) -> tuple[int, str]:
    try:
        client.put_object(Bucket=BUCKET, Key=str(number), Body=_body(number))
    except botocore.exceptions.ClientError as error:
        return number, str(error.response["ResponseMetadata"]["HTTPStatusCode"])
    except botocore.exceptions.BotoCoreError:
        return number, "no answer"
    return number, "200"


def _body(number: int) -> bytes:
    return bytes([number]) * (8 * MiB)


def _address_space(harness: DaemonHarness) -> int:
    assert harness.process is not None
    text = Path(f"/proc/{harness.process.pid}/statm").read_text()
    return int(text.split()[0]) * resource.getpagesize()


def _limit(harness: DaemonHarness, size_bytes: int) -> None:
    assert harness.process is not None
    hard = resource.RLIM_INFINITY
    resource.prlimit(harness.process.pid, resource.RLIMIT_AS, (size_bytes, hard))
