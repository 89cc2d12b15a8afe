"""Multipart uploads through boto3."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.s3api import raw
from tests.s3api.conftest import DOMAIN
from tests.s3api.test_objects import code_of

MIB = 1 << 20
FIRST, SECOND = b"1" * (5 * MIB), b"2" * 1000


def upload_parts(s3, bucket, key, upload_id, *pieces, **kwargs):
    parts = []
    for number, piece in enumerate(pieces, 1):
        made = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=piece, **kwargs
        )
        checksums = {name: value for name, value in made.items() if name.startswith("Checksum")}
        parts.append({"PartNumber": number, "ETag": made["ETag"], **checksums})
    return parts


@pytest.fixture
def upload(s3, bucket):
    """(bucket, key, upload id) of a fresh upload."""
    return bucket, "k", s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]


def complete(s3, upload, parts, **kwargs):
    bucket, key, upload_id = upload
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}, **kwargs
    )


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
def test_transfer_manager_round_trip(endpoint, bucket, tls):
    s3 = endpoint.client(tls=tls)
    body = hashlib.shake_128(b"x").digest(12 * MIB + 5)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(body), bucket, "big", Config=config)
    received = io.BytesIO()
    s3.download_fileobj(bucket, "big", received, Config=config)
    assert hashlib.sha256(received.getvalue()).digest() == hashlib.sha256(body).digest()


def test_complete_publishes_the_parts_in_order(s3, upload):
    bucket, key, upload_id = upload
    parts = upload_parts(s3, bucket, key, upload_id, FIRST, SECOND)
    done = complete(s3, upload, parts)
    digests = hashlib.md5(FIRST).digest() + hashlib.md5(SECOND).digest()
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
    assert (done["Bucket"], done["Key"]) == (bucket, key)
    assert done["Location"].endswith(f"/{bucket}/{key}")
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == FIRST + SECOND
    assert got["ETag"] == done["ETag"]


def test_location_has_the_bucket_where_the_request_had_it(endpoint, s3, upload):
    bucket, key, upload_id = upload
    etag = upload_parts(s3, *upload, SECOND)[0]["ETag"]
    part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    host = f"{bucket}.{DOMAIN}"
    answer = raw.send(endpoint, "POST", f"/{key}?uploadId={upload_id}", body=body, host=host)
    assert f"<Location>http://{host}/{key}</Location>" in answer.body.decode()


def test_complete_twice_gives_the_same_answer(s3, upload):
    bucket, key, upload_id = upload
    parts = upload_parts(s3, bucket, key, upload_id, SECOND)
    assert complete(s3, upload, parts)["ETag"] == complete(s3, upload, parts)["ETag"]


def test_many_completing_at_once_make_one_object(s3, upload):
    bucket, key, upload_id = upload
    parts = upload_parts(s3, *upload, FIRST, SECOND)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: complete(s3, upload, parts)["ETag"], range(8)))
    assert len(set(done)) == 1
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == FIRST + SECOND
    # A part that comes too late is told so.
    with pytest.raises(ClientError) as caught:
        upload_parts(s3, bucket, key, upload_id, SECOND)
    assert code_of(caught) == (404, "NoSuchUpload")


def test_uploads_of_one_key_that_must_be_new_have_one_winner(s3, bucket):
    uploads = []
    for number in range(6):
        made = s3.create_multipart_upload(Bucket=bucket, Key="k")
        upload = bucket, "k", made["UploadId"]
        uploads.append((upload, upload_parts(s3, *upload, b"%d" % number)))

    def race(entry):
        try:
            return complete(s3, *entry, IfNoneMatch="*")["ETag"]
        except ClientError as exc:
            return exc.response["Error"]["Code"]

    with ThreadPoolExecutor(6) as pool:
        told = sorted(pool.map(race, uploads))
    assert told[1:] == ["PreconditionFailed"] * 5
    assert told[0] == s3.head_object(Bucket=bucket, Key="k")["ETag"]


def test_part_numbers_give_the_parts_back(s3, upload):
    bucket, key, upload_id = upload
    complete(s3, upload, upload_parts(s3, bucket, key, upload_id, FIRST, SECOND))
    got = s3.get_object(Bucket=bucket, Key=key, PartNumber=2)
    assert got["Body"].read() == SECOND
    assert got["PartsCount"] == 2
    assert got["ContentRange"] == f"bytes {len(FIRST)}-{len(FIRST) + 999}/{len(FIRST) + 1000}"
    assert s3.head_object(Bucket=bucket, Key=key, PartNumber=1)["ContentLength"] == len(FIRST)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key=key, PartNumber=3)
    assert code_of(caught) == (400, "InvalidPart")


def test_part_number_of_a_simple_object_is_one(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello")
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=1)
    assert (got["Body"].read(), got["ContentRange"]) == (b"hello", "bytes 0-4/5")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", PartNumber=1, Range="bytes=0-1")
    assert code_of(caught) == (400, "InvalidRequest")


def test_composite_checksum_is_that_of_the_parts_digests(s3, bucket):
    made = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")
    upload = bucket, "k", made["UploadId"]
    assert (made["ChecksumAlgorithm"], made["ChecksumType"]) == ("SHA256", "COMPOSITE")
    parts = upload_parts(s3, *upload, FIRST, SECOND, ChecksumAlgorithm="SHA256")
    done = complete(s3, upload, parts)
    digests = hashlib.sha256(FIRST).digest() + hashlib.sha256(SECOND).digest()
    value = base64.b64encode(hashlib.sha256(digests).digest()).decode()
    assert (done["ChecksumSHA256"], done["ChecksumType"]) == (f"{value}-2", "COMPOSITE")
    told = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ObjectParts"]
    )
    assert told["ObjectParts"]["TotalPartsCount"] == 2
    assert [one["Size"] for one in told["ObjectParts"]["Parts"]] == [len(FIRST), len(SECOND)]
    assert told["ObjectParts"]["Parts"][1]["ChecksumSHA256"] == parts[1]["ChecksumSHA256"]
    head = s3.head_object(Bucket=bucket, Key="k", PartNumber=2, ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == parts[1]["ChecksumSHA256"]


def test_full_object_checksum_is_that_of_the_bytes(s3, bucket):
    made = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
    )
    upload = bucket, "k", made["UploadId"]
    # The second part comes without a checksum: it is computed all the same.
    parts = upload_parts(s3, *upload, FIRST, SECOND, ChecksumAlgorithm="CRC32")
    value = base64.b64encode(zlib.crc32(FIRST + SECOND).to_bytes(4, "big")).decode()
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, parts, ChecksumCRC32="AAAAAA==", ChecksumType="FULL_OBJECT")
    assert code_of(caught) == (400, "BadDigest")
    done = complete(s3, upload, parts, ChecksumCRC32=value, ChecksumType="FULL_OBJECT")
    assert done["ChecksumCRC32"] == value
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32"], head["ChecksumType"]) == (value, "FULL_OBJECT")


@pytest.mark.parametrize(
    ("algorithm", "checksum_type"), [("SHA1", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")]
)
def test_checksum_types_that_an_algorithm_lacks_are_refused(s3, bucket, algorithm, checksum_type):
    with pytest.raises(ClientError) as caught:
        s3.create_multipart_upload(
            Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=checksum_type
        )
    assert code_of(caught) == (400, "InvalidRequest")


def test_complete_checks_the_object_size(s3, upload):
    parts = upload_parts(s3, *upload, SECOND)
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, parts, MpuObjectSize=5)
    assert code_of(caught) == (400, "InvalidRequest")
    complete(s3, upload, parts, MpuObjectSize=len(SECOND))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda parts: parts[::-1], "InvalidPartOrder"),
        (lambda parts: [parts[0], {"PartNumber": 7, "ETag": '"x"'}], "InvalidPart"),
        (lambda parts: [{**parts[0], "ETag": '"0"'}], "InvalidPart"),
        (lambda parts: [], "MalformedXML"),
    ],
)
def test_complete_with_wrong_parts_is_refused(s3, upload, change, code):
    parts = upload_parts(s3, *upload, FIRST, SECOND)
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, change(parts))
    assert code_of(caught) == (400, code)


def test_part_too_small_is_refused(s3, upload):
    parts = upload_parts(s3, *upload, SECOND, SECOND)
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, parts)
    assert code_of(caught) == (400, "EntityTooSmall")


def test_complete_if_none_match_star_makes_only_new_keys(s3, upload):
    bucket, key, _ = upload
    parts = upload_parts(s3, *upload, SECOND)
    s3.put_object(Bucket=bucket, Key=key, Body=b"there")
    with pytest.raises(ClientError) as caught:
        complete(s3, upload, parts, IfNoneMatch="*")
    assert code_of(caught) == (412, "PreconditionFailed")


def test_unknown_upload_is_no_such_upload(s3, bucket):
    unknown = {"Bucket": bucket, "Key": "k", "UploadId": "0" * 32}
    for call in (
        lambda: s3.upload_part(PartNumber=1, Body=b"x", **unknown),
        lambda: s3.list_parts(**unknown),
        lambda: s3.abort_multipart_upload(**unknown),
        lambda: complete(s3, (bucket, "k", "0" * 32), [{"PartNumber": 1, "ETag": "x"}]),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught) == (404, "NoSuchUpload")


@pytest.mark.parametrize("number", [0, 10_001])
def test_part_number_must_be_in_range(s3, upload, number):
    bucket, key, upload_id = upload
    with pytest.raises(ClientError) as caught:
        s3.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=b"x")
    assert code_of(caught) == (400, "InvalidArgument")


def test_parts_are_listed_in_pages(s3, upload):
    bucket, key, upload_id = upload
    parts = upload_parts(s3, *upload, b"1", b"22", b"333")
    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key=key, UploadId=upload_id, PaginationConfig={"PageSize": 2}
    )
    found = [one for page in pages for one in page["Parts"]]
    assert [one["Size"] for one in found] == [1, 2, 3]
    assert [one["ETag"] for one in found] == [one["ETag"] for one in parts]


def test_part_copies_take_ranges(s3, upload):
    bucket, key, upload_id = upload
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    call = {"Bucket": bucket, "Key": key, "UploadId": upload_id, "CopySource": f"{bucket}/source"}
    one = s3.upload_part_copy(PartNumber=1, CopySourceRange="bytes=2-5", **call)
    done = complete(s3, upload, [{"PartNumber": 1, "ETag": one["CopyPartResult"]["ETag"]}])
    assert done["ETag"]
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"2345"


@pytest.mark.parametrize(
    ("ranged", "code"),
    [
        ("bytes=2-", "InvalidArgument"),
        ("bytes=5-2", "InvalidArgument"),
        ("2-5", "InvalidArgument"),
        ("bytes=2-10", "InvalidRange"),
    ],
)
def test_part_copy_with_a_bad_range_is_refused(s3, upload, ranged, code):
    bucket, key, upload_id = upload
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    with pytest.raises(ClientError) as caught:
        s3.upload_part_copy(
            Bucket=bucket,
            Key=key,
            UploadId=upload_id,
            PartNumber=1,
            CopySource=f"{bucket}/source",
            CopySourceRange=ranged,
        )
    assert code_of(caught)[1] == code


def test_abort_forgets_the_upload(s3, upload):
    bucket, key, upload_id = upload
    upload_parts(s3, *upload, b"x")
    s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key=key)
    assert code_of(caught) == (404, "NoSuchKey")


@pytest.mark.parametrize(("prefix", "delimiter"), [("", ""), ("", "/"), ("a", ""), ("a/", "/")])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_uploads_are_listed_in_pages(s3, bucket, prefix, delimiter, size):
    keys = ["a", "a/b", "a/c", "a/c/d", "b&", "b&", "ü"]
    ids = {s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]: key for key in keys}
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
    )
    uploads, prefixes = [], []
    for page in pages:
        uploads += page.get("Uploads", [])
        prefixes += [one["Prefix"] for one in page.get("CommonPrefixes", [])]
    matching = [key for key in keys if key.startswith(prefix)]
    rolled = [key for key in matching if delimiter and delimiter in key[len(prefix) :]]
    assert sorted(one["Key"] for one in uploads) == [k for k in matching if k not in rolled]
    assert all(ids[one["UploadId"]] == one["Key"] for one in uploads)
    expected = {k[: k.index(delimiter, len(prefix)) + 1] for k in rolled}
    assert sorted(prefixes) == sorted(expected)
