"""Wildcards and variables: what matches what."""

from __future__ import annotations

import time

import pytest

from store.access.patterns import (
    BadVariable,
    Template,
    Variable,
    Wild,
    matcher,
    parse_arn_pattern,
    resolve,
    tokenize,
)


def matches(pattern: str, text: str) -> bool:
    return matcher(tokenize(pattern, wildcards=True, variables=False))(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "a", True),
        ("a", "A", False),
        ("*", "", True),
        ("*", "a/b\nc", True),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("?", "", False),
        ("?", "\n", True),
        ("a?c", "abc", True),
        ("*a", "banana", True),
        ("*a*b", "aab", True),
        ("*ab*ab", "ab", False),
        ("*ab*ab", "abab", True),
        ("a*a", "a", False),
        ("*?a", "a", False),
        ("*.?", "a.b.c", True),
        ("[a]+", "a", False),
        ("a**b", "ab", True),
        ("*b*c*", "abxcx", True),
    ],
)
def test_wildcards(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@pytest.mark.parametrize("pattern", ["*a" * 60 + "*b", "*?a" * 60 + "b", "*" + "a" * 200 + "*b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """A backtracking matcher would need longer than the universe is old."""
    start = time.perf_counter()
    assert not matches(pattern, "a" * 1024)
    assert time.perf_counter() - start < 5


def test_variables_are_found_with_their_defaults() -> None:
    tokens = tokenize("a/${AWS:UserName}/${ jwt:x , 'no one' }*", wildcards=True, variables=True)
    assert tokens == (
        "a/",
        Variable("aws:username"),
        "/",
        Variable("jwt:x", "no one"),
        Wild.MANY,
    )


def test_escapes_are_characters() -> None:
    tokens = tokenize("${*}${?}${$}{x}$", wildcards=True, variables=True)
    assert tokens == ("*?${x}$",)


def test_the_old_language_has_no_variables() -> None:
    assert tokenize("${aws:username}", wildcards=True, variables=False) == ("${aws:username}",)


@pytest.mark.parametrize("text", ["${", "${}", "a${b", "${a${b}}", "${a,b}", "${a, 'b}", "${ }"])
def test_half_a_variable_is_refused(text: str) -> None:
    with pytest.raises(BadVariable, match="no policy variable"):
        tokenize(text, wildcards=True, variables=True)


def test_what_a_variable_brings_in_is_literal() -> None:
    for pattern, texts in (
        ("${aws:username}/*", ("a*/x", "a*/")),
        ("${aws:username}", ("a*",)),
        ("*/${aws:username}/?", ("b/a*/x", "/a*/a*/x")),
        ("?${aws:username}*${aws:username}", ("xa*a*", "xa* a*")),
    ):
        template = Template((tokenize(pattern, wildcards=True, variables=True),))
        match = template.matcher({"aws:username": "a*"})
        assert match is not None and all(map(match, texts)), pattern
        assert not any(match(text.replace("*", "b")) for text in texts), pattern


def test_values_do_not_run_into_each_other() -> None:
    template = Template((tokenize("?${a:x}${a:y}*!", wildcards=True, variables=True),))
    match = template.matcher({"a:x": "1", "a:y": ""})
    assert match is not None and match("_1!") and not match("_!")
    odd = template.matcher({"a:x": "1\0", "a:y": "2"})
    assert odd is not None and not odd("_1\x002!")


@pytest.mark.parametrize("context", [{}, {"aws:username": ("a", "b")}, {"aws:username": ()}])
def test_a_variable_needs_exactly_one_value(
    context: dict[str, str | tuple[str, ...]],
) -> None:
    tokens = tokenize("${aws:username}", wildcards=True, variables=True)
    assert resolve(tokens, context) is None
    defaulted = tokenize("${aws:username, 'x'}", wildcards=True, variables=True)
    assert resolve(defaulted, context) == "x"


@pytest.mark.parametrize(
    ("pattern", "arn", "expected"),
    [
        ("*", "anything", True),
        ("arn:aws:s3:::box/*", "arn:aws:s3:::box/a:b/c", True),
        ("arn:*:s3:::box", "arn:aws:s3:::box", True),
        ("arn:*:s3:::box/*", "arn:aws:s3:::bin/q:s3:::box/x", False),
        ("arn:aws:s?:*:*:box", "arn:aws:s3:eu:1:box", True),
        ("arn:aws:s3:*:box", "arn:aws:s3:::box", None),
        ("arn:aws:s3:::b*", "arn:aws:s3:::B", False),
    ],
)
def test_an_arn_is_matched_part_by_part(pattern: str, arn: str, expected: bool | None) -> None:
    parsed = parse_arn_pattern(pattern, variables=True)
    if expected is None:
        assert parsed is None
        return
    assert parsed is not None
    match = parsed.template.matcher()
    assert match is not None and match(arn) is expected


def test_a_value_with_a_colon_does_not_shift_the_parts() -> None:
    parsed = parse_arn_pattern("arn:aws:iam::${aws:x}:user/ann", variables=True)
    assert parsed is not None
    match = parsed.template.matcher({"aws:x": "1:user/ann"})
    assert match is not None and not match("arn:aws:iam::1:user/ann:user/ann")
