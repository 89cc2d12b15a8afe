"""Condition keys: of IAM's actions, of uploads and parts, and of the connection."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
from typing import Any

import pytest

from s3api.credentials import Credential
from store.identity.records import User
from tests.s3api.conftest import ALICE, Endpoint
from tests.s3api.iamclients import client_of, fresh, refused
from tests.s3api.permissions import CALLS, World
from tests.s3api.raw import receive

_names = itertools.count(1)
CANNED = "arn:aws:iam::aws:policy"
TAGS = [{"Key": "team", "Value": "blue"}]


def allow(*actions: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": "*", **more}


class Deputy:
    """A user of alice's account with a policy, and a client of IAM that is its."""

    def __init__(self, endpoint: Endpoint, *statements: dict[str, Any]) -> None:
        self.world, name = World(endpoint), f"deputy-{next(_names)}"
        identity, account = endpoint.namespace.identity, ALICE.account.id
        text = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.world.do(identity.holders.create_user, account, name, tags={})
        self.world.do(identity.holders.put_inline, account, User, name, "own", text)
        made = self.world.do(identity.keys.create, account, name)
        self.key = Credential(access_key=made.key.id, secret_key=made.secret)
        self.iam = client_of(endpoint, "iam", made.key.id, made.secret)


@pytest.fixture
def alice(endpoint: Endpoint) -> Any:
    return client_of(endpoint, "iam", ALICE.access_key, ALICE.secret_key)


def test_who_may_make_users_within_a_boundary_makes_none_without(
    endpoint: Endpoint, alice: Any
) -> None:
    within = {"StringEquals": {"iam:PermissionsBoundary": f"{CANNED}/readonly"}}
    actions = ("iam:CreateUser", "iam:AttachUserPolicy", "iam:PutUserPolicy")
    deputy = Deputy(endpoint, allow(*actions, Condition=within)).iam
    name, free = fresh("inner"), fresh("free")
    refused("AccessDenied", deputy.create_user, UserName=name)
    wider = {"UserName": name, "PermissionsBoundary": f"{CANNED}/readwrite"}
    refused("AccessDenied", deputy.create_user, **wider)
    deputy.create_user(UserName=name, PermissionsBoundary=f"{CANNED}/readonly")
    deputy.attach_user_policy(UserName=name, PolicyArn=f"{CANNED}/readwrite")
    for call in (deputy.delete_user_permissions_boundary, deputy.put_user_permissions_boundary):
        more = {} if "delete" in call.__name__ else {"PermissionsBoundary": f"{CANNED}/readwrite"}
        refused("AccessDenied", call, UserName=name, **more)
    alice.create_user(UserName=free)
    attach = {"UserName": free, "PolicyArn": f"{CANNED}/readwrite"}
    refused("AccessDenied", deputy.attach_user_policy, **attach)


def test_the_policy_that_is_attached_can_be_asked_for(endpoint: Endpoint, alice: Any) -> None:
    condition = {"ArnEquals": {"iam:PolicyARN": f"{CANNED}/readonly"}}
    actions = ("iam:AttachUserPolicy", "iam:DetachUserPolicy")
    deputy, name = Deputy(endpoint, allow(*actions, Condition=condition)).iam, fresh("user")
    alice.create_user(UserName=name)
    deputy.attach_user_policy(UserName=name, PolicyArn=f"{CANNED}/readonly")
    writing = {"UserName": name, "PolicyArn": f"{CANNED}/readwrite"}
    refused("AccessDenied", deputy.attach_user_policy, **writing)
    alice.attach_user_policy(**writing)
    refused("AccessDenied", deputy.detach_user_policy, **writing)


@pytest.mark.parametrize("key", ["aws:ResourceTag/team", "iam:ResourceTag/team"])
def test_tags_of_whom_it_is_done_to_can_be_asked_for(
    endpoint: Endpoint, alice: Any, key: str
) -> None:
    condition = {"StringEquals": {key: "blue"}}
    deputy = Deputy(endpoint, allow("iam:GetUser", "iam:CreateAccessKey", Condition=condition)).iam
    blue, other = fresh("blue"), fresh("other")
    alice.create_user(UserName=blue, Tags=TAGS)
    alice.create_user(UserName=other)
    deputy.get_user(UserName=blue)
    deputy.create_access_key(UserName=blue)
    refused("AccessDenied", deputy.get_user, UserName=other)
    refused("AccessDenied", deputy.create_access_key, UserName=other)


def test_tags_that_are_given_can_be_asked_for(endpoint: Endpoint) -> None:
    condition = {
        "StringEquals": {"aws:RequestTag/team": "blue"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["team"]},
    }
    actions = allow("iam:CreateUser", "iam:TagUser", Condition=condition)
    deputy, name = Deputy(endpoint, actions).iam, fresh("tagged")
    refused("AccessDenied", deputy.create_user, UserName=name)
    more = [*TAGS, {"Key": "boss", "Value": "yes"}]
    refused("AccessDenied", deputy.create_user, UserName=name, Tags=more)
    deputy.create_user(UserName=name, Tags=TAGS)
    refused("AccessDenied", deputy.tag_user, UserName=name, Tags=more[1:])


def test_parts_are_exempt_from_what_is_asked_of_new_objects(endpoint: Endpoint) -> None:
    """As AWS's user guide has it: conditional writes are enforced by a bucket's policy."""
    needed = {
        "Null": {"s3:if-none-match": "true"},
        "Bool": {"s3:ObjectCreationOperation": "true"},
    }
    deputy = Deputy(endpoint, allow("s3:*"))
    world = deputy.world
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Condition": needed}
    statement = {**denied, "Resource": f"arn:aws:s3:::{world.bucket}/*"}
    world.set_policy(json.dumps({"Statement": statement}))
    s3 = client_of(endpoint, "s3", deputy.key.access_key, deputy.key.secret_key)
    there = {"Bucket": world.bucket, "Key": "new"}
    refused("AccessDenied", s3.put_object, Body=b"x", **there)
    s3.put_object(Body=b"x", IfNoneMatch="*", **there)
    upload = {**there, "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    etag = s3.upload_part(PartNumber=1, Body=b"x", **upload)["ETag"]
    parts = {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]}}
    refused("AccessDenied", s3.complete_multipart_upload, **upload, **parts)
    s3.complete_multipart_upload(**upload, **parts, IfNoneMatch="*")


def test_the_version_of_tls_can_be_asked_for(endpoint: Endpoint) -> None:
    condition = {"NumericGreaterThanEquals": {"s3:TlsVersion": "1.3"}}
    deputy = Deputy(endpoint, allow("s3:GetObject", Condition=condition))
    assert deputy.world.send(CALLS["GetObject"], deputy.key).status == 403
    request = deputy.world.request(CALLS["GetObject"], deputy.key, "header", "")
    for newest, status in ((ssl.TLSVersion.TLSv1_2, 403), (ssl.TLSVersion.TLSv1_3, 200)):
        context = ssl.create_default_context(cafile=endpoint.authority_path)
        context.maximum_version = newest
        plain = socket.create_connection(("127.0.0.1", endpoint.tls_port), timeout=20)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as line:
            line.sendall(request)
            assert receive(line).status == status
