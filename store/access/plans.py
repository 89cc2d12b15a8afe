"""Sets of rules by what is asked: what makes an evaluation cost microseconds.

`compile_policies` turns the policies of one layer (all identity policies of a user, say) into a
`Compiled`. For every action on every bucket, by every caller who asked before, it remembers the few
rules that can have a say: a `Plan`. In it, rules are found by name or prefix of the resource, so
that a hundred policies for a hundred folders cost no more than one.

Where many callers share policies, make the rules of each policy once (`rules.compile_policy`) and
put them together for each caller with `Compiled`.

Invariants
  1. A plan leaves out a rule only if it can't match: another action, another principal, or
     resources that can't begin with the bucket asked about.
  2. Plans are bounded: so many for a layer, then all of its are forgotten.
  3. A `Compiled` never changes what it says; a change of policy makes a new one.

Concurrency: may be shared on one loop; remembering plans is its only change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from store.access.decision import Layer
from store.access.patterns import Context
from store.access.policy import Policy
from store.access.principals import Principal, Strength
from store.access.rules import Rule, compile_policy

# A caller meets few buckets, a bucket many callers.
PLANS_MAX = 256
PLANS_OF_RESOURCE_MAX = 8192


class Finder:
    """Some rules, of which the first that applies is wanted."""

    __slots__ = (
        "_exact",
        "_lengths",
        "_prefixes",
        "_rest",
        "_sure_exact",
        "_sure_lengths",
        "_sure_prefixes",
    )

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact: dict[str, list[Rule]] = {}
        self._prefixes: dict[str, list[Rule]] = {}
        self._rest: list[Rule] = []
        # Those without conditions first: they are the cheapest to find.
        for rule in sorted(rules, key=lambda rule: len(rule.conditions)):
            if not rule.is_found:
                self._rest.append(rule)
                continue
            for name in rule.exact:
                self._exact.setdefault(name, []).append(rule)
            for prefix in rule.prefixes:
                self._prefixes.setdefault(prefix, []).append(rule)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes})
        self._sure_exact = _sure(self._exact)
        self._sure_prefixes = _sure(self._prefixes)
        self._sure_lengths = sorted({len(prefix) for prefix in self._sure_prefixes})

    def is_sure(self, resource: str) -> bool:
        """Whether a rule applies that asks nothing of the request."""
        if resource in self._sure_exact:
            return True
        # A loop, as a generator for `any` costs more than what it looks at.
        for length in self._sure_lengths:  # noqa: SIM110
            if resource[:length] in self._sure_prefixes:
                return True
        return False

    def find(self, resource: str, context: Context) -> Rule | None:
        """A rule that applies; None where none does."""
        for rule in self._exact.get(resource, ()):
            if rule.permits(context):
                return rule
        for length in self._lengths:
            for rule in self._prefixes.get(resource[:length], ()):
                if rule.permits(context):
                    return rule
        for rule in self._rest:
            if rule.applies(resource, context):
                return rule
        return None


def _sure(rules: dict[str, list[Rule]]) -> frozenset[str]:
    return frozenset(n for n, found in rules.items() if any(not r.conditions for r in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What of a layer may decide one action on one bucket by one caller.

    denies: None where nothing does. allows: by what a grant is worth, the best first.
    """

    denies: Finder | None
    allows: tuple[tuple[Strength, Finder], ...]

    def allowing(self, resource: str, context: Context) -> Rule | None:
        """A rule that allows, whatever it is worth."""
        for _, finder in self.allows:
            rule = finder.find(resource, context)
            if rule is not None:
                return rule
        return None

    def is_sure(self, resource: str, worth: Strength) -> bool:
        """Whether it allows by a grant worth as much, whatever the request says beside.

        False where that takes a look at the request.
        """
        if self.denies is not None:
            return False
        for strength, finder in self.allows:
            if strength < worth:
                return False
            if finder.is_sure(resource):
                return True
        return False


class Compiled:
    """The rules of one layer."""

    __slots__ = ("_keys", "_plans", "_plans_max", "layer", "rules")

    def __init__(self, layer: Layer, rules: Iterable[Rule]) -> None:
        """rules: of that layer, as `rules.compile_policy` made them."""
        self.layer = layer
        self.rules = tuple(rules)
        self._plans: dict[tuple[str, str, frozenset[str]], Plan] = {}
        self._plans_max = PLANS_OF_RESOURCE_MAX if layer is Layer.RESOURCE else PLANS_MAX
        self._keys: dict[str, frozenset[str]] = {}

    def plan(self, action: str, stem: str, principal: Principal) -> Plan:
        """The rules that may decide; see invariant 1. stem: the resource up to its first slash."""
        asked = (action, stem, principal.tokens)
        plan = self._plans.get(asked)
        if plan is None:
            if len(self._plans) >= self._plans_max:
                self._plans.clear()
            plan = self._plans[asked] = self._make_plan(action, stem, principal)
        return plan

    def _make_plan(self, action: str, stem: str, principal: Principal) -> Plan:
        lower = action.lower()
        denies: list[Rule] = []
        allows: dict[Strength, list[Rule]] = {}
        for rule in self.rules:
            strength = rule.strength(principal)
            if not strength or not rule.may_cover(stem) or not rule.concerns(lower):
                continue
            if rule.allow:
                allows.setdefault(strength, []).append(rule)
            else:
                denies.append(rule)
        return Plan(
            denies=Finder(denies) if denies else None,
            allows=tuple(
                (strength, Finder(allows[strength])) for strength in sorted(allows, reverse=True)
            ),
        )

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
    """The policies of one layer, ready."""
    return Compiled(layer, (r for policy in policies for r in compile_policy(layer, policy)))
