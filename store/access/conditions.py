"""Conditions made ready: whether one holds in a context, in a microsecond or so.

Invariants
  1. A plain operator on a key that is absent fails, and holds where the operator is negated; with
     IfExists it holds; ForAllValues holds; ForAnyValue fails. No value at all is an absent key.
  2. Per value of the request the operator's test is made, negated or not; ForAllValues wants it of
     every value, ForAnyValue of one. Without either, of several values one has to fit (plain), or
     none (negated).
  3. A policy's value whose variable can't be resolved fits nothing. In a negated condition of an
     Allow statement that would widen the grant, so there the condition fails, before all else.

Concurrency: immutable once made. Source: AWS IAM user guide, "Condition operators", "Set operators
for multivalued context keys", "Policy variables".
"""

from __future__ import annotations

from store.access.operators import TEXTUAL, Family, parse_bool, scalar_test
from store.access.patterns import (
    Context,
    Matcher,
    Template,
    Token,
    parse_arn_pattern,
    resolve,
    tokenize,
    variables_in,
)
from store.access.policy import Condition, Qualifier


class ReadyCondition:
    """One condition of one statement. `keys`: those it looks at, lower case."""

    __slots__ = (
        "_absent",
        "_every",
        "_key",
        "_negated",
        "_null",
        "_some",
        "_test",
        "_texts",
        "keys",
    )

    def __init__(self, condition: Condition, *, variables: bool, allow: bool) -> None:
        op = condition.operator
        self._key = condition.key.lower()
        self._negated = op.negated
        self._every = condition.qualifier is Qualifier.FOR_ALL
        self._some = condition.qualifier is Qualifier.FOR_ANY
        self._absent = condition.if_exists or self._every or (op.negated and not self._some)
        self._null: frozenset[bool | None] | None = None
        self._texts: Texts | None = None
        self._test: Matcher | None = None
        if op.family is Family.NULL:
            self._null = frozenset(parse_bool(value) for value in condition.values)
        elif op.family in TEXTUAL:
            texts = Texts(op.family, condition.values, variables, strict=allow and op.negated)
            self._test = texts.test(None) if not texts.keys else None
            self._texts = texts if texts.keys else None
        else:
            self._test = scalar_test(op, condition.values)
            assert self._test is not None, condition
        self.keys = frozenset({self._key}) | (self._texts.keys if self._texts else frozenset())

    def holds(self, context: Context) -> bool:
        """Whether it holds for this request."""
        value = context.get(self._key)
        if self._null is not None:
            return (value is None or value == ()) in self._null
        test = self._test
        if test is None:
            assert self._texts is not None
            test = self._texts.test(context)
            if test is None:
                return False
        if value is None or value == ():
            return self._absent
        if type(value) is str:
            return test(value) is not self._negated
        if self._every:
            return all(test(one) is not self._negated for one in value)
        if self._some:
            return any(test(one) is not self._negated for one in value)
        return any(test(one) for one in value) is not self._negated


class Texts:
    """Values of a textual operator, perhaps with variables in them."""

    __slots__ = ("_family", "_strict", "_templates", "_tokens", "keys")

    def __init__(
        self, family: Family, values: tuple[str, ...], variables: bool, *, strict: bool
    ) -> None:
        """strict: whether one value that can't be resolved makes the test impossible."""
        self._family = family
        self._strict = strict
        self._templates: list[Template] = []
        self._tokens: list[tuple[Token, ...]] = []
        for value in values:
            if family is Family.ARN:
                pattern = parse_arn_pattern(value, variables=variables)
                assert pattern is not None, value
                self._templates.append(pattern.template)
            elif family is Family.LIKE:
                tokens = tokenize(value, wildcards=True, variables=variables)
                self._templates.append(Template((tokens,)))
            else:
                self._tokens.append(tokenize(value, wildcards=False, variables=variables))
        self.keys: frozenset[str] = frozenset().union(
            *(template.keys for template in self._templates),
            *(variables_in(tokens) for tokens in self._tokens),
        )

    def test(self, context: Context | None) -> Matcher | None:
        """The test for one value of the request. None: it can't be made (see invariant 3).

        context: needed only where there are `keys`.
        """
        if self._tokens:
            return self._equality(context or {})
        tests = [template.matcher(context) for template in self._templates]
        known = tuple(test for test in tests if test is not None)
        if self._strict and len(known) != len(tests):
            return None
        if len(known) == 1:
            return known[0]
        return lambda value: any(test(value) for test in known)

    def _equality(self, context: Context) -> Matcher | None:
        resolved = [resolve(tokens, context) for tokens in self._tokens]
        texts = [text for text in resolved if text is not None]
        if self._strict and len(texts) != len(resolved):
            return None
        if self._family is Family.EQUALS:
            return frozenset(texts).__contains__
        folded = frozenset(text.casefold() for text in texts)
        return lambda value: value.casefold() in folded
