"""AssumeRoleWithWebIdentity against a real small provider: who gets in, and who doesn't."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from joserfc.jwk import OctKey, RSAKey

from s3api.iam import webidentity
from store.access.providers import Rotation
from tests.s3api.conftest import Endpoint
from tests.s3api.iamclients import client_of, client_with, document, fresh, refused
from tests.s3api.openidprovider import CLIENT, OpenIdProvider


@pytest.fixture(scope="module")
def iam(endpoint: Endpoint) -> Any:
    return client_of(endpoint, "iam")


@pytest.fixture
def sts(endpoint: Endpoint) -> Any:
    """A client of somebody without any key."""
    make: Any = boto3.client
    return make(
        "sts",
        endpoint_url=f"http://127.0.0.1:{endpoint.port}",
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}),
    )


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    made = OpenIdProvider()
    yield made
    made.close()


@pytest.fixture
def arn(iam: Any, provider: OpenIdProvider) -> Iterator[str]:
    """Of the provider, as the root account knows it."""
    made: str = iam.create_open_id_connect_provider(Url=provider.issuer, ClientIDList=[CLIENT])[
        "OpenIDConnectProviderArn"
    ]
    yield made
    if made in [each["Arn"] for each in iam.list_open_id_connect_providers()[_LIST]]:
        iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=made)


_LIST = "OpenIDConnectProviderList"


@pytest.fixture
def role(iam: Any, arn: str) -> str:
    return make_role(iam, arn)


def make_role(iam: Any, provider_arn: str, **more: Any) -> str:
    trust = document(
        "sts:AssumeRoleWithWebIdentity", None, Principal={"Federated": provider_arn}, **more
    )
    made = iam.create_role(RoleName=fresh("role"), AssumeRolePolicyDocument=trust)["Role"]
    iam.put_role_policy(
        RoleName=made["RoleName"],
        PolicyName="own",
        PolicyDocument=document("s3:*Object", "arn:aws:s3:::*/${jwt:sub}/*"),
    )
    found: str = made["Arn"]
    return found


def asking(role: str, token: str) -> dict[str, Any]:
    return {"RoleArn": role, "RoleSessionName": "job", "WebIdentityToken": token}


def test_a_token_opens_its_own_folder(
    endpoint: Endpoint, sts: Any, provider: OpenIdProvider, arn: str, role: str
) -> None:
    answer = sts.assume_role_with_web_identity(**asking(role, provider.token()))
    assert answer["SubjectFromWebIdentityToken"] == "ann"
    assert answer["Audience"] == CLIENT and answer["Provider"] == arn
    bucket = fresh("web")
    client_of(endpoint, "s3").create_bucket(Bucket=bucket)
    s3 = client_with(endpoint, "s3", answer["Credentials"])
    s3.put_object(Bucket=bucket, Key="ann/x", Body=b"1")
    refused("AccessDenied", s3.put_object, Bucket=bucket, Key="bob/x", Body=b"1")
    refused("AccessDenied", s3.list_objects_v2, Bucket=bucket)


def test_conditions_on_claims_decide(
    iam: Any, sts: Any, provider: OpenIdProvider, arn: str
) -> None:
    host = provider.issuer.removeprefix("http://")
    role = make_role(
        iam,
        arn,
        Condition={
            "StringEquals": {f"{host}:aud": CLIENT},
            "ForAnyValue:StringEquals": {"jwt:groups": "staff"},
        },
    )
    ask = sts.assume_role_with_web_identity
    refused("AccessDenied", ask, **asking(role, provider.token()))
    refused("AccessDenied", ask, **asking(role, provider.token(groups=["guests"])))
    ask(**asking(role, provider.token(groups=["guests", "staff"])))


TAGS = "https://aws.amazon.com/tags"


def test_tags_of_a_token_are_the_sessions_where_the_role_lets_it_have_some(
    endpoint: Endpoint, iam: Any, sts: Any, provider: OpenIdProvider, arn: str
) -> None:
    ask = sts.assume_role_with_web_identity
    untagging = make_role(iam, arn)
    nested = {TAGS: {"principal_tags": {"team": ["blue"]}}}
    flat = {f"{TAGS}/principal_tags/team": "blue"}
    refused("AccessDenied", ask, **asking(untagging, provider.token(**nested)))

    name = fresh("role")
    wanted = {"StringEquals": {"aws:RequestTag/team": "blue"}}
    actions = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]
    trust = document(actions, None, Principal={"Federated": arn}, Condition=wanted)
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    allowed = document("s3:PutObject", "arn:aws:s3:::*/${aws:PrincipalTag/team}/*")
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=allowed)
    bucket = fresh("bucket")
    client_of(endpoint, "s3").create_bucket(Bucket=bucket)
    for tags in (nested, flat):
        s3 = client_with(endpoint, "s3", ask(**asking(role, provider.token(**tags)))["Credentials"])
        s3.put_object(Bucket=bucket, Key="blue/k", Body=b"x")
        refused("AccessDenied", s3.put_object, Bucket=bucket, Key="red/k", Body=b"x")
    for tags in ({}, {f"{TAGS}/principal_tags/team": "red"}):
        refused("AccessDenied", ask, **asking(role, provider.token(**tags)))
    for tags in (
        {TAGS: "blue"},
        {TAGS: {"principal_tags": {"team": ["blue", "red"]}}},
        {TAGS: {**nested[TAGS], "transitive_tag_keys": ["team"]}},
    ):
        refused("InvalidIdentityToken", ask, **asking(role, provider.token(**tags)))


def test_a_trust_policy_may_ask_for_tags_of_its_role(
    iam: Any, sts: Any, provider: OpenIdProvider, arn: str
) -> None:
    condition = {"StringEquals": {"iam:ResourceTag/team": "blue"}}
    role = make_role(iam, arn, Condition=condition)
    ask = sts.assume_role_with_web_identity
    refused("AccessDenied", ask, **asking(role, provider.token()))
    name = role.rpartition("/")[2]
    iam.tag_role(RoleName=name, Tags=[{"Key": "team", "Value": "blue"}])
    ask(**asking(role, provider.token()))


def test_keys_are_rotated(sts: Any, provider: OpenIdProvider, role: str) -> None:
    ask = sts.assume_role_with_web_identity
    ask(**asking(role, provider.token()))
    ask(**asking(role, provider.token()))
    assert provider.fetches == 1, "keys are kept"
    old = provider.token()
    provider.rotate("second", elliptic=True)
    ask(**asking(role, provider.token()))
    assert provider.fetches == 2, "an unknown key is asked for"
    refused("InvalidIdentityToken", ask, **asking(role, old))


@pytest.fixture(autouse=True)
def quick_rotation(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a test need not wait until keys may be asked for again."""
    made = webidentity.ProviderKeys

    def make(*arguments: Any) -> Any:
        return made(*arguments[:3], Rotation(pause_s=0.0))

    monkeypatch.setattr(webidentity, "ProviderKeys", make)


