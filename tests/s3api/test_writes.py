"""Copies and bulk deletes through boto3."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.s3api.test_objects import code_of


def test_copy_carries_bytes_metadata_and_tags(s3, bucket):
    s3.put_object(
        Bucket=bucket,
        Key="k ä+&",
        Body=b"body",
        ContentType="a/b",
        Metadata={"m": "1"},
        Tagging="t=1",
    )
    copied = s3.copy_object(Bucket=bucket, Key="l", CopySource={"Bucket": bucket, "Key": "k ä+&"})[
        "CopyObjectResult"
    ]
    got = s3.get_object(Bucket=bucket, Key="l")
    assert got["Body"].read() == b"body"
    assert (got["ContentType"], got["Metadata"], got["TagCount"]) == ("a/b", {"m": "1"}, 1)
    assert copied["ETag"] == got["ETag"]
    assert copied["LastModified"].replace(microsecond=0) == got["LastModified"]


def test_copy_with_replace_takes_the_requests_metadata(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"body", Metadata={"m": "1"}, Tagging="t=1")
    s3.copy_object(
        Bucket=bucket,
        Key="k",
        CopySource=f"/{bucket}/k",
        MetadataDirective="REPLACE",
        Metadata={"n": "2"},
        TaggingDirective="REPLACE",
        Tagging="u=2&v=3",
    )
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["TagCount"]) == (b"body", {"n": "2"}, 2)


def test_copy_onto_itself_must_change_something(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    with pytest.raises(ClientError) as caught:
        s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k"})
    assert code_of(caught) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("only-a-bucket", (400, "InvalidArgument")),
        ("absent/k", (404, "NoSuchBucket")),
        ("{bucket}/absent", (404, "NoSuchKey")),
        ("{bucket}/k?versionId=abc", (404, "NoSuchVersion")),
    ],
)
def test_copy_source_must_be_an_object(s3, bucket, source, code):
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    with pytest.raises(ClientError) as caught:
        s3.copy_object(Bucket=bucket, Key="l", CopySource=source.format(bucket=bucket))
    assert code_of(caught) == code


def test_delete_objects_answers_for_each_key(s3, bucket):
    keys = ["a", "b/c", "z&<>", "ü"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys, "absent"]]}
    )
    assert [one["Key"] for one in answer["Deleted"]] == [*keys, "absent"]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_quiet_delete_objects_tells_only_of_failures(s3, bucket):
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    s3.put_object(Bucket=bucket, Key="b", Body=b"x")
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={
            "Quiet": True,
            "Objects": [
                {"Key": "a"},
                {"Key": "b", "ETag": '"other"'},
                {"Key": "k" * 1025},
            ],
        },
    )
    assert "Deleted" not in answer
    assert [(one["Key"][:3], one["Code"]) for one in answer["Errors"]] == [
        ("b", "PreconditionFailed"),
        ("kkk", "KeyTooLongError"),
    ]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["b"]


def test_delete_objects_takes_1000_keys_and_not_one_more(s3, bucket):
    objects = [{"Key": f"k{number}"} for number in range(1001)]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects[:1000]})
    assert len(answer["Deleted"]) == 1000
    with pytest.raises(ClientError) as caught:
        s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert code_of(caught) == (400, "MalformedXML")
