"""Bad input against the whole daemon: the right code, no effect, and nothing left behind.

tests/s3api has the whole table against the S3 face alone; here each kind is met once by what
stands in production, with real drives below.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3api.credentials import Credential
from s3api.signing import sign_headers
from tests.cases.doors import get, keys, noise, put, refused
from tests.daemon.harness import ACCESS_KEY, SECRET_KEY, DaemonHarness
from tests.s3api.raw import Answer, receive

OLD = b"the old bytes"
WRONG_MD5 = base64.b64encode(hashlib.md5(b"something else").digest()).decode()
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
BOMB = b"""<?xml version="1.0"?><!DOCTYPE d [
<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">
<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Delete><Object><Key>key&c;&x;</Key></Object><Object><Key>key</Key></Object></Delete>"""
GROWTH = 4 * (64 << 20)
"""What four drives' members grow by at once, ahead of need."""


def build(
    harness: DaemonHarness,
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    size: int | None = None,
    secret: str = SECRET_KEY,
    payload_hash: str = "UNSIGNED-PAYLOAD",
    late_s: float = 0.0,
) -> bytes:
    """A signed request. size: Content-Length when it is not the body's."""
    pairs = [(b"host", f"127.0.0.1:{harness.s3_port}".encode())]
    pairs += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    pairs.append((b"content-length", b"%d" % (len(body) if size is None else size)))
    path, _, query = target.partition("?")
    pairs += sign_headers(
        Credential(access_key=ACCESS_KEY, secret_key=secret),
        method,
        path.encode(),
        query.encode(),
        pairs,
        region="us-east-1",
        now_s=time.time() - late_s,
        payload_hash=payload_hash,
    )
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in pairs)
    return f"{method} {target} HTTP/1.1\r\n".encode() + lines + b"\r\n" + body


def exchange(harness: DaemonHarness, request: bytes, *, close: bool = False) -> Answer:
    with socket.create_connection(("127.0.0.1", harness.s3_port), timeout=30) as peer:
        peer.sendall(request)
        if close:
            peer.shutdown(socket.SHUT_WR)
        return receive(peer)


def resident_bytes(harness: DaemonHarness) -> int:
    """What the daemon occupies now."""
    assert harness.process is not None
    with open(f"/proc/{harness.process.pid}/status") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


@pytest.fixture(autouse=True)
def nothing_happens(s3: Any, bucket: str, box: Path) -> Iterator[None]:
    """Whatever a test tries, the one key there stays as it was, at both doors."""
    put(s3, bucket, "key", OLD, Metadata={"kept": "yes"})
    before = s3.head_object(Bucket=bucket, Key="key")
    yield
    assert keys(s3, bucket) == ["key"]
    after = s3.head_object(Bucket=bucket, Key="key")
    for name in ("ETag", "LastModified", "Metadata", "ContentLength"):
        assert after[name] == before[name]
    assert get(s3, bucket, "key") == OLD
    assert os.listdir(box) == ["key"]
    assert (box / "key").read_bytes() == OLD


# A body large enough to reach the drives before it turns out to be bad.
LARGE = noise(3 << 20)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"secret": "wrong"}, 403, "SignatureDoesNotMatch"),
        ({"late_s": 16 * 60}, 403, "RequestTimeTooSkewed"),
        ({"late_s": -16 * 60}, 403, "RequestTimeTooSkewed"),
        ({"headers": {"content-md5": WRONG_MD5}}, 400, "BadDigest"),
        ({"payload_hash": "0" * 64}, 400, "XAmzContentSHA256Mismatch"),
        ({"headers": {"x-amz-checksum-crc32c": "AAAAAA=="}}, 400, "BadDigest"),
        ({"size": len(LARGE) + 1, "close": True}, 400, "IncompleteBody"),
        ({"size": 6 << 40}, 400, "EntityTooLarge"),
        ({"headers": {"transfer-encoding": "chunked"}}, 400, "InvalidRequest"),
        ({"headers": {f"x-amz-meta-{n}": "x" * 100 for n in range(200)}}, 431, None),
        ({"headers": {"x-long": "x" * 20_000}}, 431, None),
        (
            {
                "headers": {"x-amz-decoded-content-length": "5"},
                "payload_hash": TRAILER,
                "body": b"zz\r\nhello\r\n0\r\n\r\n",
            },
            400,
            "InvalidRequest",
        ),
        (
            {
                "headers": {"x-amz-decoded-content-length": "5"},
                "payload_hash": STREAMING,
                "body": b"5;chunk-signature=%b\r\nhello\r\n" % (b"0" * 64),
            },
            403,
            "SignatureDoesNotMatch",
        ),
        (
            {
                "headers": {
                    "x-amz-decoded-content-length": "5",
                    "x-amz-trailer": "x-amz-checksum-crc32",
                },
                "payload_hash": TRAILER,
                "body": b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
            },
            400,
            "BadDigest",
        ),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_a_bad_put_changes_nothing(
    harness: DaemonHarness, bucket: str, options: dict[str, Any], status: int, code: str | None
) -> None:
    options = {"body": LARGE, **options}
    close = options.pop("close", False)
    request = build(harness, "PUT", f"/{bucket}/key", **options)
    answer = exchange(harness, request, close=close)
    assert (answer.status, answer.code) == (status, code or answer.code), answer.body
    assert answer.code, "no error document"
    assert answer.headers["x-amz-request-id"].encode() in answer.body


