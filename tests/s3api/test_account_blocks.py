"""The public access block of a whole account, as S3 Control sets it."""

from __future__ import annotations

import json
import socket

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from s3api import accountblocks
from tests.s3api.conftest import ALICE, BOB, DOMAIN
from tests.s3api.permissions import CALLS, Call, World
from tests.s3api.test_objects import code_of

ALL = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


@pytest.fixture
def control(endpoint, monkeypatch):
    """Alice's client of S3 Control: botocore puts the account's number in front of the host."""
    real = socket.getaddrinfo

    def to_loopback(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if name.endswith(DOMAIN) else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", to_loopback)
    return boto3.client(
        "s3control",
        endpoint_url=f"http://{DOMAIN}:{endpoint.port}",
        aws_access_key_id=ALICE.access_key,
        aws_secret_access_key=ALICE.secret_key,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}),
    )


@pytest.fixture
def world(endpoint):
    made = World(endpoint)
    yield made
    made.do(endpoint.namespace.identity.set_access_block, ALICE.account.id, None)


def public(bucket, *actions):
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": list(actions),
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    return json.dumps({"Statement": statement})


def test_a_block_is_set_shown_and_taken_away(control, world):
    account = {"AccountId": ALICE.account.number}
    with pytest.raises(ClientError) as caught:
        control.get_public_access_block(**account)
    assert code_of(caught) == (404, "NoSuchPublicAccessBlockConfiguration")
    some = {**ALL, "BlockPublicAcls": False}
    control.put_public_access_block(**account, PublicAccessBlockConfiguration=some)
    found = control.get_public_access_block(**account)["PublicAccessBlockConfiguration"]
    assert found == some
    control.delete_public_access_block(**account)
    with pytest.raises(ClientError):
        control.get_public_access_block(**account)


def test_it_holds_in_all_buckets_of_the_account_at_once(endpoint, control, world):
    alice = endpoint.client(who=ALICE)
    world.set_policy(public(world.bucket, "s3:GetObject"))
    get = CALLS["GetObject"]
    assert [world.send(get, who).status for who in (ALICE, BOB, None)] == [200, 200, 200]
    account = {"AccountId": ALICE.account.number}
    control.put_public_access_block(**account, PublicAccessBlockConfiguration=ALL)
    assert [world.send(get, who).status for who in (ALICE, BOB, None)] == [200, 403, 403]
    with pytest.raises(ClientError) as caught:
        alice.put_bucket_policy(Bucket=world.bucket, Policy=public(world.bucket, "s3:GetObject"))
    assert code_of(caught) == (403, "AccessDenied")
    # The bucket's own settings stay as they are.
    with pytest.raises(ClientError) as caught:
        alice.get_public_access_block(Bucket=world.bucket)
    assert code_of(caught) == (404, "NoSuchPublicAccessBlockConfiguration")
    control.delete_public_access_block(**account)
    assert [world.send(get, who).status for who in (ALICE, BOB, None)] == [200, 200, 200]


def test_another_account_is_not_touched(endpoint, control, world, s3):
    bucket = f"{world.bucket}-of-root"
    s3.create_bucket(Bucket=bucket)
    s3.delete_public_access_block(Bucket=bucket)
    account = {"AccountId": ALICE.account.number}
    control.put_public_access_block(**account, PublicAccessBlockConfiguration=ALL)
    s3.put_bucket_policy(Bucket=bucket, Policy=public(bucket, "s3:GetObject"))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_ones_own_account_may_be_named(world, method):
    headers = {"x-amz-account-id": BOB.account.number}
    body = "<PublicAccessBlockConfiguration/>" if method == "PUT" else ""
    path = accountblocks.PATH.decode()
    call = Call(method=method, target=path, grants=(), headers=headers, body=body)
    assert world.send(call, ALICE).status == 403
    assert world.send(call, None).status == 403


def test_a_restart_keeps_it(endpoint, control, world):
    account = {"AccountId": ALICE.account.number}
    control.put_public_access_block(**account, PublicAccessBlockConfiguration=ALL)
    identity = endpoint.namespace.identity

    async def read_again():
        identity.load()
        return identity.access_block(ALICE.account.id)

    assert world.do(read_again).restrict_public_buckets
