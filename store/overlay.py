"""`Overlay`: what was written over a file's published content, range by range.

Each written range is in memory or in a `Log` (a stream on its way into runs). Later writes win;
a truncation cuts ranges off and lowers `floor`, above which the published content is gone for
good, so that what no range covers there is zeros.

Invariants: ranges don't overlap and stand in order; `held_bytes` bounds the memory they hold.
Concurrency: no await inside; owned by one `Draft`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from metadb.records import InodeId
from store.chunks.types import Appender, Run

PIECE_OVERHEAD_BYTES = 256
_END = 1 << 62


class Log:
    """One appender's stream of `size` bytes so far, and its runs once it was finished."""

    __slots__ = ("anchor", "appender", "broken", "runs", "size")

    def __init__(self, appender: Appender) -> None:
        self.appender = appender
        self.size = 0
        # An append failed: nothing more goes in, what is in may still be finished.
        self.broken = False
        self.runs: tuple[Run, ...] | None = None
        # The nameless inode that holds the runs until they are published, if they have to wait.
        self.anchor: InodeId | None = None

    def slices(self, start: int, stop: int) -> Iterator[tuple[Run, int, int]]:
        """(run, start in it, size) of bytes [start, stop) of the finished stream."""
        assert self.runs is not None
        base = 0
        for run in self.runs:
            if base >= stop:
                return
            first, last = max(start, base), min(stop, base + run.size)
            if first < last:
                yield run, first - base, last - first
            base += run.size


class Piece(NamedTuple):
    """Bytes [start, stop) of the file are `source` from its byte `at` on; None is a gap."""

    start: int
    stop: int
    source: bytes | Log | None
    at: int


class Overlay:
    """See the module's header."""

    __slots__ = ("_held", "_pieces", "_starts", "floor", "held_bytes")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[Piece] = []
        self._held: list[Piece] = []
        self.held_bytes = 0
        self.floor = _END

    def __bool__(self) -> bool:
        return bool(self._pieces) or self.floor != _END

    @property
    def pieces(self) -> Sequence[Piece]:
        """All written ranges, in order."""
        return self._pieces

    def put(self, start: int, source: bytes) -> None:
        """Bytes were written at `start`. The source must not change."""
        piece = Piece(start, start + len(source), source, 0)
        pieces = self._pieces
        if not pieces or pieces[-1].stop <= start:
            pieces.append(piece)
            self._starts.append(start)
        else:
            self._splice(start, piece.stop, [piece])
        self._held.append(piece)
        self.held_bytes += len(source) + PIECE_OVERHEAD_BYTES

    def cut(self, size: int) -> None:
        """The file was truncated to `size`."""
        self.floor = min(self.floor, size)
        self._splice(size, _END, [])

    def resolve(self, start: int, stop: int) -> Iterator[Piece]:
        """What bytes [start, stop) are made of, gaps (source None) included, in order."""
        index = max(bisect_right(self._starts, start) - 1, 0)
        position = start
        pieces = self._pieces
        while index < len(pieces) and position < stop:
            first, last, source, at = pieces[index]
            index += 1
            if last <= position:
                continue
            if first >= stop:
                break
            if first > position:
                yield Piece(position, first, None, 0)
                position = first
            end = min(last, stop)
            yield Piece(position, end, source, at + position - first)
            position = end
        if position < stop:
            yield Piece(position, stop, None, 0)

    # -- from memory to a log ----------------------------------------------------------

    def take_held(self) -> list[Piece]:
        """What was put in memory since, in order of place; give back what wasn't moved."""
        held = sorted(self._held, key=lambda piece: piece.start)
        self._held = []
        return held

    def give_back(self, held: Sequence[Piece]) -> None:
        """These of `take_held` are still in memory."""
        self._held.extend(held)
        self.held_bytes = sum(
            piece.stop - piece.start + PIECE_OVERHEAD_BYTES for piece in self._held
        )

    def live(self, held: Piece) -> list[Piece]:
        """What is left of a piece that was put in memory."""
        shift = held.at - held.start
        return [
            piece
            for piece in self._within(held.start, held.stop)
            if piece.source is held.source and piece.at - piece.start == shift
        ]

    def moved(self, piece: Piece, log: Log, at: int) -> None:
        """A live piece's bytes stand in `log` from its byte `at` on, by now."""
        for left in self.live(piece):
            self._replace(left, log, at + left.start - piece.start)

    def _replace(self, piece: Piece, log: Log, at: int) -> None:
        index = bisect_left(self._starts, piece.start)
        if index:
            before = self._pieces[index - 1]
            if (
                before.source is log
                and before.stop == piece.start
                and before.at + before.stop - before.start == at
            ):
                self._pieces[index - 1] = before._replace(stop=piece.stop)
                del self._pieces[index], self._starts[index]
                return
        self._pieces[index] = Piece(piece.start, piece.stop, log, at)

    # -- the ordered ranges ------------------------------------------------------------

    def _within(self, start: int, stop: int) -> list[Piece]:
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = bisect_left(self._starts, stop)
        return [piece for piece in self._pieces[first:last] if piece.stop > start]

    def _splice(self, start: int, stop: int, inserted: list[Piece]) -> None:
        """Put `inserted` in the place of all that [start, stop) held."""
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._pieces[first].stop <= start:
            first += 1
        last = bisect_left(self._starts, stop, first)
        if first < last:
            left, right = self._pieces[first], self._pieces[last - 1]
            if left.start < start:
                inserted = [left._replace(stop=start), *inserted]
            if right.stop > stop:
                moved = right._replace(start=stop, at=right.at + stop - right.start)
                inserted = [*inserted, moved]
        self._pieces[first:last] = inserted
        self._starts[first:last] = [piece.start for piece in inserted]
