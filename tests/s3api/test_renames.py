"""RenameObject: one key becomes another, with conditions on both."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.s3api.conftest import ALICE
from tests.s3api.raw import send
from tests.s3api.test_objects import code_of

PAST, FUTURE = "Thu, 01 Jan 2015 00:00:00 GMT", "Tue, 01 Jan 2030 00:00:00 GMT"


@pytest.fixture
def etag(s3, bucket):
    """Of the object `old`, which the bucket has."""
    return s3.put_object(Bucket=bucket, Key="old", Body=b"x", Metadata={"m": "1"})["ETag"]


def rename(endpoint, bucket, source, target, **headers):
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    given["x-amz-rename-source"] = source
    return send(endpoint, "PUT", f"/{bucket}/{target}?renameObject", given)


def keys(s3, bucket):
    return [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_key_becomes_another_with_all_that_the_object_has(s3, bucket, etag):
    before = s3.head_object(Bucket=bucket, Key="old")
    s3.rename_object(Bucket=bucket, Key="deep/new", RenameSource=f"{bucket}/old")
    assert keys(s3, bucket) == ["deep/new"]
    after = s3.get_object(Bucket=bucket, Key="deep/new")
    assert after["Body"].read() == b"x"
    for name in ("ETag", "LastModified", "Metadata", "ContentType"):
        assert after[name] == before[name]


def test_target_is_replaced_unless_it_must_be_absent(endpoint, s3, bucket, etag):
    s3.put_object(Bucket=bucket, Key="new", Body=b"y")
    answer = rename(endpoint, bucket, f"{bucket}/old", "new", if_none_match="*")
    assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert keys(s3, bucket) == ["new", "old"]
    assert rename(endpoint, bucket, f"/{bucket}/old", "new").status == 200
    assert keys(s3, bucket) == ["new"]
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"x"


@pytest.mark.parametrize("source", ["old", "other/old", "", "{bucket}/", "{bucket}"])
def test_source_must_be_a_key_of_the_same_bucket(endpoint, s3, bucket, etag, source):
    answer = rename(endpoint, bucket, source.format(bucket=bucket), "new")
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert keys(s3, bucket) == ["old"]


def test_source_is_percent_encoded_and_must_be_there(endpoint, s3, bucket, etag):
    s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"z")
    assert rename(endpoint, bucket, f"{bucket}/a%20b/%C3%BC", "new").status == 200
    assert keys(s3, bucket) == ["new", "old"]
    assert rename(endpoint, bucket, f"{bucket}/absent", "new").code == "NoSuchKey"
    assert rename(endpoint, bucket, f"{bucket}/old", "old").code == "InvalidRequest"
    assert rename(endpoint, "absent", "absent/old", "new").code == "NoSuchBucket"


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"x-amz-rename-source-if-match": "{etag}"}, 200),
        ({"x-amz-rename-source-if-match": '"0"'}, 412),
        ({"x-amz-rename-source-if-none-match": '"0"'}, 200),
        ({"x-amz-rename-source-if-none-match": "{etag}"}, 412),
        ({"x-amz-rename-source-if-modified-since": PAST}, 200),
        ({"x-amz-rename-source-if-modified-since": FUTURE}, 412),
        ({"x-amz-rename-source-if-unmodified-since": FUTURE}, 200),
        ({"x-amz-rename-source-if-unmodified-since": PAST}, 412),
        ({"if-match": "{target}"}, 200),
        ({"if-match": '"0"'}, 412),
        ({"if-none-match": "{target}"}, 412),
        ({"if-unmodified-since": FUTURE}, 200),
        ({"if-unmodified-since": PAST}, 412),
        ({"if-modified-since": PAST}, 200),
        ({"if-modified-since": FUTURE}, 412),
    ],
)
def test_conditions_on_source_and_target_hold(endpoint, s3, bucket, etag, condition, status):
    target = s3.put_object(Bucket=bucket, Key="new", Body=b"y")["ETag"]
    given = {name: text.format(etag=etag, target=target) for name, text in condition.items()}
    answer = rename(endpoint, bucket, f"{bucket}/old", "new", **given)
    assert answer.status == status
    assert keys(s3, bucket) == (["new"] if status == 200 else ["new", "old"])


def test_condition_on_an_absent_target_is_not_met_or_not_asked(endpoint, s3, bucket, etag):
    answer = rename(endpoint, bucket, f"{bucket}/old", "new", if_match='"0"')
    assert (answer.status, answer.code) == (404, "NoSuchKey")
    answer = rename(endpoint, bucket, f"{bucket}/old", "new", if_unmodified_since=PAST)
    assert answer.status == 200


def test_only_the_owner_renames(endpoint, s3, bucket, etag):
    alice = endpoint.client(who=ALICE)
    with pytest.raises(ClientError) as caught:
        alice.rename_object(Bucket=bucket, Key="new", RenameSource=f"{bucket}/old")
    assert code_of(caught) == (403, "AccessDenied")
