"""Drives that go away while work is under way, come back, or come back stale.

TWOFOLD_TEST_LARGE_MIB: size of large uploads and downloads (256; 1024 takes half a minute more).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from boto3.s3.transfer import TransferConfig

from tests.daemon.harness import HAS_FUSE, DaemonHarness
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.streams import Stream, difference
from tests.fault.watching import away, move_away, move_back, wait_drive, wait_until

MiB = 1 << 20
LARGE_BYTES = int(os.environ.get("TWOFOLD_TEST_LARGE_MIB", "256")) * MiB
BUCKET = "bucket"
needs_fuse = pytest.mark.skipif(not HAS_FUSE, reason="needs /dev/fuse")


@pytest.mark.slow
def test_upload_goes_on_when_a_drive_and_then_another_is_moved_away(daemon: StartDaemon) -> None:
    harness = daemon()
    actions = {
        LARGE_BYTES // 4: lambda: move_away(harness, 1),
        LARGE_BYTES // 2: lambda: _move_away_noticed(harness, 3),
    }
    _upload(harness, Stream(1, LARGE_BYTES, actions))
    _same_through_both_doors(harness, Stream(1, LARGE_BYTES))


@pytest.mark.slow
def test_download_goes_on_when_a_drive_and_then_another_is_moved_away(daemon: StartDaemon) -> None:
    harness = daemon()
    _upload(harness, Stream(2, LARGE_BYTES))
    actions = {
        LARGE_BYTES // 4: lambda: move_away(harness, 0),
        LARGE_BYTES // 2: lambda: _move_away_noticed(harness, 2),
    }
    answer = harness.client().get_object(Bucket=BUCKET, Key="large")
    assert difference(answer["Body"], Stream(2, LARGE_BYTES, actions)) is None


@pytest.mark.slow
@needs_fuse
def test_reading_and_writing_on_the_mount_go_on_when_two_drives_are_moved_away(
    daemon: StartDaemon,
) -> None:
    harness = daemon()
    harness.client().create_bucket(Bucket=BUCKET)
    size = 64 * MiB
    # Not the first, which holds the primary database: to lose that one begins the mount anew.
    actions = {16 * MiB: lambda: move_away(harness, 1), 32 * MiB: lambda: move_away(harness, 2)}
    with (harness.mount / BUCKET / "large").open("wb") as file:
        stream = Stream(3, size, actions)
        while piece := stream.read(MiB):
            file.write(piece)
        file.flush()
        wait_drive(harness, 1, "offline")
        wait_drive(harness, 2, "offline")
        os.fsync(file.fileno())
    _same_through_both_doors(harness, Stream(3, size))
    # What stood on the two drives alone was written again, and another drive has a copy of the
    # metadata as soon as one is built: losing one of the others is no loss then.
    harness.wait_for(lambda report: len(report["pool"]["copies"]) == 2)
    harness.kill()
    for number in (1, 2):
        move_back(harness, number)
    move_away(harness, 0)
    harness.start()
    _same_through_both_doors(harness, Stream(3, size))


@pytest.mark.slow
@needs_fuse
def test_drives_lost_between_close_and_flush_on_the_mount_hold_up_nobody(
    daemon: StartDaemon,
) -> None:
    harness = daemon(settings={"metadata.flush_interval_s": 60})
    client = harness.client()
    _put(client, "before", b"before")
    file = harness.mount / BUCKET / "posix"
    file.write_bytes(b"posix" * MiB)
    for number in (1, 2):
        _move_away_noticed(harness, number)
    # The first barrier since then: it finds the file's bytes on two drives only.
    _put(client, "after", b"after" * 100_000)
    client.delete_object(Bucket=BUCKET, Key="before")
    harness.kill()
    harness.start()
    assert _get(client, "posix") == b"posix" * MiB
    assert file.read_bytes() == b"posix" * MiB
    assert _get(client, "after") == b"after" * 100_000


@pytest.mark.slow
def test_upload_goes_on_when_a_drive_is_unplugged_and_fails_every_call(
    loops: MakeLoops, daemon: StartDaemon
) -> None:
    drives = loops(4, 512 * MiB)
    harness = daemon()
    _upload(harness, Stream(4, 128 * MiB, {48 * MiB: drives[3].unplug}))
    wait_drive(harness, 3, "fenced", "offline")
    _same_through_both_doors(harness, Stream(4, 128 * MiB))
    assert harness.stop() == 0
    harness.start()
    _same_through_both_doors(harness, Stream(4, 128 * MiB))


@pytest.mark.slow
def test_two_of_four_gone_reads_and_writes_go_on_and_the_drives_are_taken_back(
    daemon: StartDaemon,
) -> None:
    harness = daemon()
    client = harness.client()
    _put(client, "before", b"before" * 100_000)
    for number in (1, 2):
        _move_away_noticed(harness, number)

    pool = harness.status()["pool"]
    assert (pool["k"], pool["m"], pool["writable"]) == (1, 1, True)
    assert _get(client, "before") == b"before" * 100_000
    for size in (10, 20_000, 5 * MiB):
        _put(client, f"during-{size}", bytes([size % 251]) * size)
    if harness.is_mounted():
        (harness.mount / BUCKET / "posix").write_bytes(b"during" * 50_000)
        assert (harness.mount / BUCKET / "before").read_bytes() == b"before" * 100_000
    client.delete_object(Bucket=BUCKET, Key="before")

    for number in (1, 2):
        move_back(harness, number)
        wait_drive(harness, number, "online")
    pool = harness.status()["pool"]
    assert (pool["k"], pool["m"]) == (2, 2)
    # What was written meanwhile is on the other two; it is found, and nothing old returns.
    for size in (10, 20_000, 5 * MiB):
        assert _get(client, f"during-{size}") == bytes([size % 251]) * size
    assert _keys(client) == {"during-10", "during-20000", f"during-{5 * MiB}"} | (
        {"posix"} if harness.is_mounted() else set()
    )
    # And what is written now can lose two others.
    _put(client, "after", b"after" * 100_000)
    for number in (0, 3):
        _move_away_noticed(harness, number)
    assert _get(client, "after") == b"after" * 100_000
    for number in (0, 3):
        move_back(harness, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 3], ids=["first drive", "last drive"])
def test_a_stale_drive_put_back_while_stopped_is_not_trusted(
    daemon: StartDaemon, number: int
) -> None:
    harness = daemon()
    client = harness.client()
    for key in ("replaced", "replaced-inline", "deleted"):
        _put(client, key, b"old" * (10 if key.endswith("inline") else 100_000))
    assert harness.stop() == 0
    move_away(harness, number)
    harness.start()
    _put(client, "replaced", b"new" * 100_000)
    _put(client, "replaced-inline", b"new" * 10)
    client.delete_object(Bucket=BUCKET, Key="deleted")
    assert harness.stop() == 0

    move_back(harness, number)
    harness.start()
    _newer_state_holds(client)
    wait_drive(harness, number, "online")
    harness.kill()
    # The drive was taken back by now: the newest state has to be found with it, too.
    harness.start()
    _newer_state_holds(client)


@pytest.mark.slow
def test_a_stale_drive_put_back_while_running_is_not_trusted(daemon: StartDaemon) -> None:
    harness = daemon()
    client = harness.client()
    for key in ("replaced", "replaced-inline", "deleted"):
        _put(client, key, b"old" * (10 if key.endswith("inline") else 100_000))
    assert harness.stop() == 0
    move_away(harness, 0)
    harness.start()
    _put(client, "replaced", b"new" * 100_000)
    _put(client, "replaced-inline", b"new" * 10)
    client.delete_object(Bucket=BUCKET, Key="deleted")
    move_back(harness, 0)
    wait_drive(harness, 0, "online", "read-only")
    _newer_state_holds(client)
    for _ in range(2):
        harness.kill()
        harness.start()
        _newer_state_holds(client)


@pytest.mark.slow
@pytest.mark.parametrize("running", [True, False], ids=["while running", "while stopped"])
def test_a_drive_replaced_by_an_empty_folder_is_left_alone_where_that_is_asked_for(
    daemon: StartDaemon, running: bool
) -> None:
    harness = daemon(settings={"heal.adopt_empty": False})
    client = harness.client()
    _put(client, "before", b"before" * 100_000)
    if not running:
        assert harness.stop() == 0
    shutil.rmtree(harness.drives[2])
    harness.drives[2].mkdir()
    if not running:
        harness.start()
    wait_drive(harness, 2, "offline")
    assert _get(client, "before") == b"before" * 100_000
    _put(client, "after", b"after" * 100_000)
    assert _get(client, "after") == b"after" * 100_000
    # An unlabelled folder may be the bare mount point of a drive that is away.
    assert list(harness.drives[2].iterdir()) == []
    harness.kill()
    harness.start()
    assert _get(client, "after") == b"after" * 100_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "parity"),
    [(1, None), (2, None), (2, 0), (3, None), (4, None), (5, 1), (6, None), (16, 4)],
)
def test_pools_of_every_size_start_serve_restart_and_lose_what_they_may(
    daemon: StartDaemon, count: int, parity: int | None
) -> None:
    harness = daemon(drives=count, parity=parity)
    client = harness.client()
    contents = {f"k{size}": bytes([size % 251]) * size for size in (0, 1, 20_000, 3 * MiB + 1)}
    for key, content in contents.items():
        _put(client, key, content)
    if harness.is_mounted():
        contents["posix"] = b"posix" * 100_000
        (harness.mount / BUCKET / "posix").write_bytes(contents["posix"])
    assert harness.stop() == 0
    harness.start()
    assert {key: _get(client, key) for key in contents} == contents
    m = harness.status()["pool"]["m"]
    assert m == ({1: 0, 2: 1, 3: 1, 4: 2, 6: 3}[count] if parity is None else parity)
    if not m:
        return
    for number in range(m if count > 6 else 1):
        _move_away_noticed(harness, number)
    # With its primary database gone the store begins anew on a copy, under whoever asks just then.
    patient = harness.client(retries={"max_attempts": 8, "mode": "standard"})
    assert {key: _get(patient, key) for key in contents} == contents
    if count == 2:
        with pytest.raises(client.exceptions.ClientError) as caught:
            client.put_object(Bucket=BUCKET, Key="refused", Body=b"x" * 100_000)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert _keys(client) == set(contents)
    else:
        _put(patient, "after", b"after" * 100_000)
        contents["after"] = b"after" * 100_000
    assert harness.stop() == 0
    # Two drives that became one serve reads, but are not ready for everything.
    harness.start(wait=count > 2)
    wait_until(lambda: _answers(client), "S3 answers", harness)
    assert {key: _get(client, key) for key in contents} == contents


def _answers(client: Any) -> bool:
    try:
        client.list_buckets()
    except botocore.exceptions.BotoCoreError:
        return False
    return True


def _upload(harness: DaemonHarness, stream: Stream) -> None:
    """By multipart, with boto3's own defaults."""
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    client.upload_fileobj(stream, BUCKET, "large", Config=TransferConfig())


