"""The condition operators of the policy language: what one value of a request is tested for.

An operator is a test, perhaps negated. A test compares one value of the request with all values of
the policy and holds if any of them fits; the negated form holds where the test does not.

    StringEquals StringEqualsIgnoreCase StringLike     and their Not forms; Like knows * and ?
    NumericEquals  LessThan  LessThanEquals  GreaterThan  GreaterThanEquals  NumericNotEquals
    DateEquals     likewise; ISO 8601 or seconds since 1970
    Bool  BinaryEquals (base64 on both sides)  IpAddress NotIpAddress (CIDR)
    ArnEquals ArnLike     the same: part by part, with * and ?; and their Not forms
    Null                  whether the key is absent

A value of the request that isn't of the operator's kind fits nothing: the test fails, its negation
holds. A value of the policy that isn't is refused when the policy is parsed.

Concurrency: pure, but for a bounded memory of addresses. Source: AWS IAM user guide, "Condition
operators".
"""

from __future__ import annotations

import base64
import binascii
import enum
import ipaddress
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from store.access.patterns import Matcher


class Family(enum.Enum):
    """What kind of values an operator compares."""

    EQUALS = "string"
    EQUALS_IGNORING_CASE = "string, ignoring case"
    LIKE = "string with wildcards"
    NUMERIC = "number"
    DATE = "date"
    BOOL = "true or false"
    BINARY = "base64"
    ADDRESS = "IP address or CIDR"
    ARN = "ARN"
    NULL = "true or false "


# Values of these may hold policy variables.
TEXTUAL = frozenset({Family.EQUALS, Family.EQUALS_IGNORING_CASE, Family.LIKE, Family.ARN})

Comparison = Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator. compare: of ordered families, what holds between request and policy value."""

    name: str
    family: Family
    negated: bool = False
    compare: Comparison = operator.eq


def _ordered(prefix: str, family: Family) -> list[Operator]:
    return [
        Operator(name=f"{prefix}Equals", family=family),
        Operator(name=f"{prefix}NotEquals", family=family, negated=True),
        Operator(name=f"{prefix}LessThan", family=family, compare=operator.lt),
        Operator(name=f"{prefix}LessThanEquals", family=family, compare=operator.le),
        Operator(name=f"{prefix}GreaterThan", family=family, compare=operator.gt),
        Operator(name=f"{prefix}GreaterThanEquals", family=family, compare=operator.ge),
    ]


OPERATORS = {
    op.name: op
    for op in [
        Operator(name="StringEquals", family=Family.EQUALS),
        Operator(name="StringNotEquals", family=Family.EQUALS, negated=True),
        Operator(name="StringEqualsIgnoreCase", family=Family.EQUALS_IGNORING_CASE),
        Operator(
            name="StringNotEqualsIgnoreCase", family=Family.EQUALS_IGNORING_CASE, negated=True
        ),
        Operator(name="StringLike", family=Family.LIKE),
        Operator(name="StringNotLike", family=Family.LIKE, negated=True),
        *_ordered("Numeric", Family.NUMERIC),
        *_ordered("Date", Family.DATE),
        Operator(name="Bool", family=Family.BOOL),
        Operator(name="BinaryEquals", family=Family.BINARY),
        Operator(name="IpAddress", family=Family.ADDRESS),
        Operator(name="NotIpAddress", family=Family.ADDRESS, negated=True),
        Operator(name="ArnEquals", family=Family.ARN),
        Operator(name="ArnLike", family=Family.ARN),
        Operator(name="ArnNotEquals", family=Family.ARN, negated=True),
        Operator(name="ArnNotLike", family=Family.ARN, negated=True),
        Operator(name="Null", family=Family.NULL),
    ]
}

_is_number = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_date = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?"
    r"(Z|[+-]\d\d:?\d\d)?)?)?)?",
    re.ASCII,
)
_is_epoch = re.compile(r"\d{5,12}(\.\d{1,9})?", re.ASCII)


def parse_number(text: str) -> Decimal | None:
    """A decimal number, None where the text is none."""
    return Decimal(text) if _is_number.fullmatch(text) else None


def parse_date(text: str) -> Decimal | None:
    """Seconds since 1970 of an ISO 8601 date (UTC unless it says otherwise) or of such seconds.

    A year, month or day alone is its first moment. None where the text is no date.
    """
    if _is_epoch.fullmatch(text):
        return Decimal(text)
    found = _date.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        moment = datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    offset_s = 0
    if zone not in (None, "Z"):
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        offset_s = (hours * 60 + minutes) * (-60 if zone[0] == "-" else 60)
    return int(moment.timestamp()) - offset_s + Decimal(f"0{fraction or ''}")


def parse_bool(text: str) -> bool | None:
    """true or false in any case; None for anything else."""
    return {"true": True, "false": False}.get(text.lower())


def parse_binary(text: str) -> bytes | None:
    """The bytes of base64; None where the text is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_network(text: str) -> Network | None:
    """A CIDR, or one address as a network of itself; bits behind the prefix are not minded."""
    try:
        return ipaddress.ip_network(text, strict=False) if text.isascii() else None
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """An address; an IPv4 one in IPv6 clothes (::ffff:192.0.2.1) is the IPv4 one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def scalar_test(op: Operator, values: tuple[str, ...]) -> Matcher | None:
    """The test of a family that knows no variables; None where a value is not of its kind."""
    match op.family:
        case Family.NUMERIC:
            return _comparing(parse_number, op.compare, values)
        case Family.DATE:
            return _comparing(parse_date, op.compare, values)
        case Family.BOOL:
            return _comparing(parse_bool, op.compare, values)
        case Family.BINARY:
            return _comparing(parse_binary, op.compare, values)
        case Family.ADDRESS:
            return _within(values)
    raise AssertionError(f"{op.name} compares texts")


def _comparing(
    parse: Callable[[str], object | None], compare: Comparison, values: tuple[str, ...]
) -> Matcher | None:
    wanted = [parse(value) for value in values]
    if None in wanted:
        return None

    def test(value: str) -> bool:
        given = parse(value)
        return given is not None and any(compare(given, one) for one in wanted)

    return test


def _within(values: tuple[str, ...]) -> Matcher | None:
    networks: list[Network] = []
    for value in values:
        network = parse_network(value)
        if network is None:
            return None
        networks.append(network)

    def test(value: str) -> bool:
        address = parse_address(value)
        return address is not None and any(address in network for network in networks)

    return test
