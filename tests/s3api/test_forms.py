"""Uploads by browsers' forms: policies and signatures, fields, files and answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from minio import Minio
from minio.datatypes import PostPolicy

from s3api.errors import AccessDenied
from s3api.formpolicy import parse_policy
from s3api.settingrefusals import InvalidPolicyDocument
from tests.s3api.conftest import ACCESS_KEY, ALICE, SECRET_KEY
from tests.s3api.raw import build, exchange, send

BOUNDARY = "----form-boundary-7MA4YWxk"


def stamp(after_s=600):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + after_s))


def encode(document):
    return base64.b64encode(json.dumps(document).encode()).decode()


def policy(bucket, *conditions, after_s=600):
    common = [{"bucket": bucket}, ["starts-with", "$key", "foo"], {"acl": "private"}]
    return {"expiration": stamp(after_s), "conditions": [*common, *conditions]}


def signed(document, access_key=ACCESS_KEY, secret=SECRET_KEY, **fields):
    """Fields of a form that is signed with version 2."""
    text = document if isinstance(document, str) else encode(document)
    proof = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()
    given = {"key": "foo.txt", "acl": "private", **fields}
    return given | {"AWSAccessKeyId": access_key, "policy": text, "signature": proof}


def multipart(fields, body=b"bar", name="photo.jpg"):
    said = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{said}"{field}"\r\n\r\n{value}\r\n'.encode() for field, value in fields.items()]
    if body is not None:
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"'
        parts += [
            f"--{BOUNDARY}\r\n{head}\r\nContent-Type: image/jpeg\r\n\r\n".encode(),
            body,
            b"\r\n",
        ]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def post(endpoint, bucket, fields, body=b"bar", *, name="photo.jpg", whole=None, **kwargs):
    """Send a form. whole: the request's body itself."""
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return send(
        endpoint,
        "POST",
        f"/{bucket}",
        headers,
        multipart(fields, body, name) if whole is None else whole,
        sign=False,
        **kwargs,
    )


def test_form_is_an_upload_with_fields_for_headers(endpoint, s3, bucket):
    document = policy(
        bucket,
        ["starts-with", "$Content-Type", "text/"],
        ["eq", "$cache-control", "no-store"],
        ["starts-with", "$x-amz-meta-a", ""],
        ["starts-with", "$tagging", ""],
        {"x-amz-website-redirect-location": "/other"},
    )
    tagging = "<Tagging><TagSet><Tag><Key>t</Key><Value>1</Value></Tag></TagSet></Tagging>"
    fields = signed(document, **{"Content-Type": "text/plain", "Cache-Control": "no-store"})
    fields |= {"x-amz-meta-a": "ü", "tagging": tagging, "x-ignore-this": "x"}
    fields |= {"x-amz-website-redirect-location": "/other"}
    answer = post(endpoint, bucket, fields)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["etag"] == f'"{hashlib.md5(b"bar").hexdigest()}"'
    assert answer.headers["location"].endswith(f"/{bucket}/foo.txt")
    got = s3.get_object(Bucket=bucket, Key="foo.txt")
    assert got["Body"].read() == b"bar"
    assert (got["ContentType"], got["CacheControl"]) == ("text/plain", "no-store")
    assert got["WebsiteRedirectLocation"] == "/other"
    tags = s3.get_object_tagging(Bucket=bucket, Key="foo.txt")["TagSet"]
    assert tags == [{"Key": "t", "Value": "1"}]


def test_boto3_signs_forms_with_version_4(endpoint, s3, bucket):
    form = s3.generate_presigned_post(
        bucket,
        "up/${filename}",
        Fields={"success_action_status": "201", "x-amz-meta-who": "me"},
        Conditions=[
            {"success_action_status": "201"},
            {"x-amz-meta-who": "me"},
            ["content-length-range", 1, 10],
        ],
    )
    answer = post(endpoint, bucket, form["fields"], name="C:\\photos\\cat.jpg")
    assert answer.status == 201
    assert re.search(rb"<Key>up/cat.jpg</Key>", answer.body)
    assert re.search(rf"<Bucket>{bucket}</Bucket>".encode(), answer.body)
    assert b"xmlns" not in answer.body
    assert s3.head_object(Bucket=bucket, Key="up/cat.jpg")["Metadata"] == {"who": "me"}
    forged = form["fields"] | {"x-amz-signature": "0" * 64}
    assert post(endpoint, bucket, forged).code == "SignatureDoesNotMatch"
    unsigned = {k: v for k, v in form["fields"].items() if not k.startswith("x-amz-")}
    assert post(endpoint, bucket, unsigned).code == "InvalidArgument"


