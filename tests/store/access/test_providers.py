"""Discovery, key sets, and keys that rotate while tokens come in."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing

from store.access.errors import TokenRefused
from store.access.providers import (
    ProviderKeys,
    Rotation,
    Unusable,
    discovery_url,
    parse_discovery,
    parse_keys,
)
from tests.store.access.tokens_made import (
    ISSUER,
    NOW_S,
    PROVIDER,
    claims,
    ec,
    ed,
    key_set,
    rsa,
    sign,
)

KEYS_URL = "https://op.example/keys"
ROTATION = Rotation(fresh_s=3600, stale_max_s=7200, pause_s=30)


class Op:
    """A provider: what it publishes, and how often it was asked."""

    def __init__(self, *keys: Any) -> None:
        self.keys: tuple[Any, ...] = keys
        self.issuer = ISSUER
        self.down = False
        self.asked: Counter[str] = Counter()
        self.now_s = NOW_S
        self.gate: trio.Event | None = None
        self.checked = ProviderKeys(PROVIDER, self.fetch, lambda: self.now_s, ROTATION)

    async def fetch(self, url: str) -> bytes:
        self.asked[url] += 1
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if self.down:
            raise ConnectionRefusedError("nobody there")
        if url == discovery_url(ISSUER):
            return json.dumps({"issuer": self.issuer, "jwks_uri": KEYS_URL}).encode()
        assert url == KEYS_URL
        return key_set(*self.keys)

    async def refusal(self, token: str) -> str:
        with pytest.raises(TokenRefused) as refused:
            await self.checked.verify(token)
        return refused.value.reason

    def token(self, key: Any) -> str:
        return sign(claims(exp=self.now_s + 600, iat=self.now_s), key)


async def test_keys_are_fetched_once_and_kept() -> None:
    op = Op(rsa())
    for _ in range(3):
        assert (await op.checked.verify(op.token(rsa()))).subject == "ann"
    assert op.asked == {discovery_url(ISSUER): 1, KEYS_URL: 1}


async def test_a_new_key_is_found_at_once_and_an_old_one_forgotten() -> None:
    op = Op(rsa("r1"))
    await op.checked.verify(op.token(rsa("r1")))
    op.now_s += 31
    op.keys = (rsa("r2"),)
    assert (await op.checked.verify(op.token(rsa("r2")))).subject == "ann"
    assert op.asked[KEYS_URL] == 2
    assert await op.refusal(op.token(rsa("r1"))) == "unknown-key"


async def test_unknown_keys_do_not_make_us_flood_the_provider() -> None:
    op = Op(rsa("r1"))
    await op.checked.verify(op.token(rsa("r1")))
    for _ in range(20):
        assert await op.refusal(op.token(rsa("r2"))) == "unknown-key"
    assert op.asked[KEYS_URL] == 1
    op.now_s += 31
    for _ in range(20):
        assert await op.refusal(op.token(rsa("r2"))) == "unknown-key"
    assert op.asked[KEYS_URL] == 2


async def test_keys_are_fetched_again_when_they_are_old() -> None:
    op = Op(rsa())
    await op.checked.verify(op.token(rsa()))
    op.now_s += 3601
    await op.checked.verify(op.token(rsa()))
    assert op.asked[KEYS_URL] == 2


async def test_a_provider_that_is_away_for_a_while_locks_nobody_out() -> None:
    op = Op(rsa())
    await op.checked.verify(op.token(rsa()))
    op.down = True
    op.now_s += 3601
    assert (await op.checked.verify(op.token(rsa()))).subject == "ann"
    assert op.checked.trouble == "nobody there"
    op.now_s += 3600
    assert await op.refusal(op.token(rsa())) == "unavailable"
    op.down = False
    op.now_s += 31
    assert (await op.checked.verify(op.token(rsa()))).subject == "ann"
    assert op.checked.trouble == ""


async def test_without_keys_nobody_is_believed() -> None:
    op = Op(rsa())
    op.down = True
    assert await op.refusal(op.token(rsa())) == "unavailable"
    assert await op.refusal(op.token(rsa())) == "unavailable"
    assert op.asked[discovery_url(ISSUER)] == 1


async def test_many_who_come_at_once_make_one_fetch() -> None:
    op = Op(rsa())
    op.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(op.checked.verify, op.token(rsa()))
        await trio.testing.wait_all_tasks_blocked()
        op.gate.set()
    assert op.asked[KEYS_URL] == 1


async def test_who_leaves_while_fetching_leaves_the_next_one_to_fetch() -> None:
    op = Op(rsa())
    op.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(op.checked.verify, op.token(rsa()))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    op.gate.set()
    assert (await op.checked.verify(op.token(rsa()))).subject == "ann"


async def test_a_document_of_another_issuer_is_not_used() -> None:
    op = Op(rsa())
    op.issuer = "https://evil.example"
    assert await op.refusal(op.token(rsa())) == "unavailable"
    assert "another issuer" in op.checked.trouble and op.asked[KEYS_URL] == 0


async def test_a_hopeless_token_asks_nobody() -> None:
    op = Op(rsa())
    assert await op.refusal("no.token.here") == "malformed"
    assert not op.asked


def test_where_discovery_is() -> None:
    assert discovery_url("https://a/") == discovery_url("https://a")
    assert discovery_url(ISSUER) == "https://op.example/realm/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (b"", "not JSON"),
        (b"[]", "no JSON object"),
        (b"[" * 9000, "not JSON"),
        (b"{}", "another issuer"),
        ({"issuer": ISSUER}, "jwks_uri"),
        ({"issuer": ISSUER, "jwks_uri": "http://op.example/keys"}, "no place"),
        ({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}, "no place"),
        ({"issuer": ISSUER, "jwks_uri": "https:///keys"}, "no place"),
        ({"issuer": ISSUER, "jwks_uri": "https://u:p@op.example/keys"}, "no place"),
        (b" " * 600_000, "bytes"),
    ],
)
def test_discovery_documents_that_cannot_be_used(document: Any, word: str) -> None:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(Unusable, match=word):
        parse_discovery(text, ISSUER)


def test_a_provider_named_by_http_may_publish_by_http() -> None:
    document = json.dumps({"issuer": "http://127.0.0.1:1", "jwks_uri": "http://127.0.0.1:1/k"})
    found = parse_discovery(document.encode(), "http://127.0.0.1:1")
    assert found.keys_url == "http://127.0.0.1:1/k"


@pytest.mark.parametrize(
    "odd",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "s"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-999"},
        {"kty": "what"},
        {"kty": ["RSA"]},
        {"kty": "RSA", "key_ops": 5},
        {"kty": "RSA", "alg": ["RS256"]},
        {"kty": "RSA", "n": 5, "e": None},
        "RSA",
        None,
    ],
)
def test_odd_keys_are_passed_over(odd: Any) -> None:
    text = json.dumps({"keys": [odd, rsa().as_dict(private=False)]}).encode()
    assert [key.kid for key in parse_keys(text)] == ["r1"]


def test_keys_for_other_uses_or_of_weak_kinds_are_passed_over() -> None:
    fine = rsa().as_dict(private=False)
    assert not parse_keys(key_set({**fine, "use": "enc"}))
    assert not parse_keys(key_set({**fine, "key_ops": ["encrypt"]}))
    assert not parse_keys(key_set({**fine, "alg": "RSA-OAEP"}))
    assert not parse_keys(key_set(ec("k", "secp256k1")))
    assert len(parse_keys(key_set(fine, ec(), ed()))) == 3


@pytest.mark.filterwarnings("ignore")
def test_a_short_rsa_key_is_passed_over() -> None:
    assert not parse_keys(key_set(rsa("short", 1024)))


def test_a_private_part_that_was_published_is_not_kept() -> None:
    (key,) = parse_keys(key_set(rsa().as_dict(private=True)))
    assert not key.is_private


@pytest.mark.parametrize("document", [b"{}", b'{"keys": {}}', b"x"])
def test_what_is_no_key_set(document: bytes) -> None:
    with pytest.raises(Unusable):
        parse_keys(document)
