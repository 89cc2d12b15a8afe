"""Which bucket policies are public."""

from __future__ import annotations

from typing import Any

import pytest

from store.access.parse import parse_bucket_policy
from store.access.public import is_public
from tests.store.access.builders import allow, deny, document

ANN = {"AWS": "arn:aws:iam::111111111111:user/ann"}


def public(*statements: dict[str, Any], version: str = "2012-10-17") -> bool:
    placed = [{**statement, "Resource": "arn:aws:s3:::box/*"} for statement in statements]
    return is_public(parse_bucket_policy(document(*placed, version=version), "box"))


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"AWS": ["111111111111", "*"]}])
def test_a_grant_to_everyone_is_public(principal: Any) -> None:
    assert public(allow("s3:GetObject", Principal=principal))


@pytest.mark.parametrize(
    "principal",
    [ANN, {"AWS": "111111111111"}, {"AWS": "arn:aws:iam::tenant:root"}, {"CanonicalUser": "c"}],
)
def test_a_grant_to_named_callers_is_not(principal: Any) -> None:
    assert not public(allow("s3:GetObject", Principal=principal))


def test_one_public_statement_is_enough_and_denials_do_not_count() -> None:
    assert public(allow("s3:GetObject", Principal=ANN), allow("s3:GetObject", Principal="*"))
    assert not public(deny("s3:GetObject", Principal="*"))
    assert not public(deny("s3:GetObject", NotPrincipal=ANN))
    assert public(allow("s3:GetObject", Principal="*"), deny("s3:GetObject", Principal="*"))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
        ({"IpAddress": {"aws:SourceIp": ["192.0.2.1", "10.0.0.0/32"]}}, False),
        ({"IpAddress": {"aws:SourceIp": ["192.0.2.1", "0.0.0.0/1"]}}, True),
        ({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}, False),
        ({"IpAddress": {"aws:SourceIp": "2000::/3"}}, True),
        ({"IpAddressIfExists": {"aws:SourceIp": "10.0.0.0/8"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, True),
        ({"IpAddress": {"aws:VpcSourceIp": "10.0.0.0/8"}}, True),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, False),
        ({"StringEquals": {"AWS:sourcevpc": ["vpc-1", "vpc-2"]}}, False),
        ({"StringLike": {"aws:SourceVpc": "vpc-*"}}, True),
        ({"StringLike": {"aws:SourceVpc": "vpc-1"}}, False),
        ({"StringEquals": {"aws:SourceVpc": "vpc-*"}}, False),
        ({"StringEquals": {"aws:SourceVpc": "${aws:username}"}}, True),
        ({"StringNotEquals": {"aws:SourceVpc": "vpc-1"}}, True),
        ({"ForAllValues:StringEquals": {"aws:SourceVpc": "vpc-1"}}, True),
        ({"ForAnyValue:StringEquals": {"aws:SourceVpc": "vpc-1"}}, False),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::1:role/job"}}, False),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/job"}}, True),
        ({"StringLike": {"aws:userid": "AROA1:*"}}, False),
        ({"StringLike": {"aws:userid": "*:me"}}, True),
        ({"ArnLike": {"s3:DataAccessPointArn": "arn:aws:s3:eu:1:accesspoint/*"}}, False),
        ({"ArnLike": {"s3:DataAccessPointArn": "arn:aws:s3:eu:*:accesspoint/a"}}, True),
        ({"StringEquals": {"aws:Referer": "https://example.org"}}, True),
        ({"Null": {"aws:SourceVpc": "false"}}, True),
    ],
)
def test_a_condition_confines_if_it_fixes_the_callers(condition: Any, expected: bool) -> None:
    assert public(allow("s3:GetObject", Principal="*", Condition=condition)) is expected


def test_in_the_old_language_there_are_no_variables() -> None:
    condition = {"StringEquals": {"aws:SourceVpc": "${aws:username}"}}
    statement = allow("s3:GetObject", Principal="*", Condition=condition)
    assert not public(statement, version="2008-10-17")
