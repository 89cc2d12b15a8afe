"""Listings through boto3, against a plain definition of what S3 lists."""

from __future__ import annotations

import itertools

import pytest
from botocore.exceptions import ClientError
from botocore.handlers import set_list_objects_encoding_type_url

from tests.s3api.test_objects import code_of

KEYS = sorted(
    ["a", "a!", "a/b", "a/c/d", "a0", "b/", "b/x", "c d", "ä/ö", "z&<>", "🎈", "x--y--z", "x--y"],
    key=str.encode,
)


@pytest.fixture(scope="module")
def filled(endpoint):
    """A bucket with KEYS in it, which all tests only read."""
    s3 = endpoint.client()
    s3.create_bucket(Bucket="filled")
    for key in KEYS:
        s3.put_object(Bucket="filled", Key=key, Body=b"x")
    return "filled"


def expected(prefix="", delimiter="", after=""):
    """Keys and common prefixes behind `after`, by definition."""
    found = []
    for key in KEYS:
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if cut < 0 else key[: cut + len(delimiter)]
        if entry not in found:
            found.append(entry)
    return found


def entries(page):
    keys = [one["Key"] for one in page.get("Contents", [])]
    prefixes = [one["Prefix"] for one in page.get("CommonPrefixes", [])]
    return sorted(keys + prefixes, key=str.encode)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "b/", "zz", "x"])
@pytest.mark.parametrize("delimiter", ["", "/", "--"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_pages_put_together_are_the_listing(s3, filled, prefix, delimiter, size):
    for name in ("list_objects", "list_objects_v2", "list_object_versions"):
        pages = s3.get_paginator(name).paginate(
            Bucket=filled, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
        )
        found = []
        for page in pages:
            page["Contents"] = page.get("Contents", []) + page.get("Versions", [])
            assert len(entries(page)) <= size
            found += entries(page)
        assert found == expected(prefix, delimiter), name


def test_v2_frame_is_complete(s3, filled):
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=2, StartAfter="a", FetchOwner=True)
    assert page["Name"] == filled
    assert page["KeyCount"] == 2
    assert page["MaxKeys"] == 2
    assert page["IsTruncated"] is True
    assert page["StartAfter"] == "a"
    assert page["Contents"][0]["Key"] == "a!"
    assert page["Contents"][0]["Owner"]["DisplayName"] == "root"
    assert page["Contents"][0]["StorageClass"] == "STANDARD"
    token = page["NextContinuationToken"]
    following = s3.list_objects_v2(Bucket=filled, ContinuationToken=token)
    assert following["ContinuationToken"] == token
    assert following["Contents"][0]["Key"] == KEYS[3]
    assert "Owner" not in following["Contents"][0]


def test_v1_gives_a_next_marker_only_with_a_delimiter(s3, filled):
    assert "NextMarker" not in s3.list_objects(Bucket=filled, MaxKeys=1)
    page = s3.list_objects(Bucket=filled, MaxKeys=3, Delimiter="/")
    assert page["NextMarker"] == "a/"
    assert page["Delimiter"] == "/"


def test_keys_are_escaped_without_url_encoding(endpoint, filled):
    s3 = endpoint.client(parameter_validation=False)
    s3.meta.events.unregister(
        "before-parameter-build.s3.ListObjectsV2", set_list_objects_encoding_type_url
    )
    page = s3.list_objects_v2(Bucket=filled)
    assert "EncodingType" not in page
    assert [one["Key"] for one in page["Contents"]] == KEYS


def test_max_keys_of_zero_lists_nothing(s3, filled):
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert page["KeyCount"] == 0
    assert page["IsTruncated"] is False


def test_max_keys_is_capped(s3, filled):
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000


@pytest.mark.parametrize("asked", [{"MaxKeys": -1}, {"ContinuationToken": "%%%"}])
def test_bad_parameters_are_invalid_arguments(s3, filled, asked):
    with pytest.raises(ClientError) as caught:
        s3.list_objects_v2(Bucket=filled, **asked)
    assert code_of(caught) == (400, "InvalidArgument")


def test_versions_are_null_and_latest(s3, filled):
    page = s3.list_object_versions(Bucket=filled, MaxKeys=2)
    assert {one["VersionId"] for one in page["Versions"]} == {"null"}
    assert all(one["IsLatest"] for one in page["Versions"])
    assert (page["NextKeyMarker"], page["NextVersionIdMarker"]) == (KEYS[1], "null")


def test_every_start_gives_the_rest(s3, filled):
    starts = [*KEYS, "", "a/", "b", "zzz", "🎈🎈"]
    for start, delimiter in itertools.product(starts, ("", "/")):
        page = s3.list_objects_v2(Bucket=filled, StartAfter=start, Delimiter=delimiter)
        rest = expected(delimiter=delimiter, after=start)
        if delimiter and start.endswith(delimiter) and start in rest:
            rest.remove(start)  # A common prefix as start means all below it was listed.
        assert entries(page) == rest, (start, delimiter)
