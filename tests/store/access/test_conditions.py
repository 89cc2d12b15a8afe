"""Conditions: absent keys, several values, set operators, variables that have no value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from store.access.conditions import ReadyCondition
from store.access.parse import parse_policy
from tests.store.access.builders import allow, deny, document

Values = str | tuple[str, ...] | None


def holds(operator: str, wanted: Any, given: Values, *, effect: Any = allow) -> bool:
    text = document(effect(Condition={operator: {"jwt:k": wanted}}))
    (statement,) = parse_policy(text).statements
    ready = ReadyCondition(statement.conditions[0], variables=True, allow=statement.allow)
    context: dict[str, str | tuple[str, ...]] = {"aws:username": "ann"}
    if given is not None:
        context["jwt:k"] = given
    return ready.holds(context)


@pytest.mark.parametrize(
    ("operator", "wanted", "given", "expected"),
    [
        ("StringEquals", ["a", "b"], "b", True),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "a", "A", False),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringEqualsIgnoreCase", "Straße", "STRASSE", True),
        ("StringLike", ["x", "a*"], "ab", True),
        ("StringLike", "a${*}", "ab", False),
        ("StringLike", "a${*}", "a*", True),
        ("StringEquals", "${aws:username}", "ann", True),
        ("NumericEquals", "10", "10.0", True),
        ("NumericLessThan", ["5", "9"], "7", True),
        ("NumericLessThan", "5", "five", False),
        ("NumericNotEquals", "5", "five", True),
        ("NumericGreaterThanEquals", "9007199254740993", "9007199254740992", False),
        ("NumericEquals", "1", "1_0", False),
        ("DateEquals", "2026-06-01T12:00:00Z", "1780315200", True),
        ("DateLessThan", "2026-06-01", "2026-05-31T23:59:59.999Z", True),
        ("DateEquals", "2026-06-01T14:00:00+02:00", "2026-06-01T12:00:00Z", True),
        ("Bool", "true", "True", True),
        ("Bool", "true", "1", False),
        ("BinaryEquals", "QUJD", "QUJD", True),
        ("BinaryEquals", "QUJD", "ABC", False),
        ("IpAddress", "10.0.0.0/8", "10.9.8.7", True),
        ("IpAddress", "10.0.0.1", "10.0.0.2", False),
        ("IpAddress", "10.0.0.0/8", "::ffff:10.9.8.7", True),
        ("IpAddress", "2001:db8::/32", "2001:db8::1", True),
        ("IpAddress", "0.0.0.0/0", "2001:db8::1", False),
        ("NotIpAddress", "10.0.0.0/8", "192.0.2.1", True),
        ("ArnLike", "arn:aws:iam::*:user/*", "arn:aws:iam::1:user/a/b", True),
        ("ArnEquals", "arn:aws:iam::*:user/*", "arn:aws:iam::1:user/a/b", True),
        ("ArnLike", "arn:aws:iam::*:user/*", "arn:aws:iam::1:2:user/a", False),
        ("ArnNotLike", "arn:aws:iam::1:role/*", "no arn", True),
        ("Null", "true", "x", False),
        ("Null", "false", "x", True),
        ("Null", ["true", "false"], "x", True),
    ],
)
def test_one_value(operator: str, wanted: Any, given: Values, expected: bool) -> None:
    assert holds(operator, wanted, given) is expected


@pytest.mark.parametrize("given", [None, ()])
@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("StringEquals", False),
        ("StringNotEquals", True),
        ("StringEqualsIfExists", True),
        ("StringNotEqualsIfExists", True),
        ("ForAllValues:StringEquals", True),
        ("ForAllValues:StringNotEquals", True),
        ("ForAnyValue:StringEquals", False),
        ("ForAnyValue:StringNotEquals", False),
        ("ForAnyValue:StringEqualsIfExists", True),
    ],
)
def test_an_absent_key_is_as_no_value(operator: str, expected: bool, given: Values) -> None:
    assert holds(operator, "a", given) is expected


def test_null_asks_whether_a_key_is_absent() -> None:
    assert holds("Null", "true", None) and not holds("Null", "false", None)
    assert holds("Null", "true", ()) and holds("Null", "false", "")


@pytest.mark.parametrize(
    ("operator", "given", "expected"),
    [
        ("ForAllValues:StringEquals", ("a", "b"), True),
        ("ForAllValues:StringEquals", ("a", "c"), False),
        ("ForAnyValue:StringEquals", ("c", "a"), True),
        ("ForAnyValue:StringEquals", ("c", "d"), False),
        ("ForAllValues:StringNotEquals", ("c", "a"), False),
        ("ForAllValues:StringNotEquals", ("c", "d"), True),
        ("ForAnyValue:StringNotEquals", ("c", "a"), True),
        ("ForAnyValue:StringNotEquals", ("a", "b"), False),
        ("StringEquals", ("c", "a"), True),
        ("StringNotEquals", ("c", "a"), False),
        ("StringNotEquals", ("c", "d"), True),
        ("ForAllValues:StringEquals", "a", True),
        ("ForAnyValue:StringEquals", "c", False),
    ],
)
def test_several_values(operator: str, given: Values, expected: bool) -> None:
    """Sets that overlap in part are where others went wrong (RustFS GHSA-v9cp)."""
    assert holds(operator, ["a", "b"], given) is expected


@pytest.mark.parametrize(
    ("operator", "effect", "expected"),
    [
        ("StringEquals", allow, False),
        ("StringEquals", deny, False),
        ("StringNotEquals", allow, False),
        ("StringNotEquals", deny, True),
        ("StringNotLikeIfExists", allow, False),
        ("ArnNotLike", deny, True),
    ],
)
def test_a_variable_without_a_value_never_widens_access(
    operator: str, effect: Any, expected: bool
) -> None:
    assert holds(operator, "arn:aws:iam::1:${jwt:none}", "x", effect=effect) is expected


def test_a_condition_tells_which_keys_it_looks_at() -> None:
    condition = {"StringLike": {"s3:Prefix": "${aws:UserName}/*"}}
    (statement,) = parse_policy(
        json.dumps({"Version": "2012-10-17", "Statement": [allow(Condition=condition)]})
    ).statements
    ready = ReadyCondition(statement.conditions[0], variables=True, allow=True)
    assert ready.keys == {"s3:prefix", "aws:username"}
