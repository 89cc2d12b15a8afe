"""Full drives: writes are refused in order, all else goes on, and room made is room again."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.crash.content import Piece
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.watching import wait_drive, wait_until

MiB = 1 << 20
BUCKET = "bucket"
_OBJECT_BYTES = 4 * MiB
_DRIVE_BYTES = 128 * MiB


@pytest.mark.slow
def test_full_drives_refuse_writes_with_507_and_enospc_and_recover_by_deletes(
    loops: MakeLoops, daemon: StartDaemon
) -> None:
    loops(4, _DRIVE_BYTES)
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    stored, refusal = _fill(client)
    assert len(stored) > 5
    assert refusal.response["ResponseMetadata"]["HTTPStatusCode"] == 507
    assert refusal.response["Error"]["Code"] == "InsufficientStorage"

    # Nothing half-done, reads go on, and small writes don't bring the metadata down.
    assert _keys(client) == set(stored)
    _refused_multipart(client)
    if harness.is_mounted():
        _refused_on_mount(harness.mount / BUCKET)
    assert _keys(client) == set(stored)
    for key, piece in stored.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == piece.view(), key
        if harness.is_mounted():
            assert (harness.mount / BUCKET / key).read_bytes() == piece.view(), key

    # A restart on full drives works, too.
    assert harness.stop() == 0
    harness.start(wait=False)
    wait_until(lambda: _answers(client), "S3 answers", harness)
    assert _keys(client) == set(stored)

    deleted = sorted(stored)[: len(stored) // 2]
    for key in deleted:
        client.delete_object(Bucket=BUCKET, Key=key)
        del stored[key]
    assert _keys(client) == set(stored)
    piece = Piece(4000, _OBJECT_BYTES)
    wait_until(lambda: _put(client, "again", piece) is None, "there is room again", harness)
    if harness.is_mounted():
        with (harness.mount / BUCKET / "again-posix").open("wb") as file:
            file.write(piece.view())
            file.flush()
            os.fsync(file.fileno())
        stored["again-posix"] = piece
    stored["again"] = piece
    harness.kill()
    harness.start()
    assert _keys(client) == set(stored)
    for key, kept in stored.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == kept.view(), key


@pytest.mark.slow
def test_one_full_drive_of_four_is_passed_over(loops: MakeLoops, daemon: StartDaemon) -> None:
    drives = loops(4, _DRIVE_BYTES)
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    ballast = drives[2].path / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, drives[2].free_bytes() - MiB // 2)
    stored = {}
    for number in range(6):
        key, piece = f"k{number}", Piece(number, _OBJECT_BYTES)
        assert _put(client, key, piece) is None
        stored[key] = piece
    wait_drive(harness, 2, "full")
    for key, piece in stored.items():
        assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == piece.view(), key
    ballast.unlink()
    wait_drive(harness, 2, "online")
    assert _put(client, "after", Piece(99, _OBJECT_BYTES)) is None


def _fill(client: Any) -> tuple[dict[str, Piece], ClientError]:
    """PUT until one is refused; what was stored, and the refusal."""
    stored = {}
    for number in range(400):
        key, piece = f"k{number:03}", Piece(number, _OBJECT_BYTES)
        refusal = _put(client, key, piece)
        if refusal is not None:
            return stored, refusal
        stored[key] = piece
    raise AssertionError("the drives take more than they can hold")


def _put(client: Any, key: str, piece: Piece) -> ClientError | None:
    try:
        client.put_object(Bucket=BUCKET, Key=key, Body=bytes(piece.view()))
    except ClientError as error:
        return error
    return None


def _refused_multipart(client: Any) -> None:
    target = {"Bucket": BUCKET, "Key": "multipart"}
    target["UploadId"] = client.create_multipart_upload(**target)["UploadId"]

    def upload_parts() -> None:
        for number in range(1, 50):
            client.upload_part(**target, PartNumber=number, Body=bytes(5 * MiB))

    with pytest.raises(ClientError) as caught:
        upload_parts()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 507
    client.abort_multipart_upload(**target)


def _refused_on_mount(folder: Path) -> None:
    """ENOSPC, at the latest from fsync; what is left of the try can be removed."""
    file = os.open(folder / "refused", os.O_CREAT | os.O_WRONLY)

    def write_and_sync() -> None:
        for _ in range(64):
            os.write(file, bytes(MiB))
        os.fsync(file)

    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            write_and_sync()
    finally:
        with contextlib.suppress(OSError):  # it tries once more to publish
            os.close(file)
    (folder / "refused").unlink()


def _answers(client: Any) -> bool:
    try:
        client.list_buckets()
    except Exception:
        return False
    return True


def _keys(client: Any) -> set[str]:
    return {row["Key"] for row in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
