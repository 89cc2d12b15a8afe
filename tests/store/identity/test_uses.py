"""When a key was used last: noted at once, kept over restarts, and never written by a request."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import Unavailable
from store.identity import uses
from store.identity.records import Key
from store.identity.service import Identity
from tests.store.conftest import Opened, open_namespace, until

A = "a" * 64


@pytest.fixture
def identity(opened: Opened) -> Identity:
    return opened.namespace.identity


async def used(identity: Identity) -> Key:
    await identity.holders.create_user(A, "ann", tags={})
    key = (await identity.keys.create(A, "ann")).key
    identity.keys.uses.note(key.id, "s3", "here")
    return key


async def test_a_use_is_known_at_once_and_kept_over_a_restart(tmp_path: Path) -> None:
    async with open_namespace(tmp_path / "meta") as opened:
        key = await used(opened.namespace.identity)
        identity = opened.namespace.identity
        noted = identity.keys.uses.last(key)
        assert noted is not None and (noted.service, noted.region) == ("s3", "here")
        at_s = int(noted.at_s)
    async with open_namespace(tmp_path / "meta") as opened:
        identity = opened.namespace.identity
        kept = identity.keys.uses.last(identity.keys.get(A, key.id))
        assert kept is not None and (kept.at_s, kept.service) == (at_s, "s3")


async def test_uses_are_written_now_and_then_and_nobody_is_compiled_anew_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "KEPT_EVERY_S", 0.05)
    async with open_namespace(tmp_path / "meta") as opened:
        identity = opened.namespace.identity
        await identity.holders.create_user(A, "ann", tags={})
        key = (await identity.keys.create(A, "ann")).key
        caller, changes = identity.find(key.id), identity.changes
        assert caller is not None
        for _ in range(1000):
            identity.keys.uses.note(key.id, "s3", "here")
        assert identity.keys.get(A, key.id).used_s == 0
        await until(lambda: identity.keys.get(A, key.id).used_s > 0)
        assert identity.changes == changes
        assert identity.find(key.id) is caller


async def test_a_key_changed_or_deleted_meanwhile_stays_so(identity: Identity) -> None:
    first, second = await used(identity), (await identity.keys.create(A, "ann")).key
    identity.keys.uses.note(second.id, "s3", "here")
    await identity.keys.enable(A, first.id, enabled=False)
    await identity.keys.delete(A, second.id)
    assert not identity.keys.uses.write()
    assert [(key.id, key.enabled) for key in identity.keys.all(A)] == [(first.id, False)]
    assert identity.find(first.id) is None


async def test_many_are_written_a_few_at_a_time(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "_PER_TRANSACTION", 2)
    keys = [(await identity.keys.create(A, "")).key for _ in range(3)]
    for key in keys:
        identity.keys.uses.note(key.id, "s3", "here")
    assert identity.keys.uses.write()
    assert sum(bool(identity.keys.get(A, key.id).used_s) for key in keys) == 2
    assert not identity.keys.uses.write()
    assert all(identity.keys.get(A, key.id).used_s for key in keys)


async def test_what_can_not_be_written_refuses_nobody(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await used(identity)

    def full(*_: object) -> None:
        raise Unavailable()

    monkeypatch.setattr(identity.keys.uses._book, "amend", full)
    assert not identity.keys.uses.write()
    assert identity.find(key.id) is not None
