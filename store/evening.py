"""Which members to move so that drives are filled alike: pure arithmetic, no I/O.

A drive's level is the share of the room that we can have on it which we take. A move is made only
from a fuller to an emptier drive, and only if it leaves the one as full as the other at least: so
each one lessens the difference, and there is an end to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from store.chunks.drive import Drive
from store.chunks.types import SegmentId

_SPARE_SHIFT = 1
"""How much larger than it seems a member may turn out, as 1/2**n: short runs are padded."""


@dataclass(slots=True, kw_only=True)
class Shelf:
    """A drive as it would be after the moves so far.

    free_bytes: beyond the reserve. members: bytes by segment, of what may be moved. shut: segments
    with a member here, so that another one can't come (R1).
    """

    drive: Drive
    held_bytes: int
    free_bytes: int
    members: dict[SegmentId, int] = field(default_factory=dict)
    shut: set[SegmentId] = field(default_factory=set)

    def level(self, more_bytes: int = 0) -> float:
        """From 0 to 1, as if it held so many bytes more."""
        return (self.held_bytes + more_bytes) / max(1, self.held_bytes + self.free_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A member of `size_bytes` that is to go from one drive to another."""

    segment: SegmentId
    source: Drive
    target: Drive
    size_bytes: int


def spread(shelves: Iterable[Shelf]) -> float:
    """How far the fullest drive is from the emptiest, in points of 100."""
    levels = [shelf.level() for shelf in shelves]
    return 100 * (max(levels) - min(levels)) if levels else 0.0


def plan(shelves: Sequence[Shelf], limit: int) -> list[Move]:
    """The next moves, up to `limit`, the largest first from the fullest to the emptiest drive."""
    moves: list[Move] = []
    while len(moves) < limit and (move := _next(shelves)) is not None:
        moves.append(move)
        for shelf in shelves:
            if shelf.drive is move.source:
                _shift(shelf, move.segment, -move.size_bytes)
                del shelf.members[move.segment]
            elif shelf.drive is move.target:
                # It isn't moved twice in one plan.
                _shift(shelf, move.segment, move.size_bytes)
    return moves


def _shift(shelf: Shelf, segment: SegmentId, size_bytes: int) -> None:
    shelf.held_bytes += size_bytes
    shelf.free_bytes -= size_bytes
    shelf.shut ^= {segment}


def _next(shelves: Sequence[Shelf]) -> Move | None:
    by_level = sorted(shelves, key=Shelf.level)
    for source in reversed(by_level):
        for target in by_level:
            if source.level() <= target.level():
                break
            fit = source.members.keys() - target.shut
            sizes = ((source.members[segment], segment) for segment in fit)
            best = max(
                (
                    (size, segment)
                    for size, segment in sizes
                    if 0 < size + (size >> _SPARE_SHIFT) < target.free_bytes
                    and source.level(-size) >= target.level(size)
                ),
                default=None,
            )
            if best is not None:
                return Move(
                    segment=best[1],
                    source=source.drive,
                    target=target.drive,
                    size_bytes=best[0],
                )
    return None
