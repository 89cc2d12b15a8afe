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
from collections.abc import Callable, Iterable
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
Fixed = str | Wild

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


def fixed(tokens: tuple[Token, ...]) -> tuple[Fixed, ...] | None:
    """The same tokens, where none of them is a variable; else None."""
    found = tuple(t for t in tokens if not isinstance(t, Variable))
    return found if len(found) == len(tokens) else None


def resolve(tokens: tuple[Token, ...], context: Context) -> tuple[Fixed, ...] | None:
    """Tokens with variables replaced by what the request has; None where one can't be."""
    resolved: list[Token] = []
    for token in tokens:
        if isinstance(token, Variable):
            value = token.resolve(context)
            if value is None:
                return None
            resolved.append(value)
        else:
            resolved.append(token)
    return tuple(t for t in _joined(resolved) if not isinstance(t, Variable))


def variables_in(tokens: Iterable[Token]) -> frozenset[str]:
    """The keys of all variables among them."""
    return frozenset(t.key for t in tokens if isinstance(t, Variable))


def literal_prefix(tokens: tuple[Token, ...]) -> str:
    """What every match of these tokens begins with."""
    return tokens[0] if tokens and isinstance(tokens[0], str) else ""


@lru_cache(maxsize=4096)
def matcher(tokens: tuple[Fixed, ...]) -> Matcher:
    """A function that says whether a whole text matches."""
    if not tokens:
        return "".__eq__
    if len(tokens) == 1 and isinstance(tokens[0], str):
        return tokens[0].__eq__
    if tokens == (Wild.MANY,):
        return _anything
    if len(tokens) == 2 and isinstance(tokens[0], str) and tokens[1] is Wild.MANY:
        prefix = tokens[0]
        return lambda text: text.startswith(prefix)
    return _by_expression(_expression(tokens, "."))


def _anything(text: str) -> bool:
    return True


def _by_expression(expression: str) -> Matcher:
    match = re.compile(expression, re.DOTALL).fullmatch
    return lambda text: match(text) is not None


def _expression(tokens: tuple[Fixed, ...], one: str) -> str:
    """A regular expression for tokens. one: what a single wildcard character may be."""
    pieces = [""]
    for token in tokens:
        if token is Wild.MANY:
            pieces.append("")
        else:
            pieces[-1] += re.escape(token) if isinstance(token, str) else one
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    # The leftmost place of each piece leaves the most to those after it, so it is never given up.
    found = "".join(f"(?>{one}*?{piece})" for piece in middle)
    return f"{first}{found}{one}*{last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArnPattern:
    """A pattern for ARNs: six parts, or none for the pattern `*` alone, which matches everything.

    tokens: of the whole text, where its first five parts hold nothing but literals; else empty.
    """

    parts: tuple[tuple[Token, ...], ...]
    tokens: tuple[Token, ...]

    @property
    def is_everything(self) -> bool:
        """Whether it is `*`."""
        return not self.parts

    @property
    def variables(self) -> frozenset[str]:
        """Keys of the variables in it."""
        return frozenset().union(*(variables_in(part) for part in self.parts))

    @property
    def prefix(self) -> str:
        """What every match begins with."""
        return literal_prefix(self.tokens)

    def matcher(self, context: Context | None = None) -> Matcher | None:
        """A function that says whether an ARN matches; None where a variable has no value.

        context: needed only where there are variables.
        """
        if not self.parts:
            return _anything
        if self.tokens:
            tokens = _settled(self.tokens, context)
            return None if tokens is None else matcher(tokens)
        settled = [_settled(part, context) for part in self.parts]
        parts = tuple(part for part in settled if part is not None)
        return _arn_matcher(parts) if len(parts) == len(settled) else None


def _settled(tokens: tuple[Token, ...], context: Context | None) -> tuple[Fixed, ...] | None:
    return fixed(tokens) if context is None else resolve(tokens, context)


@lru_cache(maxsize=4096)
def _arn_matcher(parts: tuple[tuple[Fixed, ...], ...]) -> Matcher:
    *head, resource = parts
    if any(isinstance(token, str) and ":" in token for part in head for token in part):
        return lambda text: False
    expressions = [_expression(part, "[^:]") for part in head]
    return _by_expression(":".join([*expressions, _expression(resource, ".")]))


def parse_arn_pattern(text: str, *, variables: bool) -> ArnPattern | None:
    """The pattern for an ARN; None where the text has less than six parts and is not `*`.

    Raises BadVariable.
    """
    tokens = tokenize(text, wildcards=True, variables=variables)
    if tokens == (Wild.MANY,):
        return ArnPattern(parts=(), tokens=())
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
    return ArnPattern(
        parts=tuple(tuple(_joined(part)) for part in parts), tokens=tokens if plain else ()
    )
