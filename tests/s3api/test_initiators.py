"""Who began a multipart upload may list its parts and abort it, and so may the user's account."""

from __future__ import annotations

import itertools

import pytest

from s3api.credentials import Credential
from store.identity.names import entity_arn
from store.identity.records import Kind, User
from tests.s3api.conftest import ALICE, BOB
from tests.s3api.iamclients import client_of, document, refused
from tests.s3api.permissions import World

_names = itertools.count(1)
PUT = document("s3:PutObject", "*")
DENIED = document("s3:AbortMultipartUpload", "*", effect="Deny")


@pytest.fixture
def world(endpoint):
    return World(endpoint)


def s3_of(world, key):
    return client_of(world.endpoint, "s3", key.access_key, key.secret_key)


def user_of(world, its, credential=ALICE, **more):
    """The key of a new user of an account, whose own policy is `its`."""
    name, identity = f"beginner-{next(_names)}", world.endpoint.namespace.identity
    account = credential.account.id
    world.do(identity.holders.create_user, account, name, tags={})
    world.do(identity.holders.put_inline, account, User, name, "own", its)
    made = world.do(identity.keys.create, account, name, **more)
    return name, Credential(access_key=made.key.id, secret_key=made.secret)


def begun(world, client):
    """An upload that the client began, as its arguments."""
    there = {"Bucket": world.bucket, "Key": "begun"}
    return {**there, "UploadId": client.create_multipart_upload(**there)["UploadId"]}


def test_who_began_an_upload_lists_and_aborts_it_and_no_other(world):
    _, first = user_of(world, PUT)
    _, second = user_of(world, PUT)
    client, other = s3_of(world, first), s3_of(world, second)
    upload = begun(world, client)
    client.upload_part(PartNumber=1, Body=b"x", **upload)
    for call in (other.list_parts, other.abort_multipart_upload):
        refused("AccessDenied", call, **upload)
    assert len(client.list_parts(**upload)["Parts"]) == 1
    its = begun(world, other)
    refused("AccessDenied", client.abort_multipart_upload, **its)
    client.abort_multipart_upload(**upload)
    refused("AccessDenied", client.list_parts, **upload)
    assert s3_of(world, ALICE).list_parts(**its)["UploadId"] == its["UploadId"]


def test_a_user_is_shown_as_the_initiator(world):
    name, key = user_of(world, PUT)
    upload = begun(world, s3_of(world, key))
    shown = s3_of(world, ALICE).list_parts(**upload)["Initiator"]
    assert shown == {"ID": entity_arn(ALICE.account.id, Kind.USER, name), "DisplayName": name}


def test_the_account_of_the_initiator_may_too_in_anothers_bucket(world):
    _, key = user_of(world, PUT, BOB)
    policy = document("s3:PutObject", f"arn:aws:s3:::{world.bucket}/*", Principal={"AWS": BOBS})
    s3_of(world, ALICE).put_bucket_policy(Bucket=world.bucket, Policy=policy)
    for client in (s3_of(world, key), s3_of(world, BOB)):
        upload = begun(world, client)
        s3_of(world, BOB).list_parts(**upload)
        s3_of(world, BOB).abort_multipart_upload(**upload)
    its = begun(world, s3_of(world, ALICE))
    refused("AccessDenied", s3_of(world, BOB).abort_multipart_upload, **its)


BOBS = f"arn:aws:iam::{BOB.account.number}:root"


@pytest.mark.parametrize("where", ["user", "key", "bucket"])
def test_what_is_denied_stays_denied_to_who_began_it(world, where):
    if where == "key":
        _, key = user_of(world, document(), policy=PUT)
    else:
        name, key = user_of(world, PUT)
    client = s3_of(world, key)
    upload = begun(world, client)
    if where == "user":
        account, holders = ALICE.account.id, world.endpoint.namespace.identity.holders
        world.do(holders.put_inline, account, User, name, "denied", DENIED)
    elif where == "bucket":
        resource = f"arn:aws:s3:::{world.bucket}/*"
        denied = document("s3:AbortMultipartUpload", resource, effect="Deny", Principal="*")
        s3_of(world, ALICE).put_bucket_policy(Bucket=world.bucket, Policy=denied)
    refused("AccessDenied", client.abort_multipart_upload, **upload)
