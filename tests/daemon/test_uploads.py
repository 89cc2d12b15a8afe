"""Multipart uploads and the daemon's death: what was uploaded needn't be uploaded again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.daemon.harness import DaemonHarness

pytestmark = pytest.mark.slow
FIRST = hashlib.shake_128(b"first").digest(5 << 20)
COPIED = slice(100, 100 + (5 << 20))
LAST = b"the last part is the short one"


def test_an_upload_goes_on_after_a_kill_and_is_completed_once(tmp_path: Path) -> None:
    with DaemonHarness(tmp_path, mount=False) as harness:
        s3 = harness.client()
        s3.create_bucket(Bucket="bucket")
        source = hashlib.shake_128(b"source").digest(6 << 20)
        s3.put_object(Bucket="bucket", Key="source", Body=source)
        upload = {"Bucket": "bucket", "Key": "k"}
        made = s3.create_multipart_upload(
            ChecksumAlgorithm="SHA256", Metadata={"m": "1"}, Tagging="t=1", **upload
        )
        upload["UploadId"] = made["UploadId"]
        first = s3.upload_part(PartNumber=1, Body=FIRST, ChecksumAlgorithm="SHA256", **upload)
        copied = s3.upload_part_copy(
            PartNumber=2,
            CopySource="bucket/source",
            CopySourceRange=f"bytes={COPIED.start}-{COPIED.stop - 1}",
            **upload,
        )["CopyPartResult"]
        # What the part shares with its source is the part's own.
        s3.delete_object(Bucket="bucket", Key="source")
        aborted = s3.create_multipart_upload(Bucket="bucket", Key="aborted")["UploadId"]
        s3.abort_multipart_upload(Bucket="bucket", Key="aborted", UploadId=aborted)

        harness.kill()
        harness.start()

        s3 = harness.client()
        (listed,) = s3.list_multipart_uploads(Bucket="bucket")["Uploads"]
        assert (listed["UploadId"], listed["ChecksumAlgorithm"]) == (upload["UploadId"], "SHA256")
        assert [part["PartNumber"] for part in s3.list_parts(**upload)["Parts"]] == [1, 2]
        last = s3.upload_part(PartNumber=3, Body=LAST, ChecksumAlgorithm="SHA256", **upload)
        parts = [
            {"PartNumber": n, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}
            for n, part in enumerate((first, copied, last), 1)
        ]
        done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)

        harness.kill()
        harness.start()

        s3 = harness.client()
        again = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
        assert (again["ETag"], again["ChecksumSHA256"]) == (done["ETag"], done["ChecksumSHA256"])
        got = s3.get_object(Bucket="bucket", Key="k")
        assert got["Body"].read() == FIRST + source[COPIED] + LAST
        assert (got["Metadata"], got["TagCount"]) == ({"m": "1"}, 1)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")
        with pytest.raises(ClientError) as caught:
            s3.list_parts(**upload)
        assert caught.value.response["Error"]["Code"] == "NoSuchUpload"
        assert harness.stop() == 0