def refused_tokens(provider: OpenIdProvider) -> dict[str, tuple[str, str]]:
    """Tokens that must not be believed, and the codes they are refused with."""
    now_s = int(time.time())
    stranger = RSAKey.generate_key(2048, {"kid": "first"})
    public = json.dumps(provider.keys[0].as_dict(private=False))
    shared = OctKey.import_key(public, {"kid": "first"})
    head, body, signature = provider.token().split(".")
    return {
        "another audience": (provider.token(aud="somebody"), "IDPRejectedClaim"),
        "another client": (provider.token(azp="somebody"), "IDPRejectedClaim"),
        "no audience": (provider.token(aud=None), "IDPRejectedClaim"),
        "another issuer": (provider.token(iss="https://evil.example"), "InvalidIdentityToken"),
        "expired": (provider.token(exp=now_s - 120), "ExpiredTokenException"),
        "without an end": (provider.token(exp=None), "InvalidIdentityToken"),
        "not yet": (provider.token(nbf=now_s + 600), "InvalidIdentityToken"),
        "from the future": (provider.token(iat=now_s + 600), "InvalidIdentityToken"),
        "of nobody": (provider.token(sub=None), "InvalidIdentityToken"),
        "another's key": (provider.token(key=stranger), "InvalidIdentityToken"),
        "signed with what is public": (
            provider.token(key=shared, algorithm="HS256"),
            "InvalidIdentityToken",
        ),
        "without signature": (f"{head}.{body}.", "InvalidIdentityToken"),
        "alg none": (f"{encoded({'alg': 'none'})}.{body}.", "InvalidIdentityToken"),
        "alg none, signed": (
            f"{encoded({'alg': 'none'})}.{body}.{signature}",
            "InvalidIdentityToken",
        ),
        "changed": (
            f"{head}.{encoded({'iss': provider.issuer})}.{signature}",
            "InvalidIdentityToken",
        ),
        "no token": ("something that is none", "InvalidIdentityToken"),
    }


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_tokens_that_are_not_believed(sts: Any, provider: OpenIdProvider, role: str) -> None:
    for what, (token, code) in refused_tokens(provider).items():
        try:
            refused(code, sts.assume_role_with_web_identity, **asking(role, token))
        except AssertionError as error:
            raise AssertionError(what) from error
    sts.assume_role_with_web_identity(**asking(role, provider.token()))


def test_another_provider_does_not_speak_for_this_one(
    iam: Any, sts: Any, provider: OpenIdProvider, role: str
) -> None:
    other = OpenIdProvider()
    try:
        iam.create_open_id_connect_provider(Url=other.issuer, ClientIDList=[CLIENT])
        ask = sts.assume_role_with_web_identity
        refused("AccessDenied", ask, **asking(role, other.token()))
        forged = other.token(iss=provider.issuer)
        refused("InvalidIdentityToken", ask, **asking(role, forged))
    finally:
        other.close()


def test_a_provider_that_is_away(sts: Any, provider: OpenIdProvider, role: str) -> None:
    provider.is_up = False
    ask = sts.assume_role_with_web_identity
    refused("IDPCommunicationError", ask, **asking(role, provider.token()))
    provider.is_up = True
    ask(**asking(role, provider.token()))
    provider.is_up = False
    ask(**asking(role, provider.token()))


def test_a_claim_names_the_policies(
    endpoint: Endpoint, iam: Any, sts: Any, provider: OpenIdProvider, arn: str
) -> None:
    ask = sts.assume_role_with_web_identity
    without_role = {"RoleArn": "arn:none:iam:::role/dummy", "RoleSessionName": "job"}
    token = provider.token(policy=["readonly", "nonsense"])
    refused("AccessDenied", ask, **without_role, WebIdentityToken=token)
    iam.tag_open_id_connect_provider(
        OpenIDConnectProviderArn=arn, Tags=[{"Key": "policy-claim", "Value": "policy"}]
    )
    session = ask(**without_role, WebIdentityToken=token)["Credentials"]
    s3 = client_with(endpoint, "s3", session)
    s3.list_buckets()
    refused("AccessDenied", s3.create_bucket, Bucket=fresh("no"))
    refused("AccessDenied", ask, **without_role, WebIdentityToken=provider.token(policy="nonsense"))
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    refused("InvalidAccessKeyId", s3.list_buckets)
