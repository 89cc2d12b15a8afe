"""Why a decision came out as it did: every statement that was looked at, and where it stopped.

For `twofold policy simulate` and the audit log of refusals; not for the hot path.
Concurrency: pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from store.access.decision import Decision, Source
from store.access.evaluate import Access, ResourceRules, decide
from store.access.patterns import Context
from store.access.policy import Condition
from store.access.principals import Principal, Strength
from store.access.rules import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One statement. missed: the first thing in it that the request doesn't fit, "" if it fits."""

    source: Source
    allow: bool
    missed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The decision and all statements, in the order of layers and documents."""

    decision: Decision
    considered: tuple[Considered, ...]

    def lines(self) -> Iterator[str]:
        """Sentences for a terminal: the decision, then a line for each statement."""
        yield str(self.decision)
        for each in self.considered:
            effect = "allows" if each.allow else "denies"
            yield f"  {each.source} {effect}: " + (each.missed or "applies")


def explain(
    access: Access,
    rules: ResourceRules | None,
    action: str,
    resource: str,
    context: Context,
    acl: Strength = Strength.NONE,
) -> Explanation:
    """As `evaluate.decide`, with everything that was looked at."""
    layers = [access.identity, *access.limits, None if rules is None else rules.policy]
    return Explanation(
        decision=decide(access, rules, action, resource, context, acl),
        considered=tuple(
            Considered(
                source=rule.source,
                allow=rule.allow,
                missed=_missed(rule, access.principal, action, resource, context),
            )
            for layer in layers
            if layer is not None
            for rule in layer.rules
        ),
    )


def _missed(rule: Rule, principal: Principal, action: str, resource: str, context: Context) -> str:
    statement = rule.statement
    if not rule.concerns(action.lower()):
        element = "NotAction excludes" if statement.not_action else "Action does not name"
        return f"{element} {action}"
    if not rule.strength(principal):
        element = "NotPrincipal exempts" if statement.not_principal else "Principal does not name"
        return f"{element} {principal.arn or 'anonymous callers'}"
    if not rule.covers(resource, context):
        element = "NotResource excludes" if statement.not_resource else "Resource does not cover"
        return f"{element} {resource}"
    for condition, ready in zip(statement.conditions, rule.conditions, strict=True):
        if not ready.holds(context):
            return _condition_missed(condition, context)
    return ""


def _condition_missed(condition: Condition, context: Context) -> str:
    value = context.get(condition.key.lower())
    given = "the request has none" if value is None else f"the request has {value!r}"
    wanted = ", ".join(repr(value) for value in condition.values)
    return f"Condition {condition.operator_name} {condition.key} ({wanted}) fails: {given}"
