"""What every action is given: its parameters, who asks, and the question whether they may.

Parameters are form fields; lists go as `Name.member.1`, structures in them as
`Tags.member.1.Key`.

Concurrency: one call. Source: AWS IAM API reference, "Making query requests".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from s3api.face import Face
from s3api.iam.answers import Structure, Value
from s3api.iam.conditions import Told, told_by
from s3api.iam.refusals import QueryDenied, ValidationError
from s3api.requestfacts import RequestFacts
from s3api.requests import Request
from store.access.actions import ACTIONS, On
from store.access.evaluate import ResourceRules, decide
from store.access.patterns import Values
from store.access.principals import Kind as PrincipalKind
from store.access.principals import Principal
from store.identity import names
from store.identity.records import Group, Kind, Role, Tags, User
from store.identity.service import Identity

T = TypeVar("T")

ITEMS_DEFAULT = 100
ITEMS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Parameters:
    """Fields of a form, or those of one structure in it."""

    fields: Mapping[str, str]
    prefix: str = ""

    def optional(self, name: str) -> str | None:
        """None where it is absent."""
        return self.fields.get(self.prefix + name)

    def text(self, name: str, default: str | None = None) -> str:
        """Raises ValidationError where it is absent and there is no default."""
        found = self.fields.get(self.prefix + name, default)
        if found is None:
            raise ValidationError(
                f"1 validation error detected: Value null at '{_spelled(name)}' failed to satisfy "
                "constraint: Member must not be null"
            )
        return found

    def number(self, name: str, default: int) -> int:
        """Raises ValidationError."""
        text = self.optional(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise ValidationError(f"The value of {name} must be a number.")
        return int(text)

    def flag(self, name: str) -> bool:
        """False where it is absent."""
        return self.text(name, "false").lower() == "true"

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(each.fields[each.prefix[:-1]] for each in self._members(name, ""))

    def structures(self, name: str) -> list[Parameters]:
        """A list of structures."""
        return list(self._members(name, "."))

    def _members(self, name: str, end: str) -> Iterator[Parameters]:
        start = f"{self.prefix}{name}.member."
        # Once for all: two thousand fields looked at for each of them would take a third of a
        # second.
        numbers = {
            number
            for number, dot, _ in (
                each.removeprefix(start).partition(".")
                for each in self.fields
                if each.startswith(start)
            )
            if dot == end
        }
        for number in itertools.count(1):
            if str(number) not in numbers:
                return
            yield Parameters(self.fields, f"{start}{number}.")

    def tags(self, name: str = "Tags") -> Tags:
        """A list of Key and Value. Raises ValidationError for one that stands there twice."""
        found: Tags = {}
        for each in self.structures(name):
            key = each.text("Key")
            if key in found:
                raise ValidationError(f"The tag {key[:128]!r} is given twice.")
            found[key] = each.text("Value", "")
        return found


def _spelled(name: str) -> str:
    return name[:1].lower() + name[1:]


@dataclass(slots=True, kw_only=True)
class QueryCall:
    """One action that somebody asks for.

    service: "iam" or "sts". action: "CreateUser". told: condition keys that the action itself
    tells (lower case).
    """

    face: Face
    request: Request
    service: str
    action: str
    parameters: Parameters
    told: dict[str, Values] = field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        return self.face.namespace.identity

    @property
    def account(self) -> str:
        """The canonical id of the caller's account."""
        return self.request.auth.account.id

    @property
    def user(self) -> str:
        """The caller's own user name, "" of who is no user."""
        found = self.request.auth.facts.get("aws:username", "")
        return found if isinstance(found, str) else ""

    @property
    def user_name(self) -> str:
        """The user an action is about: the one it names, else the caller; "" for the root.

        Raises ValidationError: only a user or the account's root may leave it out. Otherwise who
        has a role's session could make keys of the root by naming nobody.
        """
        given = self.parameters.optional("UserName")
        if given is not None:
            if not given:
                raise ValidationError("The specified value for userName is invalid.")
            return given
        if not self.user and self.principal.kind is not PrincipalKind.ROOT:
            raise ValidationError("Must specify userName when calling with non-User credentials")
        return self.user

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.request.auth.access.principal

    @property
    def is_session(self) -> bool:
        """Whether the caller has temporary credentials."""
        return "aws:tokenissuetime" in self.request.auth.facts

    def facts(self, told: Mapping[str, Values] | None = None) -> RequestFacts:
        """What conditions may ask of this call."""
        return RequestFacts(
            self.request,
            f"{self.service}:{self.action}",
            region=self.face.region,
            account=names.account_number(self.account),
            told={**self.told, **(told or {})},
            tags=dict,
        )

    def authorize(self, resource: str, rules: ResourceRules | None = None) -> None:
        """Whether the caller may do this action on `resource`, an ARN. Raises QueryDenied."""
        access = self.request.auth.access
        action = f"{self.service}:{self.action}"
        told = told_by(self.identity, self.account, self.action, self.parameters)
        facts = Told(told, self.facts())
        if not decide(access, rules, action, resource, facts).allowed:
            raise self.denied(resource)

    def denied(self, resource: str) -> QueryDenied:
        """The refusal, in the words that clients look for."""
        who = self.principal.arn or "anonymous"
        return QueryDenied(
            f"User: {who} is not authorized to perform: {self.service}:{self.action} on resource: "
            f"{resource}"
        )

    def page(self, items: Sequence[T], key: Callable[[T], str]) -> tuple[list[T], dict[str, Value]]:
        """The part of a listing that was asked for, and what its answer says of the rest.

        items: in the order of their keys.
        """
        marker = self.parameters.text("Marker", "")
        count = self.parameters.number("MaxItems", ITEMS_DEFAULT)
        if not 1 <= count <= ITEMS_MAX:
            raise ValidationError(f"MaxItems lies between 1 and {ITEMS_MAX}.")
        rest = [each for each in items if key(each) > marker] if marker else list(items)
        found, more = rest[:count], len(rest) > count
        ending: dict[str, Value] = {"IsTruncated": more}
        if more:
            ending["Marker"] = key(found[-1])
        return found, ending


