"""Somebody may reach one folder, by each means there is: that and nothing else, by any operation.

The folder is `home/NAME/` of a bucket; `home/other/` beside it has the same in it. Operations are
those of `permissions.CALLS`.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace

import pytest

from s3api.credentials import Credential
from store.access.actions import ACTIONS, On
from store.identity.names import entity_arn
from store.identity.records import Group, Kind, User
from store.identity.sessions import Session, Source
from tests.s3api.conftest import ALICE
from tests.s3api.iamclients import client_of
from tests.s3api.permissions import CALLS, TRIED, World
from tests.s3api.test_forms import post

ACCOUNT = ALICE.account.id
OTHER = "home/other/"
EVERYTHING = json.dumps(
    {"Statement": {"Effect": "Allow", "Action": ["s3:*", "sts:*"], "Resource": "*"}}
)
REMOVING = frozenset(
    {"DeleteObjects", "RenameObject", "CompleteMultipartUpload", "AbortMultipartUpload"}
)
TAKING = ("CopyObject", "UploadPartCopy", "RenameObject")
LISTING = {
    "ListObjects": "/{b}?prefix={p}",
    "ListObjectsV2": "/{b}?list-type=2&prefix={p}",
    "ListObjectVersions": "/{b}?versions&prefix={p}",
}
_names = itertools.count(1)


def document(bucket, name="${aws:username}", principal=None):
    whom = {} if principal is None else {"Principal": principal}
    folder = f"home/{name}/*"
    statements = [
        {"Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/{folder}"},
        {
            "Action": ["s3:ListBucket", "s3:ListBucketVersions"],
            "Resource": f"arn:aws:s3:::{bucket}",
            "Condition": {"StringLike": {"s3:prefix": folder}},
        },
    ]
    made = [{"Effect": "Allow", **whom, **one} for one in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": made})


class Somebody:
    """A user of alice's account, let into its folder by one means. key: what it signs with."""

    def __init__(self, endpoint, means):
        self.name = f"somebody-{next(_names)}"
        self.folder = f"home/{self.name}/"
        self.world = World(endpoint, self.folder, OTHER)
        self.identity = endpoint.namespace.identity
        self.do = self.world.do
        self.user = self.do(self.identity.holders.create_user, ACCOUNT, self.name, tags={})
        self.key = getattr(self, "_" + means.replace(" ", "_"))(self.world.bucket)

    def _new_key(self, **more):
        made = self.do(self.identity.keys.create, ACCOUNT, self.name, **more)
        return Credential(access_key=made.key.id, secret_key=made.secret)

    def _let(self, text):
        self.do(self.identity.holders.put_inline, ACCOUNT, User, self.name, "its", text)

    def _user_policy(self, bucket):
        self._let(document(bucket))
        return self._new_key()

    def _group_policy(self, bucket):
        holders, group = self.identity.holders, f"group-of-{self.name}"
        self.do(holders.create_group, ACCOUNT, group)
        self.do(holders.put_inline, ACCOUNT, Group, group, "its", document(bucket))
        self.do(holders.join, ACCOUNT, self.name, group)
        return self._new_key()

    def _bucket_policy(self, bucket):
        arn = entity_arn(ACCOUNT, Kind.USER, self.name)
        self.world.set_policy(document(bucket, principal={"AWS": arn}))
        return self._new_key()

    def _service_account(self, bucket):
        self._let(EVERYTHING)
        return self._new_key(policy=document(bucket))

    def _session_policy(self, bucket):
        self._let(EVERYTHING)
        via = self._new_key().access_key
        return self._session(
            source=Source.USER,
            owner=self.name,
            owner_id=self.user.id,
            name=self.name,
            via=via,
            policies=(document(bucket),),
        )

    def _provider_claim(self, bucket):
        text = document(bucket, "${jwt:preferred_username}")
        policy = f"policy-of-{self.name}"
        self.do(self.identity.policies.create, ACCOUNT, policy, text, tags={})
        provider = f"https://op-of-{self.name}.example"
        self.do(
            self.identity.providers.create,
            ACCOUNT,
            provider,
            clients=("c",),
            thumbprints=(),
            tags={},
        )
        return self._session(
            source=Source.CLAIM,
            owner=provider,
            owner_id="a-subject",
            name=self.name,
            attached=(entity_arn(ACCOUNT, Kind.POLICY, policy),),
            provider=provider,
            claims={"jwt:preferred_username": self.name},
        )

    def _session(self, **fields):
        now_s, secret = int(time.time()), self.identity.new_secret()
        session = Session(
            account=ACCOUNT, secret=secret, issued_s=now_s, expires_s=now_s + 900, **fields
        )
        access_key, token = self.identity.start_session(session)
        return Credential(access_key=access_key, secret_key=secret, session_token=token)

    def send(self, call, prefix):
        return self.world.send(call, self.key, prefix=prefix)