def test_minio_py_signs_forms_too(endpoint, s3, bucket):
    client = Minio(
        endpoint=f"127.0.0.1:{endpoint.port}",
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        secure=False,
        region="us-east-1",
    )
    document = PostPolicy(bucket, datetime.now(UTC) + timedelta(minutes=5))
    document.add_starts_with_condition("key", "up/")
    document.add_content_length_range_condition(1, 10)
    fields = {"key": "up/cat.jpg", **client.presigned_post_policy(document)}
    answer = post(endpoint, bucket, fields)
    assert (answer.status, answer.code) == (204, "")
    assert s3.get_object(Bucket=bucket, Key="up/cat.jpg")["Body"].read() == b"bar"


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_048_576, 3_000_001])
def test_file_is_streamed_whole_whatever_its_size(endpoint, s3, bucket, size):
    body = (b"\r\n--" + BOUNDARY[:-1].encode() + b"\r\n-")[: size or 1] * (size // 30 + 1)
    body = body[:size]
    assert post(endpoint, bucket, signed(policy(bucket)), body).status == 204
    assert s3.get_object(Bucket=bucket, Key="foo.txt")["Body"].read() == body


@pytest.mark.parametrize("step", [1, 7, 61])
def test_form_may_come_in_pieces(endpoint, s3, bucket, step):
    whole = multipart(signed(policy(bucket)), b"\r\n--" + BOUNDARY.encode()[:9] + b"\r\n")
    chunks = [whole[start : start + step] for start in range(0, len(whole), step)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    headers = {
        "content-type": f'multipart/form-data; boundary="{BOUNDARY}"',
        "transfer-encoding": "chunked",
    }
    request = build(endpoint, "POST", f"/{bucket}", headers, sign=False, size=None) + framed
    request = request.replace(b"content-length: 0\r\n", b"")
    assert exchange(endpoint, request).status == 204
    got = s3.get_object(Bucket=bucket, Key="foo.txt")["Body"].read()
    assert got == b"\r\n--" + BOUNDARY.encode()[:9] + b"\r\n"


def test_names_of_fields_and_operators_are_of_any_case(endpoint, bucket):
    document = {
        "expiration": stamp(),
        "conditions": [
            {"bUcKeT": bucket},
            ["StArTs-WiTh", "$KeY", "foo"],
            {"AcL": "private"},
        ],
    }
    fields = signed(document)
    fields["kEy"], fields["pOLICy"] = fields.pop("key"), fields.pop("policy")
    assert post(endpoint, bucket, fields).status == 204


@pytest.mark.parametrize(
    ("given", "status"), [("200", 200), ("201", 201), ("204", 204), ("404", 204), ("", 204)]
)
def test_status_of_the_answer_is_chosen_among_three(endpoint, bucket, given, status):
    document = policy(bucket, ["starts-with", "$success_action_status", ""])
    assert post(endpoint, bucket, signed(document, success_action_status=given)).status == status


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://a.example/done", "https://a.example/done?bucket="),
        ("https://a.example/done?x=1", "https://a.example/done?x=1&bucket="),
        ("javascript:alert(1)", ""),
        ("//a.example", ""),
    ],
)
def test_browser_is_sent_on_where_the_form_says(endpoint, bucket, url, location):
    document = policy(bucket, ["starts-with", "$success_action_redirect", ""])
    fields = signed(document, key="foo &ü", success_action_redirect=url)
    answer = post(endpoint, bucket, fields)
    if not location:
        assert answer.status == 204
        return
    etag = hashlib.md5(b"bar").hexdigest()
    said = f"{location}{bucket}&key=foo%20%26%C3%BC&etag=%22{etag}%22"
    assert (answer.status, answer.headers["location"]) == (303, said)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"signature": "bm8="}, 403, "SignatureDoesNotMatch"),
        ({"AWSAccessKeyId": "stranger"}, 403, "InvalidAccessKeyId"),
        ({"signature": None}, 400, "InvalidArgument"),
        ({"policy": None}, 400, "InvalidArgument"),
        ({"AWSAccessKeyId": None, "signature": None}, 400, "InvalidArgument"),
        ({"AWSAccessKeyId": None, "signature": None, "policy": None}, 403, "AccessDenied"),
        ({"key": None}, 400, "InvalidArgument"),
        ({"key": "bar.txt"}, 403, "AccessDenied"),
        ({"acl": "public-read"}, 403, "AccessDenied"),
        ({"x-amz-meta-new": "x"}, 403, "AccessDenied"),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, 400, "BadDigest"),
        ({"content-md5": "sailor"}, 400, "InvalidDigest"),
        ({"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "BadDigest"),
    ],
)
def test_form_that_was_not_signed_so_is_refused(endpoint, s3, bucket, change, status, code):
    fields = signed(policy(bucket)) | change
    answer = post(endpoint, bucket, {k: v for k, v in fields.items() if v is not None})
    assert (answer.status, answer.code) == (status, code)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_policy_is_good_until_it_expires(endpoint, bucket):
    answer = post(endpoint, bucket, signed(policy(bucket, after_s=-1)))
    assert (answer.status, answer.code) == (403, "AccessDenied")


