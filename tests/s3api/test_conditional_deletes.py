"""Conditional deletes: only what was seen goes, and what isn't there is no failure."""

from __future__ import annotations

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from tests.s3api import raw
from tests.s3api.test_objects import code_of

FAILED = (412, "PreconditionFailed")


@pytest.fixture(params=["plain", "versioned"])
def place(request, s3, bucket):
    """A bucket of either kind."""
    if request.param == "versioned":
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture
def seen(s3, place):
    """An object "k" as it is, in the words of DeleteObject: each condition right, then wrong."""
    s3.put_object(Bucket=place, Key="k", Body=b"four")
    head = s3.head_object(Bucket=place, Key="k")
    modified = head["LastModified"]
    return {
        "IfMatch": (head["ETag"], '"other"'),
        "IfMatchSize": (4, 5),
        "IfMatchLastModifiedTime": (modified, modified - timedelta(seconds=1)),
    }


# The same conditions in an entry of DeleteObjects.
ENTRY = {"IfMatch": "ETag", "IfMatchSize": "Size", "IfMatchLastModifiedTime": "LastModifiedTime"}
CONDITIONS = sorted(ENTRY)


def delete(s3, bucket, **more):
    return s3.delete_object(Bucket=bucket, Key="k", **more)


def refused(s3, bucket, **more):
    with pytest.raises(ClientError) as caught:
        delete(s3, bucket, **more)
    return code_of(caught)


def exists(s3, bucket, key="k"):
    return "Contents" in s3.list_objects_v2(Bucket=bucket, Prefix=key)


@pytest.mark.parametrize("name", CONDITIONS)
def test_only_what_was_seen_is_deleted(s3, place, seen, name):
    right, wrong = seen[name]
    assert refused(s3, place, **{name: wrong}) == FAILED
    assert exists(s3, place)
    delete(s3, place, **{name: right})
    assert not exists(s3, place)


def test_all_conditions_must_hold(s3, place, seen):
    right = {name: pair[0] for name, pair in seen.items()}
    for name, (_, wrong) in seen.items():
        assert refused(s3, place, **{**right, name: wrong}) == FAILED
    delete(s3, place, **right)
    assert not exists(s3, place)


def test_star_matches_whatever_is_there(s3, place, seen):
    delete(s3, place, IfMatch="*")
    assert not exists(s3, place)


@pytest.mark.parametrize("name", CONDITIONS)
def test_condition_on_a_key_that_never_was_deletes_nothing(s3, place, seen, name):
    answer = s3.delete_object(Bucket=place, Key="never", **{name: seen[name][1]})
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "DeleteMarker" not in answer
    assert "DeleteMarkers" not in s3.list_object_versions(Bucket=place)


@pytest.mark.parametrize("name", CONDITIONS)
def test_delete_marker_matches_nothing_but_the_star(s3, versioned, name):
    s3.put_object(Bucket=versioned, Key="k", Body=b"four")
    modified = s3.head_object(Bucket=versioned, Key="k")["LastModified"]
    delete(s3, versioned)
    wrong = {"IfMatch": "x", "IfMatchSize": 4, "IfMatchLastModifiedTime": modified}[name]
    assert refused(s3, versioned, **{name: wrong}) == FAILED
    delete(s3, versioned, IfMatch="*")
    assert len(s3.list_object_versions(Bucket=versioned)["DeleteMarkers"]) == 1


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_are_of_the_version_that_is_named(s3, versioned, name):
    version = s3.put_object(Bucket=versioned, Key="k", Body=b"four")["VersionId"]
    head = s3.head_object(Bucket=versioned, Key="k", VersionId=version)
    right, wrong = {
        "IfMatch": (head["ETag"], "x"),
        "IfMatchSize": (4, 2),
        "IfMatchLastModifiedTime": (
            head["LastModified"],
            head["LastModified"] - timedelta(days=1),
        ),
    }[name]
    s3.put_object(Bucket=versioned, Key="k", Body=b"it")
    assert refused(s3, versioned, VersionId=version, **{name: wrong}) == FAILED
    delete(s3, versioned, VersionId=version, **{name: right})
    assert len(s3.list_object_versions(Bucket=versioned)["Versions"]) == 1
    # What is gone is gone, whatever is asked of it.
    delete(s3, versioned, VersionId=version, **{name: wrong})


@pytest.mark.parametrize("name", CONDITIONS)
def test_entries_of_delete_objects_have_conditions_of_their_own(s3, place, seen, name):
    right, wrong = seen[name]
    objects = [
        {"Key": "k", ENTRY[name]: wrong},
        {"Key": "never", ENTRY[name]: wrong},
        {"Key": "k", ENTRY[name]: right},
    ]
    answer = s3.delete_objects(Bucket=place, Delete={"Objects": objects})
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("k", "PreconditionFailed")]
    assert [one["Key"] for one in answer["Deleted"]] == ["never", "k"]
    assert not exists(s3, place)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-if-match-size": "four"},
        {"x-amz-if-match-size": "-1"},
        {"x-amz-if-match-last-modified-time": "lately"},
    ],
)
def test_condition_that_is_none_deletes_nothing(endpoint, s3, bucket, headers):
    s3.put_object(Bucket=bucket, Key="k", Body=b"four")
    answer = raw.send(endpoint, "DELETE", f"/{bucket}/k", headers)
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert exists(s3, bucket)


@pytest.mark.parametrize("field", ["<Size>four</Size>", "<LastModifiedTime>x</LastModifiedTime>"])
def test_entry_with_a_condition_that_is_none_is_malformed(endpoint, s3, bucket, field):
    s3.put_object(Bucket=bucket, Key="k", Body=b"four")
    body = f"<Delete><Object><Key>k</Key>{field}</Object></Delete>".encode()
    assert raw.send(endpoint, "POST", f"/{bucket}?delete", body=body).code == "MalformedXML"
    assert exists(s3, bucket)


def test_entry_takes_a_time_in_iso_8601_too(endpoint, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"four")
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    body = (
        f"<Delete><Object><Key>k</Key><LastModifiedTime>{modified.isoformat()}"
        "</LastModifiedTime></Object></Delete>"
    )
    assert raw.send(endpoint, "POST", f"/{bucket}?delete", body=body.encode()).status == 200
    assert not exists(s3, bucket)
