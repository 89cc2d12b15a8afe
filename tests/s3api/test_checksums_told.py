"""Checksums as reads and copies tell of them."""

from __future__ import annotations

import hashlib

import pytest
from botocore.exceptions import ClientError

from s3api.checksums import ALGORITHMS
from tests.s3api.test_multipart import FIRST, SECOND, complete, upload_parts
from tests.s3api.test_multipart_checksums import checksum, create
from tests.s3api.test_objects import code_of

BODY = hashlib.shake_128(b"body").digest(300_000)


@pytest.fixture
def silent(endpoint):
    """A client that sends no checksum and asks for none unless it is told to."""
    return endpoint.client(
        request_checksum_calculation="when_required", response_checksum_validation="when_required"
    )


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 5, len(BODY)])
def test_checksum_of_a_put_is_kept_and_told_when_asked_for(s3, bucket, name, size):
    body = BODY[:size]
    sent = {f"Checksum{name}": checksum(name, body)}
    made = s3.put_object(Bucket=bucket, Key="k", Body=body, **sent)
    assert made.items() >= sent.items()
    assert made["ChecksumType"] == "FULL_OBJECT"
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head.items() >= sent.items()
    told = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Checksum"])
    assert told["Checksum"] == {**sent, "ChecksumType": "FULL_OBJECT"}
    assert f"Checksum{name}" not in s3.head_object(Bucket=bucket, Key="k")


def test_an_object_without_checksum_gets_the_default_one(silent, bucket):
    made = silent.put_object(Bucket=bucket, Key="k", Body=BODY)
    assert made["ChecksumCRC64NVME"] == checksum("CRC64NVME", BODY)
    listed = silent.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (["CRC64NVME"], "FULL_OBJECT")


@pytest.mark.parametrize(
    ("ranged", "told"), [("bytes=0-", True), ("bytes=0-299999", True), ("bytes=1-", False)]
)
def test_checksum_is_told_of_the_whole_and_never_of_a_part(silent, bucket, ranged, told):
    silent.put_object(Bucket=bucket, Key="k", Body=BODY)
    for ask in (silent.get_object, silent.head_object):
        got = ask(Bucket=bucket, Key="k", Range=ranged, ChecksumMode="ENABLED")
        assert ("ChecksumCRC64NVME" in got, "ChecksumType" in got) == (told, told)


def test_an_unknown_checksum_mode_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", ChecksumMode="OFF")
    assert code_of(caught) == (400, "InvalidRequest")


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 5, len(BODY)])
def test_a_copy_can_have_another_checksum(s3, bucket, name, size):
    body = BODY[:size]
    s3.put_object(Bucket=bucket, Key="source", Body=body)
    made = s3.copy_object(
        Bucket=bucket, Key="k", CopySource=f"{bucket}/source", ChecksumAlgorithm=name
    )
    expected = checksum(name, body)
    assert made["CopyObjectResult"][f"Checksum{name}"] == expected
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[f"Checksum{name}"], head["ChecksumType"]) == (expected, "FULL_OBJECT")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_a_plain_copy_keeps_the_checksum(s3, bucket):
    made = s3.put_object(Bucket=bucket, Key="source", Body=BODY, ChecksumAlgorithm="SHA1")
    copied = s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/source")
    assert copied["CopyObjectResult"]["ChecksumSHA1"] == made["ChecksumSHA1"]


def test_a_copy_with_algorithm_of_a_composite_source_is_full_object(s3, bucket):
    upload = create(s3, bucket, "SHA256")
    parts = upload_parts(s3, *upload, FIRST, SECOND, ChecksumAlgorithm="SHA256")
    complete(s3, upload, parts)
    made = s3.copy_object(
        Bucket=bucket, Key="copy", CopySource=f"{bucket}/k", ChecksumAlgorithm="SHA256"
    )["CopyObjectResult"]
    assert made["ChecksumSHA256"] == checksum("SHA256", FIRST, SECOND)
    assert made["ChecksumType"] == "FULL_OBJECT"


@pytest.mark.parametrize("name", ["", *ALGORITHMS])
@pytest.mark.parametrize("ranged", ["", "bytes=1-299998"])
def test_a_copied_part_has_the_checksum_of_its_upload(s3, bucket, name, ranged):
    s3.put_object(Bucket=bucket, Key="source", Body=BODY)
    bucket, key, upload_id = upload = create(s3, bucket, name)
    given = {"CopySourceRange": ranged} if ranged else {}
    made = s3.upload_part_copy(
        Bucket=bucket,
        Key=key,
        UploadId=upload_id,
        PartNumber=1,
        CopySource=f"{bucket}/source",
        **given,
    )["CopyPartResult"]
    element = f"Checksum{name or 'CRC64NVME'}"
    body = BODY[1:-1] if ranged else BODY
    assert made[element] == checksum(name or "CRC64NVME", body)
    assert made["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    done = complete(s3, upload, [{"PartNumber": 1, "ETag": made["ETag"], element: made[element]}])
    assert element in done
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body


def test_parts_of_an_object_are_numbered_from_one(s3, bucket):
    upload = bucket, key, upload_id = create(s3, bucket)
    parts = []
    for number, piece in ((7, FIRST), (1000, SECOND)):
        made = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=piece
        )
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    complete(s3, upload, parts)
    assert s3.get_object(Bucket=bucket, Key=key, PartNumber=2)["Body"].read() == SECOND
    told = s3.get_object_attributes(Bucket=bucket, Key=key, ObjectAttributes=["ObjectParts"])
    assert [one["PartNumber"] for one in told["ObjectParts"]["Parts"]] == [1, 2]
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key=key, PartNumber=7)
    assert code_of(caught) == (400, "InvalidPart")


@pytest.mark.parametrize(
    ("after", "limit", "numbers", "more", "following"),
    [(0, 1, [1], True, 1), (1, 1, [2], True, 2), (1, 5, [2, 3], False, 3), (9, 5, [], False, 0)],
)
def test_parts_of_attributes_come_in_pages(s3, bucket, after, limit, numbers, more, following):
    upload = create(s3, bucket)
    complete(s3, upload, upload_parts(s3, *upload, FIRST, FIRST, SECOND))
    told = s3.get_object_attributes(
        Bucket=bucket,
        Key="k",
        ObjectAttributes=["ObjectParts"],
        PartNumberMarker=after,
        MaxParts=limit,
    )["ObjectParts"]
    assert [one["PartNumber"] for one in told.get("Parts", [])] == numbers
    assert (told["TotalPartsCount"], told["IsTruncated"]) == (3, more)
    assert (told["PartNumberMarker"], told["NextPartNumberMarker"]) == (after, following)
