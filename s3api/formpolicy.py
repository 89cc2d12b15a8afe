"""Policies of browser forms: what whoever signed the form lets be uploaded with it.

A policy is checked against the fields as they will be acted on, ${filename} replaced. Every field
must be spoken of by some condition: what the signer didn't think of is not allowed.

Pure functions. Source: Amazon S3 API reference, "POST Policy".
"""

from __future__ import annotations

import base64
import calendar
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from s3api.errors import AccessDenied
from s3api.settingrefusals import InvalidPolicyDocument

# They carry the policy and its proof, and the file has conditions of its own. Checksums only make
# an upload fail that went wrong; signers seldom know them.
_UNCOVERED = frozenset(
    ("awsaccesskeyid", "signature", "policy", "file", "x-amz-signature", "content-md5")
)
_UNCOVERED_PREFIXES = ("x-ignore-", "x-amz-checksum-", "x-amz-sdk-checksum-")
_is_moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII).fullmatch
_is_size = re.compile(r"\d{1,18}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """exact: the field is the value, else it begins with it. field: lower case."""

    exact: bool
    field: str
    value: str

    def holds(self, fields: Mapping[str, str]) -> bool:
        value = fields.get(self.field, "")
        if self.exact:
            return value == self.value
        # A form may name several types, and each has to be allowed.
        parts = value.split(",") if self.field == "content-type" else [value]
        return all(part.strip().startswith(self.value) for part in parts)

    def __str__(self) -> str:
        return f'["{"eq" if self.exact else "starts-with"}", "${self.field}", "{self.value}"]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """expires_s: seconds since 1970. size_range: fewest and most bytes of the file, or None."""

    expires_s: int
    conditions: tuple[Condition, ...]
    size_range: tuple[int, int] | None

    def check(self, fields: Mapping[str, str], now_s: float) -> None:
        """Whether this form may be sent now. fields: names in lower case, with `bucket`.

        Raises AccessDenied.
        """
        if now_s > self.expires_s:
            raise AccessDenied("Invalid according to Policy: Policy expired.")
        for condition in self.conditions:
            if not condition.holds(fields):
                raise AccessDenied(
                    f"Invalid according to Policy: Policy Condition failed: {condition}"
                )
        covered = {condition.field for condition in self.conditions} | _UNCOVERED
        extra = [
            name
            for name in fields
            if name not in covered and not name.startswith(_UNCOVERED_PREFIXES)
        ]
        if extra:
            raise AccessDenied(
                f"Invalid according to Policy: Extra input fields: {', '.join(sorted(extra))}"
            )


def parse_policy(encoded: str) -> Policy:
    """The `policy` field of a form. Raises InvalidPolicyDocument."""
    try:
        document = msgspec.json.decode(base64.b64decode(encoded, validate=True))
    except (ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    unknown = sorted(document.keys() - {"expiration", "conditions"})
    if "expiration" not in document:
        raise _invalid("Policy missing expiration.")
    if not isinstance(document.get("conditions"), list):
        raise _invalid("Policy missing conditions.")
    if unknown:
        raise _invalid(f"Unexpected: '{unknown[0]}'")
    conditions: list[Condition] = []
    size_range: tuple[int, int] | None = None
    for one in document["conditions"]:
        if isinstance(one, list) and one and str(one[0]).lower() == "content-length-range":
            given = _parse_range(one)
            # Of several ranges all hold.
            fewest, most = size_range or given
            size_range = max(fewest, given[0]), min(most, given[1])
        else:
            conditions.append(_parse_condition(one))
    return Policy(
        expires_s=_parse_expiration(document["expiration"]),
        conditions=tuple(conditions),
        size_range=size_range,
    )


def _invalid(reason: str) -> InvalidPolicyDocument:
    return InvalidPolicyDocument(f"Invalid Policy: {reason}")


def _parse_expiration(text: Any) -> int:
    if isinstance(text, str) and _is_moment(text):
        try:
            return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        except ValueError:
            pass  # A day or an hour that there is not.
    raise _invalid(f"Invalid 'expiration' value: '{text}'")


def _parse_condition(one: Any) -> Condition:
    if isinstance(one, dict):
        if len(one) != 1:
            raise _invalid(
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property "
                "specified."
            )
        ((field, value),) = one.items()
        return Condition(exact=True, field=field.lower(), value=_text(value))
    if not isinstance(one, list) or len(one) != 3:
        raise _invalid("Invalid Condition: a condition has an operator, a field and a value.")
    operator, field, value = one
    operator = str(operator).lower()
    if operator not in ("eq", "starts-with"):
        raise _invalid(f"Invalid Condition: unknown operator '{operator}'.")
    if not isinstance(field, str) or not field.startswith("$"):
        raise _invalid("Invalid Condition: the field of a condition begins with '$'.")
    return Condition(exact=operator == "eq", field=field[1:].lower(), value=_text(value))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _invalid("Invalid Condition: the value of a condition is a string.")


def _parse_range(one: list[Any]) -> tuple[int, int]:
    if len(one) != 3:
        raise _invalid("Invalid Condition: content-length-range has two values.")
    fewest, most = str(one[1]), str(one[2])
    if not _is_size(fewest) or not _is_size(most):
        raise _invalid("Invalid Condition: the values of content-length-range are sizes.")
    return int(fewest), int(most)
