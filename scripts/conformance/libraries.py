"""What the clients that are Python libraries do against a live server; runs where they are.

Called as a program with a client's name, in the virtual environment that `clients` makes. Each
client is a function of `Place`; its docstring is the sentence of docs/CONFORMANCE.md. It works as
its makers configured it, checks what comes back, and raises when something is wrong. The last line
of the output is the client's version.

Environment: CONFORMANCE_URL, CONFORMANCE_FOLDER (scratch), AWS_CA_BUNDLE over https, and the usual
AWS variables with the key.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import tables
from bucket import MIB, Place, digest, noise, race, same


def boto3(place: Place) -> None:
    """32 MiB up and down in parts, ranges, 1,200 keys in pages, copies, tags, presigned URLs
    both ways, 20 writers racing on If-None-Match, deletion in one request"""
    s3, bucket, body = place.s3, place.bucket, noise(32 * MIB)
    s3.upload_fileobj(io.BytesIO(body), bucket, "large")
    back = io.BytesIO()
    s3.download_fileobj(bucket, "large", back)
    same(back.getvalue(), body)
    part = s3.get_object(Bucket=bucket, Key="large", Range="bytes=9000000-9000009")
    same(part["Body"].read(), body[9000000:9000010])
    race(8, lambda n: [s3.put_object(Bucket=bucket, Key=f"k/{n}-{m}") for m in range(150)])
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="k/")
    names = [entry["Key"] for page in pages for entry in page["Contents"]]
    same(names, sorted(f"k/{n}-{m}" for n in range(8) for m in range(150)))
    s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copy")
    same(s3.get_object(Bucket=bucket, Key="copy")["Body"].read(), body)
    s3.put_object_tagging(
        Bucket=bucket, Key="copy", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
    )
    same(s3.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"], [{"Key": "a", "Value": "b"}])
    import ssl

    # boto3 still presigns with version 2 where nobody says otherwise, which signs a type, too.
    import boto3 as library
    from botocore.config import Config

    signer = library.client("s3", endpoint_url=place.url, config=Config(signature_version="s3v4"))
    context = ssl.create_default_context(cafile=place.authority) if place.secure else None
    for method, payload in (("put_object", b"by URL"), ("get_object", None)):
        url = signer.generate_presigned_url(method, Params={"Bucket": bucket, "Key": "url"})
        verb = method[:3].upper()
        request = urllib.request.Request(url, data=payload, method=verb)
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            same(answer.read(), b"by URL" if verb == "GET" else b"")
    won = race(
        20, lambda n: s3.put_object(Bucket=bucket, Key="one", Body=b"%d" % n, IfNoneMatch="*")
    )
    same(sum(isinstance(each, dict) for each in won), 1)
    doomed = [{"Key": name} for name in names[:1000]]
    same(len(s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed})["Deleted"]), 1000)


def minio(place: Place) -> None:
    """files of 24 MiB both ways, stat, recursive listing, copy, compose, tags, versioning on and
    off, a presigned URL, deletion of many"""
    import urllib3
    from minio import Minio
    from minio.commonconfig import ENABLED, ComposeSource, CopySource, Tags
    from minio.deleteobjects import DeleteObject
    from minio.versioningconfig import VersioningConfig

    client = Minio(
        place.host,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=place.secure,
        http_client=urllib3.PoolManager(ca_certs=place.authority or None),
    )
    bucket, body = place.bucket, noise(24 * MIB)
    (place.folder / "up").write_bytes(body)
    client.fput_object(bucket, "a/large", str(place.folder / "up"), metadata={"k": "v"})
    client.fget_object(bucket, "a/large", str(place.folder / "down"))
    same((place.folder / "down").read_bytes(), body)
    same(dict(client.stat_object(bucket, "a/large").metadata or {})["x-amz-meta-k"], "v")
    client.put_object(bucket, "a/stream", io.BytesIO(body), -1, part_size=5 * MIB)
    same(client.stat_object(bucket, "a/stream").size, len(body))
    client.copy_object(bucket, "a/copy", CopySource(bucket, "a/large"))
    sources = [ComposeSource(bucket, "a/large"), ComposeSource(bucket, "a/copy")]
    client.compose_object(bucket, "a/both", sources)
    answer = client.get_object(bucket, "a/both")
    same(digest(answer.read()), digest(body + body))
    answer.close()
    answer.release_conn()
    tags = Tags.new_object_tags()
    tags["a"] = "b"
    client.set_object_tags(bucket, "a/copy", tags)
    same(client.get_object_tags(bucket, "a/copy"), {"a": "b"})
    client.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    same(client.get_bucket_versioning(bucket).status, ENABLED)
    client.set_bucket_versioning(bucket, VersioningConfig("Suspended"))
    url = client.get_presigned_url("GET", bucket, "a/copy")
    same(client._http.request("GET", url).data, body)
    names = [each.object_name for each in client.list_objects(bucket, recursive=True)]
    same(names, ["a/both", "a/copy", "a/large", "a/stream"])
    same(list(client.remove_objects(bucket, [DeleteObject(name) for name in names])), [])


def s3fs(place: Place) -> None:
    """files written in blocks, read in pieces, appended to, found, globbed, copied and
    removed as trees, moved, through fsspec"""
    import s3fs as library

    files = library.S3FileSystem(
        endpoint_url=place.url, client_kwargs={"verify": place.authority or None}
    )
    bucket, body = place.bucket, noise(12 * MIB)
    with files.open(f"{bucket}/tree/large", "wb") as file:
        for start in range(0, len(body), MIB):
            file.write(body[start : start + MIB])
    with files.open(f"{bucket}/tree/large", "rb") as file:
        file.seek(7 * MIB)
        same(file.read(100), body[7 * MIB : 7 * MIB + 100])
    with files.open(f"{bucket}/tree/large", "ab") as file:
        file.write(b"more")
    same(files.cat(f"{bucket}/tree/large"), body + b"more")
    for number in range(20):
        files.pipe(f"{bucket}/tree/sub/{number:02}.txt", b"%d" % number)
    same(len(files.glob(f"{bucket}/tree/*/*.txt")), 20)
    same(files.du(f"{bucket}/tree"), len(body) + 4 + 30)
    files.copy(f"{bucket}/tree/sub", f"{bucket}/moved", recursive=True)
    same(len(files.find(f"{bucket}/moved")), 20)
    files.mv(f"{bucket}/tree/sub/00.txt", f"{bucket}/tree/00.txt")
    same(files.exists(f"{bucket}/tree/sub/00.txt"), False)
    files.rm(f"{bucket}/tree", recursive=True)
    same(files.find(f"{bucket}/tree"), [])


def obstore(place: Place) -> None:
    """16 MiB up in parts and down in ranges, listings, copies, 16 writers racing to create one
    object and 16 to update it by its ETag: one winner each"""
    import obstore as library
    from obstore.store import S3Store

    store = S3Store(place.bucket, endpoint=place.url, client_options={"allow_http": True})
    body = noise(16 * MIB)
    library.put(store, "a/large", body, chunk_size=5 * MIB)
    same(bytes(library.get(store, "a/large").bytes()), body)
    ranges = library.get_ranges(store, "a/large", starts=[0, 9 * MIB], lengths=[10, 20])
    same([bytes(each) for each in ranges], [body[:10], body[9 * MIB : 9 * MIB + 20]])
    library.copy(store, "a/large", "a/copy")
    listed = [each["path"] for page in library.list(store, "a") for each in page]
    same(sorted(listed), ["a/copy", "a/large"])

    made = race(16, lambda n: library.put(store, "one", b"%d" % n, mode="create"))
    same(sum(isinstance(each, dict) for each in made), 1)
    mark: Any = library.head(store, "one")
    version: Any = {name: mark[name] for name in ("e_tag", "version") if mark[name] is not None}
    updated = race(16, lambda n: library.put(store, "one", b"new %d" % n, mode=version))
    same(sum(isinstance(each, dict) for each in updated), 1)
    library.delete(store, ["one", "a/copy", "a/large"])


def awscrt(place: Place) -> None:
    """the common runtime's S3 client: 64 MiB up in parallel parts with CRC32C and down in
    parallel ranges, verified"""
    from awscrt import auth, http, s3
    from awscrt import io as runtime

    credentials = auth.AwsCredentialsProvider.new_static(
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    )
    connection = None
    if place.secure:
        options = runtime.TlsContextOptions()
        options.override_default_trust_store_from_path(None, place.authority)
        connection = runtime.ClientTlsContext(options).new_connection_options()
    client = s3.S3Client(
        bootstrap=runtime.ClientBootstrap.get_or_create_static_default(),
        region="us-east-1",
        tls_mode=s3.S3RequestTlsMode.ENABLED if place.secure else s3.S3RequestTlsMode.DISABLED,
        tls_connection_options=connection,
        signing_config=s3.create_default_s3_signing_config(
            region="us-east-1", credential_provider=credentials
        ),
        part_size=8 * MIB,
        throughput_target_gbps=2,
    )
    body = noise(64 * MIB)

    def request(method: str, **options: Any) -> http.HttpRequest:
        headers = http.HttpHeaders([("host", place.host)])
        if method == "PUT":
            headers.add("content-length", str(len(body)))
        return http.HttpRequest(method, f"/{place.bucket}/large", headers, **options)

    client.make_request(
        type=s3.S3RequestType.PUT_OBJECT,
        request=request("PUT", body_stream=io.BytesIO(body)),
        checksum_config=s3.S3ChecksumConfig(
            algorithm=s3.S3ChecksumAlgorithm.CRC32C, location=s3.S3ChecksumLocation.TRAILER
        ),
    ).finished_future.result(120)
    back = bytearray(len(body))

    def take(chunk: bytes, offset: int, **_: Any) -> None:
        back[offset : offset + len(chunk)] = chunk

    client.make_request(
        type=s3.S3RequestType.GET_OBJECT,
        request=request("GET"),
        checksum_config=s3.S3ChecksumConfig(validate_response=True),
        on_body=take,
    ).finished_future.result(120)
    same(digest(back), digest(body))


def s3torchconnectorclient(place: Place) -> None:
    """Mountpoint's client, which s3torchconnector uses: 40 MiB streamed up and down, ranges,
    listing, copy, head, deletion"""
    from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client

    client = MountpointS3Client("us-east-1", endpoint=place.url, force_path_style=True)
    bucket, body = place.bucket, noise(40 * MIB)
    stream = client.put_object(bucket, "a/large")
    for start in range(0, len(body), MIB):
        stream.write(body[start : start + MIB])
    stream.close()
    same(digest(b"".join(client.get_object(bucket, "a/large"))), digest(body))
    same(b"".join(client.get_object(bucket, "a/large", 100, 200)), body[100:200])
    same(client.head_object(bucket, "a/large").size, len(body))
    client.copy_object(bucket, "a/large", bucket, "a/copy")
    listed = [each.key for page in client.list_objects(bucket) for each in page.object_info]
    same(listed, ["a/copy", "a/large"])
    client.delete_object(bucket, "a/copy")


CLIENTS = {
    each.__name__: each
    for each in (
        *(boto3, minio, s3fs, obstore, awscrt, s3torchconnectorclient),
        *(tables.pyarrow, tables.polars, tables.duckdb),
        *(tables.deltalake, tables.lancedb, tables.pyiceberg),
    )
}
HTTP_ONLY = {"s3torchconnectorclient": "trusts the system's authorities only"}


def main(name: str) -> None:
    place = Place(
        os.environ["CONFORMANCE_URL"],
        os.environ.get("AWS_CA_BUNDLE", ""),
        Path(os.environ["CONFORMANCE_FOLDER"]),
        f"client-{name}",
    )
    place.s3.create_bucket(Bucket=place.bucket)
    CLIENTS[name](place)
    print(importlib.metadata.version(name))


if __name__ == "__main__":
    main(sys.argv[1])
