"""Checksums of multipart uploads: what parts bring, what Complete says, and what comes of it."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from botocore.exceptions import ClientError

from s3api.checksums import ALGORITHMS, encode
from tests.s3api import raw
from tests.s3api.test_multipart import FIRST, SECOND, complete, upload_parts
from tests.s3api.test_objects import code_of

WRONG = {"CRC32": "AAAAAA==", "SHA256": base64.b64encode(bytes(32)).decode()}


def checksum(name, *pieces):
    digest = ALGORITHMS[name].new()
    for piece in pieces:
        digest.update(piece)
    return encode(digest.digest())


def create(s3, bucket, algorithm="", checksum_type=""):
    chosen = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    if checksum_type:
        chosen["ChecksumType"] = checksum_type
    made = s3.create_multipart_upload(Bucket=bucket, Key="k", **chosen)
    return bucket, "k", made["UploadId"]


def bare(parts):
    """Claims without checksums."""
    return [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]


@pytest.fixture
def silent(endpoint):
    """A client that sends no checksum unless it is told to."""
    return endpoint.client(request_checksum_calculation="when_required")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_makes_an_object_checksum(s3, bucket, name):
    upload = bucket, key, upload_id = create(s3, bucket, name)
    parts = []
    for number, piece in enumerate((FIRST, SECOND), 1):
        # Sent as a header: botocore computes all but MD5 itself.
        sent = {f"Checksum{name}": checksum(name, piece)}
        made = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=piece, **sent
        )
        parts.append({"PartNumber": number, "ETag": made["ETag"], **sent})
        assert made.items() >= sent.items()
    done = complete(s3, upload, parts)
    expected_type = ALGORITHMS[name].types[0]
    if expected_type == "FULL_OBJECT":
        expected = checksum(name, FIRST, SECOND)
    else:
        digests = [base64.b64decode(checksum(name, piece)) for piece in (FIRST, SECOND)]
        expected = f"{checksum(name, b''.join(digests))}-2"
    assert (done["ChecksumType"], done[f"Checksum{name}"]) == (expected_type, expected)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ChecksumType"], head[f"Checksum{name}"]) == (expected_type, expected)
    assert f"Checksum{name}" not in s3.head_object(Bucket=bucket, Key="k")


def test_an_upload_without_algorithm_gets_the_default_one(s3, silent, bucket):
    for client in (s3, silent):
        upload = create(client, bucket)
        parts = upload_parts(client, *upload, FIRST, SECOND)
        done = complete(client, upload, parts)
        assert done["ChecksumCRC64NVME"] == checksum("CRC64NVME", FIRST, SECOND)
        assert done["ChecksumType"] == "FULL_OBJECT"
    assert s3.get_object(Bucket=bucket, Key="k")["ChecksumCRC64NVME"] == done["ChecksumCRC64NVME"]


def test_a_part_shows_the_checksum_it_was_sent_with(s3, silent, bucket):
    upload = bucket, key, upload_id = create(s3, bucket)
    upload_parts(s3, *upload, SECOND)
    silent.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=2, Body=b"x")
    listed = s3.list_parts(Bucket=bucket, Key=key, UploadId=upload_id)
    first, second = listed["Parts"]
    assert first["ChecksumCRC32"] == checksum("CRC32", SECOND)
    assert second["ChecksumCRC64NVME"] == checksum("CRC64NVME", b"x")
    assert "ChecksumAlgorithm" not in listed


@pytest.mark.parametrize(
    ("algorithm", "checksum_type", "sent", "code"),
    [
        ("SHA256", "COMPOSITE", {}, ""),
        ("CRC32", "FULL_OBJECT", {}, ""),
        ("CRC32", "FULL_OBJECT", {"ChecksumAlgorithm": "SHA256"}, "InvalidRequest"),
        ("SHA256", "COMPOSITE", {"ChecksumAlgorithm": "CRC32"}, "InvalidRequest"),
        ("", "", {"ChecksumAlgorithm": "SHA1"}, ""),
        ("", "", {"ChecksumCRC32": WRONG["CRC32"]}, "BadDigest"),
    ],
)
def test_a_part_brings_the_checksum_of_its_upload(
    s3, silent, bucket, algorithm, checksum_type, sent, code
):
    upload = create(s3, bucket, algorithm, checksum_type)
    if not code:
        upload_parts(silent, *upload, SECOND, **sent)
        return
    with pytest.raises(ClientError) as caught:
        upload_parts(silent, *upload, SECOND, **sent)
    assert code_of(caught) == (400, code)


def test_checksums_in_a_presigned_url_promise_nothing(endpoint, s3, bucket):
    upload = bucket, key, upload_id = create(s3, bucket, "SHA256")
    query = (
        f"partNumber=1&uploadId={upload_id}"
        "&x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32"
    )
    target = raw.presigned(endpoint, "PUT", f"/{bucket}/{key}", query.encode())
    answer = raw.send(endpoint, "PUT", target, body=SECOND, sign=False)
    assert answer.status == 200
    assert answer.headers["x-amz-checksum-sha256"] == checksum("SHA256", SECOND)
    complete(s3, upload, [{"PartNumber": 1, "ETag": answer.headers["etag"]}])


@pytest.mark.parametrize(
    ("name", "checksum_type"), [("SHA256", "COMPOSITE"), ("CRC32", "FULL_OBJECT")]
)
def test_complete_need_not_repeat_the_checksums_of_parts(s3, bucket, name, checksum_type):
    upload = create(s3, bucket, name, checksum_type)
    parts = upload_parts(s3, *upload, FIRST, SECOND, ChecksumAlgorithm=name)
    assert complete(s3, upload, bare(parts))["ChecksumType"] == checksum_type


def test_of_a_part_named_twice_the_later_counts(s3, bucket):
    upload = bucket, key, _ = create(s3, bucket)
    old = upload_parts(s3, *upload, b"old")
    new = upload_parts(s3, *upload, b"new")
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, new + old)
    assert code_of(caught) == (400, "InvalidPart")
    complete(s3, upload, old + new)
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"new"


@pytest.mark.parametrize(
    ("claim", "code"),
    [
        ({"ChecksumSHA256": WRONG["SHA256"]}, "InvalidPart"),
        ({"ChecksumSHA256": "AAAA"}, "InvalidArgument"),
        ({"ChecksumCRC32": WRONG["CRC32"]}, "InvalidArgument"),
        ({"ETag": ""}, "InvalidPart"),
    ],
)
def test_claims_that_do_not_hold_are_refused(s3, bucket, claim, code):
    upload = create(s3, bucket, "SHA256")
    parts = upload_parts(s3, *upload, SECOND, ChecksumAlgorithm="SHA256")
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, [{**parts[0], **claim}])
    assert code_of(caught) == (400, code)
    if code == "InvalidPart":
        told = caught.value.response["Error"]
        assert (told["UploadId"], told["PartNumber"]) == (upload[2], "1")


@pytest.mark.parametrize(
    ("suffix", "code"), [("", ""), ("-1", ""), ("-2", "BadDigest"), ("-x", "BadDigest")]
)
def test_object_checksum_of_a_complete_is_compared(s3, bucket, suffix, code):
    upload = create(s3, bucket, "SHA256")
    parts = upload_parts(s3, *upload, SECOND, ChecksumAlgorithm="SHA256")
    digest = hashlib.sha256(hashlib.sha256(SECOND).digest()).digest()
    value = base64.b64encode(digest).decode() + suffix
    if not code:
        assert complete(s3, upload, parts, ChecksumSHA256=value)["ETag"]
        return
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, parts, ChecksumSHA256=value)
    assert code_of(caught) == (400, code)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"ChecksumSHA256": WRONG["SHA256"]}, "BadDigest"),
        ({"ChecksumSHA256": "bad"}, "BadDigest"),
        ({"ChecksumCRC32": WRONG["CRC32"]}, "InvalidRequest"),
        ({"ChecksumType": "FULL_OBJECT"}, "InvalidRequest"),
    ],
)
def test_complete_that_speaks_of_another_checksum_is_refused(s3, bucket, given, code):
    upload = create(s3, bucket, "SHA256")
    parts = upload_parts(s3, *upload, SECOND, ChecksumAlgorithm="SHA256")
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, parts, **given)
    assert code_of(caught) == (400, code)
    complete(s3, upload, parts)


def test_upload_without_algorithm_takes_any_checksum_its_parts_have(s3, bucket):
    upload = create(s3, bucket)
    parts = upload_parts(s3, *upload, SECOND)
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, parts, ChecksumCRC32=WRONG["CRC32"])
    assert code_of(caught) == (400, "BadDigest")
    value = encode(zlib.crc32(SECOND).to_bytes(4, "big"))
    assert complete(s3, upload, parts, ChecksumCRC32=value)["ETag"]


def test_part_too_small_is_told_which(s3, bucket):
    upload = create(s3, bucket)
    parts = upload_parts(s3, *upload, SECOND, SECOND)
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, parts)
    told = caught.value.response["Error"]
    assert (told["Code"], told["PartNumber"]) == ("EntityTooSmall", "1")
    assert (told["ProposedSize"], told["MinSizeAllowed"]) == ("1000", str(5 << 20))
