"""A slow evaluator of our own, to hold the compiled one against.

Written from the descriptions in AWS's IAM user guide (policy grammar, condition operators, set
operators, policy variables, evaluation logic) as plainly as they read: documents stay JSON objects,
every statement is looked at for every request, and nothing is remembered. It shares no code with
`store.access`. Where AWS leaves something open, both follow the sentences in the headers of
`conditions`, `patterns` and `evaluate`, and each has its own way of doing so.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

Document = dict[str, Any]
Context = dict[str, str | tuple[str, ...]]


@dataclass
class Caller:
    """Who asks, with everything a Principal element can name. kind: root, user, session, ..."""

    kind: str
    account: str = ""
    arn: str = ""
    source_arn: str = ""
    canonical_id: str = ""
    federated: str = ""


@dataclass
class Case:
    """One request and all policies that have a say. resource_policy: None where there is none."""

    caller: Caller
    action: str
    resource: str
    context: Context
    identity: list[Document] | None = None
    boundary: list[Document] | None = None
    session: list[Document] | None = None
    key: list[Document] | None = None
    resource_policy: Document | None = None
    owner: str = ""
    restricted: bool = False
    binds_root: bool = False
    acl: str = "none"
    seen: list[str] = field(default_factory=list)


def judge(case: Case) -> str:
    """ "allowed", "explicitDeny" or "implicitDeny"."""
    layers = [case.identity, case.boundary, case.session, case.key]
    for documents in layers:
        for document in documents or []:
            if any(_matches(case, document, s) for s in _statements(document, "Deny")):
                return "explicitDeny"
    document = case.resource_policy
    if document is not None:
        for statement in _statements(document, "Deny"):
            if _grip(case, statement) != "none" and _matches(case, document, statement):
                kept = case.action in (
                    "s3:GetBucketPolicy",
                    "s3:PutBucketPolicy",
                    "s3:DeleteBucketPolicy",
                )
                owner = case.caller.kind == "root" and case.caller.account == case.owner
                if not (kept and owner and not case.binds_root):
                    return "explicitDeny"
    return "allowed" if _is_allowed(case) else "implicitDeny"


def _is_allowed(case: Case) -> bool:
    same_account = case.caller.account == case.owner
    grips = {case.acl}
    document = case.resource_policy
    if document is not None and (same_account or not case.restricted):
        for statement in _statements(document, "Allow"):
            if _matches(case, document, statement):
                grips.add(_grip(case, statement))
    identity = case.caller.kind == "root" or _some_allow(case, case.identity)
    named = "exact" in grips
    if same_account:
        if not (identity or named or "direct" in grips):
            return False
    else:
        if grips == {"none"}:
            return False
        if case.caller.account and not identity:
            return False
    for limit in (case.boundary, case.session):
        if limit is not None and not _some_allow(case, limit) and not (same_account and named):
            return False
    return case.key is None or _some_allow(case, case.key)


def _some_allow(case: Case, documents: list[Document] | None) -> bool:
    return any(
        _matches(case, document, statement)
        for document in documents or []
        for statement in _statements(document, "Allow")
    )


def _statements(document: Document, effect: str) -> list[Document]:
    listed = document["Statement"]
    listed = listed if isinstance(listed, list) else [listed]
    return [statement for statement in listed if statement["Effect"] == effect]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _grip(case: Case, statement: Document) -> str:
    """How the Principal element takes hold of the caller: none, account, direct or exact."""
    if "NotPrincipal" in statement:
        return "none" if _named(case.caller, statement["NotPrincipal"]) != "none" else "direct"
    return _named(case.caller, statement["Principal"])


def _named(caller: Caller, element: Any) -> str:
    found = "none"
    order = ["none", "account", "direct", "exact"]
    if element == "*":
        return "direct"
    for kind, values in element.items():
        for value in _listed(values):
            grip = "none"
            if kind == "AWS":
                if value == "*":
                    grip = "direct"
                elif caller.account and value in (
                    caller.account,
                    f"arn:aws:iam::{caller.account}:root",
                ):
                    grip = "account"
                elif value == caller.arn:
                    grip = "exact"
                elif value == caller.source_arn:
                    grip = "direct"
            elif value and kind == "CanonicalUser" and value == caller.canonical_id:
                grip = "account"
            elif value and kind == "Federated" and value == caller.federated:
                grip = "direct"
            found = max(found, grip, key=order.index)
    return found


def _matches(case: Case, document: Document, statement: Document) -> bool:
    """Action, resource and conditions; principals are `_grip`'s."""
    variables = document.get("Version") == "2012-10-17"
    allow = statement["Effect"] == "Allow"
    if "Action" in statement:
        if not _action_fits(case.action, statement["Action"]):
            return False
    elif _action_fits(case.action, statement["NotAction"]):
        return False
    excluded = "NotResource" in statement
    fits = unknown = False
    for pattern in _listed(statement["NotResource" if excluded else "Resource"]):
        fit = arn_fits(pattern, case.resource, case.context, variables)
        unknown = unknown or fit is None
        fits = fits or fit is True
    if excluded and (fits or (unknown and allow)):
        return False
    if not excluded and not fits:
        return False
    return all(
        _condition_holds(operator, key, values, case.context, variables, allow)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _action_fits(action: str, patterns: Any) -> bool:
    return any(
        glob(expand(pattern.lower(), {}, variables=False, wild=True) or [], action.lower())
        for pattern in _listed(patterns)
    )


MANY, ONE = object(), object()


def expand(text: str, context: Context, *, variables: bool, wild: bool) -> list[Any] | None:
    """Characters and wildcards of a text; None where a variable has no single value."""
    found: list[Any] = []
    at = 0
    while at < len(text):
        if variables and text.startswith("${", at):
            end = text.index("}", at)
            inner = text[at + 2 : end]
            at = end + 1
            if inner in ("*", "?", "$"):
                found.append(inner)
                continue
            name, comma, default = inner.partition(",")
            value = context.get(name.strip().lower())
            if not isinstance(value, str):
                if not comma:
                    return None
                value = default.strip()[1:-1]
            found.extend(value)
            continue
        char = text[at]
        at += 1
        found.append({"*": MANY, "?": ONE}.get(char, char) if wild else char)
    return found


def glob(pattern: list[Any], text: str) -> bool:
    """Whether all of a text matches, by the table of all beginnings of both."""
    reach = [True] + [False] * len(text)
    for item in pattern:
        if item is MANY:
            for index in range(1, len(text) + 1):
                reach[index] = reach[index] or reach[index - 1]
        else:
            reach = [False] + [
                reach[index] and (item is ONE or item == text[index]) for index in range(len(text))
            ]
    return reach[-1]


def arn_fits(pattern: str, arn: str, context: Context, variables: bool) -> bool | None:
    """Part by part; None where a variable has no value."""
    if pattern == "*":
        return True
    parts = _arn_parts(pattern, variables)
    expanded = [expand(part, context, variables=variables, wild=True) for part in parts]
    if any(part is None for part in expanded):
        return None
    given = arn.split(":", 5)
    return len(given) == 6 and all(
        glob(part or [], text) for part, text in zip(expanded, given, strict=True)
    )


def _arn_parts(pattern: str, variables: bool) -> list[str]:
    parts = [""]
    depth = 0
    for index, char in enumerate(pattern):
        if variables and pattern.startswith("${", index):
            depth = 1
        elif char == "}":
            depth = 0
        if char == ":" and not depth and len(parts) < 6:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _condition_holds(
    operator: str, key: str, values: Any, context: Context, variables: bool, allow: bool
) -> bool:
    wanted = [_as_text(value) for value in _listed(values)]
    given = context.get(key.lower())
    absent = given is None or given == ()
    quantifier, _, bare = operator.rpartition(":")
    if bare == "Null":
        return ("true" if absent else "false") in [value.lower() for value in wanted]
    if_exists = bare.endswith("IfExists")
    bare = bare.removesuffix("IfExists")
    negated = "Not" in bare
    bare = bare.replace("Not", "")
    if bare.startswith(("String", "Arn")):
        settled = [expand(value, context, variables=variables, wild=False) for value in wanted]
        unknown = [one is None for one in settled]
        if negated and allow and any(unknown):
            return False
        wanted = [v for v, skip in zip(wanted, unknown, strict=True) if not skip]
    if absent:
        if quantifier == "ForAllValues" or if_exists:
            return True
        return negated and quantifier != "ForAnyValue"
    assert given is not None
    several = [given] if isinstance(given, str) else list(given)
    fits = [any(_fits(bare, w, one, context, variables) for w in wanted) for one in several]
    if quantifier == "ForAllValues":
        return all(fit != negated for fit in fits)
    if quantifier == "ForAnyValue":
        return any(fit != negated for fit in fits)
    return any(fits) != negated


def _as_text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _fits(bare: str, wanted: str, given: str, context: Context, variables: bool) -> bool:
    if bare in ("ArnEquals", "ArnLike"):
        return arn_fits(wanted, given, context, variables) is True
    if bare == "StringLike":
        pattern = expand(wanted, context, variables=variables, wild=True)
        assert pattern is not None
        return glob(pattern, given)
    if bare in ("StringEquals", "StringEqualsIgnoreCase"):
        literal = expand(wanted, context, variables=variables, wild=False)
        assert literal is not None
        text = "".join(literal)
        if bare == "StringEqualsIgnoreCase":
            return text.casefold() == given.casefold()
        return text == given
    if bare == "Bool":
        return given.lower() in ("true", "false") and given.lower() == wanted.lower()
    if bare == "BinaryEquals":
        try:
            return base64.b64decode(wanted, validate=True) == base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            return False
    if bare == "IpAddress":
        return _address_fits(wanted, given)
    return _order_fits(bare, wanted, given)


def _address_fits(wanted: str, given: str) -> bool:
    try:
        address = ipaddress.ip_address(given.removeprefix("::ffff:"))
    except ValueError:
        return False
    network, _, bits = wanted.partition("/")
    base = ipaddress.ip_address(network)
    if base.version != address.version:
        return False
    shift = base.max_prefixlen - int(bits or base.max_prefixlen)
    return int(base) >> shift == int(address) >> shift


def _order_fits(bare: str, wanted: str, given: str) -> bool:
    prefix = "Numeric" if bare.startswith("Numeric") else "Date"
    parse = _number if prefix == "Numeric" else _moment
    right, left = parse(wanted), parse(given)
    if left is None or right is None:
        return False
    match bare.removeprefix(prefix):
        case "Equals":
            return left == right
        case "LessThan":
            return left < right
        case "LessThanEquals":
            return left <= right
        case "GreaterThan":
            return left > right
        case "GreaterThanEquals":
            return left >= right
    raise AssertionError(bare)


def _number(text: str) -> Fraction | None:
    return Fraction(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None


def _moment(text: str) -> Fraction | None:
    if re.fullmatch(r"\d{6,}", text):
        return Fraction(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Fraction((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1), 10**6)
