"""STS: roles assumed, sessions that narrow and end, and what stops working at once."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from s3api.credentials import ROOT
from store.identity.names import account_number
from tests.s3api.conftest import ALICE, Endpoint
from tests.s3api.iamclients import client_of, client_with, document, fresh, refused

CANNED = "arn:aws:iam::aws:policy"


@pytest.fixture(scope="module")
def iam(endpoint: Endpoint) -> Any:
    return client_of(endpoint, "iam")


@pytest.fixture(scope="module")
def sts(endpoint: Endpoint) -> Any:
    return client_of(endpoint, "sts")


@pytest.fixture(scope="module")
def number(sts: Any) -> str:
    """The root account's."""
    found: str = sts.get_caller_identity()["Account"]
    return found


@pytest.fixture
def user(iam: Any) -> str:
    name = fresh("user")
    iam.create_user(UserName=name)
    return name


@pytest.fixture
def key(iam: Any, user: str) -> dict[str, Any]:
    made: dict[str, Any] = iam.create_access_key(UserName=user)["AccessKey"]
    return made


def make_role(iam: Any, principal: Any, **more: Any) -> str:
    """A role that may do everything with S3; its ARN."""
    name = fresh("role")
    trust = document("sts:AssumeRole", None, Principal=principal, **more)
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=f"{CANNED}/readwrite")
    return arn


def name_of(arn: str) -> str:
    return arn.rpartition("/")[2]


def test_who_am_i(
    endpoint: Endpoint, sts: Any, number: str, user: str, key: dict[str, Any]
) -> None:
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{number}:root"
    mine = client_with(endpoint, "sts", key).get_caller_identity()
    assert mine["Arn"] == f"arn:aws:iam::{number}:user/{user}" and mine["Account"] == number
    assert mine["UserId"].startswith("AIDA")


def test_a_user_assumes_a_role(
    endpoint: Endpoint, iam: Any, number: str, user: str, key: dict[str, Any]
) -> None:
    role = make_role(iam, {"AWS": f"arn:aws:iam::{number}:user/{user}"})
    sts = client_with(endpoint, "sts", key)
    answer = sts.assume_role(RoleArn=role, RoleSessionName="job", DurationSeconds=900)
    assert answer["AssumedRoleUser"]["Arn"].endswith(f":assumed-role/{name_of(role)}/job")
    left_s = answer["Credentials"]["Expiration"].timestamp() - time.time()
    assert 880 < left_s <= 900
    session = answer["Credentials"]
    assert (
        client_with(endpoint, "sts", session).get_caller_identity()["Arn"]
        == (answer["AssumedRoleUser"]["Arn"])
    )
    s3 = client_with(endpoint, "s3", session)
    bucket = fresh("of-session")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert http_get(endpoint, url).endswith(b"\r\n\r\n1")
    refused("AccessDenied", client_with(endpoint, "iam", session).list_users)


def http_get(endpoint: Endpoint, url: str) -> bytes:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as peer:
        target = url.partition(f":{endpoint.port}")[2]
        head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\nConnection: close\r\n"
        peer.sendall(head.encode() + b"\r\n")
        return b"".join(iter(lambda: peer.recv(65536), b""))


def test_who_is_not_trusted_is_refused_whatever_its_policies_say(
    endpoint: Endpoint, iam: Any, number: str, user: str, key: dict[str, Any]
) -> None:
    role = make_role(iam, {"AWS": f"arn:aws:iam::{number}:user/somebody-else"})
    iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=document("*"))
    sts = client_with(endpoint, "sts", key)
    refused("AccessDenied", sts.assume_role, RoleArn=role, RoleSessionName="job")
    refused("AccessDenied", sts.assume_role, RoleArn=f"{role}x", RoleSessionName="job")


def test_a_role_that_trusts_the_account_leaves_it_to_its_users_policies(
    endpoint: Endpoint, iam: Any, number: str, user: str, key: dict[str, Any]
) -> None:
    role = make_role(iam, {"AWS": f"arn:aws:iam::{number}:root"})
    sts = client_with(endpoint, "sts", key)
    refused("AccessDenied", sts.assume_role, RoleArn=role, RoleSessionName="job")
    allow = document("sts:AssumeRole", role)
    iam.put_user_policy(UserName=user, PolicyName="assume", PolicyDocument=allow)
    sts.assume_role(RoleArn=role, RoleSessionName="job")
    deny = document("sts:AssumeRole", role, "Deny")
    iam.put_user_policy(UserName=user, PolicyName="not", PolicyDocument=deny)
    refused("AccessDenied", sts.assume_role, RoleArn=role, RoleSessionName="job")