def test_policy_is_good_for_its_bucket_alone(endpoint, s3, bucket):
    s3.create_bucket(Bucket=f"{bucket}-2")
    fields = signed(policy(bucket)) | {"bucket": bucket}
    assert post(endpoint, f"{bucket}-2", fields).code == "AccessDenied"
    anywhere = {"expiration": stamp(), "conditions": [["starts-with", "$key", ""]]}
    fields = signed(anywhere)
    del fields["acl"]
    assert b"Extra input fields: bucket" in post(endpoint, bucket, fields).body


@pytest.mark.parametrize(
    ("span", "body", "code"),
    [
        ((0, 2), b"bar", "EntityTooLarge"),
        ((0, 3), b"bar", ""),
        ((3, 3), b"bar", ""),
        ((4, 9), b"bar", "EntityTooSmall"),
        ((4, 9), b"", "EntityTooSmall"),
        ((0, 100_000), b"x" * 3_000_000, "EntityTooLarge"),
    ],
)
def test_size_of_the_file_is_what_the_policy_says(endpoint, s3, bucket, span, body, code):
    document = policy(bucket, ["content-length-range", *span])
    answer = post(endpoint, bucket, signed(document), body)
    assert (answer.status, answer.code) == ((400, code) if code else (204, ""))
    assert ("Contents" in s3.list_objects_v2(Bucket=bucket)) is (not code)


def test_form_acts_for_the_account_that_signed_it(endpoint, s3, bucket):
    fields = signed(policy(bucket), ALICE.access_key, ALICE.secret_key)
    assert post(endpoint, bucket, fields).code == "AccessDenied"
    hers = endpoint.client(who=ALICE)
    hers.create_bucket(Bucket=f"{bucket}-of-alice")
    fields = signed(policy(f"{bucket}-of-alice"), ALICE.access_key, ALICE.secret_key)
    assert post(endpoint, f"{bucket}-of-alice", fields).status == 204
    assert post(endpoint, "absent", signed(policy("absent"))).code == "NoSuchBucket"


def test_form_without_a_file_or_with_much_else_is_refused(endpoint, bucket):
    fields = signed(policy(bucket))
    assert post(endpoint, bucket, fields, None).code == "InvalidArgument"
    large = fields | {"x-ignore": "x" * 21_000}
    assert post(endpoint, bucket, large).code == "MaxPostPreDataLengthExceededError"
    many = fields | {f"x-ignore-{number}": "" for number in range(300)}
    assert post(endpoint, bucket, many).code == "MaxPostPreDataLengthExceededError"
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="KEY"\r\n\r\nfoo2\r\n'.encode()
    twice = field + multipart(fields)
    assert post(endpoint, bucket, {}, whole=twice).code == "InvalidArgument"


def test_body_without_a_boundary_is_not_read_to_its_end(endpoint, bucket):
    answer = post(endpoint, bucket, {}, whole=b"x" * 1_500_000, size=1 << 40)
    assert (answer.status, answer.code) == (400, "MaxPostPreDataLengthExceededError")


