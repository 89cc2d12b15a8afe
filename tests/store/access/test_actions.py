"""The vocabulary: actions, what they are done on, and their condition keys."""

from __future__ import annotations

import pytest

from store.access import keys
from store.access.actions import ACTIONS, On, condition_keys, matching


def test_actions_are_known_by_service() -> None:
    services = {name.partition(":")[0] for name in ACTIONS}
    assert services == {"s3", "iam", "sts", "twofold"}
    assert ACTIONS["s3:GetObject"].on is On.OBJECT and ACTIONS["s3:ListBucket"].on is On.BUCKET


@pytest.mark.parametrize(
    ("pattern", "some"),
    [
        ("s3:getobject", {"s3:GetObject"}),
        ("S3:GetObjectTag*", {"s3:GetObjectTagging"}),
        ("s3:?utObject", {"s3:PutObject"}),
        ("s3:*Objekt", set()),
        ("*", set(ACTIONS)),
    ],
)
def test_patterns_stand_for_actions_whatever_the_case(pattern: str, some: set[str]) -> None:
    assert matching(pattern) == some


def test_each_action_has_its_condition_keys_and_those_of_all() -> None:
    listing = condition_keys("s3:ListBucket")
    assert {"s3:prefix", "s3:delimiter", "s3:max-keys", "aws:SourceIp", "s3:authType"} <= listing
    assert "s3:prefix" not in condition_keys("s3:PutObject")
    assert "s3:x-amz-copy-source" in condition_keys("s3:PutObject")
    assert "s3:authType" not in condition_keys("iam:CreateUser")


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("aws:sourceip", True),
        ("S3:Prefix", True),
        ("s3:ExistingObjectTag/Colour", True),
        ("jwt:groups", True),
        ("s3:prefixes", False),
        ("ldap:user", False),
    ],
)
def test_keys_are_known_in_any_case(key: str, known: bool) -> None:
    assert keys.is_known(key) is known
