"""What conditions are answered with, by kind of caller."""

from __future__ import annotations

import pytest

from store.access.context import RequestContext, caller_keys
from store.access.patterns import Values
from store.access.principals import ANONYMOUS, Kind, Principal
from tests.store.access.builders import OURS, access, allow, ask, root, session, user


def test_a_users_keys() -> None:
    found = caller_keys(
        user(), user="ann", user_id="AIDA1", groups=("staff",), tags={"Team": "red"}
    )
    assert found == {
        "aws:username": "ann",
        "aws:userid": "AIDA1",
        "aws:groups": ("staff",),
        "aws:principalarn": f"arn:aws:iam::{OURS}:user/ann",
        "aws:principalaccount": OURS,
        "aws:principaltype": "User",
        "aws:principaltag/team": "red",
    }


def test_a_sessions_keys_name_its_role() -> None:
    found = caller_keys(
        session("now"),
        user_id="AROA1:now",
        issued="2026-01-01T00:00:00Z",
        claims={"jwt:groups": ("a", "b")},
    )
    assert found["aws:principalarn"] == f"arn:aws:iam::{OURS}:role/job"
    assert found["aws:principaltype"] == "AssumedRole" and found["aws:userid"] == "AROA1:now"
    assert found["jwt:groups"] == ("a", "b") and "aws:username" not in found


def test_root_and_the_anonymous_have_few() -> None:
    assert caller_keys(root())["aws:userid"] == OURS
    assert caller_keys(ANONYMOUS) == {"aws:principaltype": "Anonymous", "aws:userid": "anonymous"}
    bearer = Principal(kind=Kind.FEDERATED, federated="https://op.example")
    assert caller_keys(bearer)["aws:federatedprovider"] == "https://op.example"


def test_the_request_is_asked_only_for_what_a_rule_looks_at() -> None:
    asked: list[str] = []

    def answer(key: str) -> Values | None:
        asked.append(key)
        return "ann/x" if key == "s3:prefix" else None

    who = access(
        user(),
        allow("s3:ListBucket", Condition={"StringLike": {"s3:prefix": "${aws:username}/*"}}),
        allow("s3:GetObject", Condition={"Bool": {"aws:SecureTransport": "true"}}),
    )
    context = RequestContext(caller_keys(user(), user="ann"), answer)
    decision = ask(who, "s3:ListBucket", "arn:aws:s3:::box", context=context)
    assert decision.allowed and asked == ["s3:prefix"]


@pytest.mark.parametrize(
    "key",
    ["aws:username", "aws:principalarn", "aws:principaltag/team", "jwt:sub", "aws:userid"],
)
def test_no_request_can_answer_for_its_caller(key: str) -> None:
    context = RequestContext({}, lambda key: "forged")
    assert context.get(key) is None
    assert context.get("s3:prefix") == "forged"
