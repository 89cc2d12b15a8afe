"""Users, keys and sessions in the store: what holds at once, and what a restart keeps."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from metadb.sqlite import CopyPlace, MetadbConfig, open_engine
from store.access.decision import Outcome
from store.access.errors import MalformedPolicy
from store.access.evaluate import decide
from store.access.sealed import Keyring, new_master_key, parse_keyring
from store.identity.errors import EntityExists, InUse, NoSuchEntity, Unmodifiable
from store.identity.names import account_number, entity_arn
from store.identity.records import Group, Kind, Role, User
from store.identity.service import Identity
from store.identity.sessions import Session, Source
from tests.store.conftest import Opened

A, B = "a" * 64, "b" * 64
ROLE_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{account_number(A)}:root"},
            "Action": "sts:AssumeRole",
        },
    }
)


def policy(action: str = "s3:*", resource: str = "*", effect: str = "Allow") -> str:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def identity(opened: Opened) -> Identity:
    return opened.namespace.identity


def may(identity: Identity, access_key: str, action: str, resource: str) -> Outcome | None:
    """What a lasting key may do; None where there is no such key."""
    caller = identity.find(access_key)
    if caller is None:
        return None
    return decide(caller.access, None, action, resource, caller.context).outcome


async def test_a_key_has_what_user_and_groups_have_at_once(identity: Identity) -> None:
    await identity.holders.create_user(A, "Ann", tags={})
    key = (await identity.keys.create(A, "ann")).key.id
    one = "arn:aws:s3:::box/one"
    assert may(identity, key, "s3:GetObject", one) is Outcome.NOT_ALLOWED
    await identity.holders.put_inline(A, User, "Ann", "mine", policy("s3:GetObject", one))
    assert may(identity, key, "s3:GetObject", one) is Outcome.ALLOWED
    await identity.holders.create_group(A, "staff")
    arn = "arn:aws:iam::aws:policy/readwrite"
    await identity.holders.attach(A, Group, "staff", arn)
    await identity.holders.join(A, "Ann", "STAFF")
    assert may(identity, key, "s3:PutObject", one) is Outcome.ALLOWED
    await identity.holders.put_inline(A, Group, "staff", "no", policy("s3:Put*", "*", "Deny"))
    assert may(identity, key, "s3:PutObject", one) is Outcome.DENIED
    await identity.holders.leave(A, "Ann", "staff")
    assert may(identity, key, "s3:PutObject", one) is Outcome.NOT_ALLOWED


async def test_variables_know_the_user(identity: Identity) -> None:
    await identity.holders.create_user(A, "ann", tags={"team": "red"})
    key = (await identity.keys.create(A, "ann")).key.id
    own = policy("s3:GetObject", "arn:aws:s3:::box/${aws:PrincipalTag/team}/${aws:username}/*")
    await identity.holders.put_inline(A, User, "ann", "own", own)
    assert may(identity, key, "s3:GetObject", "arn:aws:s3:::box/red/ann/x") is Outcome.ALLOWED
    assert may(identity, key, "s3:GetObject", "arn:aws:s3:::box/red/bob/x") is Outcome.NOT_ALLOWED


async def test_boundary_and_policy_of_the_key_narrow(identity: Identity) -> None:
    await identity.holders.create_user(A, "ann", tags={})
    await identity.holders.attach(A, User, "ann", "arn:aws:iam::aws:policy/readwrite")
    key = (await identity.keys.create(A, "ann", policy=policy("s3:Get*"))).key.id
    one = "arn:aws:s3:::box/one"
    assert may(identity, key, "s3:GetObject", one) is Outcome.ALLOWED
    assert may(identity, key, "s3:PutObject", one) is Outcome.NOT_ALLOWED
    await identity.holders.set_boundary(A, User, "ann", "arn:aws:iam::aws:policy/writeonly")
    assert may(identity, key, "s3:GetObject", one) is Outcome.NOT_ALLOWED


async def test_a_key_that_is_disabled_deleted_or_expired_is_gone(identity: Identity) -> None:
    await identity.holders.create_user(A, "ann", tags={})
    made = await identity.keys.create(A, "ann", expires_s=int(time.time()) + 1000)
    key = made.key.id
    found = identity.find(key)
    assert found is not None and found.secret == made.secret
    assert identity.callers.find(key, time.time() + 2000) is None
    await identity.keys.enable(A, key, False)
    assert identity.find(key) is None
    await identity.keys.enable(A, key, True)
    rotated = await identity.keys.rotate(A, key)
    found = identity.find(key)
    assert found is not None and found.secret == rotated.secret != made.secret
    await identity.keys.delete(A, key)
    assert identity.find(key) is None


async def test_nothing_in_use_is_deleted(identity: Identity) -> None:
    holders = identity.holders
    await holders.create_user(A, "ann", tags={})
    made = await identity.policies.create(A, "some", policy(), tags={})
    arn = entity_arn(A, Kind.POLICY, made.name)
    await holders.attach(A, User, "ann", arn)
    with pytest.raises(InUse):
        await identity.policies.delete(A, arn)
    with pytest.raises(InUse):
        await holders.delete(A, User, "ann")
    await holders.detach(A, User, "ann", arn)
    key = await identity.keys.create(A, "ann")
    with pytest.raises(InUse):
        await holders.delete(A, User, "ann")
    await identity.keys.delete(A, key.key.id)
    await holders.create_group(A, "g")
    await holders.join(A, "ann", "g")
    with pytest.raises(InUse):
        await holders.delete(A, Group, "g")
    with pytest.raises(InUse):
        await holders.delete(A, User, "ann")
    await holders.leave(A, "ann", "g")
    await holders.delete(A, User, "ann")
    await identity.policies.delete(A, arn)
    with pytest.raises(NoSuchEntity):
        holders.get(A, User, "ann")


async def test_names_are_taken_whatever_their_case_and_accounts_are_apart(
    identity: Identity,
) -> None:
    await identity.holders.create_user(A, "Ann", tags={})
    with pytest.raises(EntityExists):
        await identity.holders.create_user(A, "ANN", tags={})
    await identity.holders.create_user(B, "ann", tags={})
    assert identity.holders.get(A, User, "ann").name == "Ann"
    made = await identity.policies.create(A, "some", policy(), tags={})
    with pytest.raises(NoSuchEntity):
        await identity.holders.attach(B, User, "ann", entity_arn(A, Kind.POLICY, made.name))


async def test_canned_policies_are_there_and_stay(identity: Identity) -> None:
    arn = "arn:aws:iam::aws:policy/consoleAdmin"
    assert identity.policies.get(A, arn).name == "consoleAdmin"
    with pytest.raises(Unmodifiable):
        await identity.policies.delete(A, arn)
    with pytest.raises(MalformedPolicy):
        await identity.policies.create(A, "bad", "{}", tags={})


async def test_a_version_counts_once_it_is_the_default(identity: Identity) -> None:
    await identity.holders.create_user(A, "ann", tags={})
    key = (await identity.keys.create(A, "ann")).key.id
    made = await identity.policies.create(A, "some", policy("s3:GetObject"), tags={})
    arn = entity_arn(A, Kind.POLICY, made.name)
    await identity.holders.attach(A, User, "ann", arn)
    one = "arn:aws:s3:::box/one"
    await identity.policies.add_version(A, arn, policy("s3:PutObject"), default=False)
    assert may(identity, key, "s3:PutObject", one) is Outcome.NOT_ALLOWED
    await identity.policies.set_default(A, arn, "v2")
    assert may(identity, key, "s3:PutObject", one) is Outcome.ALLOWED
    await identity.policies.delete_version(A, arn, "v1")
    assert [each.number for each in identity.policies.get(A, arn).versions] == [2]


async def test_a_renamed_user_keeps_keys_and_groups(identity: Identity) -> None:
    await identity.holders.create_user(A, "ann", tags={})
    await identity.holders.create_group(A, "g")
    await identity.holders.join(A, "ann", "g")
    key = (await identity.keys.create(A, "ann")).key.id
    await identity.holders.rename_user(A, "ann", "Anna", "/staff/")
    await identity.holders.rename_group(A, "g", "h", "/")
    found = identity.find(key)
    assert found is not None and found.user == "Anna"
    assert [each.name for each in identity.holders.members(A, "h")] == ["Anna"]
    assert identity.holders.get(A, User, "anna").groups == ("h",)


def session_of(source: Source, owner: str, owner_id: str, **more: object) -> Session:
    now_s = int(time.time())
    session = Session(
        account=A,
        source=source,
        owner=owner,
        owner_id=owner_id,
        name="job",
        secret="s3cret",
        issued_s=now_s,
        expires_s=now_s + 900,
    )
    return replace(session, **more)


async def test_a_session_ends_with_its_role_and_narrows(identity: Identity) -> None:
    role = await identity.holders.create_role(A, "worker", ROLE_TRUST, tags={})
    await identity.holders.attach(A, Role, "worker", "arn:aws:iam::aws:policy/readwrite")
    session = session_of(Source.ROLE, "worker", role.id, policies=(policy("s3:Get*"),))
    key, token = identity.start_session(session)
    assert identity.find(key) is None
    assert identity.find_session("ASIAOTHER", token) is None
    assert identity.find_session(key, token[:-8] + "AAAAAAAA") is None
    caller = identity.find_session(key, token)
    assert caller is not None and caller.secret == "s3cret"
    assert caller.context["aws:userid"] == f"{role.id}:job"
    one = "arn:aws:s3:::box/one"
    assert decide(caller.access, None, "s3:GetObject", one, {}).allowed
    assert not decide(caller.access, None, "s3:PutObject", one, {}).allowed
    await identity.holders.detach(A, Role, "worker", "arn:aws:iam::aws:policy/readwrite")
    caller = identity.find_session(key, token)
    assert caller is not None
    assert not decide(caller.access, None, "s3:GetObject", one, {}).allowed
    await identity.holders.delete(A, Role, "worker")
    assert identity.find_session(key, token) is None
    await identity.holders.create_role(A, "worker", ROLE_TRUST, tags={})
    assert identity.find_session(key, token) is None, "another role of that name is another role"


async def test_a_users_session_ends_with_the_key_that_asked_for_it(identity: Identity) -> None:
    user = await identity.holders.create_user(A, "ann", tags={})
    asked = (await identity.keys.create(A, "ann")).key.id
    key, token = identity.start_session(session_of(Source.USER, "ann", user.id, via=asked))
    assert identity.find_session(key, token) is not None
    await identity.keys.enable(A, asked, False)
    assert identity.find_session(key, token) is None


async def test_sessions_end_with_the_master_key_though_nothing_was_resealed(
    identity: Identity,
) -> None:
    role = await identity.holders.create_role(A, "worker", ROLE_TRUST, tags={})
    key, token = identity.start_session(session_of(Source.ROLE, "worker", role.id))
    assert identity.find_session(key, token) is not None
    fresh = parse_keyring(new_master_key())
    both = Keyring(keys=(*fresh.keys, *identity.callers.keyring.keys))
    assert await identity.rotate_master_key(both) == 0
    assert identity.find_session(key, token) is not None
    identity.use_keyring(fresh)
    assert identity.find_session(key, token) is None


async def test_a_users_session_ends_with_the_secret_that_asked_for_it(identity: Identity) -> None:
    user = await identity.holders.create_user(A, "ann", tags={})
    asked = (await identity.keys.create(A, "ann")).key.id
    session = session_of(Source.USER, "ann", user.id, via=asked)
    key, token = identity.start_session(replace(session, issued_s=session.issued_s - 5))
    assert identity.find_session(key, token) is not None
    await identity.keys.rotate(A, asked)
    assert identity.find_session(key, token) is None


async def test_a_restart_keeps_everything_and_no_secret_is_in_the_files(tmp_path: Path) -> None:
    keyring = parse_keyring(new_master_key())
    folder = tmp_path / "meta"

    async def life(create: bool, keyring: Keyring) -> tuple[str, str] | None:
        engine_config = MetadbConfig(copies=1)

        async def never(drive: str) -> None:
            raise AssertionError(drive)

        async with (
            open_engine(
                [CopyPlace(drive="d1", path=folder)],
                config=engine_config,
                on_eject=never,
                create=create,
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(lambda task_status: engine.run(task_status=task_status))
            identity = Identity(engine, keyring)
            identity.load()
            if create:
                await identity.holders.create_user(A, "ann", tags={})
                made = await identity.keys.create(A, "ann")
                result = made.key.id, made.secret
            else:
                [(_, key)] = list(identity._book.keys())
                found = identity.find(key.id)
                result = None if found is None else (key.id, found.secret)
                ring = Keyring(keys=(*parse_keyring(new_master_key()).keys, *keyring.keys))
                if found is not None:
                    assert await identity.rotate_master_key(ring) == 1
                    found = identity.find(key.id)
                    assert found is not None and (key.id, found.secret) == result
            nursery.cancel_scope.cancel()
        return result

    made = await life(True, keyring)
    assert made is not None
    for path in folder.rglob("*"):
        if path.is_file():
            assert made[1].encode() not in path.read_bytes(), path
    assert await life(False, keyring) == made
    assert await life(False, parse_keyring(new_master_key())) is None
