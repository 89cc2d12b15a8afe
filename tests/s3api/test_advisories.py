"""More of what went wrong in other servers; about permission: `test_authorization_advisories.py`.

Which advisories are tried where is in `tests/architecture/test_advisories.py`.
"""

from __future__ import annotations

import ast
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from s3api.credentials import Credential
from s3api.iam import table
from s3api.iam.fetching import Fetcher
from store.identity.records import User
from tests.s3api.conftest import ALICE, Endpoint
from tests.s3api.permissions import CALLS, Call, World
from tests.s3api.raw import exchange

ROOT = Path(__file__).parents[2]
_names = itertools.count(1)
_VERSIONS = {"iam": "2010-05-08", "sts": "2011-06-15"}
_NUMBER = ALICE.account.number


class Caller:
    """A user of alice's account, whose policy is set anew for each call."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.world = endpoint, World(endpoint)
        self.name = f"caller-{next(_names)}"
        identity = endpoint.namespace.identity
        self.world.do(identity.holders.create_user, ALICE.account.id, self.name, tags={})
        made = self.world.do(identity.keys.create, ALICE.account.id, self.name)
        self.key = Credential(access_key=made.key.id, secret_key=made.secret)

    def let(self, **statement: Any) -> None:
        holders = self.endpoint.namespace.identity.holders
        text = json.dumps({"Statement": {"Effect": "Allow", "Resource": "*", **statement}})
        self.world.do(holders.put_inline, ALICE.account.id, User, self.name, "its", text)

    def ask(self, service: str, action: str, *, sign: bool = True) -> str:
        """The code of the answer, "" where it is granted; its parameters fit any action."""
        host = f"127.0.0.1:{self.endpoint.port}"
        body = urlencode({"Action": action, "Version": _VERSIONS[service], **self._fields()})
        asked = AWSRequest("POST", f"http://{host}/", data=body)
        asked.headers["Content-Type"] = "application/x-www-form-urlencoded"
        if sign:
            made = Credentials(self.key.access_key, self.key.secret_key)
            SigV4Auth(made, service, "us-east-1").add_auth(asked)
        lines = [f"host: {host}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in asked.headers.items()]
        request = "\r\n".join(["POST / HTTP/1.1", *lines, "", body]).encode()
        return exchange(self.endpoint, request).code

    def _fields(self) -> dict[str, str]:
        names = ("UserName", "GroupName", "RoleName", "PolicyName", "VersionId", "ClientID")
        iam = f"arn:aws:iam::{_NUMBER}:"
        return {
            **dict.fromkeys(names, "nobody"),
            "AccessKeyId": self.key.access_key,
            "PolicyArn": f"{iam}policy/none",
            "PolicySourceArn": f"{iam}user/nobody",
            "OpenIDConnectProviderArn": f"{iam}oidc-provider/none.example",
            "Url": "https://none.example",
            "RoleArn": f"{iam}role/none",
            "RoleSessionName": "session",
        }


@pytest.mark.slow
def test_cve_2024_55949_every_action_of_iam_needs_its_own_permission(endpoint: Endpoint) -> None:
    """Also GHSA-vcwh, GHSA-mm2q, GHSA-pfcq, GHSA-f5cv, GHSA-jqmc: wrong or missing actions."""
    caller = Caller(endpoint)
    for action in table.IAM:
        # Without a signature STS is asked, which knows none of them.
        assert caller.ask("iam", action, sign=False) == "InvalidAction", action
        caller.let(Action="sts:AssumeRole")
        assert caller.ask("iam", action) == "AccessDenied", action
        caller.let(NotAction=f"iam:{action}")
        assert caller.ask("iam", action) == "AccessDenied", action
        caller.let(Action=f"iam:{action}")
        assert caller.ask("iam", action) != "AccessDenied", action
    assert len(table.IAM) >= 75


def test_ghsa_vcwh_actions_of_sts_are_nobodys_without_a_signature(endpoint: Endpoint) -> None:
    caller = Caller(endpoint)
    for action in table.STS:
        if action not in table.ANONYMOUS:
            assert caller.ask("sts", action, sign=False) == "MissingAuthenticationToken", action
    assert caller.ask("sts", "AssumeRole") == "AccessDenied"


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """The URL of a server that leads back to itself, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


async def test_cve_2021_21287_a_provider_leads_nowhere_else(
    elsewhere: tuple[str, list[str]],
) -> None:
    """Also CVE-2026-73080, CVE-2026-50221, GHSA-m479: what is fetched for others, redirected."""
    url, asked = elsewhere
    with pytest.raises(OSError, match="302"):
        await Fetcher().fetch(f"{url}/first")
    assert asked == ["/first"]
    for place in ("http://169.254.169.254/x", "http://10.0.0.1/", "http://localhost.example/"):
        with pytest.raises(OSError, match="without TLS"):
            await Fetcher().fetch(place)


@pytest.mark.parametrize(
    "name",
    [
        "x-amz-server-side-encryption-customer-key-md5",
        "x-amz-server-side-encryption-context",
        "x-minio-internal-server-side-encryption-sealed-key",
        "x-amz-meta-x-amz-server-side-encryption-sealed-key",
        "x-twofold-owner",
        "x-amz-version-id",
        "x-amz-delete-marker",
        "x-amz-replication-status",
    ],
)
def test_cve_2026_34204_no_header_becomes_a_word_of_ours(endpoint: Endpoint, name: str) -> None:
    world = World(endpoint)
    plain = world.send(CALLS["PutObject"], ALICE).headers.keys()
    put = Call(method="PUT", target="/{b}/k", grants=(), headers={name: "forged"}, body="x")
    answer = world.send(put, ALICE)
    assert answer.status in (200, 400, 501)
    assert answer.headers.keys() <= {*plain, "connection"} or answer.status != 200
    head = world.send(CALLS["HeadObject"], ALICE)
    told = {key for key, value in head.headers.items() if "forged" in value}
    assert head.status == 200 and told <= {name} and (not told or name.startswith("x-amz-meta-"))
    assert world.send(CALLS["GetObject"], ALICE).body == b"x"


@pytest.mark.parametrize("parameter", ["content-type", "content-disposition", "cache-control"])
def test_cve_2020_10753_no_parameter_breaks_out_of_its_header(
    endpoint: Endpoint, parameter: str
) -> None:
    """Also CVE-2021-3524, GHSA-x5xv."""
    world = World(endpoint)
    for evil in ("a%0d%0ax-evil:%201", "a%0ax-evil:%201", "a%0dx-evil:%201%0d%0a%0d%0a"):
        call = Call(method="GET", target=f"/{{b}}/k?response-{parameter}={evil}", grants=())
        for kind in ("header", "presigned"):
            answer = world.send(call, ALICE, kind)
            assert "x-evil" not in answer.headers
            assert answer.status in (200, 400)


@pytest.mark.slow
def test_ghsa_3p3x_secrets_are_compared_in_a_time_that_tells_nothing() -> None:
    """Also CVE-2014-0006. A comparison by == stops at the first byte that differs."""
    found = []
    for file in sorted((ROOT / "s3api").rglob("*.py")) + sorted((ROOT / "store").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Compare):
                continue
            if not isinstance(node.ops[0], ast.Eq | ast.NotEq):
                continue
            names = {_last_name(side) for side in (node.left, node.comparators[0])}
            if names & {"signature", "secret", "secret_key", "session_token", "digest_signature"}:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not found


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
