"""The application as a whole: both ways through it, on other servers, under many clients."""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
import trio
from botocore.config import Config
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve

from s3api.app import S3App
from s3api.credentials import Credential, MemoryCredentials
from s3api.face import Face
from s3api.router import OPERATIONS
from s3api.sigv4 import Verifier
from tests.s3api.conftest import ACCESS_KEY, SECRET_KEY
from tests.s3api.raw import send
from tests.store.conftest import open_namespace


def test_answers_of_both_ways_have_the_same_frame(endpoint, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    targets = [("GET", f"/{bucket}/k"), ("GET", f"/{bucket}?list-type=2")]  # at once
    targets += [("GET", "/"), ("GET", f"/{bucket}"), ("HEAD", f"/{bucket}")]  # through Quart
    targets += [("GET", f"/{bucket}/absent"), ("GET", "/absent")]
    for method, target in targets:
        answer = send(endpoint, method, target)
        assert len(answer.headers["x-amz-request-id"]) == 16, target
        assert answer.headers["x-amz-id-2"], target
        assert answer.headers["server"] == "twofold", target
        assert answer.headers["date"].endswith("GMT"), target
        assert "content-length" in answer.headers, target


def test_request_ids_differ(endpoint, bucket):
    ids = {send(endpoint, "HEAD", f"/{bucket}").headers["x-amz-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_hot_operations_are_the_object_plane():
    hot = {operation.name for operation in OPERATIONS.values() if operation.hot}
    assert hot == {
        "GetObject",
        "HeadObject",
        "PutObject",
        "DeleteObject",
        "UploadPart",
        "ListObjectsV2",
        "ListObjectVersions",
    }


def test_connection_is_kept_over_many_requests_of_all_kinds(endpoint, bucket):
    s3 = endpoint.client(max_pool_connections=1)
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"x" * number)
        s3.list_objects(Bucket=bucket)
        s3.head_bucket(Bucket=bucket)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 5


@pytest.mark.slow
def test_every_get_under_contention_returns_one_whole_version(endpoint, s3, bucket):
    bodies = [bytes([number]) * 40_000 for number in range(16)]
    etags = {f'"{hashlib.md5(body).hexdigest()}"' for body in bodies}
    s3 = endpoint.client(max_pool_connections=32)

    def put(body):
        s3.put_object(Bucket=bucket, Key="k", Body=body)

    def get(_):
        got = s3.get_object(Bucket=bucket, Key="k")
        body = got["Body"].read()
        return got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"' and got["ETag"] in etags

    put(bodies[0])
    with ThreadPoolExecutor(16) as pool:
        puts = [pool.submit(put, body) for body in bodies]
        gets = list(pool.map(get, range(32)))
        for done in puts:
            done.result()
    assert all(gets)


def test_mistake_of_ours_is_an_internal_error_and_logged(endpoint, s3, bucket, monkeypatch, caplog):
    def fail(*_args):
        raise KeyError("a mistake")

    monkeypatch.setattr("store.objects.Objects.stat", fail)
    with caplog.at_level(logging.ERROR, logger="s3api.app"):
        answer = send(endpoint, "GET", f"/{bucket}/k?acl")
    assert (answer.status, answer.code) == (500, "InternalError")
    assert b"a mistake" not in answer.body
    assert "a mistake" in caplog.text


@pytest.mark.slow
async def test_any_asgi_server_can_serve_it(tmp_path: Path) -> None:
    config = HypercornConfig()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    async with open_namespace(tmp_path / "meta") as opened, trio.open_nursery() as nursery:
        credentials = MemoryCredentials(Credential(access_key=ACCESS_KEY, secret_key=SECRET_KEY))
        app = S3App(Face(namespace=opened.namespace, verifier=Verifier(credentials)))
        (url,) = await nursery.start(
            lambda task_status: serve(app, config, task_status=task_status)  # type: ignore[arg-type]
        )
        await trio.to_thread.run_sync(_round_trip, url)
        nursery.cancel_scope.cancel()


def _round_trip(url: str) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )
    s3.create_bucket(Bucket="over-asgi")
    body = bytes(range(256)) * 8000
    s3.put_object(Bucket="over-asgi", Key="k/1", Body=body)
    assert s3.get_object(Bucket="over-asgi", Key="k/1")["Body"].read() == body
    assert s3.head_object(Bucket="over-asgi", Key="k/1")["ContentLength"] == len(body)
    assert s3.list_objects_v2(Bucket="over-asgi")["KeyCount"] == 1
    answer = s3.delete_objects(Bucket="over-asgi", Delete={"Objects": [{"Key": "k/1"}]})
    assert len(answer["Deleted"]) == 1
