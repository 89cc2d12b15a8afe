"""Signatures of version 2: botocore signs, we verify, and every forgery is refused."""

from __future__ import annotations

import email.utils
import time
import urllib.request
from urllib.error import HTTPError
from urllib.parse import urlsplit

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.config import Config

from s3api import sigv2
from s3api.credentials import Credential, MemoryCredentials
from s3api.refusals import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    InvalidAccessKeyId,
    InvalidToken,
    Refusal,
    RequestTimeTooSkewed,
    SeveralAuthMechanisms,
    SignatureDoesNotMatch,
)
from s3api.router import SUBRESOURCES
from s3api.sigv4 import PayloadMode, Verifier
from tests.s3api.conftest import ACCESS_KEY, DOMAIN, SECRET_KEY

ROOT = Credential(access_key="AKIDROOT", secret_key="very secret")
TEMPORARY = Credential(access_key="ASIATEMP", secret_key="short-lived", session_token="tok+en/=")
LIFE_S = 600

Headers = list[tuple[bytes, bytes]]
Sent = tuple[str, bytes, bytes, Headers]


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(MemoryCredentials(ROOT, TEMPORARY), domains=(b"s3.example",))


def signed(
    method: str,
    url: str,
    headers: dict[str, str] | None = None,
    credential: Credential = ROOT,
    *,
    presigned: bool = True,
    auth_path: str | None = None,
) -> Sent:
    """A request as botocore signs it, in the form `Verifier.authenticate` takes it."""
    keys = botocore.credentials.Credentials(
        credential.access_key, credential.secret_key, credential.session_token or None
    )
    request = botocore.awsrequest.AWSRequest(
        method, url, headers=dict(headers or {}), auth_path=auth_path
    )
    if presigned:
        botocore.auth.HmacV1QueryAuth(keys, LIFE_S).add_auth(request)
    else:
        botocore.auth.HmacV1Auth(keys).add_auth(request)
    parts = urlsplit(request.url)
    sent = headers or {} if presigned else dict(request.headers)
    pairs = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    pairs.append((b"host", parts.netloc.encode()))
    return method, parts.path.encode(), parts.query.encode(), pairs


URLS = [
    ("GET", "http://127.0.0.1/b/k", {}),
    ("HEAD", "http://127.0.0.1/b/%C3%BC%20+k//x", {}),
    ("DELETE", "http://127.0.0.1/b/k?versionId=null", {}),
    ("PUT", "http://127.0.0.1/b/k", {"Content-Type": "text/plain", "Content-MD5": "abc="}),
    ("PUT", "http://127.0.0.1/b/k", {"x-amz-acl": "private", "X-Amz-Meta-A": "two  blanks"}),
    ("PUT", "http://127.0.0.1/b/k?uploadId=a%2Bb%2F%3D&partNumber=3", {}),
    ("GET", "http://127.0.0.1/b?tagging", {}),
    ("GET", "http://127.0.0.1/b?list-type=2&prefix=a%2Fb&uploads", {}),
    (
        "GET",
        "http://127.0.0.1/b/k?response-content-type=text%2Fplain&"
        "response-content-disposition=attachment%3B%20filename%3D%22a%26b%20c.txt%22",
        {},
    ),
]


@pytest.mark.parametrize("presigned", [True, False])
@pytest.mark.parametrize(("method", "url", "headers"), URLS)
@pytest.mark.parametrize("credential", [ROOT, TEMPORARY], ids=["root", "temporary"])
def test_what_botocore_signs_is_accepted(
    verifier: Verifier,
    method: str,
    url: str,
    headers: dict[str, str],
    credential: Credential,
    presigned: bool,
) -> None:
    sent = signed(method, url, headers, credential, presigned=presigned)
    context = verifier.authenticate(*sent, time.time())
    assert context.access_key == credential.access_key
    assert context.presigned is presigned
    assert context.payload_mode is PayloadMode.UNSIGNED


@pytest.mark.parametrize("auth_path", ["/b", "/b/"])
def test_a_bucket_is_signed_with_a_slash_behind_or_without(
    verifier: Verifier, auth_path: str
) -> None:
    for url in ("http://h/b", "http://h/b?acl"):
        sent = signed("PUT", url, presigned=False, auth_path=auth_path)
        assert verifier.authenticate(*sent, time.time()).access_key == ROOT.access_key
    sent = signed("PUT", "http://h/b/k", presigned=False, auth_path="/b/k/")
    with pytest.raises(SignatureDoesNotMatch):
        verifier.authenticate(*sent, time.time())


def test_virtual_host_style_signs_the_bucket(verifier: Verifier) -> None:
    sent = signed("GET", "http://b.s3.example:9000/k?acl", auth_path="/b/k")
    assert verifier.authenticate(*sent, time.time()).access_key == ROOT.access_key
    method, path, query, _ = sent
    with pytest.raises(SignatureDoesNotMatch):
        verifier.authenticate(
            method, path, query, [(b"host", b"other.s3.example:9000")], time.time()
        )


