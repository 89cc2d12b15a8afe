"""If-Match and If-None-Match of everything that makes an object, one client at a time."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.s3api.test_objects import code_of

FAILED = (412, "PreconditionFailed")
MISSING = (404, "NoSuchKey")


def put(s3, bucket, body, **conditions):
    s3.put_object(Bucket=bucket, Key="k", Body=body, **conditions)


def copy(s3, bucket, body, **conditions):
    s3.put_object(Bucket=bucket, Key="source", Body=body)
    source = {"Bucket": bucket, "Key": "source"}
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, **conditions)


def complete(s3, bucket, body, **conditions):
    upload = {"Bucket": bucket, "Key": "k"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    etag = s3.upload_part(PartNumber=1, Body=body, **upload)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(MultipartUpload=parts, **upload, **conditions)


def refused(write, s3, bucket, **conditions):
    before = body_of(s3, bucket)
    with pytest.raises(ClientError) as caught:
        write(s3, bucket, b"refused", **conditions)
    assert body_of(s3, bucket) == before
    return code_of(caught)


def body_of(s3, bucket):
    try:
        return s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


def etag_of(s3, bucket):
    return s3.head_object(Bucket=bucket, Key="k")["ETag"]


@pytest.fixture(params=[put, copy, complete])
def write(request):
    """Something that makes the object "k"."""
    return request.param


@pytest.fixture(params=["plain", "versioned"])
def place(request, s3, bucket):
    """A bucket of either kind."""
    if request.param == "versioned":
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def test_none_match_star_makes_only_new_keys(s3, place, write):
    write(s3, place, b"first", IfNoneMatch="*")
    assert refused(write, s3, place, IfNoneMatch="*") == FAILED
    s3.delete_object(Bucket=place, Key="k")
    write(s3, place, b"second", IfNoneMatch="*")
    assert body_of(s3, place) == b"second"


def test_none_match_of_an_etag_replaces_only_something_else(s3, place, write):
    write(s3, place, b"first")
    seen = etag_of(s3, place)
    assert refused(write, s3, place, IfNoneMatch=seen) == FAILED
    write(s3, place, b"second", IfNoneMatch='"other"')
    write(s3, place, b"third", IfNoneMatch=seen)
    assert body_of(s3, place) == b"third"


def test_match_replaces_only_what_was_seen(s3, place, write):
    write(s3, place, b"first")
    seen = etag_of(s3, place)
    write(s3, place, b"second", IfMatch=seen)
    assert refused(write, s3, place, IfMatch=seen) == FAILED
    write(s3, place, b"third", IfMatch="*")
    assert body_of(s3, place) == b"third"


def test_match_on_a_missing_or_deleted_key_is_no_such_key(s3, place, write):
    for _ in range(2):
        for tag in ("*", '"any"'):
            assert refused(write, s3, place, IfMatch=tag) == MISSING
        write(s3, place, b"x")
        s3.delete_object(Bucket=place, Key="k")


def test_older_versions_have_no_say(s3, versioned, write):
    write(s3, versioned, b"first")
    older = etag_of(s3, versioned)
    write(s3, versioned, b"second")
    assert refused(write, s3, versioned, IfMatch=older) == FAILED
    write(s3, versioned, b"third", IfNoneMatch=older)
    assert body_of(s3, versioned) == b"third"


def test_document_names_the_condition_that_failed(s3, bucket):
    put(s3, bucket, b"x")
    for name, tag in (("IfNoneMatch", "*"), ("IfMatch", '"other"')):
        with pytest.raises(ClientError) as caught:
            put(s3, bucket, b"y", **{name: tag})
        assert caught.value.response["Error"]["Condition"].replace("-", "") == name


def test_upload_is_not_begun_for_what_would_be_refused_now(s3, place):
    call = {"Bucket": place, "Key": "k"}

    def create(**headers):
        def add(params, **_):
            params["headers"].update(headers)

        s3.meta.events.register("before-call.s3.CreateMultipartUpload", add)
        try:
            return s3.create_multipart_upload(**call)["UploadId"]
        except ClientError as refusal:
            response = refusal.response
            return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]
        finally:
            s3.meta.events.unregister("before-call.s3.CreateMultipartUpload", add)

    match, none_match = "If-Match", "If-None-Match"
    assert create(**{match: "*"}) == MISSING
    begun = create(**{none_match: "*"})
    put(s3, place, b"x")
    seen = etag_of(s3, place)
    assert create(**{none_match: "*"}) == FAILED
    assert create(**{none_match: seen}) == FAILED
    assert create(**{match: '"other"'}) == FAILED
    assert isinstance(create(**{match: seen}), str)
    # What held when it began says nothing of the end: Complete has conditions of its own.
    etag = s3.upload_part(UploadId=begun, PartNumber=1, Body=b"y", **call)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(UploadId=begun, MultipartUpload=parts, **call)
    assert body_of(s3, place) == b"y"


def test_refused_complete_can_be_tried_again(s3, place):
    put(s3, place, b"x")
    upload = {"Bucket": place, "Key": "k"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    etag = s3.upload_part(PartNumber=1, Body=b"y", **upload)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(MultipartUpload=parts, IfNoneMatch="*", **upload)
    assert code_of(caught) == FAILED
    s3.complete_multipart_upload(MultipartUpload=parts, IfMatch=etag_of(s3, place), **upload)
    assert body_of(s3, place) == b"y"
