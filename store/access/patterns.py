"""Texts of policies: wildcards, policy variables, and how they match.

A text is cut into tokens: literal strings, wildcards and variables. `*` stands for any number of
characters, `?` for one. A variable is `${key}`, or `${key, 'default'}`; `${*}`, `${?}` and `${$}`
are these characters themselves.

Invariants
  1. What a variable brings in is literal: a `*` in a user's name is an asterisk.
  2. A variable that the request doesn't resolve (absent, more than one value, no default) makes its
     text match nothing.
  3. In an ARN the first five parts end at a colon, and no wildcard reaches over one; the sixth goes
     to the end, colons and slashes included.
  4. Matching takes time linear in the text for each piece between wildcards, whoever wrote the
     pattern: every such piece is an atomic group, so nothing is tried twice.

Concurrency: pure; the cache of matchers is bounded. Source: AWS IAM user guide, "Policy variables"
and "JSON policy elements: Resource".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

Values = str | tuple[str, ...]
Matcher = Callable[[str], bool]


class Context(Protocol):
    """What is known of a request besides who, what and on what. A dict will do."""

    def get(self, key: str, /) -> Values | None:
        """The value of a condition key (lower case): one, several, or None when it is absent."""
        ...


class Wild(enum.Enum):
    """A wildcard."""

    MANY = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Variable:
    """`${key}`. key: lower case. default: what stands in where the request has no such key."""

    key: str
    default: str | None = None

    def resolve(self, context: Context) -> str | None:
        """Its value in this request; None where there is none, or more than one."""
        value = context.get(self.key)
        return value if type(value) is str else self.default


Token = str | Wild | Variable

_WILDS = {"*": Wild.MANY, "?": Wild.ONE}
_special = re.compile(r"[*?]|\$\{")
_variable = re.compile(
    r"\$\{\s*([^\s${},'*?](?:[^${},'*?]*[^\s${},'*?])?)\s*(?:,\s*'([^']*)'\s*)?\}"
)
_escape = re.compile(r"\$\{([*?$])\}")


class BadVariable(ValueError):
    """`${` without the rest of a variable. The message is a sentence."""


def tokenize(text: str, *, wildcards: bool, variables: bool) -> tuple[Token, ...]:
    """The tokens of a text; neighbouring literals joined, repeated `*` reduced to one.

    variables: policies of version 2008-10-17 have none, `${` is plain text there.
    Raises BadVariable.
    """
    tokens: list[Token] = []
    at = 0
    while (found := _special.search(text, at)) is not None:
        tokens.append(text[at : found.start()])
        at = found.end()
        if found[0] in _WILDS:
            tokens.append(_WILDS[found[0]] if wildcards else found[0])
        elif not variables:
            tokens.append(found[0])
        elif escape := _escape.match(text, found.start()):
            tokens.append(escape[1])
            at = escape.end()
        elif variable := _variable.match(text, found.start()):
            tokens.append(Variable(variable[1].lower(), variable[2]))
            at = variable.end()
        else:
            raise BadVariable(f"'{text[found.start() :][:64]}' is no policy variable")
    tokens.append(text[at:])
    return tuple(_joined(tokens))


def _joined(tokens: Iterable[Token]) -> list[Token]:
    joined: list[Token] = []
    for token in tokens:
        last = joined[-1] if joined else None
        if token == "" or (token is Wild.MANY and last is Wild.MANY):
            continue
        if isinstance(token, str) and isinstance(last, str):
            joined[-1] = last + token
        else:
            joined.append(token)
    return joined


def resolve(tokens: tuple[Token, ...], context: Context) -> str | None:
    """The text of tokens without wildcards; None where a variable has no value."""
    resolved: list[str] = []
    for token in tokens:
        assert not isinstance(token, Wild)
        text = token.resolve(context) if isinstance(token, Variable) else token
        if text is None:
            return None
        resolved.append(text)
    return "".join(resolved)


def variables_in(tokens: Iterable[Token]) -> frozenset[str]:
    """The keys of all variables among them."""
    return frozenset(t.key for t in tokens if isinstance(t, Variable))


def literal_prefix(tokens: tuple[Token, ...]) -> str:
    """What every match of these tokens begins with."""
    return tokens[0] if tokens and isinstance(tokens[0], str) else ""


def _anything(text: str) -> bool:
    return True


def _nothing(text: str) -> bool:
    return False


def _starts_with(prefix: str) -> Matcher:
    return lambda text: text.startswith(prefix)


class Template:
    """A text of a policy, ready to match: without variables once for all, else for each request.

    An expression is made once, whatever values variables will have: it is matched against these
    values, a NUL after each, and then the text, and refers back to them.
    """

    __slots__ = ("_head", "_match", "_plain", "_test", "_variables")

    def __init__(self, parts: tuple[tuple[Token, ...], ...]) -> None:
        """parts: of an ARN its six, of any other text one."""
        tokens = tuple(_joined(_with_colons(parts)))
        found = [t for t in tokens if isinstance(t, Variable)]
        self._variables = tuple(dict.fromkeys(found))
        self._head = frozenset(t for part in parts[:-1] for t in part if isinstance(t, Variable))
        # Texts, then perhaps a `*`: those need no expression.
        is_plain = not any(isinstance(token, Wild) for token in tokens[:-1])
        is_plain = is_plain and (not tokens or tokens[-1] is not Wild.ONE)
        self._plain = tokens if is_plain else None
        self._match: Callable[[str], object] | None = None
        if not is_plain:
            values = "".join(f"(?P<v{index}>[^\\0]*)\\0" for index in range(len(self._variables)))
            expressions = [self._expression(part, "[^:]") for part in parts[:-1]]
            expressions.append(self._expression(parts[-1], "."))
            self._match = re.compile(values + ":".join(expressions), re.DOTALL).fullmatch
        self._test = None if self._variables else self._matcher(())

    @property
    def keys(self) -> frozenset[str]:
        """The keys of its variables, lower case."""
        return frozenset(variable.key for variable in self._variables)

    def matcher(self, context: Context | None = None) -> Matcher | None:
        """A function that says whether a whole text matches; None where a variable has no value.

        context: needed only where there are variables.
        """
        if self._test is not None:
            return self._test
        assert context is not None
        values: list[str] = []
        for variable in self._variables:
            value = variable.resolve(context)
            if value is None:
                return None
            if "\0" in value or (":" in value and variable in self._head):
                return _nothing
            values.append(value)
        return self._matcher(tuple(values))

    def _matcher(self, values: tuple[str, ...]) -> Matcher:
        if self._plain is None:
            lead = "".join(f"{value}\0" for value in values)
            match = self._match
            assert match is not None
            return lambda text: match(lead + text) is not None
        by_variable = dict(zip(self._variables, values, strict=True))
        literals = (
            by_variable[token] if isinstance(token, Variable) else token for token in self._plain
        )
        known = "".join(literal for literal in literals if isinstance(literal, str))
        if not self._plain or self._plain[-1] is not Wild.MANY:
            return known.__eq__
        return _starts_with(known) if known else _anything

    def _expression(self, tokens: tuple[Token, ...], one: str) -> str:
        """A regular expression for tokens. one: what a single wildcard character may be."""
        pieces = [""]
        for token in tokens:
            if token is Wild.MANY:
                pieces.append("")
            elif isinstance(token, Variable):
                pieces[-1] += f"(?P=v{self._variables.index(token)})"
            else:
                pieces[-1] += re.escape(token) if isinstance(token, str) else one
        if len(pieces) == 1:
            return pieces[0]
        first, *middle, last = pieces
        # The leftmost place of each piece leaves the most to those after it, so it is final.
        found = "".join(f"(?>{one}*?{piece})" for piece in middle)
        return f"{first}{found}{one}*{last}"


def _with_colons(parts: tuple[tuple[Token, ...], ...]) -> Iterator[Token]:
    for index, part in enumerate(parts):
        if index:
            yield ":"
        yield from part


@lru_cache(maxsize=4096)
def matcher(tokens: tuple[Token, ...]) -> Matcher:
    """A function that says whether a whole text matches. tokens: without variables."""
    found = Template((tokens,)).matcher()
    assert found is not None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ArnPattern:
    """A pattern for ARNs. The pattern `*` alone matches everything.

    tokens: of the whole text, where its first five parts hold nothing but literals; else empty.
    """

    tokens: tuple[Token, ...]
    template: Template
    is_everything: bool = False

    @property
    def prefix(self) -> str:
        """What every match begins with."""
        return literal_prefix(self.tokens)


def parse_arn_pattern(text: str, *, variables: bool) -> ArnPattern | None:
    """The pattern for an ARN; None where the text has less than six parts and is not `*`.

    Raises BadVariable.
    """
    tokens = tokenize(text, wildcards=True, variables=variables)
    if tokens == (Wild.MANY,):
        return ArnPattern(tokens=(), template=Template((tokens,)), is_everything=True)
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if not isinstance(token, str):
            parts[-1].append(token)
            continue
        pieces = token.split(":", 6 - len(parts))
        parts[-1].append(pieces[0])
        parts.extend([piece] for piece in pieces[1:])
    if len(parts) != 6:
        return None
    plain = all(isinstance(token, str) for part in parts[:5] for token in part)
    template = Template(tuple(tuple(_joined(part)) for part in parts))
    return ArnPattern(tokens=tokens if plain else (), template=template)