def _same_through_both_doors(harness: DaemonHarness, wanted: Stream) -> None:
    answer = harness.client().get_object(Bucket=BUCKET, Key="large")
    assert answer["ContentLength"] == wanted.size
    again = Stream(wanted.seed, wanted.size)
    assert difference(answer["Body"], wanted) is None
    if harness.is_mounted():
        path: Path = harness.mount / BUCKET / "large"
        with path.open("rb") as file:
            assert difference(file, again) is None


def _move_away_noticed(harness: DaemonHarness, number: int) -> None:
    move_away(harness, number)
    wait_drive(harness, number, "offline")
    assert not harness.drives[number].exists(), "something was written where the drive was"
    assert away(harness.drives[number]).exists()


def _newer_state_holds(client: Any) -> None:
    assert _get(client, "replaced") == b"new" * 100_000
    assert _get(client, "replaced-inline") == b"new" * 10
    assert _keys(client) == {"replaced", "replaced-inline"}


def _put(client: Any, key: str, body: bytes) -> None:
    buckets = [each["Name"] for each in client.list_buckets()["Buckets"]]
    if BUCKET not in buckets:
        client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key=key, Body=body)


def _get(client: Any, key: str) -> bytes:
    body: bytes = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return body


def _keys(client: Any) -> set[str]:
    return {row["Key"] for row in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