def test_amz_parameters_of_a_url_count_as_headers_and_are_signed(verifier: Verifier) -> None:
    method, path, query, headers = signed(
        "PUT", "http://h/b/k", {"x-amz-meta-a": "1", "x-amz-acl": "private"}
    )
    bare = [pair for pair in headers if pair[0] == b"host"]
    assert b"x-amz-meta-a=1" in query
    assert verifier.authenticate(method, path, query, bare, time.time()).presigned
    for forged in (
        query.replace(b"x-amz-meta-a=1", b"x-amz-meta-a=2"),
        query.replace(b"x-amz-meta-a=1", b""),
        query + b"&x-amz-copy-source=%2Fvictim%2Fsecret",
        query + b"&X-Amz-Copy-Source=%2Fvictim%2Fsecret",
    ):
        with pytest.raises(SignatureDoesNotMatch):
            verifier.authenticate(method, path, forged, bare, time.time())


@pytest.mark.parametrize(
    ("added", "refusal"),
    [
        (b"&tagging", SignatureDoesNotMatch),
        (b"&retention", SignatureDoesNotMatch),
        (b"&versionId=x", SignatureDoesNotMatch),
        (b"&response-content-type=text%2Fhtml", SignatureDoesNotMatch),
        (b"&x-amz-acl=public-read", SignatureDoesNotMatch),
        (b"&x-amz-acl=a&X-AMZ-ACL=b", AuthorizationQueryParametersError),
        (b"&x-amz-meta-a=b%0Ax-amz-acl:c", AuthorizationQueryParametersError),
        (b"&x-amz-meta-a%3Ab=c", AuthorizationQueryParametersError),
        (b"&Expires=99999999999", AccessDenied),
        (b"&Signature=AAAA", AccessDenied),
    ],
)
def test_added_parameter_is_refused(
    verifier: Verifier, added: bytes, refusal: type[Refusal]
) -> None:
    method, path, query, headers = signed("PUT", "http://h/b/k")
    with pytest.raises(refusal):
        verifier.authenticate(method, path, query + added, headers, time.time())


@pytest.mark.parametrize("name", [b"x-amz-copy-source", b"x-amz-acl", b"content-md5"])
def test_added_header_is_refused(verifier: Verifier, name: bytes) -> None:
    method, path, query, headers = signed("PUT", "http://h/b/k")
    with pytest.raises(SignatureDoesNotMatch):
        verifier.authenticate(method, path, query, [*headers, (name, b"/v/s")], time.time())


def test_two_parameters_cannot_be_passed_off_as_one(verifier: Verifier) -> None:
    method, path, query, headers = signed("PUT", "http://h/b/k?partNumber=1&uploadId=U")
    forged = query.replace(b"partNumber=1&uploadId=U", b"partNumber=1%26uploadId%3DU")
    assert forged != query
    with pytest.raises(SignatureDoesNotMatch):
        verifier.authenticate(method, path, forged, headers, time.time())


@pytest.mark.parametrize("presigned", [True, False])
def test_forged_request_is_refused(verifier: Verifier, presigned: bool) -> None:
    method, path, query, headers = signed("GET", "http://h/b/k?acl", presigned=presigned)
    now_s = time.time()
    for change in (
        ("PUT", path, query, headers),
        (method, b"/b/other", query, headers),
        (method, path, query.replace(b"acl", b"policy"), headers),
    ):
        with pytest.raises(SignatureDoesNotMatch):
            verifier.authenticate(*change, now_s)
    stranger = Credential(access_key="nobody", secret_key="x")
    with pytest.raises(InvalidAccessKeyId):
        verifier.authenticate(
            *signed("GET", "http://h/b", credential=stranger, presigned=presigned), now_s
        )


def test_url_is_good_until_it_expires(verifier: Verifier) -> None:
    sent = signed("GET", "http://h/b/k")
    verifier.authenticate(*sent, time.time() + LIFE_S - 30)
    with pytest.raises(AccessDenied, match="expired"):
        verifier.authenticate(*sent, time.time() + LIFE_S + 2)
    method, path, query, headers = sent
    for life in (b"x", b"0", b""):
        forged = query.replace(b"Expires=", b"Expires=" + life + b"&x=")
        with pytest.raises(AccessDenied):
            verifier.authenticate(method, path, forged, headers, time.time())


def test_header_is_good_for_a_quarter_of_an_hour(verifier: Verifier) -> None:
    sent = signed("GET", "http://h/b/k", presigned=False)
    verifier.authenticate(*sent, time.time() + 14 * 60)
    for off_s in (-16 * 60, 16 * 60):
        with pytest.raises(RequestTimeTooSkewed):
            verifier.authenticate(*sent, time.time() + off_s)