def subject(call: QueryCall) -> str:
    """The ARN that an action of IAM is done on, by what the table of actions says of it."""
    account, parameters = call.account, call.parameters
    match ACTIONS[f"iam:{call.action}"].on:
        case On.USER:
            return user_arn(call)
        case On.GROUP:
            return _holder_arn(call, Group, parameters.text("GroupName"))
        case On.ROLE:
            return _holder_arn(call, Role, parameters.text("RoleName"))
        case On.POLICY:
            arn = parameters.optional("PolicyArn")
            name, path = parameters.text("PolicyName", "*"), parameters.text("Path", "/")
            return arn or names.entity_arn(account, Kind.POLICY, name, path)
        case On.PROVIDER:
            arn = parameters.optional("OpenIDConnectProviderArn")
            return arn or names.provider_arn(account, parameters.text("Url", "://*"))
    return "*"


def user_arn(call: QueryCall) -> str:
    """Of the user an action is about; of the account where that is the root."""
    if call.action == "GetAccessKeyLastUsed":
        key = call.identity.keys.get(call.account, call.parameters.text("AccessKeyId"))
        name = key.user
    else:
        name = call.user_name
    return _holder_arn(call, User, name) if name else names.root_arn(call.account)


_HOLDERS: dict[type[User] | type[Group] | type[Role], Kind] = {
    User: Kind.USER,
    Group: Kind.GROUP,
    Role: Kind.ROLE,
}


def _holder_arn(call: QueryCall, made: type[User] | type[Group] | type[Role], name: str) -> str:
    """Of one that is there or is about to be."""
    path = call.parameters.text("Path", "/")
    for each in call.identity.holders.all(call.account, made):
        if each.name.lower() == name.lower():
            name, path = each.name, each.path
    return names.entity_arn(call.account, _HOLDERS[made], name, path)


Result = Structure | None
