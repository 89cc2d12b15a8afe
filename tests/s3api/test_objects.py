"""Objects through boto3: what goes in comes out, with headers, ranges and conditions as S3's."""

from __future__ import annotations

import hashlib

import pytest
from botocore.exceptions import ClientError


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.mark.parametrize("size", [0, 1, 4096, 16_385, 200_000, 3_000_000])
@pytest.mark.parametrize("tls", [False, True])
def test_get_returns_what_put_stored(endpoint, bucket, size, tls):
    s3 = endpoint.client(tls=tls)
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    put = s3.put_object(Bucket=bucket, Key="dir/key", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="dir/key")
    assert got["Body"].read() == body
    assert got["ContentLength"] == size
    assert got["ContentType"] == "binary/octet-stream"
    assert got["AcceptRanges"] == "bytes"
    head = s3.head_object(Bucket=bucket, Key="dir/key")
    assert head["ContentLength"] == size
    assert head["ETag"] == put["ETag"]


def test_metadata_and_content_headers_come_back(s3, bucket):
    given = {
        "ContentType": "text/plain; charset=utf-8",
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentDisposition": 'attachment; filename="x"',
        "CacheControl": "max-age=60",
        "Metadata": {"a": "1", "b-c": "two words"},
        "WebsiteRedirectLocation": "/elsewhere",
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **given)
    head = s3.head_object(Bucket=bucket, Key="k")
    assert {name: head[name] for name in given} == given


def test_aws_chunked_is_no_content_encoding(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentEncoding="aws-chunked")
    assert "ContentEncoding" not in s3.head_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentEncoding="aws-chunked,gzip")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentEncoding"] == "gzip"


def test_user_metadata_beyond_2_kb_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2047})
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2048})
    assert code_of(caught) == (400, "MetadataTooLarge")


def test_other_storage_classes_are_refused(s3, bucket):
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"", StorageClass="GLACIER")
    assert code_of(caught) == (400, "InvalidStorageClass")


def test_encryption_that_we_lack_is_not_ignored(s3, bucket):
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"", ServerSideEncryption="AES256")
    assert code_of(caught) == (501, "NotImplemented")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, 1000),
        ("bytes=-10", 990, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=990-5000", 990, 1000),
    ],
)
def test_range_gives_a_part_of_the_object(s3, bucket, asked, start, stop):
    body = bytes(range(250)) * 4
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {start}-{stop - 1}/1000"
    assert got["Body"].read() == body[start:stop]
    head = s3.head_object(Bucket=bucket, Key="k", Range=asked)
    assert head["ContentLength"] == stop - start


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=5-4", "lines=0-1", "bytes=", "bytes=-"])
def test_range_that_is_no_single_range_gives_the_whole_object(s3, bucket, asked):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert got["Body"].read() == b"0123456789"


@pytest.mark.parametrize(
    ("body", "asked"), [(b"01234", "bytes=5-"), (b"", "bytes=0-0"), (b"x", "bytes=-0")]
)
def test_range_outside_is_not_satisfiable(s3, bucket, body, asked):
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert code_of(caught) == (416, "InvalidRange")
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-range"] == f"bytes */{len(body)}"


def test_large_object_is_streamed_in_any_range(s3, bucket, endpoint):
    body = hashlib.shake_128(b"seed").digest(7_000_001)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    endpoint.chunks.cold = True
    try:
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
        got = s3.get_object(Bucket=bucket, Key="k", Range="bytes=1000001-6999999")
        assert got["Body"].read() == body[1_000_001:7_000_000]
    finally:
        endpoint.chunks.cold = False


def test_object_that_cannot_be_read_is_an_error_before_the_first_byte(s3, bucket, endpoint):
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(100_000))
    endpoint.chunks.unreadable.update(endpoint.chunks.run_ids)
    try:
        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket=bucket, Key="k")
    finally:
        endpoint.chunks.unreadable.clear()
    assert code_of(caught) == (500, "InternalError")


def test_response_overrides_replace_headers(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="image/png",
        ResponseCacheControl="no-cache",
        ResponseContentDisposition="inline",
        ResponseContentEncoding="identity",
        ResponseContentLanguage="fr",
    )
    assert got["ContentType"] == "image/png"
    assert got["CacheControl"] == "no-cache"
    assert got["ContentDisposition"] == "inline"
    assert got["ContentEncoding"] == "identity"
    assert got["ContentLanguage"] == "fr"


def test_response_override_with_a_line_break_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", ResponseContentType="a\r\nx-evil: 1")
    assert code_of(caught) == (400, "InvalidArgument")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksum_is_verified_stored_and_told_on_request(s3, bucket, algorithm):
    field = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[field] == put[field]
    assert head["ChecksumType"] == "FULL_OBJECT"
    assert field not in s3.head_object(Bucket=bucket, Key="k")
    ranged = s3.get_object(Bucket=bucket, Key="k", Range="bytes=0-1", ChecksumMode="ENABLED")
    assert field not in ranged
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert entry["ChecksumAlgorithm"] == [algorithm]


def test_delete_is_idempotent(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        answer = s3.delete_object(Bucket=bucket, Key="k")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k")
    assert code_of(caught) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=bucket, Key="k")
    assert code_of(caught) == (404, "404")


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "a/b",
        "d/",
        "x//y",
        "..",
        "a/../b",
        "./.",
        "ü/€/🎈",
        "c" * 900,
        "p+q %25&=?#",
        "a\tb",
        "/lead",
    ],
)
def test_any_key_comes_back_as_it_was(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_directory_without_its_slash_is_no_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="d/k", Body=b"x")
    with pytest.raises(ClientError) as caught:
        s3.head_object(Bucket=bucket, Key="d")
    assert code_of(caught)[0] == 404


def test_attributes_tell_what_is_asked_for(s3, bucket):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="SHA1")
    wanted = ["ETag", "Checksum", "ObjectSize", "StorageClass"]
    told = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert told["ETag"] == put["ETag"].strip('"')
    assert told["ObjectSize"] == 5
    assert told["StorageClass"] == "STANDARD"
    assert told["Checksum"]["ChecksumSHA1"] == put["ChecksumSHA1"]


def test_tags_can_be_set_counted_and_removed(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b=2", Metadata={"m": "v"})
    assert (
        s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"][
            "x-amz-tagging-count"
        ]
        == "2"
    )
    s3.put_object_tagging(
        Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "c", "Value": "drei"}]}
    )
    told = s3.get_object_tagging(Bucket=bucket, Key="k")
    assert told["TagSet"] == [{"Key": "c", "Value": "drei"}]
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"m": "v"}


def test_acl_is_the_owners_full_control(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    (grant,) = s3.get_object_acl(Bucket=bucket, Key="k")["Grants"]
    assert grant["Permission"] == "FULL_CONTROL"
    policy = {"Owner": s3.list_buckets()["Owner"], "Grants": [grant]}
    s3.put_object_acl(Bucket=bucket, Key="k", AccessControlPolicy=policy)
    for canned in ("public-read", "private"):
        with pytest.raises(ClientError) as caught:
            s3.put_object_acl(Bucket=bucket, Key="k", ACL=canned)
        assert code_of(caught) == (400, "AccessControlListNotSupported")
