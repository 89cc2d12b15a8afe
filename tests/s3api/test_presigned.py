"""Presigned URLs: every operation can be handed out as a link, with both signature versions."""

from __future__ import annotations

import http.client
import re
import time
from urllib.parse import urlsplit

import pytest

from s3api.signing import presign
from tests.s3api.conftest import ALICE, BOB
from tests.s3api.raw import ROOT, presigned, send

VERSIONS = {"s3v4": "X-Amz-Signature", "s3": "Signature"}


def follow(url, method, body=None, headers=None):
    """Status and body of a request that has nothing but the URL to show."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


class Links:
    """Makes links for one bucket and follows them."""

    def __init__(self, client, bucket):
        self.client = client
        self.bucket = bucket

    def __call__(self, operation, method, body=None, headers=None, **parameters):
        url = self.client.generate_presigned_url(
            operation, Params={"Bucket": self.bucket, **parameters}, ExpiresIn=60
        )
        return follow(url, method, body, headers)


@pytest.fixture(params=VERSIONS)
def links(request, endpoint, bucket):
    client = endpoint.client(
        signature_version=request.param, request_checksum_calculation="when_required"
    )
    made = Links(client, bucket)
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert f"{VERSIONS[request.param]}=" in url
    return made


def test_objects_are_written_read_tagged_copied_and_removed_by_links(links):
    assert links("put_object", "PUT", b"hello", Key="a b/ü")[0] == 200
    assert links("get_object", "GET", Key="a b/ü")[:2] == (200, b"hello")
    assert links("head_object", "HEAD", Key="a b/ü")[0] == 200
    assert b"<TagSet>" in links("get_object_tagging", "GET", Key="a b/ü")[1]
    source = {"Bucket": links.bucket, "Key": "a b/ü"}
    status, _, _ = links(
        "copy_object",
        "PUT",
        headers={"x-amz-copy-source": f"{links.bucket}/a%20b/%C3%BC"},
        Key="copy",
        CopySource=source,
    )
    assert status == 200
    assert links("get_object", "GET", Key="copy")[1] == b"hello"
    assert links("delete_object", "DELETE", Key="copy")[0] == 204
    assert links("get_object", "GET", Key="copy")[0] == 404


def test_attributes_are_read_by_a_link(endpoint, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    # Version 2 of botocore does not sign this parameter, so only version 4 will do.
    url = s3.generate_presigned_url(
        "get_object_attributes",
        Params={"Bucket": bucket, "Key": "k", "ObjectAttributes": ["ETag"]},
    )
    status, body, _ = follow(url, "GET", headers={"x-amz-object-attributes": "ETag"})
    assert (status, b"<ETag>" in body) == (200, True)


def test_multipart_upload_is_made_by_links_from_end_to_end(links, s3):
    _, body, _ = links("create_multipart_upload", "POST", Key="big")
    upload = re.search(rb"<UploadId>(.*?)</UploadId>", body)[1].decode()
    etags = []
    for number, part in ((1, b"x" * (5 << 20)), (2, b"y")):
        status, _, headers = links(
            "upload_part", "PUT", part, Key="big", UploadId=upload, PartNumber=number
        )
        assert status == 200
        etags.append({name.lower(): value for name, value in headers.items()}["etag"])
    assert links("list_parts", "GET", Key="big", UploadId=upload)[1].count(b"<Part>") == 2
    assert b"<Upload>" in links("list_multipart_uploads", "GET")[1]
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    complete = links("complete_multipart_upload", "POST", document, Key="big", UploadId=upload)
    assert complete[0] == 200
    assert s3.head_object(Bucket=links.bucket, Key="big")["ContentLength"] == (5 << 20) + 1
    _, body, _ = links("create_multipart_upload", "POST", Key="dropped")
    upload = re.search(rb"<UploadId>(.*?)</UploadId>", body)[1].decode()
    assert links("abort_multipart_upload", "DELETE", Key="dropped", UploadId=upload)[0] == 204


def test_buckets_are_listed_and_configured_by_links(links):
    links("put_object", "PUT", b"x", Key="k")
    for operation, method in (
        ("list_objects", "GET"),
        ("list_objects_v2", "GET"),
        ("list_object_versions", "GET"),
        ("get_bucket_location", "GET"),
        ("get_bucket_acl", "GET"),
        ("get_bucket_versioning", "GET"),
        ("head_bucket", "HEAD"),
    ):
        assert links(operation, method)[0] == 200, operation
    assert links("delete_bucket_cors", "DELETE")[0] == 204
    assert links("delete_object", "DELETE", Key="k")[0] == 204
    assert links("delete_bucket", "DELETE")[0] == 204


def test_documents_are_put_by_links(endpoint, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
    rule = "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>"
    cors = f"<CORSConfiguration><CORSRule>{rule}</CORSRule></CORSConfiguration>"
    doomed = "<Delete><Object><Key>k</Key></Object></Delete>"
    for method, path, query, document, status in (
        ("PUT", f"/{bucket}/k", b"tagging", tags, 200),
        ("PUT", f"/{bucket}", b"tagging", tags, 204),
        ("PUT", f"/{bucket}", b"cors", cors, 200),
        ("POST", f"/{bucket}", b"delete", doomed, 200),
    ):
        target = presigned(endpoint, method, path, query)
        answer = send(endpoint, method, target, body=document.encode(), sign=False)
        assert answer.status == status, query
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_headers_of_the_answer_are_chosen_by_who_signs(links):
    links("put_object", "PUT", b"x", Key="k")
    chosen = {
        "ResponseContentType": "text/x-test",
        "ResponseContentLanguage": "mi",
        "ResponseExpires": "Thu, 01 Jan 2026 00:00:00 GMT",
        "ResponseCacheControl": "no-cache",
        "ResponseContentDisposition": 'attachment; filename="ü.txt"',
        "ResponseContentEncoding": "identity",
    }
    _, _, headers = links("get_object", "GET", Key="k", **chosen)
    lower = {name.lower(): value for name, value in headers.items()}
    assert lower["content-type"] == "text/x-test"
    assert lower["content-language"] == "mi"
    assert lower["cache-control"] == "no-cache"
    assert lower["content-disposition"].startswith("attachment")
    assert lower["content-encoding"] == "identity"
    assert lower["expires"].startswith("Thu, 01 Jan 2026")


def test_link_acts_for_who_signed_it(endpoint, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for who in (ALICE, BOB):
        client = endpoint.client(who=who)
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
        assert follow(url, "GET")[0] == 403


@pytest.mark.parametrize("life_s", [0, -7, -1000, 609_901])
def test_link_that_lives_no_time_or_too_long_is_denied(endpoint, bucket, life_s):
    host = f"127.0.0.1:{endpoint.port}"
    path = f"/{bucket}/k"
    query = presign(
        ROOT,
        "GET",
        path.encode(),
        b"",
        [(b"host", host.encode())],
        region="us-east-1",
        now_s=time.time(),
        expires_s=life_s,
    )
    status, body, _ = follow(f"http://{host}{path}?{query.decode()}", "GET")
    assert (status, b"<Code>AccessDenied</Code>" in body) == (403, True)
