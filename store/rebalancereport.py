"""What rebalance tells of itself, and the piece of work that is under way."""

from __future__ import annotations

import time
from typing import Literal

import msgspec
import trio

from store.rebuild import Tally
from store.rewrite import Progress

Want = Literal["", "even", "geometry"]
Activity = Literal["idle", "evening", "rewriting", "waiting", "paused"]


class RebalanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One time that there was something to do, from beginning to end. Times in s since 1970."""

    began_s: float
    ended_s: float
    causes: list[str]
    moved_members: int
    moved_bytes: int
    rewritten_bytes: int


class RebalanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """cause: why something is done, or why it waits. old_segments: of another geometry than new.

    bytes_left: of what is being done, as estimated; eta_s: None when unknown.
    spread_points: how much fuller the fullest drive is than the emptiest, when last looked at.
    """

    state: Activity
    cause: str
    want: Want
    old_segments: int
    bytes_left: int
    bytes_per_s: float
    eta_s: float | None
    moved_members: int
    rewritten_bytes: int
    spread_points: float
    history: list[RebalanceRecord]


class Episode:
    """From the first thing to do until there is none."""

    def __init__(self, progress: Progress) -> None:
        self.began_s = time.time()
        self.clock_s = trio.current_time()
        self.causes: set[str] = set()
        self.moved_members = 0
        self.tally = Tally()
        self.progress = progress
        self.before_bytes = progress.written_bytes

    def done_bytes(self) -> int:
        return self.tally.written_bytes + self.rewritten_bytes()

    def rewritten_bytes(self) -> int:
        return self.progress.written_bytes - self.before_bytes

    def bytes_per_s(self) -> float:
        took_s = max(trio.current_time() - self.clock_s, 1e-3)
        return self.done_bytes() / took_s

    def record(self) -> RebalanceRecord:
        return RebalanceRecord(
            began_s=round(self.began_s, 3),
            ended_s=round(time.time(), 3),
            causes=sorted(self.causes),
            moved_members=self.moved_members,
            moved_bytes=self.tally.written_bytes,
            rewritten_bytes=self.rewritten_bytes(),
        )
