"""The daemon's memory under many uploads at once: bounded by how many, not by how large.

The issue: under 400 MiB resident with 64 uploads of 100 MiB. In CI 16 of 20 MiB, under 220 MiB;
TWOFOLD_FULL=1 makes it the issue's.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.cases.conftest import FULL
from tests.cases.doors import keys, pieces
from tests.daemon.harness import DaemonHarness

COUNT, SIZE, BOUND = (64, 100 << 20, 400 << 20) if FULL else (16, 20 << 20, 220 << 20)


def peak_bytes(harness: DaemonHarness) -> int:
    """The most memory the daemon ever occupied."""
    assert harness.process is not None
    with open(f"/proc/{harness.process.pid}/status") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def test_uploads_at_once_stay_within_the_bound(
    harness: DaemonHarness, s3: Any, bucket: str
) -> None:
    gate = threading.Barrier(COUNT)

    def upload(index: int) -> None:
        # A plain client that sends pieces as it makes them: boto3 would hold bodies in memory.
        url = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": f"{index:03d}"})
        digest = hashlib.md5(usedforsecurity=False)

        def body() -> Iterator[bytes]:
            for piece in pieces(SIZE):
                digest.update(piece)
                yield piece

        connection = http.client.HTTPConnection("127.0.0.1", harness.s3_port, timeout=240)
        gate.wait(60)
        target = url.removeprefix(harness.endpoint)
        # A server that refuses says why before it hangs up.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("PUT", target, body(), {"Content-Length": str(SIZE)})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers["ETag"] == f'"{digest.hexdigest()}"'
        connection.close()

    with ThreadPoolExecutor(COUNT) as pool:
        list(pool.map(upload, range(COUNT)))
    assert keys(s3, bucket) == [f"{index:03d}" for index in range(COUNT)]
    assert peak_bytes(harness) < BOUND, f"{peak_bytes(harness) >> 20} MiB"
