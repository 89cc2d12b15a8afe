"""Ranges in drive names: `/data/d{1...4}` stands for four folders.

    {1...4}    1 2 3 4
    {01...16}  01 02 ... 16: as wide as the wider end, filled with zeros
    {a...d}    a b c d
A name may hold several ranges; the left one varies slowest. Same notation as MinIO's.
Pure: no file is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product

NAME_COUNT_MAX = 1024
_RANGE = re.compile(r"\{(\d+|[a-z])\.\.\.(\d+|[a-z])\}")


class RangeError(ValueError):
    """A range that can't be expanded. The text names it and says why."""


def expand(names: Iterable[str]) -> list[str]:
    """All names with their ranges written out, in order. Raises RangeError."""
    return [expanded for name in names for expanded in _expand_one(name)]


def _expand_one(name: str) -> list[str]:
    pieces = _RANGE.split(name)
    literals, starts, stops = pieces[0::3], pieces[1::3], pieces[2::3]
    for literal in literals:
        if "{" in literal or "}" in literal or "..." in literal:
            raise RangeError(f"{name}: a range is written like {{1...4}} or {{a...d}}")
    choices = [_members(name, *ends) for ends in zip(starts, stops, strict=True)]
    count = 1
    for choice in choices:
        count *= len(choice)
        if count > NAME_COUNT_MAX:
            raise RangeError(f"{name}: stands for more than {NAME_COUNT_MAX} names")
    return [
        literals[0] + "".join(map("".join, zip(chosen, literals[1:], strict=True)))
        for chosen in product(*choices)
    ]


def _members(name: str, start: str, stop: str) -> list[str]:
    """What one range stands for, both ends included."""
    if start.isdigit() != stop.isdigit():
        raise RangeError(f"{name}: a range goes from number to number or from letter to letter")
    if not start.isdigit():
        if start > stop:
            raise RangeError(f"{name}: the range {start}...{stop} runs backwards")
        return [chr(code) for code in range(ord(start), ord(stop) + 1)]
    first, last = int(start), int(stop)
    if first > last:
        raise RangeError(f"{name}: the range {start}...{stop} runs backwards")
    if last - first >= NAME_COUNT_MAX:
        raise RangeError(f"{name}: stands for more than {NAME_COUNT_MAX} names")
    # Filled with zeros only where an end is written so, as in {01...16}.
    padded = any(len(end) > 1 and end.startswith("0") for end in (start, stop))
    width = max(len(start), len(stop)) if padded else 0
    return [str(number).zfill(width) for number in range(first, last + 1)]
