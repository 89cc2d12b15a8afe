"""Which tokens are believed. Each refusal is an attack that worked somewhere."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from store.access.errors import TokenRefused
from store.access.tokens import Claims, Provider, verify_token
from tests.store.access.tokens_made import (
    ISSUER,
    NOW_S,
    PROVIDER,
    claims,
    ec,
    ed,
    public,
    rsa,
    sign,
)

KEYS = (public(rsa()), public(ec()), public(ed()))


def verify(token: str, provider: Provider = PROVIDER, now_s: float = NOW_S) -> Claims:
    return verify_token(token, provider, KEYS, now_s)


def refusal(token: str, provider: Provider = PROVIDER, now_s: float = NOW_S) -> str:
    with pytest.raises(TokenRefused) as refused:
        verify(token, provider, now_s)
    return refused.value.reason


def signed_by_hand(header: dict[str, Any]) -> str:
    """For headers that the library would not sign. With RS256."""
    signed = f"{encoded(header)}.{encoded(claims())}"
    private = rsa().private_key
    assert private is not None
    return f"{signed}.{encoded(private.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


# Signing warns of the older name EdDSA; verifying must not.
@pytest.mark.filterwarnings("ignore:EdDSA")
@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(rsa(), "RS256"), (rsa(), "PS384"), (ec(), "ES256"), (ed(), "Ed25519"), (ed(), "EdDSA")],
)
def test_a_good_token_is_believed(key: Any, algorithm: str) -> None:
    found = verify(sign(claims(), key, algorithm))
    assert (found.issuer, found.subject, found.audiences) == (ISSUER, "ann", ("twofold",))
    assert found.expires_s == NOW_S + 600


def test_no_signature_is_no_signature() -> None:
    bare = f"{encoded({'alg': 'none'})}.{encoded(claims())}."
    assert refusal(bare) == "algorithm"
    assert refusal(f"{encoded({'alg': 'None'})}.{encoded(claims())}.") == "algorithm"
    assert refusal(sign(claims(), rsa()).rpartition(".")[0] + ".") == "signature"


def test_a_public_key_is_no_shared_secret() -> None:
    """The classic: HS256 with the RSA key's PEM as the secret."""
    signed = f"{encoded({'alg': 'HS256', 'kid': 'r1'})}.{encoded(claims())}"
    digest = hmac.digest(rsa().as_pem(private=False), signed.encode(), "sha256")
    assert refusal(f"{signed}.{encoded(digest)}") == "algorithm"


def test_a_key_only_signs_by_its_own_algorithms() -> None:
    token = sign(claims(), rsa(), "RS256", kid="e1")
    assert refusal(token) == "unknown-key"
    header, _, rest = sign(claims(), ec(), "ES256").partition(".")
    swapped = encoded({"alg": "RS256", "kid": "r1"})
    assert header != swapped and refusal(f"{swapped}.{rest}") == "signature"
    only = Provider(issuer=ISSUER, audiences=PROVIDER.audiences, algorithms=frozenset({"ES256"}))
    assert refusal(sign(claims(), rsa()), only) == "algorithm"


def test_a_curve_of_another_size_is_no_key_for_the_algorithm() -> None:
    wide = ec("e1", "P-384")
    token = sign(claims(), ec(), "ES256")
    with pytest.raises(TokenRefused) as refused:
        verify_token(token, PROVIDER, (public(wide),), NOW_S)
    assert refused.value.reason == "signature"


def test_a_key_that_the_token_brings_along_is_not_looked_at() -> None:
    stranger = rsa("mine")
    own = stranger.as_dict(private=False)
    assert refusal(sign(claims(), stranger, jwk=own)) == "unknown-key"
    forged = sign(claims(), stranger, jwk=own, kid="r1", jku="https://evil.example/keys")
    assert refusal(forged) == "signature"


def test_changed_content_breaks_the_signature() -> None:
    header, _, signature = sign(claims(), rsa()).split(".")
    assert refusal(f"{header}.{encoded(claims(sub='root'))}.{signature}") == "signature"


