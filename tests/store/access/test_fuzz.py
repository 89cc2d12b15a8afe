"""Whatever comes in: it is understood, or refused by the one error there is for it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from store.access.decision import Layer
from store.access.errors import MalformedGrants, MalformedPolicy, SealBroken, TokenRefused
from store.access.evaluate import Access, ResourceRules
from store.access.explain import explain
from store.access.grants import header_grants
from store.access.operators import OPERATORS
from store.access.parse import parse_bucket_policy, parse_policy
from store.access.plans import compile_policies
from store.access.policy import PolicyKind
from store.access.providers import Unusable, parse_discovery, parse_keys
from store.access.public import is_public
from store.access.sealed import BadMasterKey, parse_keyring, unseal
from store.access.tokens import verify_token
from tests.store.access.builders import user
from tests.store.access.tokens_made import ISSUER, NOW_S, PROVIDER

pytestmark = pytest.mark.slow

JWK_NAMES = ["kty", "n", "e", "x", "y", "crv", "use", "alg", "kid", "key_ops"]
KEYRING = parse_keyring("00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f")
WORDS = st.sampled_from(
    [
        *("Allow", "Deny", "*", "?", "", "s3:*", "s3:GetObject", "s3:ListBucket", "2012-10-17"),
        *("arn:aws:s3:::box/*", "arn:aws:s3:::box", "arn:aws:s3:::box/${aws:username}", "arn:::::"),
        *("arn:*:*:*:*:*", "${", "${*}", "${aws:username, 'x'}", "111111111111", "true", "10"),
        *(
            "arn:aws:iam::111111111111:user/ann",
            "2026-01-01",
            "10.0.0.0/8",
            "QUJD",
            "a\x00b",
            "\ud800",
        ),
    ]
)
NAMES = st.sampled_from(
    [
        *("Version", "Id", "Statement", "Sid", "Effect", "Action", "NotAction", "Resource"),
        *("NotResource", "Principal", "NotPrincipal", "Condition", "AWS", "Federated", "aws:a"),
        *("aws:username", "s3:prefix", "ForAnyValue:StringLike", "ForAllValues:NullIfExists"),
        *OPERATORS,
    ]
)
ATOMS = st.one_of(
    WORDS, st.text(max_size=8), st.integers(), st.floats(allow_nan=True), st.booleans(), st.none()
)
ANYTHING = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
VALUES = st.one_of(WORDS, st.lists(WORDS, max_size=3), ANYTHING)
CONDITIONS = st.dictionaries(
    st.one_of(st.sampled_from(sorted(OPERATORS)), NAMES),
    st.dictionaries(NAMES, VALUES, max_size=2),
    max_size=2,
)
STATEMENTS = st.fixed_dictionaries(
    {"Effect": st.sampled_from(["Allow", "Deny"])},
    optional={
        "Action": VALUES,
        "NotAction": VALUES,
        "Resource": VALUES,
        "NotResource": VALUES,
        "Principal": st.one_of(st.just("*"), st.dictionaries(st.just("AWS"), VALUES)),
        "Condition": CONDITIONS,
        "Sid": ATOMS,
    },
)
DOCUMENTS = st.one_of(
    ANYTHING,
    st.fixed_dictionaries(
        {"Version": st.just("2012-10-17"), "Statement": st.lists(STATEMENTS, max_size=3)}
    ),
)


@settings(max_examples=500, deadline=None)
@given(document=DOCUMENTS, kind=st.sampled_from(PolicyKind), word=WORDS)
def test_any_document_is_a_policy_or_malformed(document: Any, kind: PolicyKind, word: str) -> None:
    text = json.dumps(document)
    try:
        policy = parse_policy(text, kind)
    except MalformedPolicy:
        return
    layer = Layer.RESOURCE if kind in (PolicyKind.RESOURCE, PolicyKind.TRUST) else Layer.IDENTITY
    compiled = compile_policies(layer, [policy])
    rules = ResourceRules(account="111111111111")
    if layer is Layer.RESOURCE:
        rules = ResourceRules(account="111111111111", policy=compiled)
        is_public(policy)
    access = Access(principal=user(), identity=compiled if rules.policy is None else None)
    context: dict[str, str | tuple[str, ...]] = {"aws:username": word, "s3:prefix": (word, "x")}
    list(explain(access, rules, "s3:GetObject", f"arn:aws:s3:::{word}", context).lines())


@settings(max_examples=200, deadline=None)
@given(document=st.one_of(st.binary(max_size=200), st.text(max_size=200)))
@example(document="{" * 3000)
@example(document=b"\xef\xbb\xbf{}")
def test_any_bytes_are_a_bucket_policy_or_malformed(document: str | bytes) -> None:
    with pytest.raises(MalformedPolicy):
        parse_bucket_policy(document, "box")


@settings(max_examples=300, deadline=None)
@given(token=st.text(alphabet="eyJhbGci.OiJub25lIn0-_=é", max_size=60))
def test_any_text_is_a_token_or_refused(token: str) -> None:
    with pytest.raises(TokenRefused):
        verify_token(token, PROVIDER, (), NOW_S)


@settings(max_examples=300, deadline=None)
@given(
    document=ANYTHING,
    key=st.dictionaries(st.sampled_from(JWK_NAMES), VALUES),
)
def test_any_document_of_a_provider_is_usable_or_not(document: Any, key: Any) -> None:
    for text in (json.dumps(document), json.dumps({"keys": [document, key]})):
        for parse in (parse_keys, lambda raw: parse_discovery(raw, ISSUER)):
            with suppress(Unusable):
                parse(text.encode())


@settings(max_examples=300, deadline=None)
@given(value=st.text(alphabet='idurl=",c1 @', max_size=40))
def test_any_grant_header_is_grants_or_refused(value: str) -> None:
    with suppress(MalformedGrants):
        header_grants({"x-amz-grant-read": value}, lambda _: None)


@settings(max_examples=300, deadline=None)
@given(sealed=st.binary(max_size=120))
def test_any_bytes_are_no_sealed_secret(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        unseal(KEYRING, sealed, purpose="p", owner="o")


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_is_no_keyring(text: str) -> None:
    with pytest.raises(BadMasterKey):
        parse_keyring(text)
