"""Clients that are quick to install do what `scripts/conformance/clients` has them do.

Here the same work runs at every change, over http and https; the heavier clients, and all results,
are in docs/CONFORMANCE.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.daemon.harness import ACCESS_KEY, ROOT, SECRET_KEY, DaemonHarness

PROGRAM = ROOT / "scripts" / "conformance" / "libraries.py"
CLIENTS = ("boto3", "minio", "obstore", "awscrt")


@dataclass(frozen=True, slots=True)
class Server:
    """authority: file of the certificate to trust, "" over http."""

    url: str
    authority: str


@pytest.fixture(scope="module", params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="twofold-cases-", dir="/var/tmp") as name:
        folder = Path(name)
        settings: dict[str, object] = {}
        authority = ""
        if request.param == "https":
            maker = trustme.CA()
            authority = str(folder / "ca.pem")
            maker.cert_pem.write_to_path(authority)
            issued = maker.issue_cert("127.0.0.1")
            issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
            (folder / "server.pem").chmod(0o600)
            settings = {
                "s3.tls_cert_file": str(folder / "server.pem"),
                "s3.tls_key_file": str(folder / "server.pem"),
            }
        with DaemonHarness(folder, mount=False, settings=settings) as harness:
            yield Server(f"{request.param}://127.0.0.1:{harness.s3_port}", authority)
            assert harness.stop() == 0, harness.log_tail()
        assert " error " not in harness.log(), harness.log()[-20_000:]


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unmodified_client_does_its_work(server: Server, client: str, tmp_path: Path) -> None:
    trusted = dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE"), server.authority)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), client],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CONFORMANCE_URL": server.url,
            "CONFORMANCE_FOLDER": str(tmp_path),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            **(trusted if server.authority else {}),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
