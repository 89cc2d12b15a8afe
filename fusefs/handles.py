"""Numbers for what the kernel holds open: files and directories.

A number is never used twice in the life of a mount, so that a late request can't meet another
file. Concurrency: one trio loop, no await inside any method.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Handles(Generic[T]):
    """Open things by the number the kernel was given for them."""

    __slots__ = ("_next", "_open")

    def __init__(self) -> None:
        self._open: dict[int, T] = {}
        self._next = 1

    def add(self, handle: T) -> int:
        """Remember `handle`; its number, >= 1."""
        number = self._next
        self._next = number + 1
        self._open[number] = handle
        return number

    def __getitem__(self, number: int) -> T:
        return self._open[number]

    def pop(self, number: int) -> T:
        """Forget a number. Raises KeyError."""
        return self._open.pop(number)

    def take_all(self) -> list[tuple[int, T]]:
        """All of them by number, and forget them."""
        taken = list(self._open.items())
        self._open.clear()
        return taken

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._open.values()))
