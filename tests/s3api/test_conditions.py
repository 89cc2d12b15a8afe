"""Conditional requests: precedence on reads, preconditions of writes, conditions of copies."""

from __future__ import annotations

from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from s3api.conditions import Verdict, evaluate, range_applies
from s3api.dates import http_date, parse_http_date
from s3api.metadata import DEFAULT_TYPE
from store.types import DEFAULT_META, ObjectStat
from tests.s3api.test_objects import code_of

MODIFIED_S = 1_700_000_000
STAT = ObjectStat(
    key="k",
    inode=1,
    size=1,
    etag="abc",
    modified_ns=MODIFIED_S * 10**9 + 999,
    version_id=None,
    meta=DEFAULT_META,
)
AT = http_date(MODIFIED_S * 10**9)
BEFORE = http_date((MODIFIED_S - 1) * 10**9)
AFTER = http_date((MODIFIED_S + 1) * 10**9)
PROCEED, NOT_MODIFIED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.FAILED


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, PROCEED),
        ({b"if-match": b'"abc"'}, PROCEED),
        ({b"if-match": b"abc"}, PROCEED),
        ({b"if-match": b"*"}, PROCEED),
        ({b"if-match": b'"x", "abc"'}, PROCEED),
        ({b"if-match": b'"x"'}, FAILED),
        ({b"if-match": b'W/"abc"'}, FAILED),
        ({b"if-none-match": b'"abc"'}, NOT_MODIFIED),
        ({b"if-none-match": b'W/"abc"'}, NOT_MODIFIED),
        ({b"if-none-match": b"*"}, NOT_MODIFIED),
        ({b"if-none-match": b'"x"'}, PROCEED),
        ({b"if-modified-since": AT}, NOT_MODIFIED),
        ({b"if-modified-since": BEFORE}, PROCEED),
        ({b"if-modified-since": b"yesterday"}, PROCEED),
        ({b"if-unmodified-since": AT}, PROCEED),
        ({b"if-unmodified-since": BEFORE}, FAILED),
        # If-Match outranks If-Unmodified-Since, If-None-Match outranks If-Modified-Since.
        ({b"if-match": b'"abc"', b"if-unmodified-since": BEFORE}, PROCEED),
        ({b"if-none-match": b'"x"', b"if-modified-since": AT}, PROCEED),
        ({b"if-none-match": b'"abc"', b"if-modified-since": BEFORE}, NOT_MODIFIED),
        ({b"if-match": b'"abc"', b"if-none-match": b'"abc"'}, NOT_MODIFIED),
        ({b"if-match": b'"x"', b"if-none-match": b'"abc"'}, FAILED),
    ],
)
def test_conditions_of_a_read_follow_rfc_9110(headers, verdict):
    assert evaluate(headers, STAT)[0] is verdict


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        (b'"abc"', True),
        (b'"x"', False),
        (b'W/"abc"', False),
        (AT, True),
        (AFTER, False),
    ],
)
def test_if_range_decides_whether_the_range_counts(if_range, applies):
    assert range_applies(if_range, STAT) is applies


@pytest.mark.parametrize("text", [b"", b"tomorrow", b"Sat, 99 Foo 2026 99:99:99 GMT"])
def test_date_that_is_none_is_ignored(text):
    assert parse_http_date(text) is None
    assert parse_http_date(AT) == MODIFIED_S


def test_not_modified_tells_etag_and_no_body(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x", CacheControl="max-age=9")["ETag"]
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert code_of(caught)[0] == 304
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["etag"] == etag
    assert headers["cache-control"] == "max-age=9"
    assert "last-modified" in headers
    assert DEFAULT_TYPE.decode() not in headers.values()


def test_failed_condition_of_a_read_is_412(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    for call in (s3.get_object, s3.head_object):
        with pytest.raises(ClientError) as caught:
            call(Bucket=bucket, Key="k", IfMatch='"nothing"')
        assert code_of(caught)[0] == 412
        with pytest.raises(ClientError) as caught:
            call(Bucket=bucket, Key="k", IfUnmodifiedSince=modified - timedelta(seconds=5))
        assert code_of(caught)[0] == 412


def test_put_if_none_match_star_makes_only_new_keys(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    assert code_of(caught) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"


def test_put_if_match_replaces_only_what_was_seen(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=etag)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=etag)
    assert code_of(caught) == (412, "PreconditionFailed")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="absent", Body=b"x", IfMatch=etag)
    assert code_of(caught) == (404, "NoSuchKey")


def test_copy_evaluates_its_sources_conditions(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="l", CopySource=source, CopySourceIfMatch=etag)
    for condition in ({"CopySourceIfNoneMatch": etag}, {"CopySourceIfMatch": '"x"'}):
        with pytest.raises(ClientError) as caught:
            s3.copy_object(Bucket=bucket, Key="m", CopySource=source, **condition)
        assert code_of(caught) == (412, "PreconditionFailed")


def test_copy_evaluates_its_targets_conditions(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="l", CopySource=source, IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.copy_object(Bucket=bucket, Key="l", CopySource=source, IfNoneMatch="*")
    assert code_of(caught) == (412, "PreconditionFailed")
