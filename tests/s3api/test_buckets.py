"""Buckets through boto3, in path style and by virtual host."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.s3api.test_objects import code_of


def test_new_bucket_is_listed_located_and_found(s3, bucket):
    listed = s3.list_buckets()
    assert bucket in [one["Name"] for one in listed["Buckets"]]
    assert listed["Owner"]["ID"]
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    head = s3.head_bucket(Bucket=bucket)
    assert head["BucketRegion"] == "us-east-1"
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"


def test_buckets_are_listed_in_pages(s3):
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    pages = s3.get_paginator("list_buckets").paginate(
        Prefix="page-", PaginationConfig={"PageSize": 2}
    )
    found = [[one["Name"] for one in page.get("Buckets", [])] for page in pages]
    assert found == [names[:2], names[2:4], names[4:]]


def test_making_ones_own_bucket_again_changes_nothing(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.create_bucket(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    with pytest.raises(ClientError) as caught:
        s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    assert code_of(caught) == (409, "BucketAlreadyOwnedByYou")


def test_location_constraint_must_be_this_region(s3):
    s3.create_bucket(Bucket="here", CreateBucketConfiguration={"LocationConstraint": "us-east-1"})
    with pytest.raises(ClientError) as caught:
        s3.create_bucket(
            Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
    assert code_of(caught) == (400, "InvalidLocationConstraint")


@pytest.mark.parametrize("name", ["Upper", "192.168.0.1", "xn--x", "a..b"])
def test_bucket_name_must_be_one(s3, name):
    with pytest.raises(ClientError) as caught:
        s3.create_bucket(Bucket=name)
    assert code_of(caught) == (400, "InvalidBucketName")


def test_bucket_with_keys_is_not_deleted(s3, bucket):
    s3.put_object(Bucket=bucket, Key="d/k", Body=b"x")
    with pytest.raises(ClientError) as caught:
        s3.delete_bucket(Bucket=bucket)
    assert code_of(caught) == (409, "BucketNotEmpty")
    s3.delete_object(Bucket=bucket, Key="d/k")
    s3.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket=bucket)
    assert code_of(caught)[0] == 404


def test_everything_in_an_absent_bucket_is_no_such_bucket(s3):
    for call in (
        lambda: s3.get_object(Bucket="absent", Key="k"),
        lambda: s3.put_object(Bucket="absent", Key="k", Body=b"x"),
        lambda: s3.delete_object(Bucket="absent", Key="k"),
        lambda: s3.list_objects_v2(Bucket="absent"),
        lambda: s3.list_multipart_uploads(Bucket="absent"),
        lambda: s3.create_multipart_upload(Bucket="absent", Key="k"),
        lambda: s3.delete_bucket(Bucket="absent"),
        lambda: s3.get_bucket_location(Bucket="absent"),
        lambda: s3.delete_objects(Bucket="absent", Delete={"Objects": [{"Key": "k"}]}),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught) == (404, "NoSuchBucket")


def test_what_is_not_there_yet_is_not_implemented(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for call in (
        lambda: s3.delete_bucket_encryption(Bucket=bucket),
        lambda: s3.restore_object(Bucket=bucket, Key="k"),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught) == (501, "NotImplemented")
        assert caught.value.response["ResponseMetadata"]["RequestId"]


def test_expected_bucket_owner_must_be_the_owner(s3, bucket):
    owner = s3.list_buckets()["Owner"]["ID"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ExpectedBucketOwner=owner)
    source = {"Bucket": bucket, "Key": "k"}
    for call in (
        lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"y", ExpectedBucketOwner="1" * 12),
        lambda: s3.list_objects(Bucket=bucket, ExpectedBucketOwner="1" * 12),
        lambda: s3.copy_object(
            Bucket=bucket, Key="l", CopySource=source, ExpectedSourceBucketOwner="1" * 12
        ),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught) == (403, "AccessDenied")
