"""`twofold role` and OpenID providers of the configuration, on a whole daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.daemon.harness import DaemonHarness
from tests.daemon.test_identity import client_of, client_with, code_of, new_key, rows, run
from tests.s3api.openidprovider import CLIENT, OpenIdProvider

NO_ROLE = "arn:none:iam:::role/none"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    made = OpenIdProvider()
    yield made
    made.close()


@pytest.fixture(scope="module")
def harness(
    tmp_path_factory: pytest.TempPathFactory, provider: OpenIdProvider
) -> Iterator[DaemonHarness]:
    """A daemon that believes the provider, because its configuration says so."""
    believed = {
        "url": provider.issuer,
        "audiences": [CLIENT],
        "policies": ["readonly"],
        "claim": "groups",
    }
    folder = tmp_path_factory.mktemp("roles")
    with DaemonHarness(folder, mount=False, settings={"s3.oidc": [believed]}) as harness:
        yield harness


def ask(harness: DaemonHarness, role: str, token: str) -> Any:
    """A client of S3 with what a token is exchanged for."""
    make: Any = boto3.client
    sts = make(
        "sts",
        endpoint_url=harness.endpoint,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}),
    )
    answer = sts.assume_role_with_web_identity(
        RoleArn=role, RoleSessionName="job", WebIdentityToken=token
    )
    return client_with(harness, answer)


@pytest.mark.slow
def test_a_role_is_assumed_by_whom_it_trusts(harness: DaemonHarness) -> None:
    for name in ("eve", "fay"):
        run(harness, "user", "add", name)
    eve, fay = (new_key(harness, "--user", name) for name in ("eve", "fay"))
    assert "has to trust somebody" in run(harness, "role", "add", "porter", code=1)
    arn = run(harness, "role", "add", "porter", "--user", "eve", "--policy", "readwrite").strip()
    [shown] = rows(harness, "role", "list")
    assert (shown["role"], shown["policies"], shown["arn"]) == ("porter", "readwrite", arn)
    assert "user/eve" in run(harness, "role", "show", "porter")
    assuming = {"RoleArn": arn, "RoleSessionName": "job"}
    assert code_of(client_of(harness, "sts", fay), "assume_role", **assuming) == "AccessDenied"
    client = client_with(harness, client_of(harness, "sts", eve).assume_role(**assuming))
    assert code_of(client, "create_bucket", Bucket="of-porter") == ""
    run(harness, "role", "detach", "porter", "readwrite")
    assert code_of(client) == "AccessDenied"
    run(harness, "role", "attach", "porter", "readonly")
    assert code_of(client) == ""
    run(harness, "role", "trust", "porter", "--user", "fay")
    assert code_of(client_of(harness, "sts", eve), "assume_role", **assuming) == "AccessDenied"
    assert "remove it with --force" in run(harness, "role", "remove", "porter", code=1)
    run(harness, "role", "remove", "porter", "--force")
    assert code_of(client) == "InvalidAccessKeyId"


@pytest.mark.slow
def test_a_role_trusts_the_tokens_of_a_provider(
    harness: DaemonHarness, provider: OpenIdProvider
) -> None:
    trusting = ("--provider", provider.issuer, "--policy", "readonly")
    role = run(harness, "role", "add", "guest", *trusting).strip()
    client = ask(harness, role, provider.token())
    assert code_of(client) == ""
    assert code_of(client, "create_bucket", Bucket="of-guest") == "AccessDenied"
    unknown = ("--provider", "https://unknown.example")
    assert "not found" in run(harness, "role", "add", "other", *unknown, code=1)


@pytest.mark.slow
def test_tokens_of_a_configured_provider_give_policies(
    harness: DaemonHarness, provider: OpenIdProvider
) -> None:
    [shown] = rows(harness, "provider", "list")
    assert (shown["provider"], shown["policies"]) == (provider.issuer, "readonly")
    assert "the configuration's" in run(harness, "provider", "remove", provider.issuer, code=1)
    client = ask(harness, NO_ROLE, provider.token())
    assert code_of(client) == ""
    assert code_of(client, "create_bucket", Bucket="of-a-token") == "AccessDenied"
    client = ask(harness, NO_ROLE, provider.token(groups=["staff", "readwrite"]))
    assert code_of(client, "create_bucket", Bucket="of-a-token") == ""