def test_another_account_needs_both_sides(endpoint: Endpoint, iam: Any, number: str) -> None:
    alice = account_number(ALICE.account.id)
    role = make_role(iam, {"AWS": alice})
    theirs = client_of(endpoint, "iam", ALICE.access_key, ALICE.secret_key)
    name = fresh("user")
    theirs.create_user(UserName=name)
    sts = client_with(endpoint, "sts", theirs.create_access_key(UserName=name)["AccessKey"])
    refused("AccessDenied", sts.assume_role, RoleArn=role, RoleSessionName="job")
    theirs.put_user_policy(
        UserName=name, PolicyName="assume", PolicyDocument=document("sts:AssumeRole", role)
    )
    session = sts.assume_role(RoleArn=role, RoleSessionName="job")["Credentials"]
    assert client_with(endpoint, "sts", session).get_caller_identity()["Account"] == number


def test_conditions_of_the_trust_policy(
    endpoint: Endpoint, iam: Any, number: str, user: str, key: dict[str, Any]
) -> None:
    role = make_role(
        iam,
        {"AWS": f"arn:aws:iam::{number}:user/{user}"},
        Condition={
            "StringEquals": {"sts:ExternalId": "secret", "sts:RoleSessionName": "${aws:username}"}
        },
    )
    sts = client_with(endpoint, "sts", key)
    ask = {"RoleArn": role, "RoleSessionName": user}
    refused("AccessDenied", sts.assume_role, **ask)
    refused("AccessDenied", sts.assume_role, **ask, ExternalId="other")
    sts.assume_role(**ask, ExternalId="secret")
    refused(
        "AccessDenied",
        sts.assume_role,
        RoleArn=role,
        RoleSessionName="other",
        ExternalId="secret",
    )


def test_session_tags_need_their_own_permission_and_are_known(
    endpoint: Endpoint, iam: Any, number: str
) -> None:
    root = {"AWS": f"arn:aws:iam::{number}:root"}
    tags = [{"Key": "team", "Value": "red"}]
    sts = client_of(endpoint, "sts")
    role = make_role(iam, root)
    ask = {"RoleArn": role, "RoleSessionName": "job", "Tags": tags}
    refused("AccessDenied", sts.assume_role, **ask)
    trust = document(["sts:AssumeRole", "sts:TagSession"], None, Principal=root)
    iam.update_assume_role_policy(RoleName=name_of(role), PolicyDocument=trust)
    session = sts.assume_role(**ask)["Credentials"]
    iam.detach_role_policy(RoleName=name_of(role), PolicyArn=f"{CANNED}/readwrite")
    iam.put_role_policy(
        RoleName=name_of(role),
        PolicyName="p",
        PolicyDocument=document(
            "s3:ListAllMyBuckets", Condition={"StringEquals": {"aws:PrincipalTag/team": "red"}}
        ),
    )
    client_with(endpoint, "s3", session).list_buckets()
    tags[0]["Value"] = "blue"
    session = sts.assume_role(**ask)["Credentials"]
    refused("AccessDenied", client_with(endpoint, "s3", session).list_buckets)


def test_a_session_policy_narrows_and_never_widens(
    endpoint: Endpoint, iam: Any, number: str
) -> None:
    role = make_role(iam, {"AWS": f"arn:aws:iam::{number}:root"})
    sts = client_of(endpoint, "sts")
    bucket = fresh("narrowed")
    client_of(endpoint, "s3").create_bucket(Bucket=bucket)
    policy = document(
        ["s3:PutObject", "iam:*"], [f"arn:aws:s3:::{bucket}/in/*", "arn:aws:iam::*:*"]
    )
    session = sts.assume_role(RoleArn=role, RoleSessionName="job", Policy=policy)["Credentials"]
    s3 = client_with(endpoint, "s3", session)
    s3.put_object(Bucket=bucket, Key="in/x", Body=b"1")
    refused("AccessDenied", s3.put_object, Bucket=bucket, Key="out/x", Body=b"1")
    refused("AccessDenied", s3.get_object, Bucket=bucket, Key="in/x")
    refused("AccessDenied", client_with(endpoint, "iam", session).get_user, UserName="x")
    session = sts.assume_role(
        RoleArn=role, RoleSessionName="job", PolicyArns=[{"arn": f"{CANNED}/readonly"}]
    )["Credentials"]
    s3 = client_with(endpoint, "s3", session)
    assert s3.get_object(Bucket=bucket, Key="in/x")["Body"].read() == b"1"
    refused("AccessDenied", s3.put_object, Bucket=bucket, Key="in/x", Body=b"1")
    refused(
        "MalformedPolicyDocument",
        sts.assume_role,
        RoleArn=role,
        RoleSessionName="job",
        Policy="{}",
    )


