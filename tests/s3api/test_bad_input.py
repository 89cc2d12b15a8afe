"""Bad input, each with the right S3 code, and no effect."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
import urllib.request

import pytest

from tests.s3api.conftest import DOMAIN, SECRET_KEY
from tests.s3api.raw import build, exchange, presigned, receive, send

MD5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
CHUNKED = {"x-amz-decoded-content-length": "5"}
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
ENTITY = b'<!DOCTYPE a [<!ENTITY e "x">]><Delete><Object><Key>&e;</Key></Object></Delete>'
SEED = f"5;chunk-signature={'0' * 64}\r\nhello\r\n0;chunk-signature={'0' * 64}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("kwargs", "status", "code"),
    [
        ({"secret": "not the secret"}, 403, "SignatureDoesNotMatch"),
        ({"age_s": 16 * 60}, 403, "RequestTimeTooSkewed"),
        ({"age_s": -16 * 60}, 403, "RequestTimeTooSkewed"),
        ({"sign": False}, 403, "AccessDenied"),
        ({"sign": False, "headers": {"authorization": "AWS4-HMAC-SHA256 x"}}, 400,
         "AuthorizationHeaderMalformed"),
        ({"sign": False, "headers": {"authorization": "AWS root:x"}}, 403, "AccessDenied"),
        ({"sign": False, "headers": {"authorization": "Basic x"}}, 400, "InvalidRequest"),
        ({"headers": {"content-md5": MD5}}, 400, "BadDigest"),
        ({"headers": {"content-md5": "short"}}, 400, "InvalidDigest"),
        ({"payload_hash": "0" * 64}, 400, "XAmzContentSHA256Mismatch"),
        ({"headers": {"x-amz-checksum-crc32": "AAAAAA=="}}, 400, "BadDigest"),
        ({"headers": {"x-amz-checksum-sha1": "short"}}, 400, "BadDigest"),
        ({"headers": {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-sha1": "x"}}, 400,
         "InvalidRequest"),
        ({"size": None}, 411, "MissingContentLength"),
        ({"size": 100, "close": True}, 400, "IncompleteBody"),
        ({"size": 6 << 40}, 400, "EntityTooLarge"),
        ({"headers": CHUNKED, "payload_hash": STREAMING, "body": SEED}, 403,
         "SignatureDoesNotMatch"),
        ({"headers": CHUNKED, "payload_hash": TRAILER, "body": b"zz\r\nhello\r\n0\r\n\r\n"}, 400,
         "InvalidRequest"),
        ({"headers": CHUNKED, "payload_hash": TRAILER, "body": b"4\r\nhell\r\n0\r\n\r\n"}, 400,
         "IncompleteBody"),
        ({"headers": {}, "payload_hash": TRAILER, "body": b"5\r\nhello\r\n0\r\n\r\n"}, 411,
         "MissingContentLength"),
        ({"headers": {"x-amz-storage-class": "COLD"}}, 400, "InvalidStorageClass"),
        ({"headers": {"x-amz-meta-a": "x" * 2049}}, 400, "MetadataTooLarge"),
        ({"headers": {"x-amz-tagging": "a=1&a=2"}}, 400, "InvalidArgument"),
        ({"headers": {"x-amz-tagging": "aws:a=1"}}, 400, "InvalidTag"),
        ({"headers": {"x-amz-object-lock-mode": "GOVERNANCE"}}, 400, "InvalidArgument"),
        ({"headers": {"x-amz-server-side-encryption": "AES256"}}, 501, "NotImplemented"),
        ({"headers": {"x-amz-copy-source": "/nothing"}, "body": b""}, 400, "InvalidArgument"),
        ({"headers": {"if-match": '"x"'}}, 404, "NoSuchKey"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_bad_put_is_refused_and_leaves_nothing(endpoint, s3, bucket, kwargs, status, code):
    kwargs = {"body": b"hello", **kwargs}
    if "age_s" in kwargs:  # counted from now, not from when the tests were collected
        kwargs["now_s"] = time.time() - kwargs.pop("age_s")
    answer = send(endpoint, "PUT", f"/{bucket}/k", **kwargs)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["x-amz-request-id"].encode() in answer.body
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/{bucket}/%ff%fe", 400, "InvalidURI"),
        ("/{bucket}/" + "k" * 1025, 400, "KeyTooLongError"),
        ("/{bucket}/" + "%C3%BC" * 513, 400, "KeyTooLongError"),
        ("/{bucket}/a%00b", 400, "InvalidArgument"),
        ("/{bucket}/k?acl&tagging", 400, "InvalidArgument"),
        ("/{bucket}/k?restore", 501, "NotImplemented"),
        ("/{bucket}?policy", 400, "MalformedPolicy"),
        ("/{bucket}/k?uploadId=x&partNumber=abc", 400, "InvalidArgument"),
        ("/{bucket}/k?uploadId=x&partNumber=1", 404, "NoSuchUpload"),
        ("/{bucket}/k?x=%ff", 400, "InvalidArgument"),
    ],
)
def test_bad_target_is_refused(endpoint, s3, bucket, target, status, code):
    answer = send(endpoint, "PUT", target.format(bucket=bucket), body=b"hello")
    assert (answer.status, answer.code) == (status, code), answer.body
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_bad_signature_outranks_everything_else(endpoint, bucket):
    for target in (f"/{bucket}/%ff", f"/{bucket}/{'k' * 2000}", f"/{bucket}?policy", "/absent/k"):
        answer = send(endpoint, "PUT", target, body=b"x", secret="wrong")
        assert answer.code == "SignatureDoesNotMatch", target


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", "/{bucket}/k"),
        ("PUT", "/{bucket}/k?uploadId=x&partNumber=1"),
        ("PUT", "/{bucket}"),
        ("POST", "/{bucket}?delete"),
        ("POST", "/{bucket}/k?uploadId=x"),
        ("PUT", "/{bucket}/k?tagging"),
    ],
)
def test_unauthorised_body_is_never_asked_for(endpoint, bucket, method, target):
    request = build(
        endpoint,
        method,
        target.format(bucket=bucket),
        {"expect": "100-continue"},
        secret="wrong",
        size=1000,
    )
    answer = exchange(endpoint, request)
    # The first answer is no "100 Continue".
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


def test_authorised_body_is_asked_for(endpoint, s3, bucket):
    request = build(endpoint, "PUT", f"/{bucket}/k", {"expect": "100-continue"}, size=5)
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as connection:
        connection.sendall(request)
        assert receive(connection).status == 100
        connection.sendall(b"hello")
        assert receive(connection).status == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (ENTITY, "MalformedXML"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><Delete/>', "MalformedXML"),
        (ENTITY.decode().encode("utf-16"), "MalformedXML"),
        (b"<Delete><Object><Key>&e;</Key></Object></Delete>", "MalformedXML"),
        (b"<a>" * 100_000, "MalformedXML"),
        (b"<Delete>" + b"<a>" * 20 + b"</a>" * 20 + b"</Delete>", "MalformedXML"),
        (b"", "MalformedXML"),
        (b"<Delete></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key>k</Key></Object>", "MalformedXML"),
        (b"<Other><Object><Key>k</Key></Object></Other>", "MalformedXML"),
        (b"\xff\xfe", "MalformedXML"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_document_is_malformed(endpoint, s3, bucket, body, code):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = send(endpoint, "POST", f"/{bucket}?delete", body=body)
    assert (answer.status, answer.code) == (400, code)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


@pytest.mark.parametrize(
    "target", ["/{bucket}?delete", "/{bucket}/k?uploadId=x", "/{bucket}/k?tagging"]
)
def test_hundred_megabytes_of_xml_are_refused_before_they_are_read(endpoint, bucket, target):
    method = "PUT" if "tagging" in target else "POST"
    request = build(endpoint, method, target.format(bucket=bucket), size=100 << 20)
    started = time.monotonic()
    answer = exchange(endpoint, request + b"<Delete>")
    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: x\r\n" + "x-a: b\r\n" * 500 + "\r\n", 431),
        ("GET / HTTP/1.1\r\nHost: x\r\nx-a: " + "b" * 20_000 + "\r\n\r\n", 431),
        (
            "PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            "Transfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 501),
    ],
    ids=lambda value: str(value)[:40],
)
def test_head_that_no_server_takes_is_refused_in_xml(endpoint, head, status):
    answer = exchange(endpoint, head.encode())
    assert answer.status == status
    assert answer.code
    assert answer.headers["x-amz-request-id"].encode() in answer.body


@pytest.mark.parametrize("method", ["PATCH", "POST", "TRACE"])
def test_method_without_an_operation_is_not_implemented(endpoint, bucket, method):
    answer = send(endpoint, method, f"/{bucket}/k", body=b"")
    assert (answer.status, answer.code) == (501, "NotImplemented")


def test_head_errors_have_no_body(endpoint, bucket):
    answer = send(endpoint, "HEAD", f"/{bucket}/absent")
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["x-amz-request-id"]


def test_presigned_url_works_until_it_expires(endpoint, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello")
    parameters = {"Bucket": bucket, "Key": "k"}
    url = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=60)
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"hello"
    target = presigned(endpoint, "GET", f"/{bucket}/k", b"", age_s=61)
    refused = send(endpoint, "GET", target, sign=False)
    assert (refused.status, refused.code) == (403, "AccessDenied")


def test_full_drives_refuse_writes_and_reads_go_on(endpoint, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(100_000))
    endpoint.chunks.full = True
    try:
        answer = send(endpoint, "PUT", f"/{bucket}/l", body=bytes(100_000))
        assert (answer.status, answer.code) == (507, "InsufficientStorage")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == bytes(100_000)
        s3.delete_object(Bucket=bucket, Key="k")
    finally:
        endpoint.chunks.full = False


def test_too_few_drives_refuse_writes(endpoint, bucket):
    endpoint.chunks.below_quorum = True
    try:
        answer = send(endpoint, "PUT", f"/{bucket}/l", body=bytes(100_000))
    finally:
        endpoint.chunks.below_quorum = False
    assert (answer.status, answer.code) == (503, "ServiceUnavailable")


def test_client_that_leaves_mid_body_leaves_nothing(endpoint, s3, bucket):
    request = build(endpoint, "PUT", f"/{bucket}/k", size=1 << 20)
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as connection:
        connection.sendall(request + bytes(1000))
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_host_of_a_domain_names_its_bucket(endpoint, s3, bucket):
    s3.put_object(Bucket=bucket, Key="d/k", Body=b"hello")
    host = f"{bucket}.{DOMAIN}:{endpoint.port}"
    assert send(endpoint, "GET", "/d/k", host=host).body == b"hello"
    listed = send(endpoint, "GET", "/?list-type=2", host=host)
    assert b"<Key>d/k</Key>" in listed.body
    path_style = send(endpoint, "GET", f"/{bucket}/d/k", host=DOMAIN)
    assert path_style.body == b"hello"


def test_non_ascii_metadata_comes_back_in_utf_8(endpoint, bucket):
    value = "grün €".encode()
    put = send(
        endpoint, "PUT", f"/{bucket}/k", {"x-amz-meta-a": value.decode("latin-1")}, body=b"x"
    )
    assert put.status == 200
    got = send(endpoint, "GET", f"/{bucket}/k")
    assert got.headers["x-amz-meta-a"].encode("latin-1") == value


def test_wrong_checksum_in_a_trailer_is_refused(endpoint, s3, bucket):
    body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = {**CHUNKED, "x-amz-trailer": "x-amz-checksum-crc32"}
    answer = send(endpoint, "PUT", f"/{bucket}/k", headers, body, payload_hash=TRAILER)
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_secret_is_in_no_answer(endpoint, bucket):
    answer = send(endpoint, "GET", f"/{bucket}/k", secret="wrong")
    assert SECRET_KEY.encode() not in answer.body


def test_object_that_turns_out_damaged_midway_cuts_the_connection(endpoint, s3, bucket):
    chunks = endpoint.chunks
    before = chunks.run_ids
    chunks.run_bytes = 2 << 20
    try:
        s3.put_object(Bucket=bucket, Key="k", Body=bytes(7 << 20))
    finally:
        chunks.run_bytes = 64 << 20
    last = max(chunks.run_ids - before)
    chunks.unreadable.add(last)
    try:
        request = build(endpoint, "GET", f"/{bucket}/k")
        with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as connection:
            connection.sendall(request)
            received = b""
            while piece := connection.recv(1 << 20):
                received += piece
    finally:
        chunks.unreadable.clear()
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-length: %d" % (7 << 20) in head
    assert 0 < len(body) < 7 << 20


@pytest.mark.slow
def test_client_that_leaves_mid_download_lets_the_object_go(endpoint, s3, bucket):
    held = endpoint.chunks.held_bytes
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(16 << 20))
    request = build(endpoint, "GET", f"/{bucket}/k")
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as connection:
        connection.sendall(request)
        connection.recv(1000)
        s3.delete_object(Bucket=bucket, Key="k")
    deadline = time.monotonic() + 5
    while endpoint.chunks.held_bytes > held and time.monotonic() < deadline:
        time.sleep(0.01)
    assert endpoint.chunks.held_bytes <= held


def test_presigned_headers_in_the_query_count(endpoint, s3, bucket):
    target = presigned(
        endpoint, "PUT", f"/{bucket}/k", b"x-amz-meta-a=1&x-amz-storage-class=STANDARD"
    )
    answer = send(endpoint, "PUT", target, body=b"hello", sign=False)
    assert answer.status == 200, answer.body
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "1"}
    target = presigned(endpoint, "PUT", f"/{bucket}/l", b"x-amz-storage-class=COLD")
    answer = send(endpoint, "PUT", target, body=b"hello", sign=False)
    assert (answer.status, answer.code) == (400, "InvalidStorageClass")
