"""`twofold user|group|key|policy` and `aws iam` on a whole daemon; restarts; nothing leaks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from daemon.keycli import parse_expiry
from tests.daemon.harness import ACCESS_KEY, SECRET_KEY, DaemonHarness
from tests.daemon.test_cli import refused, twofold

AWS = Path(sys.executable).with_name("aws")


@pytest.mark.parametrize(
    ("text", "expires_s"),
    [
        ("30m", 1000 + 1800),
        ("12h", 1000 + 43_200),
        ("30d", 1000 + 30 * 86_400),
        ("2w", 1000 + 14 * 86_400),
        ("1970-01-02", 86_400),
        ("soon", None),
        ("12", None),
        ("1970-13-01", None),
    ],
)
def test_times_as_people_write_them(text: str, expires_s: int | None) -> None:
    assert parse_expiry(text, 1000.5) == expires_s


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["user", "list", "--socket", "/nowhere"], 3, "no daemon is running"),
        (["key", "add", "--expires", "soon"], 2, "soon is no time"),
        (["key", "add", "--umask", "9"], 2, "9 is no umask"),
        (["key", "rotate"], 2, "name one access key"),
        (["key", "rotate", "AKIA", "--root"], 2, "name one access key"),
        (["policy", "set", "p", "/nowhere.json"], 2, "/nowhere.json can't be read"),
        (["policy", "simulate", "u", "a", "--context", "x"], 2, "x is no condition key"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, reason: str
) -> None:
    assert reason in refused(twofold(*arguments), code)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonHarness]:
    with DaemonHarness(tmp_path_factory.mktemp("identity"), mount=False) as harness:
        yield harness


def run(harness: DaemonHarness, *arguments: str, code: int = 0) -> str:
    """A command about this daemon, with this exit code; what it said."""
    done = harness.run(*arguments, "--config", str(harness.config_file))
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def rows(harness: DaemonHarness, *arguments: str) -> Any:
    return json.loads(run(harness, *arguments, "--json"))


def new_key(harness: DaemonHarness, *arguments: str) -> tuple[str, str]:
    [row] = rows(harness, "key", "add", *arguments)
    return row["access_key"], row["secret_key"]


def write_policy(harness: DaemonHarness, action: Any, resource: Any, **more: Any) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, **more}
    path = harness.folder / f"policy-{time.monotonic_ns()}.json"
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return str(path)


def client_of(
    harness: DaemonHarness, service: str, key: tuple[str, str], token: str | None = None
) -> Any:
    """A client of any service."""
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=harness.endpoint,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        aws_session_token=token,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def client_with(harness: DaemonHarness, answer: Any) -> Any:
    """A client of S3 with what STS answered."""
    made = answer["Credentials"]
    key = made["AccessKeyId"], made["SecretAccessKey"]
    return client_of(harness, "s3", key, made["SessionToken"])


def code_of(client: Any, call: str = "list_buckets", **arguments: Any) -> str:
    """Why a call is refused; "" if it isn't."""
    try:
        getattr(client, call)(**arguments)
    except ClientError as error:
        found: str = error.response["Error"]["Code"]
        return found
    return ""


@pytest.mark.slow
def test_a_user_with_a_group_a_policy_and_a_key(harness: DaemonHarness) -> None:
    file = write_policy(harness, "s3:ListAllMyBuckets", "*")
    run(harness, "policy", "set", "lister", file)
    run(harness, "group", "add", "staff", "--policy", "lister")
    run(harness, "user", "add", "ann", "--group", "staff")
    assert "ann" in run(harness, "group", "list")
    client = harness.client(key=new_key(harness, "--user", "ann"))
    assert code_of(client) == ""
    assert code_of(client, "create_bucket", Bucket="of-ann") == "AccessDenied"
    run(harness, "user", "attach", "ann", "readwrite")
    assert code_of(client, "create_bucket", Bucket="of-ann") == ""
    run(harness, "user", "detach", "ann", "readwrite")
    run(harness, "group", "leave", "staff", "ann")
    assert code_of(client) == "AccessDenied"
    assert "remove it with --force" in run(harness, "user", "remove", "ann", code=1)
    run(harness, "user", "remove", "ann", "--force")
    assert code_of(client) == "InvalidAccessKeyId"
    run(harness, "group", "remove", "staff", "--force")
    run(harness, "policy", "remove", "lister")


