"""Every operation by every kind of authentication: refused without its grant, done with it.

The table is `permissions.CALLS`, total over the router's. A grant is a statement of an identity
policy, of a real user of alice's account; what nobody signs needs one of the bucket's policy.
"""

from __future__ import annotations

import itertools

import pytest

from s3api.credentials import Credential
from s3api.router import _ON_VERSIONS, OPERATIONS
from store.access.actions import ACTIONS, On
from store.identity.records import User
from tests.s3api.conftest import ALICE
from tests.s3api.permissions import CALLS, TRIED, World, policy_of

KINDS = ("header", "presigned", "streaming", "streaming unsigned", "anonymous")
# Each test of a table stands for so many cases: they may become more, never fewer.
CASES_MIN = 5 * 77
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


class Granting:
    """Lets carol, or everybody, do just what is named."""

    def __init__(self, world, carol, kind):
        self.world = world
        self.name, key = carol
        self.who = None if kind == "anonymous" else key

    def allow(self, grants):
        if self.who is None:
            text = policy_of(self.world.bucket, grants, principal="*") if grants else None
            self.world.set_policy(text)
            return
        holders = self.world.endpoint.namespace.identity.holders
        account = ALICE.account.id
        # A policy has to allow something.
        text = policy_of(self.world.bucket, grants or [("s3:GetBucketWebsite", "nowhere")])
        self.world.do(holders.put_inline, account, User, self.name, "its", text)


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
def test_an_operation_needs_just_its_grants(endpoint, carol, name, kind):
    call = CALLS[name]
    world = World(endpoint)
    granting = Granting(world, carol, kind)
    before = None
    for missing in (*call.grants, None):
        granting.allow([grant for grant in call.grants if missing and grant != missing])
        before = world.state()
        answer = world.send(call, granting.who, kind)
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
    answer = world.send(call, granting.who, kind)
    assert answer.status in TRIED, answer
    assert b"AccessDenied" not in answer.body