@pytest.mark.parametrize("cut", [3, 20, 200, -1, -8, -40, -65])
def test_form_that_breaks_off_makes_nothing(endpoint, s3, bucket, cut):
    whole = multipart(signed(policy(bucket)), b"y" * 50)
    answer = post(endpoint, bucket, {}, whole=whole[: cut if cut > 0 else cut - 5])
    assert (answer.status, answer.code) == (400, "MalformedPOSTRequest")
    with pytest.raises(ClientError):
        s3.head_object(Bucket=bucket, Key="foo.txt")


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/mixed"])
def test_post_to_a_bucket_must_be_a_form(endpoint, bucket, kind):
    headers = {"content-type": kind} if kind else {}
    answer = send(endpoint, "POST", f"/{bucket}", headers, b"x", sign=False)
    assert (answer.status, answer.code) == (412, "PreconditionFailed")


def test_form_in_a_signed_request_needs_no_policy(endpoint, s3, bucket):
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = multipart({"key": "k"})
    assert send(endpoint, "POST", f"/{bucket}", headers, body).status == 204
    both = multipart(signed(policy(bucket)))
    assert send(endpoint, "POST", f"/{bucket}", headers, both).code == "InvalidArgument"


@pytest.mark.parametrize(
    "document",
    [
        "bm90IGpzb24=",
        "%%%",
        encode([]),
        encode({"conditions": []}),
        encode({"expiration": stamp()}),
        encode({"EXPIRATION": stamp(), "conditions": []}),
        encode({"expiration": stamp(), "CONDITIONS": []}),
        encode({"expiration": stamp(), "conditions": [], "more": 1}),
        encode({"expiration": "2026-11-22 10:00:00+00:00", "conditions": []}),
        encode({"expiration": "2026-13-22T10:00:00Z", "conditions": []}),
        encode({"expiration": stamp(), "conditions": [{}]}),
        encode({"expiration": stamp(), "conditions": [{"a": "1", "b": "2"}]}),
        encode({"expiration": stamp(), "conditions": [{"a": ["1"]}]}),
        encode({"expiration": stamp(), "conditions": [["eq", "$key"]]}),
        encode({"expiration": stamp(), "conditions": [["eq", "key", "x"]]}),
        encode({"expiration": stamp(), "conditions": [["ends-with", "$key", "x"]]}),
        encode({"expiration": stamp(), "conditions": [["content-length-range", 0]]}),
        encode({"expiration": stamp(), "conditions": [["content-length-range", -1, 0]]}),
        encode({"expiration": stamp(), "conditions": ["key"]}),
    ],
)
def test_policy_must_be_one(endpoint, bucket, document):
    with pytest.raises(InvalidPolicyDocument):
        parse_policy(document)
    answer = post(endpoint, bucket, signed(document))
    assert (answer.status, answer.code) == (400, "InvalidPolicyDocument")


def test_several_size_ranges_hold_together():
    ranges = [["content-length-range", 1, 9], ["Content-Length-Range", "3", "20"]]
    found = parse_policy(encode({"expiration": stamp(), "conditions": ranges}))
    assert found.size_range == (3, 9)


def test_every_type_that_a_form_names_must_be_allowed():
    conditions = [["starts-with", "$Content-Type", "image/"]]
    found = parse_policy(encode({"expiration": stamp(), "conditions": conditions}))
    found.check({"content-type": "image/jpeg, image/png"}, time.time())
    with pytest.raises(AccessDenied):
        found.check({"content-type": "image/jpeg,text/html"}, time.time())


def test_form_makes_versions_and_locks(endpoint, s3, bucket):
    locked = f"{bucket}-locked"
    s3.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    until = stamp(3600)
    lock = {
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": until,
    }
    document = policy(locked, *({name: value} for name, value in lock.items()))
    answer = post(endpoint, locked, signed(document) | lock)
    assert answer.status == 204
    version = answer.headers["x-amz-version-id"]
    found = s3.get_object_retention(Bucket=locked, Key="foo.txt", VersionId=version)
    assert found["Retention"]["Mode"] == "GOVERNANCE"
    s3.delete_object(
        Bucket=locked, Key="foo.txt", VersionId=version, BypassGovernanceRetention=True
    )
