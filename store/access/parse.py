"""From the JSON of a policy document to `policy.Policy`, with an error that says where and why.

Concurrency: pure. Source: as of `policy`; RFC 8259 (JSON). Doubled keys, which that leaves open,
are refused: two readers must not see two policies in one document.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from store.access import actions as table
from store.access.errors import MalformedPolicy
from store.access.operators import OPERATORS, TEXTUAL, Family, parse_bool, scalar_test
from store.access.patterns import BadVariable, parse_arn_pattern, tokenize
from store.access.policy import (
    BUCKET_LIMITS,
    MANAGED_LIMITS,
    SESSION_LIMITS,
    TRUST_LIMITS,
    VERSION_1,
    VERSION_2,
    Condition,
    Limits,
    Policy,
    PolicyKind,
    Qualifier,
    Statement,
)
from store.access.principals import EVERYONE, element_token

Json = dict[str, object]

_DEFAULT_LIMITS = {
    PolicyKind.IDENTITY: MANAGED_LIMITS,
    PolicyKind.RESOURCE: BUCKET_LIMITS,
    PolicyKind.TRUST: TRUST_LIMITS,
    PolicyKind.SESSION: SESSION_LIMITS,
}
WILDCARDS_MAX = 1000
_BUCKET_ARN = "arn:aws:s3:::"
_is_sid = re.compile(r"[A-Za-z0-9]*", re.ASCII).fullmatch
# Of a provider the part before the last colon is its issuer: "op.example/realm:aud".
_is_key = re.compile(r"[^\s:]+:[^\x00-\x1f]+", re.ASCII).fullmatch
_is_action = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+", re.ASCII).fullmatch
_PRINCIPAL_KINDS = frozenset({"AWS", "Federated", "Service", "CanonicalUser"})
_DOCUMENT_ELEMENTS = frozenset({"Version", "Id", "Statement"})
_STATEMENT_ELEMENTS = frozenset(
    {
        "Sid",
        "Effect",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Principal",
        "NotPrincipal",
        "Condition",
    }
)


def parse_policy(
    document: str | bytes,
    kind: PolicyKind = PolicyKind.IDENTITY,
    *,
    name: str = "",
    limits: Limits | None = None,
) -> Policy:
    """Parse and check a document. limits: None for those of AWS for this kind.

    Raises MalformedPolicy.
    """
    return _parse(document, kind, name, "", limits or _DEFAULT_LIMITS[kind])


def parse_bucket_policy(
    document: str | bytes, bucket: str, *, limits: Limits = BUCKET_LIMITS
) -> Policy:
    """Parse and check the policy of this bucket: it may only speak of this bucket.

    Its actions have to be known ones, and one of each statement has to concern its resources.
    Raises MalformedPolicy.
    """
    return _parse(document, PolicyKind.RESOURCE, f"of {bucket}", bucket, limits)


def _parse(
    document: str | bytes, kind: PolicyKind, name: str, bucket: str, limits: Limits
) -> Policy:
    top = _load(document, limits)
    _check_names(top, _DOCUMENT_ELEMENTS, _Place())
    version = top.get("Version", VERSION_1)
    if version not in (VERSION_1, VERSION_2):
        raise MalformedPolicy(f"must be {VERSION_2} or {VERSION_1}", element="Version")
    identity = top.get("Id", "")
    if not isinstance(identity, str):
        raise MalformedPolicy("must be a string", element="Id")
    listed = top.get("Statement")
    if isinstance(listed, dict):
        listed = [listed]
    if not isinstance(listed, list) or not listed:
        raise MalformedPolicy("must be a statement or a list of statements", element="Statement")
    reader = _StatementReader(kind, bucket, version == VERSION_2)
    statements = tuple(reader.read(_Place(index), item) for index, item in enumerate(listed))
    if kind is PolicyKind.IDENTITY or kind is PolicyKind.SESSION:
        _check_sids(statements)
    return Policy(name=name, kind=kind, version=version, id=identity, statements=statements)


def _load(document: str | bytes, limits: Limits) -> Json:
    try:
        text = document.decode() if isinstance(document, bytes) else document
        size = len("".join(text.split())) if limits.dense else len(text.encode())
    except UnicodeError:
        raise MalformedPolicy("the document is not UTF-8") from None
    if size > limits.size_max:
        unit = "characters without white space" if limits.dense else "bytes"
        raise MalformedPolicy(f"the document has {size} {unit}, at most {limits.size_max} may be")
    # Each costs some microseconds to make ready, and the loop waits meanwhile.
    if text.count("*") + text.count("?") > WILDCARDS_MAX:
        raise MalformedPolicy(f"the document has more than {WILDCARDS_MAX} wildcards")
    # White space doesn't count, but is bounded all the same.
    if len(text) > 8 * limits.size_max:
        raise MalformedPolicy("the document is mostly white space")
    try:
        top = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as broken:
        raise MalformedPolicy(
            f"this is not JSON: {broken.msg}", line=broken.lineno, column=broken.colno
        ) from None
    except RecursionError:
        raise MalformedPolicy("the document is nested too deeply") from None
    except ValueError:
        raise MalformedPolicy("a number has too many digits") from None
    if not isinstance(top, dict):
        raise MalformedPolicy("the document must be a JSON object")
    return top


def _object(pairs: list[tuple[str, object]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedPolicy(f"'{twice}' stands twice in one object")
    return found


def _constant(text: str) -> NoReturn:
    raise MalformedPolicy(f"{text} is not JSON")


def _check_sids(statements: tuple[Statement, ...]) -> None:
    seen: set[str] = set()
    for index, statement in enumerate(statements):
        if statement.sid and statement.sid in seen:
            raise MalformedPolicy(
                f"'{statement.sid}' is another statement's, too", statement=index, element="Sid"
            )
        seen.add(statement.sid)


class _Place:
    """Where in the document we are, for errors."""

    def __init__(self, statement: int | None = None, element: str = "") -> None:
        self.statement = statement
        self.element = element

    def __truediv__(self, element: str) -> _Place:
        return _Place(self.statement, f"{self.element}.{element}" if self.element else element)

    def error(self, sentence: str) -> MalformedPolicy:
        return MalformedPolicy(sentence, statement=self.statement, element=self.element)


def _check_names(found: Json, allowed: frozenset[str], place: _Place) -> None:
    for name in found:
        if name not in allowed:
            raise place.error(f"'{name}' is no element of it")


def _strings(value: object, place: _Place) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(item, str) for item in listed):
        raise place.error("must be a string or a list of strings")
    return tuple(listed)


class _StatementReader:
    """Reads the statements of one document."""

    def __init__(self, kind: PolicyKind, bucket: str, variables: bool) -> None:
        self._kind = kind
        self._bucket = bucket
        self._variables = variables

    def read(self, place: _Place, item: object) -> Statement:
        if not isinstance(item, dict):
            raise place.error("must be an object")
        _check_names(item, _STATEMENT_ELEMENTS, place)
        effect = item.get("Effect")
        if effect not in ("Allow", "Deny"):
            raise (place / "Effect").error("must be Allow or Deny")
        sid = item.get("Sid", "")
        if not isinstance(sid, str):
            raise (place / "Sid").error("must be a string")
        # A bucket's policy may say what it likes there, an identity's may not.
        if self._kind is PolicyKind.IDENTITY and not _is_sid(sid):
            raise (place / "Sid").error("may only have letters and digits")
        actions, not_action = self._pair(item, "Action", place)
        if not actions:
            raise place.error("has neither Action nor NotAction")
        self._check_actions(actions, place / ("NotAction" if not_action else "Action"))
        resources, not_resource = self._resources(item, place)
        if self._bucket:
            self._check_applicable(actions, not_action, resources, not_resource, place)
        principals, not_principal = self._principals(item, effect == "Allow", place)
        return Statement(
            sid=sid,
            allow=effect == "Allow",
            actions=actions,
            not_action=not_action,
            resources=resources,
            not_resource=not_resource,
            principals=principals,
            not_principal=not_principal,
            conditions=self._conditions(item.get("Condition"), place / "Condition"),
        )

    def _pair(self, item: Json, name: str, place: _Place) -> tuple[tuple[str, ...], bool]:
        """An element or its Not form, and which it was; () where there is neither."""
        if name in item and f"Not{name}" in item:
            raise place.error(f"has both {name} and Not{name}")
        if name in item:
            return _strings(item[name], place / name), False
        if f"Not{name}" in item:
            return _strings(item[f"Not{name}"], place / f"Not{name}"), True
        return (), False

    def _check_actions(self, actions: tuple[str, ...], place: _Place) -> None:
        for action in actions:
            if not _is_action(action):
                raise place.error(f"'{action}' is not of the form service:action")
            # Identity policies may name services that we don't have; a bucket has one service.
            if self._bucket and not table.matching(action):
                raise place.error(f"'{action}' is no action that is known")

    def _resources(self, item: Json, place: _Place) -> tuple[tuple[str, ...], bool]:
        resources, not_resource = self._pair(item, "Resource", place)
        if self._kind is PolicyKind.TRUST:
            if resources:
                raise place.error("a role's trust policy has no Resource")
            return ("*",), False
        if not resources:
            raise place.error("has neither Resource nor NotResource")
        place = place / ("NotResource" if not_resource else "Resource")
        for resource in resources:
            try:
                pattern = parse_arn_pattern(resource, variables=self._variables)
            except BadVariable as bad:
                raise place.error(str(bad)) from None
            if pattern is None or not (pattern.is_everything or resource.startswith("arn:")):
                raise place.error(f"'{resource}' is neither an ARN nor *")
            if self._bucket and not self._is_ours(resource):
                raise place.error(f"'{resource}' is not within {_BUCKET_ARN}{self._bucket}")
        return resources, not_resource

    def _is_ours(self, resource: str) -> bool:
        ours = _BUCKET_ARN + self._bucket
        if resource in ("*", ours, f"{_BUCKET_ARN}*") or resource.startswith(f"{ours}/"):
            return True
        # `bucket*` and the like: wider than the bucket, but it does reach it.
        prefix = re.split(r"[*?$]", resource, maxsplit=1)[0]
        return prefix != resource and ours.startswith(prefix)

    def _check_applicable(
        self,
        actions: tuple[str, ...],
        not_action: bool,
        resources: tuple[str, ...],
        not_resource: bool,
        place: _Place,
    ) -> None:
        """At least one action has to concern one of the resources, or the statement is a slip."""
        if not_action or not_resource:
            return
        ours = _BUCKET_ARN + self._bucket
        inner = all(resource.startswith(f"{ours}/") for resource in resources)
        outer = all(resource == ours for resource in resources)
        concerned = {
            table.ACTIONS[name].on for action in actions for name in table.matching(action)
        }
        if (inner and table.On.OBJECT not in concerned) or (
            outer and concerned <= {table.On.OBJECT}
        ):
            raise place.error("no action of it applies to any of its resources")

    def _principals(
        self, item: Json, allow: bool, place: _Place
    ) -> tuple[frozenset[str] | None, bool]:
        name = next((n for n in ("Principal", "NotPrincipal") if n in item), None)
        if self._kind in (PolicyKind.IDENTITY, PolicyKind.SESSION):
            if name is not None:
                raise place.error(f"{name} is only for policies of resources and roles")
            return None, False
        if name is None:
            raise place.error("has no Principal")
        if "Principal" in item and "NotPrincipal" in item:
            raise place.error("has both Principal and NotPrincipal")
        if name == "NotPrincipal" and (allow or self._kind is PolicyKind.TRUST):
            raise (place / name).error("only goes with Effect Deny, in policies of resources")
        return self._tokens(item[name], place / name), name == "NotPrincipal"

    def _tokens(self, value: object, place: _Place) -> frozenset[str]:
        if value == EVERYONE:
            return frozenset({EVERYONE})
        if not isinstance(value, dict) or not value:
            raise place.error('must be "*" or an object with AWS, Federated, ...')
        _check_names(value, _PRINCIPAL_KINDS, place)
        found: set[str] = set()
        for kind, names in value.items():
            for name in _strings(names, place / kind):
                token = element_token(kind, name)
                if token is None:
                    raise (place / kind).error(f"'{name}' is no principal")
                found.add(token)
        return frozenset(found)

    def _conditions(self, value: object, place: _Place) -> tuple[Condition, ...]:
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise place.error("must be an object")
        found: list[Condition] = []
        for name, keys in value.items():
            below = place / name
            if not isinstance(keys, dict) or not keys:
                raise below.error("must be an object of condition keys")
            found += [self._condition(name, key, item, below) for key, item in keys.items()]
        return tuple(found)

    def _condition(self, name: str, key: str, value: object, place: _Place) -> Condition:
        qualifier = Qualifier.NONE
        bare = name
        for each in (Qualifier.FOR_ALL, Qualifier.FOR_ANY):
            if name.startswith(f"{each.value}:"):
                qualifier, bare = each, name.removeprefix(f"{each.value}:")
        if_exists = bare.endswith("IfExists")
        op = OPERATORS.get(bare.removesuffix("IfExists"))
        if op is None or (if_exists and op.family is Family.NULL):
            raise place.error("is no condition operator")
        place = place / key
        if not _is_key(key):
            raise place.error("is no condition key")
        condition = Condition(
            operator=op,
            qualifier=qualifier,
            if_exists=if_exists,
            key=key,
            values=_condition_values(value, place),
        )
        self._check_values(condition, place)
        return condition

    def _check_values(self, condition: Condition, place: _Place) -> None:
        family = condition.operator.family
        try:
            for value in condition.values:
                if family is Family.ARN:
                    valid = parse_arn_pattern(value, variables=self._variables) is not None
                elif family is Family.NULL:
                    valid = parse_bool(value) is not None
                elif family in TEXTUAL:
                    tokenize(value, wildcards=False, variables=self._variables)
                    valid = True
                else:
                    valid = scalar_test(condition.operator, (value,)) is not None
                if not valid:
                    raise place.error(f"'{value}' is no {family.value.strip()}")
        except BadVariable as bad:
            raise place.error(str(bad)) from None


def _condition_values(value: object, place: _Place) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    found: list[str] = []
    for item in listed:
        if isinstance(item, bool):
            found.append("true" if item else "false")
        elif isinstance(item, str | int | float):
            found.append(str(item))
        else:
            raise place.error("must be a string, number or boolean, or a list of them")
    if not found:
        raise place.error("has no value")
    return tuple(found)