def test_an_expired_or_altered_presigned_url_is_refused(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "key"}
    expired = s3.generate_presigned_url("put_object", where, ExpiresIn=1)
    altered = s3.generate_presigned_url("put_object", where).replace("/key?", "/other?")
    time.sleep(2.1)
    for url in (expired, altered):
        request = urllib.request.Request(url, data=b"new", method="PUT")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        with caught.value as answer:
            assert answer.code == 403
            assert b"<Code>AccessDenied</Code>" in answer.read() or url is altered


def test_a_client_that_leaves_mid_body_leaves_nothing(harness: DaemonHarness, bucket: str) -> None:
    request = build(harness, "PUT", f"/{bucket}/key", size=1 << 30)
    with socket.create_connection(("127.0.0.1", harness.s3_port), timeout=20) as peer:
        peer.sendall(request + LARGE)


@pytest.mark.parametrize("operation", ["delete", "uploads"])
def test_xml_with_entities_is_refused(
    harness: DaemonHarness, s3: Any, bucket: str, operation: str
) -> None:
    target = f"/{bucket}?delete"
    if operation == "uploads":
        upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
        target = f"/{bucket}/key?uploadId={upload}"
    digest = base64.b64encode(hashlib.md5(BOMB).digest()).decode()
    answer = exchange(harness, build(harness, "POST", target, {"content-md5": digest}, BOMB))
    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert b"root:" not in answer.body


def test_a_hundred_megabytes_of_xml_are_refused_and_not_kept(
    harness: DaemonHarness, bucket: str
) -> None:
    before = resident_bytes(harness)
    piece = (b"<Object><Key>" + b"k" * 900 + b"</Key></Object>") * 64
    size = 100 << 20
    request = build(harness, "POST", f"/{bucket}?delete", {"content-md5": WRONG_MD5}, size=size)
    with socket.create_connection(("127.0.0.1", harness.s3_port), timeout=30) as peer:
        try:
            peer.sendall(request + b"<Delete>")
            for _ in range(size // len(piece)):
                peer.sendall(piece)
        except OSError:
            pass  # It is cut off after a while; the answer stands in our buffer by then.
        answer = receive(peer)
    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert resident_bytes(harness) - before < 16 << 20


def test_a_part_that_is_too_small_is_refused(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
    where = {"Bucket": bucket, "Key": "key", "UploadId": upload}
    claims = [
        {"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=b"small", **where)["ETag"]}
        for n in (1, 2)
    ]
    with refused("EntityTooSmall"):
        s3.complete_multipart_upload(MultipartUpload={"Parts": claims}, **where)
    with refused("InvalidPart"):
        wrong = [{"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}]
        s3.complete_multipart_upload(MultipartUpload={"Parts": wrong}, **where)
    with refused("InvalidPartOrder"):
        s3.complete_multipart_upload(MultipartUpload={"Parts": claims[::-1]}, **where)
    s3.abort_multipart_upload(**where)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_an_unknown_upload_is_refused(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "key", "UploadId": "0123456789abcdef"}
    with refused("NoSuchUpload"):
        s3.upload_part(PartNumber=1, Body=LARGE, **where)
    with refused("NoSuchUpload"):
        s3.complete_multipart_upload(
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "x"}]}, **where
        )
    with refused("NoSuchUpload"):
        s3.abort_multipart_upload(**where)


REPLICATION_RULE = {"Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::elsewhere"}}


def test_what_is_not_there_is_told_apart(s3: Any, bucket: str) -> None:
    with refused("NoSuchBucket"):
        put(s3, "no-such-bucket", "key", LARGE)
    with refused("NoSuchKey"):
        get(s3, bucket, "nothing")
    with refused("BucketNotEmpty"):
        s3.delete_bucket(Bucket=bucket)
    # One's own may be made again, as Amazon S3 has it in its classic region.
    s3.create_bucket(Bucket=bucket)
    with refused("NotImplemented"):
        s3.put_bucket_replication(
            Bucket=bucket, ReplicationConfiguration={"Role": "", "Rules": [REPLICATION_RULE]}
        )


def test_refusals_leave_no_bytes_and_no_memory(harness: DaemonHarness, bucket: str) -> None:
    request = build(harness, "PUT", f"/{bucket}/key", {"content-md5": WRONG_MD5}, LARGE)
    for _ in range(20):
        assert exchange(harness, request).code == "BadDigest"
    before, used = resident_bytes(harness), harness_bytes(harness)
    for _ in range(100):
        assert exchange(harness, request).code == "BadDigest"
    assert resident_bytes(harness) - before < 16 << 20
    # 600 MiB were written.
    deadline = time.monotonic() + 20
    while harness_bytes(harness) > used + GROWTH and time.monotonic() < deadline:
        time.sleep(0.1)
    assert harness_bytes(harness) <= used + GROWTH, "refused bytes stayed on the drives"


def harness_bytes(harness: DaemonHarness) -> int:
    """Blocks that all drives' files take, holes not counted."""
    return sum(
        path.stat().st_blocks * 512
        for drive in harness.drives
        for path in drive.rglob("*")
        if path.is_file()
    )
