"""Statements made ready to be asked, and sets of them by what is asked.

`compile_policies` turns the policies of one layer (all identity policies of a user, say) into a
`Compiled`. For every action on every bucket, by every caller who asked before, it remembers the few
rules that can have a say: a `Plan`. Evaluation then only looks at resources and conditions.

Invariants
  1. A plan leaves out a rule only if it can't match: another action, another principal, or
     resources that can't begin with the bucket asked about.
  2. Plans are bounded: `PLANS_MAX` for a layer, then all are forgotten.
  3. A `Compiled` never changes what it says; a change of policy makes a new one.

Concurrency: may be shared on one loop; remembering plans is its only change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from store.access.conditions import ReadyCondition
from store.access.decision import Layer, Source, decided_by
from store.access.patterns import (
    ArnPattern,
    Context,
    Matcher,
    Wild,
    fixed,
    matcher,
    parse_arn_pattern,
    tokenize,
)
from store.access.policy import Policy, Statement
from store.access.principals import Principal, Strength

PLANS_MAX = 4096


class Rule:
    """One statement, ready. Slots are read by `explain`, too."""

    __slots__ = (
        "_actions",
        "_everywhere",
        "_exact",
        "_excluded",
        "_matchers",
        "_patterns",
        "_prefixes",
        "_variable",
        "allow",
        "conditions",
        "decision",
        "keys",
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
        self._everywhere = any(pattern.is_everything for pattern in self._patterns)
        self._exact: frozenset[str] = frozenset()
        self._prefixes: tuple[str, ...] = ()
        self._matchers: tuple[Matcher, ...] = ()
        self._variable: tuple[ArnPattern, ...] = ()
        self._sort_patterns()
        self.conditions = tuple(
            ReadyCondition(condition, variables=variables, allow=statement.allow)
            for condition in statement.conditions
        )
        self.keys: frozenset[str] = frozenset().union(
            *(pattern.variables for pattern in self._patterns),
            *(condition.keys for condition in self.conditions),
        )

    def _sort_patterns(self) -> None:
        """Most resources are one name, or all below one: those need no expression."""
        exact: list[str] = []
        prefixes: list[str] = []
        matchers: list[Matcher] = []
        variable: list[ArnPattern] = []
        for pattern in self._patterns:
            test = None if pattern.variables else pattern.matcher()
            if test is None:
                variable.append(pattern)
            elif len(pattern.tokens) == 1:
                exact.append(pattern.prefix)
            elif len(pattern.tokens) == 2 and pattern.tokens[1] is Wild.MANY:
                prefixes.append(pattern.prefix)
            else:
                matchers.append(test)
        self._exact = frozenset(exact)
        self._prefixes = tuple(prefixes)
        self._matchers = tuple(matchers)
        self._variable = tuple(variable)

    @property
    def unconditional(self) -> bool:
        """Whether it covers every resource under every condition."""
        return self._everywhere and not self._excluded and not self.conditions

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
        if self._everywhere or self._excluded:
            return True
        return any(_may_match(pattern, stem) for pattern in self._patterns)

    def covers(self, resource: str, context: Context) -> bool:
        """Whether it means this resource."""
        return (
            self._everywhere
            or resource in self._exact
            or (bool(self._prefixes) and resource.startswith(self._prefixes))
            or (bool(self._matchers) and any(match(resource) for match in self._matchers))
            or (bool(self._variable) and self._covers_variable(resource, context))
        ) is not self._excluded

    def _covers_variable(self, resource: str, context: Context) -> bool:
        for pattern in self._variable:
            match = pattern.matcher(context)
            if match is None:
                # An exception that can't be named must not widen a grant.
                if self.allow and self._excluded:
                    return True
            elif match(resource):
                return True
        return False

    def applies(self, resource: str, context: Context) -> bool:
        """Whether it means this resource under these conditions."""
        if not self.covers(resource, context):
            return False
        # A loop, since a generator for `all` costs more than most conditions.
        for condition in self.conditions:  # noqa: SIM110
            if not condition.holds(context):
                return False
        return True


def _action_matcher(action: str) -> Matcher:
    tokens = fixed(tokenize(action.lower(), wildcards=True, variables=False))
    assert tokens is not None
    return matcher(tokens)


def _pattern(text: str, variables: bool) -> ArnPattern:
    pattern = parse_arn_pattern(text, variables=variables)
    assert pattern is not None, text
    return pattern


def _may_match(pattern: ArnPattern, stem: str) -> bool:
    prefix = pattern.prefix
    head, slash, _ = prefix.partition("/")
    return head == stem if slash else stem.startswith(prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What of a layer may decide one action on one bucket by one caller.

    allows: with what each is worth; those that need no look at the resource come first.
    """

    denies: tuple[Rule, ...]
    allows: tuple[tuple[Rule, Strength], ...]


class Compiled:
    """The policies of one layer."""

    __slots__ = ("_keys", "_plans", "layer", "rules")

    def __init__(self, layer: Layer, rules: tuple[Rule, ...]) -> None:
        self.layer = layer
        self.rules = rules
        self._plans: dict[tuple[str, str, frozenset[str]], Plan] = {}
        self._keys: dict[str, frozenset[str]] = {}

    def plan(self, action: str, stem: str, principal: Principal) -> Plan:
        """The rules that may decide; see invariant 1."""
        asked = (action, stem, principal.tokens)
        plan = self._plans.get(asked)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[asked] = self._make_plan(action, stem, principal)
        return plan

    def _make_plan(self, action: str, stem: str, principal: Principal) -> Plan:
        lower = action.lower()
        denies: list[Rule] = []
        allows: list[tuple[Rule, Strength]] = []
        for rule in self.rules:
            strength = rule.strength(principal)
            if not strength or not rule.may_cover(stem) or not rule.concerns(lower):
                continue
            if rule.allow:
                allows.append((rule, strength))
            else:
                denies.append(rule)
        allows.sort(key=lambda allow: (not allow[0].unconditional, len(allow[0].keys), -allow[1]))
        return Plan(denies=tuple(denies), allows=tuple(allows))

    def keys_for(self, action: str) -> frozenset[str]:
        """The condition keys (lower case) that any rule on this action looks at.

        A face need not find out what isn't among them. Keys of tags stand there one by one, as
        "s3:existingobjecttag/colour".
        """
        found = self._keys.get(action)
        if found is None:
            lower = action.lower()
            found = frozenset().union(*(r.keys for r in self.rules if r.concerns(lower)))
            if len(self._keys) >= PLANS_MAX:
                self._keys.clear()
            self._keys[action] = found
        return found


def compile_policies(layer: Layer, policies: Iterable[Policy]) -> Compiled:
    """One layer, ready. The rules of a policy that several callers share are made once a layer."""
    return Compiled(layer, tuple(r for policy in policies for r in compile_policy(layer, policy)))


def compile_policy(layer: Layer, policy: Policy) -> tuple[Rule, ...]:
    """The rules of one policy; keep them where many callers have it, and use `Compiled` on them."""
    return tuple(
        Rule(
            Source(layer=layer, policy=policy.name, index=index, sid=statement.sid),
            statement,
            variables=policy.has_variables,
        )
        for index, statement in enumerate(policy.statements)
    )
