"""`twofold bucket`: sizes, and what a running daemon tells and does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from daemon.bucketcli import parse_size
from daemon.buckettalk import BucketError, Question, talking
from daemon.config import control_socket_of
from daemon.control import BUCKET
from tests.daemon.harness import DaemonHarness
from tests.daemon.test_cli import refused, twofold


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1234", 1234),
        ("10b", 10),
        ("500MB", 500_000_000),
        ("1.5k", 1500),
        ("10GiB", 10 << 30),
        ("2 tib", 2 << 40),
        ("0.5KiB", 512),
        ("10i", None),
        ("-1", None),
        ("1e3", None),
        ("", None),
        ("9999999999999999999", None),
    ],
)
def test_sizes_as_people_write_them(text: str, size_bytes: int | None) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["list", "--socket", "/nowhere"], 3, "no daemon is running"),
        (["usage", "b", "--socket", "/nowhere"], 3, "no daemon is running"),
        (["quota", "b", "ten", "--socket", "/nowhere"], 2, "ten is no size"),
        (["list", "--config", "/nowhere.toml"], 2, "there is no such file"),
        (["bogus"], 2, 'Unknown command "bogus"'),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, reason: str
) -> None:
    assert reason in refused(twofold("bucket", *arguments), code)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonHarness]:
    users = [{"name": "alice", "access_key": "alice-key", "secret_key": "a-secret-of-alice"}]
    folder = tmp_path_factory.mktemp("bucket")
    with DaemonHarness(folder, mount=False, settings={"s3.users": users}) as started:
        yield started


def ask(harness: DaemonHarness, *arguments: str) -> str:
    result = harness.run("bucket", *arguments, "--config", str(harness.config_file))
    assert result.returncode == 0, result.stderr
    return result.stdout


def socket_of(harness: DaemonHarness) -> Path:
    return control_socket_of(harness.config_file, {})


@pytest.mark.slow
def test_quota_is_set_shown_enforced_and_lifted(harness: DaemonHarness) -> None:
    s3 = harness.client()
    s3.create_bucket(Bucket="bounded")
    s3.put_object(Bucket="bounded", Key="k", Body=b"x" * 600)
    (shown,) = json.loads(ask(harness, "quota", "bounded", "1kB", "--json"))
    assert (shown["used_bytes"], shown["quota_bytes"], shown["owner"]) == (600, 1000, "root")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="bounded", Key="l", Body=b"x" * 600)
    assert caught.value.response["Error"]["Code"] == "QuotaExceeded"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert "1,000" in ask(harness, "usage", "bounded")
    assert " none " in ask(harness, "quota", "bounded", "none")
    s3.put_object(Bucket="bounded", Key="l", Body=b"x" * 600)


@pytest.mark.slow
def test_buckets_are_listed_with_the_names_of_their_owners(harness: DaemonHarness) -> None:
    alice = harness.client(key=("alice-key", "a-secret-of-alice"))
    alice.create_bucket(Bucket="of-alice")
    lines = [line.split() for line in ask(harness, "list").splitlines()]
    assert lines[0][:3] == ["BUCKET", "OWNER", "USED"]
    assert ["of-alice", "alice", "0", "none"] in [line[:4] for line in lines]


@pytest.mark.slow
def test_what_the_daemon_refuses_is_one_sentence(harness: DaemonHarness) -> None:
    for arguments in (["usage", "absent"], ["quota", "absent", "1"]):
        result = harness.run("bucket", *arguments, "--config", str(harness.config_file))
        assert "there is no bucket absent" in refused(result, 1)


@pytest.mark.slow
def test_several_questions_are_asked_in_one_talk(harness: DaemonHarness) -> None:
    harness.client().create_bucket(Bucket="talked-of")
    with talking(socket_of(harness)) as question:
        assert question(Question(verb="show", bucket="talked-of"))[0].quota_bytes is None
        (bounded,) = question(Question(verb="quota", bucket="talked-of", quota_bytes=5))
        assert bounded.quota_bytes == 5
        with pytest.raises(BucketError, match="a quota is 0 bytes or more"):
            question(Question(verb="quota", bucket="talked-of", quota_bytes=-5))
        assert question(Question(verb="list", bucket="zzz")) == ()


@pytest.mark.slow
def test_nonsense_is_answered_in_words(harness: DaemonHarness) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(socket_of(harness)))
        peer.sendall(BUCKET + b"\n")
        with peer.makefile("rb") as answers:
            assert answers.readline() == b"{}\n"
            peer.sendall(b'{"verb":"explode"}\n')
            assert b"does not know this question" in answers.readline()
