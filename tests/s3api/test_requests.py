"""Taking a request apart: paths, hosts, ranges, copy sources; metadata headers both ways."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from s3api.errors import InvalidArgument, InvalidRange, InvalidURI
from s3api.metadata import meta_headers, meta_of, override
from s3api.operations import Target
from s3api.requests import open_request, parse_copy_source, parse_range
from s3api.router import OPERATIONS, SUBRESOURCES, find_operation
from store.types import ObjectMeta

DOMAINS = (b"s3.example",)


@dataclass
class Head:
    """As much of a RequestStream as parsing looks at."""

    raw_path: bytes = b"/"
    method: str = "GET"
    query_string: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@pytest.mark.parametrize(
    ("path", "host", "bucket", "key"),
    [
        (b"/", b"x", "", ""),
        (b"/b", b"x", "b", ""),
        (b"/b/", b"x", "b", ""),
        (b"/b/k", b"x", "b", "k"),
        (b"/b//k", b"x", "b", "/k"),
        (b"/b/./../k", b"x", "b", "./../k"),
        (b"/b/a%2Fb+c%20d", b"x", "b", "a/b+c d"),
        (b"/b/%F0%9F%8E%88", b"x", "b", "🎈"),
        (b"/k", b"b.s3.example", "b", "k"),
        (b"/d/k", b"B.s3.example:9000", "b", "d/k"),
        (b"/", b"b.c.s3.example", "b.c", ""),
        (b"/b/k", b"s3.example", "b", "k"),
        (b"/b/k", b"evils3.example", "b", "k"),
    ],
)
def test_path_or_host_names_bucket_and_key(path, host, bucket, key):
    request = open_request(Head(path, headers=[(b"host", host)]), "http", DOMAINS)
    assert (request.bucket, request.key) == (bucket, key)


def test_path_that_is_no_utf_8_is_an_invalid_uri():
    with pytest.raises(InvalidURI):
        open_request(Head(b"/b/%ff"), "http")


def test_repeated_headers_are_joined_as_they_were_signed():
    request = open_request(Head(headers=[(b"a", b"1"), (b"a", b"2")]), "http")
    assert request.headers == {b"a": b"1,2"}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("bytes=0-4", (0, 5)),
        ("bytes=9-9", (9, 10)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=0-99999999999999", (0, 10)),
        ("bytes=0-1,2-3", None),
        ("bytes=4-2", None),
        ("bytes=a-b", None),
        ("bytes=٣-4", None),
        ("chars=0-1", None),
    ],
)
def test_range_becomes_start_and_stop(text, chosen):
    assert parse_range(text, 10) == chosen


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_range_beyond_the_object_is_invalid(text):
    with pytest.raises(InvalidRange) as caught:
        parse_range(text, 10)
    assert caught.value.size_bytes == 10


def test_copy_source_may_have_a_slash_and_a_version():
    source = parse_copy_source(b"/b/k%20%3FversionId=1?versionId=abc")
    assert (source.bucket, source.key, source.version_id) == ("b", "k ?versionId=1", "abc")
    with pytest.raises(InvalidArgument):
        parse_copy_source(b"b/%ff")


def test_metadata_from_the_mount_cannot_make_headers():
    meta = ObjectMeta(
        content_type="a\r\nx-evil: 1", user={"ok": "v", "bad": "a\nb", "na me": "v", "ü": "v"}
    )
    headers = dict(meta_headers(meta))
    assert headers == {
        b"content-type": b"binary/octet-stream",
        b"x-amz-meta-ok": b"v",
        b"x-amz-missing-meta": b"3",
    }


def test_headers_become_metadata_and_headers_again():
    headers = {
        b"content-type": b"text/plain",
        b"content-encoding": b"aws-chunked, gzip",
        b"expires": b"Thu, 01 Dec 1994 16:00:00 GMT",
        b"x-amz-meta-a": "ü".encode(),
        b"x-amz-meta-b": b"\xfc",
    }
    shown = dict(meta_headers(meta_of(headers)))
    assert shown[b"content-encoding"] == b"gzip"
    assert shown[b"expires"] == headers[b"expires"]
    # What was Latin-1 on its way in is UTF-8 on its way out.
    assert shown[b"x-amz-meta-a"] == shown[b"x-amz-meta-b"] == "ü".encode()


def test_override_replaces_and_adds():
    headers = [(b"content-type", b"a/b"), (b"etag", b"x")]
    query = {"response-content-type": "c/d", "response-expires": "0"}
    assert override(headers, query) == [
        (b"etag", b"x"),
        (b"content-type", b"c/d"),
        (b"expires", b"0"),
    ]


CONTROL = b"/v20180820/configuration/publicAccessBlock"


def test_a_bucket_may_have_the_name_that_s3_control_begins_with():
    assert find_operation(open_request(Head(CONTROL), "http")).name == "GetObject"
    other = Head(CONTROL + b"/x", headers=[(b"x-amz-account-id", b"123456789012")])
    assert find_operation(open_request(other, "http")).name == "GetObject"


def test_every_operation_is_reached_by_what_its_key_says():
    for (target, method, subresource), operation in OPERATIONS.items():
        path = {"service": b"/", "bucket": b"/b", "object": b"/b/k", "account": CONTROL}[
            target.value
        ]
        name = subresource.removesuffix("copy")
        headers = [(b"x-amz-copy-source", b"b/k")] if subresource.endswith("copy") else []
        if target is Target.ACCOUNT:
            headers, name = [(b"x-amz-account-id", b"123456789012")], ""
        query = b"list-type=2" if name == "list-type" else name.encode()
        request = open_request(Head(path, method, query, headers), "http")
        assert find_operation(request) is operation
        assert name in SUBRESOURCES | {"", "list-type"}
        assert operation.action.startswith("s3:") or operation.name == "PostObject"


@pytest.mark.parametrize(
    ("method", "query", "action"),
    [
        ("GET", b"", "s3:GetObject"),
        ("GET", b"versionId=v", "s3:GetObjectVersion"),
        ("HEAD", b"versionId=v", "s3:GetObjectVersion"),
        ("DELETE", b"versionId=v", "s3:DeleteObjectVersion"),
        ("PUT", b"tagging&versionId=v", "s3:PutObjectVersionTagging"),
        ("GET", b"attributes&versionId=v", "s3:GetObjectVersionAttributes"),
        ("GET", b"retention&versionId=v", "s3:GetObjectRetention"),
    ],
)
def test_versions_need_rights_of_their_own(method, query, action):
    request = open_request(Head(b"/b/k", method, query), "http")
    assert find_operation(request).action == action
