"""The whole daemon as a process: start, serve both doors, stop, die, come back."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import botocore.exceptions
import pytest
import trustme

from tests.daemon.harness import HAS_FUSE, SECRET_KEY, DaemonHarness

needs_fuse = pytest.mark.skipif(not HAS_FUSE, reason="no /dev/fuse here")
pytestmark = pytest.mark.slow


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with DaemonHarness(tmp_path) as running:
        yield running


def test_a_started_daemon_is_live_ready_and_tells_its_state(harness: DaemonHarness) -> None:
    assert harness.http_status("/health/live") == 200
    assert harness.http_status("/health/ready") == 200
    status, page = harness.http_get("/")
    assert status == 200
    assert str(harness.drives[0]) in page
    report = harness.status()
    assert report["phase"] == "ready"
    assert report["s3_endpoints"] == [harness.endpoint]
    assert [drive["state"] for drive in report["pool"]["drives"]] == ["online"] * 4
    assert (report["pool"]["k"], report["pool"]["m"]) == (2, 2)
    assert len(report["pool"]["copies"]) == 3
    assert [copy["role"] for copy in report["pool"]["copies"]].count("primary") == 1


def test_the_text_of_status_names_each_drive(harness: DaemonHarness) -> None:
    result = harness.run("status", "--config", str(harness.config_file))
    assert result.returncode == 0
    for drive in harness.drives:
        assert str(drive) in result.stdout


def test_the_json_of_status_is_the_whole_report(harness: DaemonHarness) -> None:
    result = harness.run("status", "--json", "--config", str(harness.config_file))
    assert result.returncode == 0
    assert json.loads(result.stdout).keys() == harness.status().keys()


@needs_fuse
def test_what_one_door_writes_the_other_reads(harness: DaemonHarness) -> None:
    client = harness.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="a/b", Body=b"from S3")
    assert (harness.mount / "bucket" / "a" / "b").read_bytes() == b"from S3"
    (harness.mount / "bucket" / "c").write_bytes(b"from POSIX")
    assert client.get_object(Bucket="bucket", Key="c")["Body"].read() == b"from POSIX"


def test_a_stop_is_clean_and_a_restart_finds_everything(harness: DaemonHarness) -> None:
    large = bytes(range(256)) * 20_000
    client = harness.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="small", Body=b"x")
    client.put_object(Bucket="bucket", Key="large", Body=large)
    assert harness.stop() == 0
    assert not harness.is_mounted()
    assert not (harness.folder / "state" / "control.sock").exists()
    harness.start()
    client = harness.client()
    assert client.get_object(Bucket="bucket", Key="small")["Body"].read() == b"x"
    assert client.get_object(Bucket="bucket", Key="large")["Body"].read() == large


def test_after_a_kill_a_restart_needs_no_hand(harness: DaemonHarness) -> None:
    large = bytes(range(256)) * 20_000
    client = harness.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="small", Body=b"x")
    client.put_object(Bucket="bucket", Key="large", Body=large)
    harness.kill()
    assert harness.is_mounted() is HAS_FUSE, "the dead process leaves its mount behind"
    harness.start()
    client = harness.client()
    assert client.get_object(Bucket="bucket", Key="small")["Body"].read() == b"x"
    assert client.get_object(Bucket="bucket", Key="large")["Body"].read() == large
    if HAS_FUSE:
        assert (harness.mount / "bucket" / "large").read_bytes() == large


def test_a_second_signal_makes_it_hurry(tmp_path: Path) -> None:
    with DaemonHarness(tmp_path, settings={"stop.deadline_s": 60.0}) as harness:
        client = harness.client()
        client.create_bucket(Bucket="bucket")
        url = client.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "k"})
        # A request that never ends: the server asks for its body, and it is never sent.
        with socket.create_connection(("127.0.0.1", harness.s3_port), timeout=10) as peer:
            target = url.removeprefix(harness.endpoint)
            head = f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{harness.s3_port}\r\n"
            peer.sendall(f"{head}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode())
            assert peer.recv(100).startswith(b"HTTP/1.1 100")
            assert harness.process is not None
            harness.process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                harness.process.wait(0.5)
            assert harness.http_status("/health/ready") == 503
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", harness.s3_port), timeout=10)
            harness.process.send_signal(signal.SIGINT)
            assert harness.process.wait(20) == 0


def test_two_daemons_never_share_state_or_drives(harness: DaemonHarness, tmp_path: Path) -> None:
    result = harness.run("serve", "--config", str(harness.config_file))
    assert result.returncode == 1
    assert "another daemon uses" in result.stderr
    elsewhere = ["--state", str(tmp_path / "other"), "--s3", "127.0.0.1:0", "--console", "[::1]:0"]
    drives = [str(drive) for drive in harness.drives]
    result = harness.run("serve", *drives, *elsewhere)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert harness.http_status("/health/ready") == 200


def test_a_taken_port_is_told(harness: DaemonHarness, tmp_path: Path) -> None:
    arguments = ["--state", str(tmp_path / "other"), "--s3", f"127.0.0.1:{harness.s3_port}"]
    result = harness.run("serve", str(tmp_path / "x"), *arguments, "--console", "127.0.0.1:0")
    assert result.returncode == 1
    assert "s3.listen: can't listen at" in result.stderr.splitlines()[-1]


def test_without_a_mount_everything_else_runs(tmp_path: Path) -> None:
    with DaemonHarness(tmp_path, mount=False) as harness:
        assert harness.status()["mount"] == {"path": "", "state": "off"}
        harness.client().create_bucket(Bucket="bucket")
        assert harness.stop() == 0


def test_https_by_ip_and_a_bucket_as_host_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost", "*.s3.localhost")
    chain, key, ca = (tmp_path / name for name in ("chain.pem", "key.pem", "ca.pem"))
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    key.touch(mode=0o600)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    settings = {
        "s3.tls_cert_file": str(chain),
        "s3.tls_key_file": str(key),
        "s3.domains": ["s3.localhost"],
    }
    with DaemonHarness(tmp_path, mount=False, settings=settings) as harness:
        assert harness.status()["s3_endpoints"] == [f"https://127.0.0.1:{harness.s3_port}"]
        harness.endpoint = f"https://127.0.0.1:{harness.s3_port}"
        client = harness.client(ca_file=ca)
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="key", Body=b"over TLS", ChecksumAlgorithm="CRC32C")
        url = client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "key"})
        context = ssl.create_default_context(cafile=str(ca))
        with urllib.request.urlopen(url, context=context) as answer:
            assert answer.read() == b"over TLS"
        harness.endpoint = f"https://s3.localhost:{harness.s3_port}"
        virtual = harness.client(ca_file=ca, s3={"addressing_style": "virtual"})
        url = virtual.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "key"})
        # Nobody resolves the name here, so the connection goes to the address.
        host, _, target = url.removeprefix("https://").partition("/")
        assert host.startswith("bucket.s3.localhost")
        request = urllib.request.Request(
            f"https://127.0.0.1:{harness.s3_port}/{target}", headers={"Host": host}
        )
        with urllib.request.urlopen(request, context=context) as answer:
            assert answer.read() == b"over TLS"


def test_a_wrong_secret_is_refused(harness: DaemonHarness) -> None:
    client = harness.client()
    client._request_signer._credentials.secret_key = "wrong-secret"
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        client.list_buckets()


def test_the_log_is_one_line_a_record_and_holds_no_secret(harness: DaemonHarness) -> None:
    client = harness.client()
    client.create_bucket(Bucket="bucket")
    assert harness.stop() == 0
    log = harness.log()
    assert SECRET_KEY not in log
    for line in log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (debug|info|warning|error) ", line), line
    assert "ready" in log
    assert log.splitlines()[-1].endswith("daemon.app: stopped")


def test_a_new_root_key_is_shown_once_and_works(tmp_path: Path) -> None:
    harness = DaemonHarness(tmp_path, mount=False)
    for name in ("TWOFOLD_ROOT_USER", "TWOFOLD_ROOT_PASSWORD"):
        del harness.environment[name]
    with harness:
        key = (tmp_path / "state" / "root.key").read_text()
        secret = re.findall(r"aws_secret_access_key = (\S{40})\n", key)[0]
        assert secret not in harness.log(), "no --welcome was asked for"
        assert harness.stop() == 0


def test_without_its_primary_database_it_goes_on_from_a_copy(harness: DaemonHarness) -> None:
    client = harness.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="small", Body=b"x")
    client.put_object(Bucket="bucket", Key="large", Body=bytes(3_000_000))
    copies = harness.status()["pool"]["copies"]
    primary = next(copy["path"] for copy in copies if copy["role"] == "primary")
    assert harness.process is not None
    pid = harness.process.pid

    shutil.rmtree(Path(primary) / "twofold")
    # Whether this one is answered or refused is open; it makes the daemon notice.
    with contextlib.suppress(botocore.exceptions.ClientError, botocore.exceptions.HTTPClientError):
        client.put_object(Bucket="bucket", Key="between", Body=b"y")
    harness.wait_for(lambda report: report["restarts"] == 1 and report["phase"] == "ready")

    report = harness.status()
    assert report["pid"] == pid
    assert [copy["path"] for copy in report["pool"]["copies"] if copy["path"] == primary] == []
    assert client.get_object(Bucket="bucket", Key="small")["Body"].read() == b"x"
    assert client.get_object(Bucket="bucket", Key="large")["Body"].read() == bytes(3_000_000)
    client.put_object(Bucket="bucket", Key="after", Body=b"z")
    if HAS_FUSE:
        assert (harness.mount / "bucket" / "after").read_bytes() == b"z"
    assert harness.stop() == 0