def test_without_a_key_id_only_a_single_key_can_be_meant() -> None:
    token = sign(claims(), rsa("", 2048), "RS256")
    keys = (public(rsa("", 2048)), public(ec()))
    assert verify_token(token, PROVIDER, keys, NOW_S).subject == "ann"
    with pytest.raises(TokenRefused):
        verify_token(token, PROVIDER, (*keys, public(rsa("r2"))), NOW_S)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"iss": "https://evil.example"}, "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": ["other", "another"]}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": {"twofold": 1}}, "audience"),
        ({"azp": "other"}, "audience"),
        ({"exp": NOW_S - 61}, "expired"),
        ({"exp": NOW_S - 60}, "expired"),
        ({"exp": None}, "malformed"),
        ({"exp": str(NOW_S + 60)}, "malformed"),
        ({"exp": True}, "malformed"),
        ({"exp": 1e400}, "malformed"),
        ({"nbf": NOW_S + 61}, "early"),
        ({"iat": NOW_S + 61}, "early"),
        ({"nbf": "soon"}, "malformed"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": 7}, "subject"),
        ({"sub": "x" * 256}, "subject"),
    ],
)
def test_a_signed_token_is_refused_for_what_it_claims(more: dict[str, Any], reason: str) -> None:
    assert refusal(sign(claims(**more), rsa())) == reason


@pytest.mark.parametrize(
    "more",
    [
        {"aud": ["other", "twofold"]},
        {"aud": ["other", "twofold"], "azp": "twofold"},
        {"exp": NOW_S - 59},
        {"nbf": NOW_S + 59, "iat": NOW_S + 59},
        {"iat": None},
    ],
)
def test_within_the_skew_and_among_others_it_is_believed(more: dict[str, Any]) -> None:
    assert verify(sign(claims(**more), rsa())).subject == "ann"


def test_the_skew_is_the_providers() -> None:
    strict = Provider(issuer=ISSUER, audiences=PROVIDER.audiences, skew_s=0)
    assert refusal(sign(claims(exp=NOW_S - 1), rsa()), strict) == "expired"
    assert refusal(sign(claims(nbf=NOW_S + 1), rsa()), strict) == "early"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d.e",
        "é.b.c",
        "!!.e30.x",
        "x" * 20_001,
        f"{encoded([])}.e30.x",
        f"{encoded({'alg': 1})}.e30.x",
        f"{encoded({'alg': 'RS256', 'kid': 7})}.e30.x",
        f"{encoded(b'{')}.e30.x",
        f"{encoded(b'[' * 9000)}.e30.x",
        f"{encoded({'kid': 'r1'})}.e30.x",
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert refusal(token) == "malformed"


@pytest.mark.parametrize(
    "content", [b"[]", b"{", b'{"sub": "ann", "sub": "root"}', b'{"exp": NaN}', b"\xff"]
)
def test_what_is_signed_has_to_be_an_object(content: bytes) -> None:
    assert refusal(sign(content, rsa())) == "malformed"


def test_an_extension_that_must_be_understood_is_not() -> None:
    header = {"alg": "RS256", "kid": "r1"}
    assert verify(signed_by_hand(header)).subject == "ann"
    assert refusal(signed_by_hand({**header, "crit": ["b64"], "b64": False})) == "malformed"
    assert refusal(signed_by_hand({**header, "crit": ["x"], "x": 1})) == "malformed"


def test_claims_become_condition_keys_and_names() -> None:
    more = {
        "groups": ["staff", "dev"],
        "policy": "readonly, mine,,readonly",
        "realm_access": {"roles": ["a", "b"]},
        "Email_Verified": True,
        "level": 3,
        "empty": [],
        "nothing": None,
    }
    found = verify(sign(claims() | more, rsa()))
    context = found.context()
    assert context["jwt:sub"] == "ann" and context["jwt:groups"] == ("staff", "dev")
    assert context["jwt:email_verified"] == "true" and context["jwt:level"] == "3"
    assert context["op.example/realm:groups"] == ("staff", "dev")
    assert context["jwt:empty"] == () and "jwt:nothing" not in context
    assert found.names("policy") == ("readonly", "mine")
    assert found.names("groups") == ("staff", "dev")
    assert found.names("realm_access.roles") == ("a", "b")
    assert found.names("realm_access.none") == found.names("sub.x") == ()