def test_amz_date_stands_in_for_the_date(verifier: Verifier) -> None:
    date = email.utils.formatdate(usegmt=True).encode()
    text = b"GET\n\n\n\nx-amz-date:" + date + b"\n/b/k"
    proof = b"AWS AKIDROOT:" + sigv2.signature(ROOT.secret_key, text)
    headers = [(b"host", b"h"), (b"x-amz-date", date), (b"authorization", proof)]
    for others in ([], [(b"date", b"Sat, 01 Jan 2000 00:00:00 GMT")]):
        verifier.authenticate("GET", b"/b/k", b"", headers + others, time.time())


@pytest.mark.parametrize(
    ("headers", "query", "refusal"),
    [
        ([(b"authorization", b"AWS AKIDROOT:x")], b"", AccessDenied),
        ([(b"authorization", b"AWS AKIDROOT:x"), (b"date", b"1790000000")], b"", AccessDenied),
        ([(b"authorization", b"AWS A:x"), (b"date", b"Fri, 07 Jul 1950 21:53:04 GMT")], b"",
         AccessDenied),
        ([(b"authorization", b"AWS A:x"), (b"date", b"Sat, 01 Jan 2000 00:00:00 GMT"),
          (b"x-amz-date", b"")], b"", AccessDenied),
        ([(b"authorization", b"AWS AKIDROOT")], b"", AuthorizationHeaderMalformed),
        ([(b"authorization", b"AWS :x")], b"", AuthorizationHeaderMalformed),
        ([], b"AWSAccessKeyId=AKIDROOT&Signature=x", AccessDenied),
        ([(b"authorization", b"AWS4-HMAC-SHA256 x")], b"AWSAccessKeyId=A&Signature=x&Expires=1",
         SeveralAuthMechanisms),
    ],
)  # fmt: skip
def test_malformed_claim_is_refused(
    verifier: Verifier, headers: Headers, query: bytes, refusal: type[Refusal]
) -> None:
    with pytest.raises(refusal):
        verifier.authenticate("GET", b"/b/k", query, headers, time.time())


def test_temporary_key_without_its_token_is_refused(verifier: Verifier) -> None:
    plain = Credential(access_key=TEMPORARY.access_key, secret_key=TEMPORARY.secret_key)
    with pytest.raises(InvalidToken):
        verifier.authenticate(*signed("GET", "http://h/b/k", credential=plain), time.time())


def test_signed_chunks_are_refused(verifier: Verifier) -> None:
    mode = {"x-amz-content-sha256": PayloadMode.STREAMING.value}
    with pytest.raises(AccessDenied):
        verifier.authenticate(*signed("PUT", "http://h/b/k", mode), time.time())


def test_every_parameter_that_selects_an_operation_is_signed() -> None:
    assert {name.encode() for name in SUBRESOURCES} <= sigv2.SIGNED_PARAMETERS


# -- boto3 as it comes, against a running endpoint --------------------------------------


def test_urls_of_unmodified_boto3_work(endpoint, s3, bucket):
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{endpoint.port}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )
    target = {"Bucket": bucket, "Key": "a b/ü"}

    def call(method, operation, body=None, headers=None, **params):
        url = client.generate_presigned_url(operation, {**target, **params})
        assert "AWSAccessKeyId=" in url
        request = urllib.request.Request(url, body, {"Content-Type": "", **(headers or {})})
        request.method = method
        with urllib.request.urlopen(request) as answer:
            return answer.headers, answer.read()

    put = {"Metadata": {"colour": "red"}, "ContentType": "text/plain"}
    call("PUT", "put_object", b"hello", {"Content-Type": "text/plain"}, **put)
    headers, body = call("GET", "get_object", ResponseContentDisposition='inline; filename="a b"')
    assert (headers["x-amz-meta-colour"], headers["content-type"]) == ("red", "text/plain")
    assert (headers["content-disposition"], body) == ('inline; filename="a b"', b"hello")
    assert call("HEAD", "head_object")[0]["content-length"] == "5"
    with pytest.raises(HTTPError, match="403"):
        call("PUT", "get_object", b"forged")
    call("DELETE", "delete_object")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_client_of_version_2_works_in_virtual_host_style(endpoint, bucket):
    client = endpoint.client(signature_version="s3")
    client.put_object(Bucket=bucket, Key="k", Body=b"hello", Metadata={"a": "1"})
    upload = client.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    target = {"Bucket": bucket, "Key": "m", "UploadId": upload}
    etag = client.upload_part(**target, PartNumber=1, Body=b"part")["ETag"]
    client.complete_multipart_upload(
        **target, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
    )
    assert client.get_object(Bucket=bucket, Key="m")["Body"].read() == b"part"

    virtual = boto3.client(
        "s3",
        endpoint_url=f"http://{DOMAIN}:{endpoint.port}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "virtual"}),
    )
    url = urlsplit(virtual.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}))
    assert url.hostname == f"{bucket}.{DOMAIN}"
    assert "AWSAccessKeyId=" in url.query
    request = urllib.request.Request(
        f"http://127.0.0.1:{endpoint.port}{url.path}?{url.query}", headers={"Host": url.netloc}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.read() == b"hello"
