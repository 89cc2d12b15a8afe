"""SIGTERM: what is under way finishes, the mount goes, and the next start finds all in order."""

from __future__ import annotations

import http.client
import os
import signal
import time
from urllib.parse import urlsplit

import pytest

from tests.crash.checker import Checker
from tests.crash.content import Piece
from tests.crash.inspection import database_faults
from tests.daemon.harness import DaemonHarness
from tests.fault.conftest import StartDaemon
from tests.fault.watching import wait_until

MiB = 1 << 20
BUCKET = "bucket"
_DEADLINE_S = 8.0
_COPIES = 3


class SlowPut:
    """A PUT of which the first half was sent."""

    def __init__(self, harness: DaemonHarness, number: int) -> None:
        self.key = f"slow-{number}"
        self.piece = Piece(number, 4 * MiB)
        target = {"Bucket": BUCKET, "Key": self.key}
        url = urlsplit(harness.client().generate_presigned_url("put_object", Params=target))
        self._connection = http.client.HTTPConnection(url.netloc, timeout=30)
        self._connection.putrequest("PUT", f"{url.path}?{url.query}")
        self._connection.putheader("Content-Length", str(self.piece.size))
        self._connection.endheaders()
        self._connection.send(self.piece.view()[: self.piece.size // 2])

    def finish(self) -> int:
        """Send the rest; the status of the answer."""
        self._connection.send(self.piece.view()[self.piece.size // 2 :])
        with self._connection.getresponse() as answer:
            answer.read()
            return answer.status


@pytest.mark.slow
def test_uploads_under_way_finish_before_the_daemon_ends(daemon: StartDaemon) -> None:
    harness = daemon(settings={"stop.deadline_s": 30})
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    puts = [SlowPut(harness, number) for number in range(4)]
    process = harness.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping" in harness.log(), "it is stopping", harness)
    assert [put.finish() for put in puts] == [200] * 4
    assert process.wait(30) == 0
    assert not harness.is_mounted()
    assert database_faults(harness.drives, harness.folder, copies=_COPIES) == []
    harness.start()
    for put in puts:
        answer = client.get_object(Bucket=BUCKET, Key=put.key)
        assert answer["Body"].read() == put.piece.view()


@pytest.mark.slow
def test_an_upload_that_never_ends_is_cut_off_at_the_deadline(daemon: StartDaemon) -> None:
    harness = daemon(settings={"stop.deadline_s": 1})
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="whole", Body=b"whole" * 100_000)
    put = SlowPut(harness, 1)
    began = time.monotonic()
    assert harness.stop() == 0
    assert time.monotonic() - began < _DEADLINE_S
    assert not harness.is_mounted()
    harness.start()
    listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert [row["Key"] for row in listed] == ["whole"], put.key
    assert client.get_object(Bucket=BUCKET, Key="whole")["Body"].read() == b"whole" * 100_000


@pytest.mark.slow
def test_a_stop_under_mixed_load_ends_clean_and_keeps_every_promise(harness: DaemonHarness) -> None:
    checker = Checker(harness, seed=7)
    for _ in range(3):
        checker.load(0.5, end=lambda: _stopped(harness))
        assert not harness.is_mounted()
        assert database_faults(harness.drives, harness.folder, copies=_COPIES) == []
        harness.start()
        checker.verify(everything=True)


@pytest.mark.slow
def test_files_written_and_never_synced_are_there_after_a_stop(daemon: StartDaemon) -> None:
    harness = daemon(settings={"metadata.flush_interval_s": 60})
    if not harness.is_mounted():
        pytest.skip("needs /dev/fuse")
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    closed = Piece(1, 3 * MiB)
    (harness.mount / BUCKET / "closed").write_bytes(closed.view())
    held = os.open(harness.mount / BUCKET / "open", os.O_CREAT | os.O_WRONLY)
    try:
        os.write(held, b"written, but neither closed nor synced")
        assert harness.stop() == 0
    finally:
        try:
            os.close(held)
        except OSError:
            pass  # its server is gone
    harness.start()
    assert client.get_object(Bucket=BUCKET, Key="closed")["Body"].read() == closed.view()
    answer = client.get_object(Bucket=BUCKET, Key="open")
    assert answer["Body"].read() == b"written, but neither closed nor synced"


def _stopped(harness: DaemonHarness) -> None:
    assert harness.stop() == 0, harness.log_tail()