@pytest.mark.slow
def test_a_service_account_is_narrowed_and_stopped(harness: DaemonHarness) -> None:
    file = write_policy(harness, "s3:ListAllMyBuckets", "*")
    key = new_key(harness, "--policy", file, "--expires", "1d", "--description", "a job")
    client = harness.client(key=key)
    assert code_of(client) == ""
    assert code_of(client, "create_bucket", Bucket="narrowed") == "AccessDenied"
    run(harness, "key", "narrow", key[0])
    assert code_of(client, "create_bucket", Bucket="narrowed") == ""
    run(harness, "key", "disable", key[0])
    assert code_of(client) == "InvalidAccessKeyId"
    run(harness, "key", "enable", key[0])
    [row] = rows(harness, "key", "rotate", key[0])
    assert code_of(client) == "SignatureDoesNotMatch"
    assert code_of(harness.client(key=(key[0], row["secret_key"]))) == ""
    run(harness, "key", "remove", key[0])
    assert "cannot be found" in run(harness, "key", "remove", key[0], code=1)


@pytest.mark.slow
def test_a_simulation_explains_a_denial(harness: DaemonHarness) -> None:
    run(harness, "user", "add", "sim")
    harness.client().create_bucket(Bucket="simulated")
    file = write_policy(
        harness,
        "s3:GetObject",
        "arn:aws:s3:::simulated/${aws:username}/*",
        Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
    )
    run(harness, "policy", "set", "folder", file)
    run(harness, "user", "attach", "sim", "folder")
    asked = ["policy", "simulate", "sim", "GetObject", "simulated/sim/x"]
    near = ["--context", "aws:SourceIp=10.1.2.3"]
    said = run(harness, *asked, *near)
    assert said.startswith("allowed by statement 0 of identity policy folder")
    said = run(harness, *asked, code=1)
    assert "the request has none" in said
    said = run(harness, *asked[:3], "PutObject", "simulated/sim/x", *near, code=1)
    assert "Action does not name s3:PutObject" in said
    said = run(harness, *asked[:4], "simulated/bob/x", *near, code=1)
    assert "Resource does not cover" in said
    assert "no action that is known" in run(harness, *asked[:3], "Nonsense", "simulated", code=1)


def aws(
    harness: DaemonHarness, *arguments: str, key: tuple[str, str] = (ACCESS_KEY, SECRET_KEY)
) -> Any:
    done = subprocess.run(
        [AWS, "--endpoint-url", harness.endpoint, "--output", "json", *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(harness.folder),
            "AWS_ACCESS_KEY_ID": key[0],
            "AWS_SECRET_ACCESS_KEY": key[1],
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not AWS.exists(), reason="the AWS command line is not installed")
def test_the_aws_command_line(harness: DaemonHarness) -> None:
    aws(harness, "iam", "create-user", "--user-name", "cli")
    made = aws(harness, "iam", "create-access-key", "--user-name", "cli")["AccessKey"]
    file = write_policy(harness, ["s3:*", "sts:AssumeRole"], "*")
    arn = aws(
        harness,
        *("iam", "create-policy", "--policy-name", "cli", "--policy-document", f"file://{file}"),
    )["Policy"]["Arn"]
    aws(harness, "iam", "attach-user-policy", "--user-name", "cli", "--policy-arn", arn)
    key = made["AccessKeyId"], made["SecretAccessKey"]
    identity = aws(harness, "sts", "get-caller-identity", key=key)
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": identity["Account"]},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    role = aws(
        harness,
        *("iam", "create-role", "--role-name", "cli"),
        *("--assume-role-policy-document", json.dumps(trust)),
    )["Role"]["Arn"]
    session = aws(
        harness,
        *("sts", "assume-role", "--role-arn", role, "--role-session-name", "job"),
        key=key,
    )
    assert session["AssumedRoleUser"]["Arn"].endswith("assumed-role/cli/job")
    aws(harness, "s3", "mb", "s3://of-cli", key=key)
    assert "of-cli" in aws(harness, "s3", "ls", key=key)
    aws(harness, "iam", "attach-role-policy", "--role-name", "cli", "--policy-arn", arn)
    narrowing = json.loads(Path(write_policy(harness, "s3:List*", "*")).read_text())
    session = aws(
        harness,
        *("sts", "assume-role", "--role-arn", role, "--role-session-name", "narrow"),
        *("--policy", json.dumps(narrowing)),
        key=key,
    )
    narrow = client_with(harness, session)
    assert code_of(narrow, "list_objects_v2", Bucket="of-cli") == ""
    assert code_of(narrow, "put_object", Bucket="of-cli", Key="k") == "AccessDenied"
    aws(harness, "iam", "delete-access-key", "--user-name", "cli", "--access-key-id", key[0])
    assert code_of(harness.client(key=key)) == "InvalidAccessKeyId"


