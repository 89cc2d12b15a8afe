"""Statements made ready to be asked: does this one speak of that action, caller, resource?

A rule's resources are sorted once: names that stand for themselves, names that everything below
begins with, and the rest, which needs matching. `plans` finds rules by the first two.

Concurrency: immutable once made; to be shared by all who have the policy.
"""

from __future__ import annotations

from store.access.conditions import ReadyCondition
from store.access.decision import Layer, Source, decided_by
from store.access.patterns import (
    ArnPattern,
    Context,
    Matcher,
    Template,
    Wild,
    matcher,
    parse_arn_pattern,
    tokenize,
)
from store.access.policy import Policy, Statement
from store.access.principals import Principal, Strength


class Rule:
    """One statement, ready. Slots are read by `explain`, too."""

    __slots__ = (
        "_actions",
        "_excluded",
        "_matchers",
        "_patterns",
        "_variable",
        "allow",
        "conditions",
        "decision",
        "exact",
        "keys",
        "prefixes",
        "source",
        "statement",
    )

    def __init__(self, source: Source, statement: Statement, *, variables: bool) -> None:
        self.source = source
        self.decision = decided_by(source, allow=statement.allow)
        self.statement = statement
        self.allow = statement.allow
        self._actions = tuple(_action_matcher(action) for action in statement.actions)
        self._excluded = statement.not_resource
        self._patterns = [_pattern(text, variables) for text in statement.resources]
        self.exact: frozenset[str] = frozenset()
        self.prefixes: tuple[str, ...] = ()
        self._matchers: tuple[Matcher, ...] = ()
        self._variable: tuple[Template, ...] = ()
        self._sort_patterns()
        self.conditions = tuple(
            ReadyCondition(condition, variables=variables, allow=statement.allow)
            for condition in statement.conditions
        )
        self.keys: frozenset[str] = frozenset().union(
            *(pattern.template.keys for pattern in self._patterns),
            *(condition.keys for condition in self.conditions),
        )

    def _sort_patterns(self) -> None:
        """Most resources are one name, or all below one: those need no expression."""
        exact: list[str] = []
        prefixes: list[str] = []
        matchers: list[Matcher] = []
        variable: list[Template] = []
        for pattern in self._patterns:
            test = None if pattern.template.keys else pattern.template.matcher()
            if test is None:
                variable.append(pattern.template)
            elif pattern.is_everything:
                prefixes.append("")
            elif len(pattern.tokens) == 1:
                exact.append(pattern.prefix)
            elif len(pattern.tokens) == 2 and pattern.tokens[1] is Wild.MANY:
                prefixes.append(pattern.prefix)
            else:
                matchers.append(test)
        self.exact = frozenset(exact)
        self.prefixes = tuple(prefixes)
        self._matchers = tuple(matchers)
        self._variable = tuple(variable)

    @property
    def is_found(self) -> bool:
        """Whether `exact` and `prefixes` are all there is to say of its resources."""
        return not (self._excluded or self._matchers or self._variable)

    def concerns(self, action_lower: str) -> bool:
        """Whether it speaks of this action."""
        hit = any(match(action_lower) for match in self._actions)
        return hit is not self.statement.not_action

    def strength(self, principal: Principal) -> Strength:
        """Whether and how it names this caller; EXACT where it has no Principal element."""
        if self.statement.principals is None:
            return Strength.EXACT
        found = principal.named_by(self.statement.principals)
        if not self.statement.not_principal:
            return found
        return Strength.NONE if found else Strength.DIRECT

    def may_cover(self, stem: str) -> bool:
        """Whether a resource with this stem (an ARN up to its first slash) can be meant."""
        return self._excluded or any(_may_match(pattern, stem) for pattern in self._patterns)

    def covers(self, resource: str, context: Context) -> bool:
        """Whether it means this resource."""
        return (
            resource in self.exact
            or resource.startswith(self.prefixes)
            or (bool(self._matchers) and any(match(resource) for match in self._matchers))
            or (bool(self._variable) and self._covers_variable(resource, context))
        ) is not self._excluded

    def _covers_variable(self, resource: str, context: Context) -> bool:
        for template in self._variable:
            match = template.matcher(context)
            if match is None:
                # An exception that can't be named must not widen a grant.
                if self.allow and self._excluded:
                    return True
            elif match(resource):
                return True
        return False

    def applies(self, resource: str, context: Context) -> bool:
        """Whether it means this resource under these conditions."""
        return self.covers(resource, context) and self.permits(context)

    def permits(self, context: Context) -> bool:
        """Whether all its conditions hold."""
        # A loop, since a generator for `all` costs more than most conditions.
        for condition in self.conditions:  # noqa: SIM110
            if not condition.holds(context):
                return False
        return True


def _action_matcher(action: str) -> Matcher:
    return matcher(tokenize(action.lower(), wildcards=True, variables=False))


def _pattern(text: str, variables: bool) -> ArnPattern:
    pattern = parse_arn_pattern(text, variables=variables)
    assert pattern is not None, text
    return pattern


def _may_match(pattern: ArnPattern, stem: str) -> bool:
    prefix = pattern.prefix
    head, slash, _ = prefix.partition("/")
    return head == stem if slash else stem.startswith(prefix)


def compile_policy(layer: Layer, policy: Policy) -> tuple[Rule, ...]:
    """The rules of one policy in one layer. Keep them where many callers have the policy."""
    return tuple(
        Rule(
            Source(layer=layer, policy=policy.name, index=index, sid=statement.sid),
            statement,
            variables=policy.has_variables,
        )
        for index, statement in enumerate(policy.statements)
    )
