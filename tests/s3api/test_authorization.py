"""Every operation by every kind of authentication: refused without its grant, done with it.

The table is `permissions.CALLS`, total over the router's. A grant is a statement of an identity
policy, of a real user of alice's account; what nobody signs needs one of the bucket's policy, and a
service account one of its own key's. Forms have signatures of their own: `test_forms.py`, and the
advisories about them.
"""

from __future__ import annotations

import itertools
import time

import pytest

from s3api.credentials import Credential
from s3api.router import _ON_VERSIONS, OPERATIONS
from store.access.actions import ACTIONS, On
from store.identity.records import User
from store.identity.sessions import Session, Source
from tests.s3api.conftest import ALICE
from tests.s3api.iamclients import document
from tests.s3api.permissions import CALLS, TRIED, World, policy_of

# How a request is signed, and by what: a key of the user's, but for the last three.
SIGNED = ("header", "presigned", "streaming", "streaming unsigned", "version 2")
KINDS = (*SIGNED, "session", "service account", "anonymous")
# Each test of a table stands for so many cases: they may become more, never fewer.
CASES_MIN = 8 * 84
_users = itertools.count(1)


@pytest.fixture(scope="module")
def carol(endpoint):
    """A user of alice's account who may do nothing yet, and her key."""
    world = World(endpoint)
    name = f"carol-{next(_users)}"
    holders, keys = endpoint.namespace.identity.holders, endpoint.namespace.identity.keys
    world.do(holders.create_user, ALICE.account.id, name, tags={})
    made = world.do(keys.create, ALICE.account.id, name)
    return name, Credential(access_key=made.key.id, secret_key=made.secret)


@pytest.fixture(scope="module")
def service(endpoint):
    """A key of a user who may do everything, narrowed by a policy of its own."""
    world = World(endpoint)
    name = f"servant-{next(_users)}"
    holders, keys = endpoint.namespace.identity.holders, endpoint.namespace.identity.keys
    world.do(holders.create_user, ALICE.account.id, name, tags={})
    world.do(holders.put_inline, ALICE.account.id, User, name, "its", document())
    made = world.do(keys.create, ALICE.account.id, name, policy=document("sts:AssumeRole"))
    return Credential(access_key=made.key.id, secret_key=made.secret)


class Granting:
    """Lets carol, her service account or everybody do just what is named."""

    def __init__(self, world, carol, service, kind):
        self.world, self.kind = world, kind
        self.name, key = carol
        self.who = {"anonymous": None, "service account": service}.get(kind, key)
        if kind == "session":
            self.who = self._session(key)

    def _session(self, key):
        identity = self.world.endpoint.namespace.identity
        user = identity.holders.get(ALICE.account.id, User, self.name)
        now_s, secret = int(time.time()), identity.new_secret()
        session = Session(
            account=ALICE.account.id,
            source=Source.USER,
            owner=user.name,
            owner_id=user.id,
            via=key.access_key,
            secret=secret,
            issued_s=now_s,
            expires_s=now_s + 900,
        )
        access_key, token = identity.start_session(session)
        return Credential(access_key=access_key, secret_key=secret, session_token=token)

    def allow(self, grants):
        if self.who is None:
            text = policy_of(self.world.bucket, grants, principal="*") if grants else None
            self.world.set_policy(text)
            return
        identity, account = self.world.endpoint.namespace.identity, ALICE.account.id
        # A policy has to allow something.
        text = policy_of(self.world.bucket, grants or [("s3:GetBucketWebsite", "nowhere")])
        if self.kind == "service account":
            self.world.do(identity.keys.set_policy, account, self.who.access_key, text)
        else:
            self.world.do(identity.holders.put_inline, account, User, self.name, "its", text)


def test_the_table_has_every_operation_by_every_kind():
    names = {operation.name for operation in OPERATIONS.values()}
    on_versions = {f"{name} of a version" for name in _ON_VERSIONS}
    assert names | on_versions == CALLS.keys()
    assert len(CALLS) * len(KINDS) >= CASES_MIN


def test_every_action_that_is_asked_for_is_known():
    for operation in (*OPERATIONS.values(), *_ON_VERSIONS.values()):
        assert operation.action in ACTIONS, operation.name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_an_operation_needs_just_its_grants(endpoint, carol, service, name, kind):
    call = CALLS[name]
    world = World(endpoint)
    granting = Granting(world, carol, service, kind)
    signed = kind if kind in SIGNED else "header"
    before = None
    for missing in (*call.grants, None):
        granting.allow([grant for grant in call.grants if missing and grant != missing])
        before = world.state()
        answer = world.send(call, granting.who, signed)
        if name.startswith("DeleteObjects"):
            assert b"<Code>AccessDenied</Code>" in answer.body
            assert b"<Deleted>" not in answer.body
        else:
            assert answer.status == 403, (missing, answer)
        assert world.state() == before, missing
    by_bucket = not any(ACTIONS[action].on is On.ACCOUNT for action, _ in call.grants)
    if kind == "anonymous" and (not by_bucket or name == "CreateBucket"):
        return
    granting.allow(call.grants)
    answer = world.send(call, granting.who, signed)
    assert answer.status in TRIED, answer
    assert b"AccessDenied" not in answer.body