MEANS = (
    "user policy",
    "group policy",
    "bucket policy",
    "service account",
    "session policy",
    "provider claim",
)
IN_FOLDERS = tuple(
    sorted(
        (name for name, call in CALLS.items() if ACTIONS[call.grants[0][0]].on is On.OBJECT),
        key=lambda name: (name in REMOVING, CALLS[name].method == "DELETE"),
    )
)
ELSEWHERE = tuple(name for name in CALLS if name not in IN_FOLDERS)
PARTS = [IN_FOLDERS[: len(IN_FOLDERS) // 2], IN_FOLDERS[len(IN_FOLDERS) // 2 :]]


def is_denied(answer):
    return answer.status == 403 or b"<Code>AccessDenied</Code>" in answer.body


@pytest.fixture(scope="module", params=MEANS)
def somebody(request, endpoint):
    return Somebody(endpoint, request.param)


@pytest.mark.parametrize("name", TAKING)
def test_nothing_is_taken_from_another_folder_or_put_there(somebody, name):
    call, folder = CALLS[name], somebody.folder
    (header, source), *rest = call.headers.items()
    there = replace(call, headers={header: source.replace("{p}", OTHER), **dict(rest)})
    assert is_denied(somebody.send(there, folder))
    here = replace(call, headers={header: source.replace("{p}", folder), **dict(rest)})
    assert is_denied(somebody.send(here, OTHER))


@pytest.mark.parametrize("name", LISTING)
def test_ones_own_folder_is_listed_and_nothing_else(somebody, name):
    call = replace(CALLS[name], target=LISTING[name])
    listed = somebody.send(call, somebody.folder)
    assert listed.status == 200
    assert somebody.folder.encode() in listed.body
    for elsewhere in (OTHER, "home/", "", somebody.folder[:-1]):
        assert is_denied(somebody.send(call, elsewhere)), elsewhere


def test_a_signed_form_reaches_ones_own_folder_and_no_other(somebody):
    key, bucket = somebody.key, somebody.world.bucket
    endpoint = somebody.world.endpoint
    token = key.session_token or None
    client = client_of(endpoint, "s3", key.access_key, key.secret_key, token)
    for prefix, done in ((somebody.folder, True), (OTHER, False), ("home/", False), ("", False)):
        form = client.generate_presigned_post(bucket, f"{prefix}form")
        answer = post(endpoint, bucket, form["fields"])
        assert (answer.status == 204) is done, (prefix, answer)
        assert is_denied(answer) is not done
        moved = post(endpoint, bucket, {**form["fields"], "key": f"{OTHER}form"})
        assert is_denied(moved)


def test_a_batch_deletes_what_is_ones_own_and_refuses_the_rest(somebody):
    names = [f"{prefix}batch" for prefix in (somebody.folder, OTHER, somebody.folder[:-1], "")]
    listed = "".join(f"<Object><Key>{name}</Key></Object>" for name in names)
    call = replace(CALLS["DeleteObjects"], body=f"<Delete>{listed}</Delete>")
    answer = somebody.send(call, "")
    assert answer.body.count(b"<Code>AccessDenied</Code>") == len(names) - 1
    assert f"<Deleted><Key>{names[0]}</Key>".encode() in answer.body


@pytest.mark.parametrize("names", PARTS, ids=["first", "second"])
def test_all_is_done_in_ones_own_folder_and_nothing_in_anothers(somebody, names):
    before = somebody.world.do(_objects_below, somebody.world, OTHER)
    for name in names:
        refused = somebody.send(CALLS[name], OTHER)
        assert is_denied(refused), (name, refused)
        done = somebody.send(CALLS[name], somebody.folder)
        assert done.status in TRIED, (name, done)
        assert not is_denied(done), (name, done)
    assert somebody.world.do(_objects_below, somebody.world, OTHER) == before


async def _objects_below(world, prefix):
    page = await world.endpoint.namespace.listing.versions(world.bucket, prefix=prefix)
    return str(page.entries)


def test_nothing_is_done_to_the_bucket_or_account(somebody):
    before = somebody.world.state()[2:]
    for name in ELSEWHERE:
        refused = somebody.send(CALLS[name], "")
        assert is_denied(refused), (name, refused)
    assert somebody.world.state()[2:] == before


def test_the_table_has_all_operations_by_all_means():
    assert {*IN_FOLDERS, *ELSEWHERE} == CALLS.keys()
    assert len(IN_FOLDERS) >= 25
    assert len(MEANS) >= 6
