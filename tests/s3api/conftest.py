"""The S3 face as clients meet it: real sockets, a real namespace on SQLite, bytes in memory.

`endpoint` runs the server in a trio thread of its own, so that boto3 and plain sockets can call it
from the test. One server is shared by all tests of a module; each test gets buckets of its own.
"""

from __future__ import annotations

import itertools
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import trio
import trustme
from botocore.client import BaseClient
from botocore.config import Config

from s3api import http1
from s3api.app import S3App
from s3api.credentials import (
    ROOT,
    Credential,
    IdentityCredentials,
    MemoryCredentials,
    user_account,
)
from s3api.face import Face, accounts_by_owner
from s3api.responses import render_refused_head
from s3api.sigv4 import Verifier
from store.namespace import Namespace
from tests.fakes.memory_chunks import MemoryChunks
from tests.store.conftest import open_namespace

ACCESS_KEY, SECRET_KEY = "root", "a-secret-of-the-root"
ALICE = Credential(
    access_key="alice-key", secret_key="a-secret-of-alice", account=user_account("alice")
)
BOB = Credential(access_key="bob-key", secret_key="a-secret-of-bob", account=user_account("bob"))
DOMAIN = "s3.localtest.example"
WEBSITE_DOMAIN = "web.localtest.example"
_bucket_numbers = itertools.count(1)


@dataclass
class Endpoint:
    """A running S3 endpoint. port, tls_port: on 127.0.0.1. chunks: with its knobs.

    namespace: what is behind it, to be used on its own thread, by `token`.
    """

    port: int
    tls_port: int
    authority_path: str
    chunks: MemoryChunks
    token: trio.lowlevel.TrioToken
    namespace: Namespace
    clients: dict[Any, Any] = field(default_factory=dict)

    def client(
        self, *, tls: bool = False, who: Credential | None = None, **config: Any
    ) -> BaseClient:
        """A boto3 client of root or `who`; plain ones are shared, since they are dear to make."""
        shared = None if config else (tls, who.access_key if who else "")
        if shared in self.clients:
            return self.clients[shared]
        config = {"signature_version": "s3v4", "retries": {"max_attempts": 1}, **config}
        config.setdefault("s3", {"addressing_style": "path"})
        port = self.tls_port if tls else self.port
        client = boto3.client(
            "s3",
            endpoint_url=f"{'https' if tls else 'http'}://127.0.0.1:{port}",
            aws_access_key_id=who.access_key if who else ACCESS_KEY,
            aws_secret_access_key=who.secret_key if who else SECRET_KEY,
            region_name="us-east-1",
            verify=self.authority_path,
            config=Config(**config),
        )
        if shared is not None:
            self.clients[shared] = client
        return client


class _Server(threading.Thread):
    """The trio thread: namespace, application, one plain and one TLS listener."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="s3 endpoint")
        self.folder = folder
        self.ready = threading.Event()
        self.endpoint: Endpoint | None = None
        self.error: BaseException | None = None
        self._stopping: trio.Event | None = None

    def run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as exc:
            self.error = exc
        finally:
            self.ready.set()

    def stop(self) -> None:
        assert self.endpoint is not None
        assert self._stopping is not None
        self.endpoint.token.run_sync_soon(self._stopping.set)
        self.join(10)
        if self.error is not None:
            raise self.error

    async def _main(self) -> None:
        authority = trustme.CA()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        authority_path = self.folder / "ca.pem"
        authority.cert_pem.write_to_path(str(authority_path))
        self._stopping = trio.Event()
        async with open_namespace(self.folder / "meta") as opened, trio.open_nursery() as nursery:
            credentials = IdentityCredentials(
                MemoryCredentials(
                    Credential(access_key=ACCESS_KEY, secret_key=SECRET_KEY), ALICE, BOB
                ),
                opened.namespace.identity,
                (ROOT, ALICE.account, BOB.account),
            )
            face = Face(
                namespace=opened.namespace,
                verifier=Verifier(credentials, domains=(DOMAIN.encode(),)),
                domains=(DOMAIN.encode(),),
                website_domains=(WEBSITE_DOMAIN.encode(),),
                accounts=accounts_by_owner((ALICE.account, BOB.account)),
            )
            app = S3App(face)
            config = http1.HttpConfig(render_error=render_refused_head, linger_s=0.5)
            plain = await http1.open_listeners("127.0.0.1", 0)
            secure = await http1.open_listeners("127.0.0.1", 0)
            ports = [sockets[0].getsockname()[1] for sockets in (plain, secure)]
            for sockets, context in ((plain, None), (secure, tls)):
                await nursery.start(
                    lambda task_status, sockets=sockets, context=context: http1.serve(
                        app, sockets, config=config, tls=context, task_status=task_status
                    )
                )
            self.endpoint = Endpoint(
                port=ports[0],
                tls_port=ports[1],
                authority_path=str(authority_path),
                chunks=opened.chunks,
                token=trio.lowlevel.current_trio_token(),
                namespace=opened.namespace,
            )
            self.ready.set()
            await self._stopping.wait()
            nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A server for the module's tests."""
    server = _Server(tmp_path_factory.mktemp("s3"))
    server.start()
    server.ready.wait(20)
    if server.endpoint is None:
        raise RuntimeError("the endpoint did not start") from server.error
    yield server.endpoint
    server.stop()


@pytest.fixture
def s3(endpoint: Endpoint) -> BaseClient:
    """A boto3 client over http."""
    return endpoint.client()


@pytest.fixture
def bucket(s3: BaseClient) -> str:
    """A fresh bucket."""
    name = f"bucket-{next(_bucket_numbers)}"
    s3.create_bucket(Bucket=name)  # type: ignore[attr-defined]
    return name


@pytest.fixture
def versioned(s3: BaseClient, bucket: str) -> str:
    """A fresh bucket that keeps versions."""
    s3.put_bucket_versioning(  # type: ignore[attr-defined]
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    return bucket
