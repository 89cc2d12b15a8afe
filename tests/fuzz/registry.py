"""What a fuzz target is, and the list of them.

A target is a function of bytes. It hands them to one parser and lets nothing out but what the
parser does not say it raises: a typed refusal is a good end, any other exception is a finding, and
so is an assertion of the target's own (a round trip that changes something, two splits of the same
bytes that are read differently).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

Check = Callable[[bytes], None]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser. size_max_bytes: of an input; more than the parser's own limit finds nothing.

    refusals: what it may raise. rounds: mutations of each seed that the test suite tries.
    """

    name: str
    check: Check
    refusals: tuple[type[Exception], ...]
    size_max_bytes: int
    rounds: int

    def run(self, raw: bytes) -> None:
        """Raises whatever is a finding."""
        try:
            self.check(raw[: self.size_max_bytes])
        except self.refusals as refused:
            tell(refused)


TARGETS: dict[str, Target] = {}


def target(
    *refusals: type[Exception], name: str = "", size_max_bytes: int = 4096, rounds: int = 40
) -> Callable[[Check], Check]:
    """Enter a function into the list; its name there has dashes."""

    def enter(check: Check) -> Check:
        known = name or check.__name__.replace("_", "-")
        assert known not in TARGETS, known
        TARGETS[known] = Target(
            name=known,
            check=check,
            refusals=refusals,
            size_max_bytes=size_max_bytes,
            rounds=rounds,
        )
        return check

    return enter


def tell(refused: Exception) -> None:
    """Say what would be said of the refusal: that must not fail either."""
    from s3api.errors import failure_of
    from s3api.xml import error_document

    failure = failure_of(refused)
    if failure is not None:
        error_document(failure, "/resource", "request", "host")
    str(refused)


def finished(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    raise AssertionError("it waits for something")


def cut(raw: bytes) -> tuple[int, bytes]:
    """The first byte as a number (0 without one), and the rest."""
    return (raw[0], raw[1:]) if raw else (0, b"")


def pieces(raw: bytes, size: int) -> list[bytes]:
    """`raw` in pieces of `size` bytes; whole where that is 0."""
    size = size or len(raw) or 1
    return [raw[start : start + size] for start in range(0, len(raw), size)]
