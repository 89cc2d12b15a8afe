"""Unmodified S3 clients against the whole daemon, over http and https.

Each client is as its makers configured it: default checksums, multipart thresholds, retries.
"""

from __future__ import annotations

import io
import os
import socket
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import minio
import minio.commonconfig
import pytest
import s3fs
import trustme
import urllib3
from botocore.config import Config

from tests.cases.conftest import Shell
from tests.cases.doors import get, keys, md5, noise, prefixes, put, refused
from tests.daemon.harness import ACCESS_KEY, SECRET_KEY, DaemonHarness

DOMAIN = "s3.localhost"
PART = 5 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """Where the daemon answers. authority: path of the certificate to trust, "" for http."""

    harness: DaemonHarness
    url: str
    authority: str

    def client(self, style: str = "path", **options: Any) -> Any:
        """boto3's client with default settings but for the addressing style."""
        url = self.url.replace("127.0.0.1", DOMAIN) if style == "virtual" else self.url
        return boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            verify=self.authority or None,
            config=Config(s3={"addressing_style": style}, **options),
        )


@pytest.fixture(scope="module", params=["http", "https"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A daemon of its own for each scheme; it listens on one port."""
    with tempfile.TemporaryDirectory(prefix="twofold-cases-", dir="/var/tmp") as name:
        folder = Path(name)
        settings: dict[str, object] = {"s3.domains": [DOMAIN]}
        authority = ""
        if request.param == "https":
            maker = trustme.CA()
            issued = maker.issue_cert("127.0.0.1", DOMAIN, f"*.{DOMAIN}")
            authority = str(folder / "ca.pem")
            maker.cert_pem.write_to_path(authority)
            for pem in issued.cert_chain_pems:
                pem.write_to_path(str(folder / "cert.pem"), append=True)
            issued.private_key_pem.write_to_path(str(folder / "key.pem"))
            (folder / "key.pem").chmod(0o600)
            settings |= {
                "s3.tls_cert_file": str(folder / "cert.pem"),
                "s3.tls_key_file": str(folder / "key.pem"),
            }
        with DaemonHarness(folder, settings=settings) as harness:
            yield Site(harness, f"{request.param}://127.0.0.1:{harness.s3_port}", authority)
            assert harness.stop() == 0, harness.log_tail()
        assert " error " not in harness.log(), harness.log()[-20_000:]


@pytest.fixture(scope="module")
def s3(site: Site) -> Any:
    return site.client()


@pytest.fixture(scope="module")
def mount(site: Site) -> Path:
    return site.harness.mount


@pytest.fixture
def aws(site: Site, work: Path) -> Shell:
    """Runs the AWS CLI of this environment."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "AWS_ENDPOINT_URL": site.url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    if site.authority:
        environment["AWS_CA_BUNDLE"] = site.authority
    return Shell(environment)


def fetch(site: Site, url: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """What a browser would do with a presigned URL."""
    context = ssl.create_default_context(cafile=site.authority) if site.authority else None
    request = urllib.request.Request(url, data=body, method=method)
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        content: bytes = answer.read()
        return content


# -- boto3 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_boto3_in_both_styles(
    site: Site, bucket: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = socket.getaddrinfo

    def find_here(host: Any, *arguments: Any, **options: Any) -> Any:
        # What a wildcard in DNS would answer; few machines resolve names below localhost.
        here = "127.0.0.1" if str(host).endswith(DOMAIN) else host
        return find(here, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find_here)
    client = site.client(style)
    body = noise(300_000)
    put(client, bucket, "a/b c+d", body)
    assert get(client, bucket, "a/b c+d") == body
    assert keys(client, bucket) == ["a/b c+d"]
    assert prefixes(client, bucket) == ["a/"]
    client.delete_object(Bucket=bucket, Key="a/b c+d")
    assert keys(client, bucket) == []


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_boto3_checksums_are_checked_kept_and_told(s3: Any, bucket: str, algorithm: str) -> None:
    body = noise(70_000)
    # A file object cannot be hashed ahead, so the sum comes behind the body, as a trailer.
    answer = s3.put_object(
        Bucket=bucket, Key="key", Body=io.BytesIO(body), ChecksumAlgorithm=algorithm
    )
    told = answer[f"Checksum{algorithm}"]
    answer = s3.get_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
    assert answer[f"Checksum{algorithm}"] == told
    assert answer["Body"].read() == body
    with pytest.raises(s3.exceptions.ClientError, match="BadDigest"):
        put(s3, bucket, "key", b"other", **{f"Checksum{algorithm}": told})
    assert get(s3, bucket, "key") == body


def test_boto3_ranges_and_conditions(s3: Any, bucket: str) -> None:
    body = noise(3_000_000)
    tag = put(s3, bucket, "key", body)
    for text, wanted in {
        "bytes=0-0": body[:1],
        "bytes=1048570-1048590": body[1048570:1048591],
        "bytes=2999990-": body[-10:],
        "bytes=-7": body[-7:],
        "bytes=5-99999999": body[5:],
    }.items():
        answer = s3.get_object(Bucket=bucket, Key="key", Range=text)
        assert answer["Body"].read() == wanted
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    with refused("InvalidRange"):
        get(s3, bucket, "key", Range="bytes=3000000-")
    assert get(s3, bucket, "key", IfMatch=tag) == body
    with refused("PreconditionFailed"):
        get(s3, bucket, "key", IfMatch="0" * 32)
    with refused("304"):
        get(s3, bucket, "key", IfNoneMatch=tag)
    modified = s3.head_object(Bucket=bucket, Key="key")["LastModified"]
    with refused("304"):
        get(s3, bucket, "key", IfModifiedSince=modified)
    with refused("PreconditionFailed"):
        put(s3, bucket, "key", b"x", IfNoneMatch="*")
    with refused("PreconditionFailed"):
        put(s3, bucket, "key", b"x", IfMatch="0" * 32)
    assert get(s3, bucket, "key") == body


def test_boto3_multipart_with_a_copied_part(s3: Any, bucket: str, box: Path) -> None:
    source = noise(PART + 1000, 9)
    put(s3, bucket, "source", source)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="key", ChecksumAlgorithm="CRC32C")
    where = {"Bucket": bucket, "Key": "key", "UploadId": upload["UploadId"]}
    sent = noise(PART, 1)
    one = s3.upload_part(PartNumber=1, Body=sent, ChecksumAlgorithm="CRC32C", **where)
    two = s3.upload_part_copy(
        PartNumber=2,
        CopySource={"Bucket": bucket, "Key": "source"},
        CopySourceRange=f"bytes=1000-{PART + 999}",
        **where,
    )["CopyPartResult"]
    three = s3.upload_part(PartNumber=7, Body=b"tail", ChecksumAlgorithm="CRC32C", **where)
    assert [part["PartNumber"] for part in s3.list_parts(**where)["Parts"]] == [1, 2, 7]
    assert s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["Key"] == "key"
    claims = [
        {
            "PartNumber": number,
            **{name: part[name] for name in ("ETag", "ChecksumCRC32C") if name in part},
        }
        for number, part in ((1, one), (2, two), (7, three))
    ]
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": claims}, **where)
    assert done["ETag"].endswith('-3"')
    wanted = sent + source[1000:] + b"tail"
    assert get(s3, bucket, "key") == wanted
    assert (box / "key").read_bytes() == wanted
    assert get(s3, bucket, "key", PartNumber=2) == source[1000:]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_boto3_transfers_a_file_up_down_and_across(
    s3: Any, bucket: str, box: Path, work: Path
) -> None:
    body = noise(20_000_000)
    (work / "source").write_bytes(body)
    extra = {"Metadata": {"k": "v"}, "ContentType": "x/y"}
    s3.upload_file(str(work / "source"), bucket, "up", ExtraArgs=extra)
    s3.copy({"Bucket": bucket, "Key": "up"}, bucket, "across")
    s3.download_file(bucket, "across", str(work / "target"))
    assert (work / "target").read_bytes() == body == (box / "across").read_bytes()
    head = s3.head_object(Bucket=bucket, Key="across")
    assert (head["Metadata"], head["ContentType"]) == ({"k": "v"}, "x/y")


def test_presigned_urls(site: Site, bucket: str, box: Path) -> None:
    # For an endpoint that isn't Amazon's, boto3 still presigns by version 2 unless told otherwise.
    client = site.client(signature_version="s3v4")
    where = {"Bucket": bucket, "Key": "a key/with + and %"}
    fetch(site, client.generate_presigned_url("put_object", where), "PUT", b"by URL")
    assert fetch(site, client.generate_presigned_url("get_object", where)) == b"by URL"
    assert (box / "a key" / "with + and %").read_bytes() == b"by URL"
    url = client.generate_presigned_url(
        "get_object", {**where, "ResponseContentDisposition": 'attachment; filename="x"'}
    )
    assert fetch(site, url) == b"by URL"
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(site, url.replace("with", "without"))
    with caught.value as answer:
        assert answer.code == 403


def test_boto3_deletes_a_thousand_at_once(s3: Any, bucket: str, box: Path) -> None:
    for number in range(60):
        (box / f"file {number}").write_bytes(b"x")
    wanted = [{"Key": f"file {number}"} for number in range(1000)]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    assert len(answer["Deleted"]) == 1000
    assert keys(s3, bucket) == []
    s3.delete_bucket(Bucket=bucket)


# -- minio-py --------------------------------------------------------------------------------


def test_minio_py(site: Site, bucket: str, box: Path, work: Path) -> None:
    pool = urllib3.PoolManager(ca_certs=site.authority or None)
    client = minio.Minio(
        site.url.partition("://")[2],
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        secure=site.url.startswith("https"),
        region="us-east-1",
        http_client=pool,
    )
    assert bucket in [each.name for each in client.list_buckets()]
    body = noise(12_000_000, 4)
    client.put_object(bucket, "one/put", io.BytesIO(body), len(body), metadata={"k": "v"})
    # Of unknown length: multipart, in parts of 5 MiB.
    client.put_object(bucket, "one/stream", io.BytesIO(body), -1, part_size=PART)
    (work / "file").write_bytes(body[:1000])
    client.fput_object(bucket, "two/file", str(work / "file"))
    for name in ("one/put", "one/stream"):
        answer = client.get_object(bucket, name)
        assert answer.read() == body
        answer.close()
        answer.release_conn()
        assert (box / name).read_bytes() == body
    assert client.stat_object(bucket, "one/put").metadata["x-amz-meta-k"] == "v"
    client.copy_object(bucket, "three", minio.commonconfig.CopySource(bucket, "two/file"))
    compose = [minio.commonconfig.ComposeSource(bucket, name) for name in ("one/put", "two/file")]
    client.compose_object(bucket, "four", compose)
    assert (box / "four").read_bytes() == body + body[:1000]
    listed = [each.object_name for each in client.list_objects(bucket)]
    assert sorted(listed) == ["four", "one/", "three", "two/"]
    listed = [each.object_name for each in client.list_objects(bucket, recursive=True)]
    assert listed == ["four", "one/put", "one/stream", "three", "two/file"]
    gone = [minio.deleteobjects.DeleteObject(name) for name in listed]
    assert list(client.remove_objects(bucket, gone)) == []
    client.remove_bucket(bucket)
    assert not box.exists()
    pool.clear()


# -- s3fs --------------------------------------------------------------------------------------


def test_s3fs(site: Site, bucket: str, box: Path) -> None:
    fs = s3fs.S3FileSystem(
        key=ACCESS_KEY,
        secret=SECRET_KEY,
        client_kwargs={
            "endpoint_url": site.url,
            "region_name": "us-east-1",
            "verify": site.authority or None,
        },
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    body = noise(12_000_000, 6)
    with fs.open(f"{bucket}/d/file", "wb") as file:
        file.write(body)
    assert (box / "d" / "file").read_bytes() == body
    with fs.open(f"{bucket}/d/file", "rb") as file:
        file.seek(6_000_000)
        assert file.read(10) == body[6_000_000:6_000_010]
    (box / "d" / "by-mount").write_bytes(b"text")
    fs.invalidate_cache()
    assert fs.cat(f"{bucket}/d/by-mount") == b"text"
    assert sorted(fs.ls(f"{bucket}/d")) == [f"{bucket}/d/by-mount", f"{bucket}/d/file"]
    assert fs.info(f"{bucket}/d/by-mount")["size"] == 4
    assert fs.isdir(f"{bucket}/d")
    assert not fs.exists(f"{bucket}/d/nothing")
    fs.copy(f"{bucket}/d/by-mount", f"{bucket}/copied")
    fs.mv(f"{bucket}/copied", f"{bucket}/moved")
    assert fs.glob(f"{bucket}/*") == [f"{bucket}/d", f"{bucket}/moved"]
    fs.rm(f"{bucket}/d", recursive=True)
    fs.rm(f"{bucket}/moved")
    assert fs.find(bucket) == []
    assert [path for path in box.rglob("*") if path.is_file()] == []


# -- the AWS CLI -------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["http"], indirect=True)
def test_aws_cli(s3: Any, bucket: str, box: Path, aws: Shell, work: Path) -> None:
    local = work / "local"
    (local / "sub dir").mkdir(parents=True)
    (local / "sub dir" / "ü").write_bytes(b"umlaut")
    (local / "large").write_bytes(noise(20_000_000))
    url = f"s3://{bucket}"
    other = f"s3://{bucket}-made"
    aws("aws", "s3", "mb", other)
    aws("aws", "s3", "sync", "--quiet", local, f"{url}/tree")
    assert (box / "tree" / "sub dir" / "ü").read_bytes() == b"umlaut"
    assert (box / "tree" / "large").read_bytes() == (local / "large").read_bytes()
    assert aws("aws", "s3", "sync", local, f"{url}/tree") == "", "it copied what was there already"
    (box / "tree" / "by mount").write_bytes(b"new")
    aws("aws", "s3", "sync", "--quiet", "--delete", f"{url}/tree", local)
    assert (local / "by mount").read_bytes() == b"new"
    aws("aws", "s3", "cp", "--quiet", "--recursive", f"{url}/tree", f"{other}/copied")
    assert keys(s3, f"{bucket}-made", Prefix="copied/sub") == ["copied/sub dir/ü"]
    assert "PRE tree/" in aws("aws", "s3", "ls", f"{url}/")
    aws("aws", "s3", "mv", "--quiet", f"{url}/tree/by mount", f"{url}/moved")
    aws("aws", "s3", "rm", "--quiet", "--recursive", f"{url}/")
    assert [path for path in box.rglob("*") if path.is_file()] == []
    aws("aws", "s3", "rb", "--force", other)
    assert f"{bucket}-made" not in os.listdir(box.parent)


def test_aws_cli_streams_both_ways(bucket: str, box: Path, aws: Shell) -> None:
    url = f"s3://{bucket}/stream"
    aws("sh", "-c", f"head -c 9000000 /dev/zero | aws s3 cp - {url}")
    assert (box / "stream").stat().st_size == 9_000_000
    summed = aws("sh", "-c", f"aws s3 cp {url} - | md5sum")
    assert summed.split()[0] == md5(bytes(9_000_000))
