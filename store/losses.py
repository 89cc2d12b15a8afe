"""What can't be had: stripes with fewer than k intact shards, by the names of what they belong to.

Noted by scrub, by heal and by what a read found bad; looked at again whenever a drive comes back
and whenever its segment is healed, and forgotten when it can be had again or nothing names it any
more. All of it is logged when it is found; a bounded list of it outlives a restart.
Concurrency: the loop. Names are found on the scan lane: what is found together is noted together.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing

import msgspec

from metadb import segments as rows
from metadb.engine import Engine
from metadb.holders import Holder, Name, holders_of, name_of
from metadb.records import InodeId
from store.chunks.types import RunId, Segment, SegmentId, segment_of
from store.names import name_of as posix_name
from store.rules import NULL_VERSION

log = logging.getLogger(__name__)

_KEPT = "losses"
_STRIPES_MAX = 1000
_NAMES_MAX = 10
"""Copies share runs: so many of those that a stripe belongs to are named in the list."""
_RUNS_AT_ONCE = 500

LostStripe = tuple[RunId, int]
_NOBODY = InodeId(0)


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes [start, stop) of something can't be had. path: as the mount shows it, "" for none.

    version_id: as S3 tells it. what: object, version (an older one), part (of an upload that isn't
    complete) or nameless (open, or on its way out; key is empty then).
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

    def text(self) -> str:
        """For people and logs."""
        name = f"{self.what} {self.bucket}/{self.key}" if self.key else self.what
        if self.version_id != NULL_VERSION:
            name += f" version {self.version_id}"
        if self.path and self.path != f"{self.bucket}/{self.key}":
            name += f", {self.path} on the mount"
        return f"{name}: bytes {self.start} to {self.stop - 1}"


class Losses:
    """See the module's text. segment: the record of a segment, None when it is gone."""

    def __init__(self, engine: Engine, segment: Callable[[SegmentId], Segment | None]) -> None:
        self._engine = engine
        self._segment = segment
        self._known: dict[LostStripe, list[Loss]] = {}
        self.on_loss: Callable[[Loss], None] = lambda loss: None
        """Told of each loss that is news. On the loop; must not block."""

    def load(self) -> None:
        """Remember what was noted before the restart."""
        kept = self._engine.read(rows.kept_text, _KEPT)
        for loss in msgspec.json.decode(kept or "[]", type=list[Loss]):
            self._known.setdefault((RunId(loss.run), loss.stripe), []).append(loss)

    def stripes(self) -> list[LostStripe]:
        """All that is known, in order of places."""
        return sorted(self._known)

    def report(self, limit: int) -> list[Loss]:
        """The first so many losses of what is still named, in order of names."""
        named = [
            loss
            for (run, _), each in self._known.items()
            if self._engine.read(rows.run_of, run) is not None
            for loss in each
        ]
        return sorted(named, key=lambda loss: (loss.bucket, loss.key, loss.start))[:limit]

    async def note(self, lost: Collection[LostStripe], segment: SegmentId | None = None) -> None:
        """These can't be had. segment: all of it was looked at, so the rest of it can."""
        before = set(self._known)
        if segment is not None:
            self.forget(each for each in self._known if segment_of(each[0]) == segment)
        news = sorted(set(lost) - self._known.keys())
        if not news:
            return
        for start in range(0, len(news), _RUNS_AT_ONCE):
            for stripe, found in (await self._named(news[start : start + _RUNS_AT_ONCE])).items():
                for loss in found:
                    log.error("lost: %s (run %s, stripe %s)", loss.text(), *stripe)
                    if stripe not in before:
                        self.on_loss(loss)
                if len(self._known) < _STRIPES_MAX:
                    self._known[stripe] = found[:_NAMES_MAX]
        self._keep()

    def forget(self, stripes: Iterable[LostStripe]) -> None:
        """These can be had, or are looked at anew."""
        gone = [stripe for stripe in stripes if stripe in self._known]
        for stripe in gone:
            del self._known[stripe]
        if gone:
            self._keep()

    def __contains__(self, stripe: LostStripe) -> bool:
        return stripe in self._known

    # -- inside ------------------------------------------------------------------------

    def _keep(self) -> None:
        listed = [loss for found in self._known.values() for loss in found]
        self._engine.transact(rows.keep_text, _KEPT, msgspec.json.encode(listed).decode())

    async def _named(self, stripes: Collection[LostStripe]) -> dict[LostStripe, list[Loss]]:
        """What each of them belongs to."""
        holders: dict[int, list[Holder]] = defaultdict(list)
        statement = holders_of(sorted({run for run, _ in stripes}))
        async with aclosing(self._engine.scan(statement)) as pages:  # type: ignore[type-var]
            async for page in pages:
                for row in page:
                    holder = Holder._make(row)
                    holders[holder.run].append(holder)
        found: dict[LostStripe, list[Loss]] = {}
        for run, stripe in stripes:
            segment = self._segment(segment_of(run))
            if segment is None:
                continue
            low = stripe * segment.stripe_size
            high = low + segment.stripe_size
            found[run, stripe] = [
                self._loss(holder, max(low, holder.run_start), min(high, past), stripe)
                for holder in holders[run]
                if holder.run_start < high and low < (past := holder.run_start + holder.size)
            ] or [self._loss(Holder(_NOBODY, low, high - low, run, low), low, high, stripe)]
        return found

    def _loss(self, holder: Holder, low: int, high: int, stripe: int) -> Loss:
        """The bytes [low, high) of the run as bytes of what names it."""
        name = self._engine.read(name_of, holder.inode)
        shift = holder.start - holder.run_start
        return Loss(
            what=_kind(name),
            bucket=name.bucket,
            key=_key(name),
            version_id=name.version_id or NULL_VERSION,
            path=_path(name),
            start=low + shift,
            stop=high + shift,
            run=holder.run,
            stripe=stripe,
            found_s=round(time.time(), 3),
        )


def _kind(name: Name) -> str:
    if name.components is not None:
        return "object"
    if name.part is not None:
        return f"part {name.part}"
    return "version" if name.key else "nameless"


def _key(name: Name) -> str:
    whole = name.key
    if name.components is not None:
        whole = b"/".join(component.rstrip(b"/") for component in name.components)
    return whole.decode(errors="backslashreplace")


def _path(name: Name) -> str:
    if name.components is None:
        return ""
    components = [posix_name(component.rstrip(b"/")) for component in name.components]
    return b"/".join([name.bucket.encode(), *components]).decode(errors="backslashreplace")
