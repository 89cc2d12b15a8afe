"""Whether a bucket policy is public, as GetBucketPolicyStatus and public access blocks mean it.

A policy is public unless each of its Allow statements is confined to fixed callers: the Principal
names them, or a condition does that has to hold of something the policy fixes (a value without
wildcard or variable; a range of addresses that isn't most of the internet). Conditions that also
hold where the key is absent confine nobody: negated ones, IfExists, ForAllValues, Null.

Deny statements are not looked at: what they leave is hard to tell, and AWS doesn't try either.

Concurrency: pure. Source: Amazon S3 user guide, "Blocking public access to your Amazon S3 storage",
the meaning of "public".
"""

from __future__ import annotations

import ipaddress

from store.access.operators import Family, parse_network
from store.access.policy import Condition, Policy, Qualifier, Statement
from store.access.principals import EVERYONE

# A condition on one of these with fixed values confines a statement.
_CONFINING = frozenset(
    key.lower()
    for key in (
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "aws:PrincipalOrgID",
        "aws:PrincipalOrgPaths",
        "aws:SourceArn",
        "aws:SourceVpc",
        "aws:SourceVpce",
        "aws:SourceOwner",
        "aws:SourceAccount",
        "aws:userid",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:DataAccessPointArn",
        "s3:DataAccessPointAccount",
    )
)
_FIXED_FAMILIES = frozenset({Family.EQUALS, Family.EQUALS_IGNORING_CASE, Family.LIKE, Family.ARN})
# Ranges with shorter prefixes than these are the internet, whatever their name.
_PREFIX_MIN_V4 = 8
_PREFIX_MIN_V6 = 32


def is_public(policy: Policy) -> bool:
    """Whether some statement of a bucket policy grants something to callers who aren't fixed."""
    return any(
        _is_public_statement(statement, policy.has_variables) for statement in policy.statements
    )


def _is_public_statement(statement: Statement, variables: bool) -> bool:
    if not statement.allow:
        return False
    if not statement.not_principal and EVERYONE not in (statement.principals or {EVERYONE}):
        return False
    return not any(_confines(condition, variables) for condition in statement.conditions)


def _confines(condition: Condition, variables: bool) -> bool:
    op = condition.operator
    if op.negated or condition.if_exists or condition.qualifier is Qualifier.FOR_ALL:
        return False
    key = condition.key.lower()
    if op.family is Family.ADDRESS:
        return key == "aws:sourceip" and all(_is_narrow(value) for value in condition.values)
    if key not in _CONFINING or op.family not in _FIXED_FAMILIES:
        return False
    return all(_is_fixed(key, op.family, value, variables) for value in condition.values)


def _is_fixed(key: str, family: Family, value: str, variables: bool) -> bool:
    if variables and "${" in value:
        return False
    if key == "s3:dataaccesspointarn":
        # The account has to be fixed; the name of the access point need not.
        value = ":".join(value.split(":")[:5])
    if key == "aws:userid" and family is Family.LIKE and value.endswith(":*"):
        # ROLEID:* is every session of one role.
        value = value.removesuffix(":*")
    wild = family in (Family.LIKE, Family.ARN)
    return bool(value) and not (wild and ("*" in value or "?" in value))


def _is_narrow(value: str) -> bool:
    network = parse_network(value)
    assert network is not None, value
    if isinstance(network, ipaddress.IPv4Network):
        return network.prefixlen >= _PREFIX_MIN_V4
    return network.prefixlen >= _PREFIX_MIN_V6
