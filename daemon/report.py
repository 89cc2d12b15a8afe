"""What the daemon tells of itself: to `twofold status`, the status page and the health probes.

Plain values that turn into JSON; the names are part of the interface of `twofold status --json`.
Sizes in bytes; counts since the daemon started.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Phase = Literal["starting", "ready", "restarting", "stopping"]


class DriveReport(Struct, frozen=True, kw_only=True):
    """One drive. state: online, read-only, full, fenced or offline; cause: why, when not online.

    draining: what it holds is being moved to others. segments: those with a member on it.
    """

    path: str
    id: str
    state: str
    cause: str
    epoch: int
    total_bytes: int
    free_bytes: int
    read_errors: int
    write_errors: int
    damaged_fragments: int
    draining: bool = False
    segments: int = 0


class CopyReport(Struct, frozen=True, kw_only=True):
    """A drive that holds a whole copy of the metadata. role: primary or copy."""

    path: str
    role: str


class HealEpisode(Struct, frozen=True, kw_only=True):
    """One time that there was something to heal. Times in seconds since 1970."""

    began_s: float
    ended_s: float
    causes: list[str]
    segments: int
    fragments: int
    written_bytes: int
    lost_stripes: int


class LossReport(Struct, frozen=True, kw_only=True):
    """Bytes [start, stop) of something that can't be had at present.

    what: object, version (an older one), part N (of an upload) or nameless. path: below the mount,
    "" for none. found_s: seconds since 1970.
    """

    what: str
    bucket: str
    key: str
    version_id: str
    path: str
    start: int
    stop: int
    run: int
    stripe: int
    found_s: float
    text: str


class HealStatus(Struct, frozen=True, kw_only=True):
    """state: idle; healing; waiting, when something is wrong that no drive there is can mend.

    bytes_left, eta_s: estimates, eta_s None while there is none. waiting_segments: no drive has
    room for a member of theirs. given_up_segments: not all of their bytes can be had at present.
    mended_fragments: repaired after reads found them bad, since the start. suspects: paths of
    drives that were away and are being looked through. heals_in_s: until a drive that is away is
    given up. lost_stripes: known to be lost, of which `losses` names the first.
    """

    state: str
    causes: list[str]
    segments_left: int
    bytes_left: int
    bytes_per_s: float
    eta_s: float | None
    waiting_segments: int
    given_up_segments: int
    mended_fragments: int
    suspects: list[str]
    heals_in_s: float | None
    history: list[HealEpisode]
    lost_stripes: int = 0
    losses: list[LossReport] = []


class ScrubPass(Struct, frozen=True, kw_only=True):
    """One pass, ended_s 0 while it is under way. Times in seconds since 1970.

    damaged: fragments that didn't verify; repaired: those written anew; lost_stripes: that can't be
    had; leaks: members that held more than rows name; violations: of the database's invariants.
    """

    began_s: float
    ended_s: float
    segments: int
    read_bytes: int
    fragments: int
    damaged: int
    repaired: int
    lost_stripes: int
    leaks: int
    violations: int


class ScrubStatus(Struct, frozen=True, kw_only=True):
    """state: scrubbing, resting, waiting (for heal) or paused. segments: there are now.

    next_s: until the next pass begins, when resting.
    """

    state: str
    now: ScrubPass
    last: ScrubPass | None
    segments: int
    next_s: float | None


class RebalanceEpisode(Struct, frozen=True, kw_only=True):
    """One time that there was something to move or rewrite. Times in seconds since 1970."""

    began_s: float
    ended_s: float
    causes: list[str]
    moved_members: int
    moved_bytes: int
    rewritten_bytes: int


class RebalanceStatus(Struct, frozen=True, kw_only=True):
    """state: idle, evening, rewriting, waiting or paused; cause: what for.

    want: even or geometry, as ordered, "" for nothing. old_segments: laid out otherwise than new
    ones are. bytes_left, eta_s: estimates, eta_s None while there is none. moved_members,
    rewritten_bytes: so far. spread_points: how much fuller the fullest drive is than the emptiest.
    """

    state: str
    cause: str
    want: str
    old_segments: int
    bytes_left: int
    bytes_per_s: float
    eta_s: float | None
    moved_members: int
    rewritten_bytes: int
    spread_points: float
    history: list[RebalanceEpisode]


class EventReport(Struct, frozen=True, kw_only=True):
    """Something that happened. at_s: seconds since 1970.

    what: drive (path went from state `before` to `after`), metadata (a copy was lost or given up),
    lost (bytes that can't be had) or daemon. cause: why, one sentence without its end.
    """

    at_s: float
    what: str
    path: str
    before: str
    after: str
    cause: str

    def text(self) -> str:
        """For people, without the time."""
        states = f"{self.before} -> {self.after}" if self.before and self.after else self.after
        subject = " ".join(part for part in (self.what, self.path, states) if part)
        return f"{subject}: {self.cause}" if self.cause else subject


class PoolReport(Struct, frozen=True, kw_only=True):
    """The drives together.

    k, m: data and parity shards of new segments as drives stand now; 0 when nothing can be
    written. parity: m as chosen at `init`. damaged_fragments: found damaged while reading.
    copies: of the metadata, as they are; copies_wanted: how many there should be.
    """

    store: str
    epoch: int
    k: int
    m: int
    parity: int
    writable: bool
    total_bytes: int
    free_bytes: int
    damaged_fragments: int
    drives: list[DriveReport]
    copies: list[CopyReport]
    copies_wanted: int
    heal: HealStatus | None = None
    scrub: ScrubStatus | None = None
    backup: BackupStatus | None = None
    rebalance: RebalanceStatus | None = None


class BackupStatus(Struct, frozen=True, kw_only=True):
    """fault: why the last try failed, "" when it didn't. points: kept since the start.

    sequence, taken_s: of the last one, 0 when there is none yet.
    """

    target: str
    fault: str
    points: int
    sequence: int
    taken_s: int


class MountReport(Struct, frozen=True, kw_only=True):
    """state: mounted, off, or why it is not mounted."""

    path: str
    state: str


class Report(Struct, frozen=True, kw_only=True):
    """All of it. pool: None until the drives are open. restarts: on another metadata copy.

    events: the last ones, oldest first; some are of the time before this start.
    """

    version: str
    pid: int
    phase: Phase
    uptime_s: float
    restarts: int
    s3_endpoints: list[str]
    console_urls: list[str]
    mount: MountReport
    s3_connections: int
    s3_requests: int
    pool: PoolReport | None
    events: list[EventReport] = []

    def fault(self) -> str | None:
        """Why requests should go elsewhere, None when all is well enough."""
        if self.phase != "ready" or self.pool is None:
            return self.phase
        return None if self.pool.writable else "too few drives can be written"


def size_text(size: int) -> str:
    """A size for people: 1023 B, 1.5 KiB, 20 GiB."""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}" if amount < 10 and unit != "B" else f"{amount:.0f} {unit}"


def duration_text(seconds: float) -> str:
    """A time for people: 42 s, 3 min, 5 h 12 min, 8 d 3 h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{days} d {hours % 24} h"