def test_durations_have_bounds(endpoint: Endpoint, iam: Any, number: str) -> None:
    role = make_role(iam, {"AWS": "*"})
    sts = client_of(endpoint, "sts")
    ask = {"RoleArn": role, "RoleSessionName": "job"}
    refused("ValidationError", sts.assume_role, **ask, DurationSeconds=3601)
    session = sts.assume_role(**ask)["Credentials"]
    iam.update_role(RoleName=name_of(role), MaxSessionDuration=7200)
    sts.assume_role(**ask, DurationSeconds=7200)
    iam.put_role_policy(
        RoleName=name_of(role), PolicyName="chain", PolicyDocument=document("sts:AssumeRole", "*")
    )
    chained = client_with(endpoint, "sts", session)
    refused("ValidationError", chained.assume_role, **ask, DurationSeconds=3601)
    chained.assume_role(**ask)


def test_a_session_without_its_token_or_with_anothers_is_nothing(
    endpoint: Endpoint, iam: Any
) -> None:
    role = make_role(iam, {"AWS": "*"})
    sts = client_of(endpoint, "sts")
    one, two = (
        sts.assume_role(RoleArn=role, RoleSessionName=name)["Credentials"] for name in ("a1", "b2")
    )
    bare = client_of(endpoint, "s3", one["AccessKeyId"], one["SecretAccessKey"])
    refused("InvalidAccessKeyId", bare.list_buckets)
    mixed = client_with(endpoint, "s3", {**one, "SessionToken": two["SessionToken"]})
    refused("InvalidAccessKeyId", mixed.list_buckets)
    changed = client_with(
        endpoint, "s3", {**one, "SessionToken": one["SessionToken"][:-4] + "AAAA"}
    )
    refused("InvalidAccessKeyId", changed.list_buckets)


def test_a_lasting_key_with_a_token_is_nothing(endpoint: Endpoint, key: dict[str, Any]) -> None:
    odd = client_of(
        endpoint, "s3", key["AccessKeyId"], key["SecretAccessKey"], "a-token-from-nowhere"
    )
    refused("InvalidAccessKeyId", odd.list_buckets)


# -- what ends, ends at once, on connections that are open --------------------------------


def test_a_key_that_is_disabled_or_deleted_ends_on_an_open_connection(
    endpoint: Endpoint, iam: Any, user: str, key: dict[str, Any]
) -> None:
    iam.attach_user_policy(UserName=user, PolicyArn=f"{CANNED}/readwrite")
    s3 = client_with(endpoint, "s3", key)
    s3.list_buckets()
    named = {"UserName": user, "AccessKeyId": key["AccessKeyId"]}
    iam.update_access_key(**named, Status="Inactive")
    refused("InvalidAccessKeyId", s3.list_buckets)
    iam.update_access_key(**named, Status="Active")
    s3.list_buckets()
    iam.delete_access_key(**named)
    refused("InvalidAccessKeyId", s3.list_buckets)


def test_a_session_ends_with_its_role_on_an_open_connection(endpoint: Endpoint, iam: Any) -> None:
    role = make_role(iam, {"AWS": "*"})
    session = client_of(endpoint, "sts").assume_role(RoleArn=role, RoleSessionName="job")
    s3 = client_with(endpoint, "s3", session["Credentials"])
    s3.list_buckets()
    iam.detach_role_policy(RoleName=name_of(role), PolicyArn=f"{CANNED}/readwrite")
    refused("AccessDenied", s3.list_buckets)
    iam.delete_role(RoleName=name_of(role))
    refused("InvalidAccessKeyId", s3.list_buckets)


def test_a_session_token_ends_with_the_key_that_asked_for_it(
    endpoint: Endpoint, iam: Any, user: str, key: dict[str, Any]
) -> None:
    iam.attach_user_policy(UserName=user, PolicyArn=f"{CANNED}/readwrite")
    sts = client_with(endpoint, "sts", key)
    session = sts.get_session_token(DurationSeconds=900)["Credentials"]
    s3 = client_with(endpoint, "s3", session)
    s3.list_buckets()
    refused("AccessDenied", client_with(endpoint, "sts", session).get_session_token)
    iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    refused("InvalidAccessKeyId", s3.list_buckets)