@pytest.mark.slow
def test_a_restart_keeps_everything_and_no_secret_is_kept_in_the_clear(tmp_path: Path) -> None:
    with DaemonHarness(tmp_path, mount=False, settings={"log.level": "debug"}) as harness:
        run(harness, "user", "add", "ann", "--policy", "readwrite")
        key = new_key(harness, "--user", "ann")
        sts: Any = boto3.client(
            "sts",
            endpoint_url=harness.endpoint,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            region_name="us-east-1",
        )
        session = sts.get_session_token()["Credentials"]
        wrong = harness.client(key=(key[0], "a-wrong-secret-of-ann"))
        assert code_of(wrong) == "SignatureDoesNotMatch"
        harness.kill()
        harness.start()
        client = harness.client(key=key)
        assert code_of(client) == ""
        s3: Any = boto3.client(
            "s3",
            endpoint_url=harness.endpoint,
            aws_access_key_id=session["AccessKeyId"],
            aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
            region_name="us-east-1",
        )
        assert code_of(s3) == ""
        run(harness, "key", "rotate", "--master")
        assert code_of(client) == "", "the secret is sealed anew"
        assert code_of(s3) == "InvalidAccessKeyId", "sessions end with the master key"
        assert harness.stop() == 0
        harness.start()
        assert code_of(client) == ""
        assert harness.stop() == 0
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert any(path.suffix for path in kept)
        for path in kept:
            found = path.read_bytes()
            for secret in (key[1], session["SecretAccessKey"], session["SessionToken"]):
                assert secret.encode() not in found, path


@pytest.mark.slow
def test_the_root_key_is_rotated_at_once(tmp_path: Path) -> None:
    harness = DaemonHarness(tmp_path, mount=False)
    for name in ("TWOFOLD_ROOT_USER", "TWOFOLD_ROOT_PASSWORD"):
        del harness.environment[name]
    with harness:
        old = root_key(harness)
        client = harness.client(key=old)
        assert code_of(client) == ""
        said = run(harness, "key", "rotate", "--root")
        new = root_key(harness)
        assert new[0] in said and new[1] not in said and new != old
        assert code_of(client) == "InvalidAccessKeyId"
        assert code_of(harness.client(key=new)) == ""


def root_key(harness: DaemonHarness) -> tuple[str, str]:
    lines = (harness.folder / "state" / "root.key").read_text().splitlines()
    found = dict(line.split(" = ") for line in lines if " = " in line)
    return found["aws_access_key_id"], found["aws_secret_access_key"]


@pytest.mark.slow
def test_a_root_key_of_the_environment_is_not_rotated(harness: DaemonHarness) -> None:
    assert "TWOFOLD_ROOT_USER" in run(harness, "key", "rotate", "--root", code=1)
