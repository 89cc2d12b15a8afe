"""boto3 through the whole transport: TLS, HTTP, signature, framing, checksums, without a store."""

from __future__ import annotations

import io
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import pytest
import trio
import trustme

from s3api.checksums import ALGORITHMS
from s3api.credentials import Credential, MemoryCredentials
from s3api.httpstream import stream_of
from s3api.metadata import checksum_headers
from s3api.payload import open_payload
from s3api.refusals import Refusal
from s3api.sigv4 import Verifier
from tests.s3api.http_client import running

ROOT = Credential(access_key="AKIDROOT", secret_key="very secret")
BODY = bytes(range(256)) * 8192


class Keeper:
    """PUT keeps a verified body in memory, GET gives it back, any Refusal becomes its document."""

    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes] = {}
        self.modes: list[str] = []
        self._verifier = Verifier(MemoryCredentials(ROOT))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        stream = stream_of(scope, receive, send)
        try:
            auth = self._verifier.authenticate(
                stream.method, stream.raw_path, stream.query_string, stream.headers, time.time()
            )
            self.modes.append(auth.payload_mode.name)
            if stream.method == "GET":
                await stream.respond(200, [], self.bodies[stream.raw_path])
                return
            payload = open_payload(stream, auth)
            body = await payload.read(len(BODY))
            proof = payload.verify()
        except Refusal as refused:
            document = f"<Error><Code>{refused.code}</Code></Error>".encode()
            await stream.respond(refused.status, [], document)
            return
        self.bodies[stream.raw_path] = body
        headers = [(b"etag", b'"%b"' % proof.md5.hex().encode())]
        headers += checksum_headers(proof.checksums, "")
        await stream.respond(200, headers)


@pytest.fixture(params=["http", "https"])
async def endpoint(request: Any, tmp_path: Path) -> AsyncIterator[tuple[Keeper, str, Path]]:
    authority = trustme.CA()
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    tls = None
    if request.param == "https":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    keeper = Keeper()
    async with running(keeper, tls=tls) as started:
        yield keeper, f"{request.param}://127.0.0.1:{started.port}", trusted


def make_client(url: str, trusted: Path, secret_key: str = ROOT.secret_key) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ROOT.access_key,
        aws_secret_access_key=secret_key,
        verify=str(trusted),
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )


@pytest.mark.slow
async def test_boto3_puts_and_gets_with_every_checksum(
    endpoint: tuple[Keeper, str, Path],
) -> None:
    keeper, url, trusted = endpoint

    def talk() -> None:
        client = make_client(url, trusted)
        # botocore itself leaves MD5 to the caller.
        for name in ALGORITHMS.keys() - {"MD5"}:
            for body in (b"", b"small", BODY):
                answer = client.put_object(
                    Bucket="b",
                    Key=f"k ü+%2F//{name}",
                    Body=io.BytesIO(body),
                    ChecksumAlgorithm=name,
                )
                assert answer[f"Checksum{name}"]
                got = client.get_object(Bucket="b", Key=f"k ü+%2F//{name}")["Body"].read()
                assert got == body
        client.put_object(Bucket="b", Key="default", Body=BODY)

    await trio.to_thread.run_sync(talk)
    trailing = url.startswith("https")
    assert ("STREAMING_UNSIGNED_TRAILER" if trailing else "HASHED") in keeper.modes
    assert keeper.bodies[b"/b/default"] == BODY


async def test_boto3_with_a_wrong_secret_stores_nothing(
    endpoint: tuple[Keeper, str, Path],
) -> None:
    keeper, url, trusted = endpoint

    def talk() -> str:
        client = make_client(url, trusted, "wrong")
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            client.put_object(Bucket="b", Key="k", Body=BODY)
        return str(caught.value.response["Error"]["Code"])

    assert await trio.to_thread.run_sync(talk) == "SignatureDoesNotMatch"
    assert keeper.bodies == {}