def test_an_expired_session_is_told_so_on_an_open_connection(
    endpoint: Endpoint, iam: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = make_role(iam, {"AWS": "*"})
    session = client_of(endpoint, "sts").assume_role(
        RoleArn=role, RoleSessionName="job", DurationSeconds=900
    )["Credentials"]
    s3, sts = client_with(endpoint, "s3", session), client_with(endpoint, "sts", session)
    s3.list_buckets()
    # Only where sessions are looked up is it later: signatures would be too old, too.
    later = SimpleNamespace(time=lambda: time.time() + 901)
    monkeypatch.setattr("s3api.credentials.time", later)
    refused("ExpiredToken", s3.list_buckets)
    refused("ExpiredToken", sts.get_caller_identity)


def test_a_session_of_the_root(endpoint: Endpoint, number: str) -> None:
    session = client_of(endpoint, "sts").get_session_token()["Credentials"]
    assert client_with(endpoint, "sts", session).get_caller_identity()["Arn"] == (
        f"arn:aws:iam::{number}:root"
    )
    client_with(endpoint, "s3", session).list_buckets()


def test_a_narrowed_key_of_the_root_gets_no_wider_by_a_session(
    endpoint: Endpoint, iam: Any
) -> None:
    """It takes no permission to ask for a session, so the session has the key's bounds."""
    identity = endpoint.namespace.identity

    async def make() -> Any:
        return await identity.keys.create(ROOT.id, "", policy=document("s3:ListAllMyBuckets"))

    made = trio.from_thread.run(make, trio_token=endpoint.token)
    sts = client_of(endpoint, "sts", made.key.id, made.secret)
    s3 = client_with(endpoint, "s3", sts.get_session_token()["Credentials"])
    s3.list_buckets()
    refused("AccessDenied", s3.create_bucket, Bucket=fresh("never"))
    iam.delete_access_key(AccessKeyId=made.key.id)
    refused("InvalidAccessKeyId", s3.list_buckets)


def test_who_is_no_user_makes_no_keys_of_the_root(endpoint: Endpoint, iam: Any) -> None:
    role = make_role(iam, {"AWS": "*"})
    iam.put_role_policy(RoleName=name_of(role), PolicyName="keys", PolicyDocument=document("iam:*"))
    session = client_of(endpoint, "sts").assume_role(RoleArn=role, RoleSessionName="job")
    theirs = client_with(endpoint, "iam", session["Credentials"])
    for call in (theirs.create_access_key, theirs.list_access_keys, theirs.get_user):
        refused("ValidationError", call)


def test_an_empty_user_name_is_not_the_root(
    endpoint: Endpoint, iam: Any, user: str, key: dict[str, Any]
) -> None:
    iam.put_user_policy(UserName=user, PolicyName="keys", PolicyDocument=document("iam:*"))
    theirs = client_with(endpoint, "iam", key)
    theirs.meta.events.register(
        "before-call.iam.CreateAccessKey", lambda params, **_: params["body"].update(UserName="")
    )
    refused("ValidationError", theirs.create_access_key, UserName="someone")


def test_a_session_token_makes_nothing_that_outlives_it(endpoint: Endpoint) -> None:
    session = client_of(endpoint, "sts").get_session_token()["Credentials"]
    refused("AccessDenied", client_with(endpoint, "iam", session).create_access_key)


def test_a_rename_needs_permission_for_the_new_name(
    endpoint: Endpoint, iam: Any, number: str, user: str, key: dict[str, Any]
) -> None:
    own = document("iam:UpdateUser", f"arn:aws:iam::{number}:user/{user}*")
    iam.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=own)
    theirs = client_with(endpoint, "iam", key)
    refused("AccessDenied", theirs.update_user, UserName=user, NewUserName="admin")
    theirs.update_user(UserName=user, NewUserName=f"{user}-b")


# -- the protocol -----------------------------------------------------------------------


def post(endpoint: Endpoint, body: bytes, kind: str = "application/x-www-form-urlencoded") -> bytes:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as peer:
        peer.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            + f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return b"".join(iter(lambda: peer.recv(65536), b""))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Action=GetCallerIdentity&Version=2011-06-15", b"MissingAuthenticationToken"),
        (b"Action=ListUsers&Version=2010-05-08", b"InvalidAction"),
        (b"Action=AssumeRole&Version=2011-06-15", b"MissingAuthenticationToken"),
        (b"Action=Nonsense", b"InvalidAction"),
        (b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15", b"ValidationError"),
        (b"Action=A&Action=B", b"ValidationError"),
        (b"", b"InvalidAction"),
        (b"Action=" + b"x" * (300 * 1024), b"EntityTooLarge"),
    ],
)
def test_what_nobody_signed_is_refused(endpoint: Endpoint, body: bytes, code: bytes) -> None:
    answer = post(endpoint, body)
    assert b"<Code>" + code + b"</Code>" in answer and b"HTTP/1.1 4" in answer, answer
    assert b"cache-control: no-store" in answer.lower()
