"""`twofold salvage`: all metadata is deleted everywhere, and contents come back by inode."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.daemon.harness import DaemonHarness
from tests.faultrows import FaultRow

BUCKET = "bucket"


@pytest.mark.slow
def test_contents_come_back_without_any_metadata(tmp_path: Path, fault_row: FaultRow) -> None:
    with DaemonHarness(tmp_path, mount=False) as harness:
        client = harness.client()
        client.create_bucket(Bucket=BUCKET)
        bodies = [os.urandom(size) for size in (20_000, 300_000, 3_500_000)]
        for number, body in enumerate(bodies):
            client.put_object(Bucket=BUCKET, Key=f"k{number}", Body=body)
        parts = [os.urandom(5 << 20), os.urandom(70_000)]
        upload = client.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
        told = []
        for number, part in enumerate(parts, 1):
            answer = client.upload_part(
                Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=number, Body=part
            )
            told.append({"PartNumber": number, "ETag": answer["ETag"]})
        client.complete_multipart_upload(
            Bucket=BUCKET, Key="parts", UploadId=upload, MultipartUpload={"Parts": told}
        )
        into, drives = tmp_path / "saved", [str(drive) for drive in harness.drives]
        busy = harness.run("salvage", *drives, "--into", str(into))
        assert (busy.returncode, "in use" in busy.stderr) == (1, True)
        harness.kill()
        for drive in harness.drives:
            shutil.rmtree(drive / "twofold" / "meta")
        shutil.rmtree(harness.drives[0])
        (harness.drives[1] / "twofold" / "label").unlink()
        saved = harness.run("salvage", *drives, "--into", str(into))
        assert (saved.returncode, saved.stderr) == (0, "")
        listing = json.loads((into / "salvage.json").read_bytes())
        found = {path.read_bytes() for path in into.iterdir() if path.name.isdecimal()}
        assert found == {*bodies, *parts}
        assert set(listing["files"]) == {p.name for p in into.iterdir()} - {"salvage.json"}
        again = harness.run("salvage", *drives, "--into", str(into))
        assert (again.returncode, "is not empty" in again.stderr) == (2, True)
    fault_row(
        "all copies of the metadata are deleted",
        client="the daemon does not start, and says why",
        status="`twofold fsck` ends with 8 and names restore and salvage",
        lost="changes since the last backup",
    )
