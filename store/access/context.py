"""The context of a request: what conditions and policy variables are answered with.

What is known of the caller is made once for a key or session (`caller_keys`). What is known of the
request is asked for only when some rule looks at it: a `RequestContext` puts both together.

Invariant: the caller's keys come first, and a caller's key that is absent stays absent. So no
header, tag or claim of a request can pass for who its caller is.

Concurrency: pure; one context for one request. Source: AWS IAM user guide, "AWS global condition
context keys" and "Policy variables" (values by kind of principal).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from store.access.patterns import Values
from store.access.principals import Kind, Principal

# Keys that only the caller's side may fill, besides those that begin with _CALLERS_PREFIXES.
_CALLERS = frozenset(
    key.lower()
    for key in (
        "aws:username",
        "aws:userid",
        "aws:groups",
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "aws:PrincipalType",
        "aws:PrincipalIsAWSService",
        "aws:TokenIssueTime",
        "aws:FederatedProvider",
        "aws:MultiFactorAuthPresent",
    )
)
_CALLERS_PREFIXES = ("aws:principaltag/", "jwt:")

Ask = Callable[[str], Values | None]


def caller_keys(
    principal: Principal,
    *,
    user: str = "",
    user_id: str = "",
    groups: tuple[str, ...] = (),
    issued: str = "",
    tags: Mapping[str, str] | None = None,
    claims: Mapping[str, Values] | None = None,
) -> dict[str, Values]:
    """The caller's keys, in lower case.

    user: of a user, its name. user_id: of a user its unique id, of a session ROLEID:NAME. issued:
    of a session, when its token was made (ISO 8601). tags: of the principal. claims: as
    `tokens.Claims.context` gives them.
    """
    found: dict[str, Values] = dict(claims or {})
    found["aws:principaltype"] = principal.kind.value
    if principal.kind is Kind.ANONYMOUS:
        found["aws:userid"] = "anonymous"
        return found
    if principal.account:
        found["aws:principalaccount"] = principal.account
        # Of a session it is the role's: sessions come and go, and policies name roles.
        is_role = principal.kind is Kind.SESSION and principal.source_arn
        found["aws:principalarn"] = principal.source_arn if is_role else principal.arn
        if principal.kind is Kind.ROOT:
            found["aws:userid"] = principal.account
    for key, value in (
        ("aws:username", user),
        ("aws:userid", user_id),
        ("aws:groups", groups),
        ("aws:tokenissuetime", issued),
        ("aws:federatedprovider", principal.federated),
    ):
        if value:
            found[key] = value
    for name, tag in (tags or {}).items():
        found[f"aws:principaltag/{name.lower()}"] = tag
    return found


class RequestContext:
    """A `patterns.Context`: the caller's keys, then what the request is asked for."""

    __slots__ = ("_ask", "_caller")

    def __init__(self, caller: Mapping[str, Values], ask: Ask) -> None:
        """caller: by `caller_keys`. ask: the value of any other key (lower case), None if absent;
        called only for keys that a rule looks at, perhaps more than once."""
        self._caller = caller
        self._ask = ask

    def get(self, key: str, /) -> Values | None:
        """The value of a condition key."""
        value = self._caller.get(key)
        if value is not None or key in _CALLERS or key.startswith(_CALLERS_PREFIXES):
            return value
        return self._ask(key)
