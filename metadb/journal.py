"""What transactions did since the last flush, statement by statement.

A call on the mount is answered after its transaction, and the copies have it with the next flush.
When the primary's drive fails in between, its log can't be read any more, and what SQLite holds of
a group that it could not commit is rolled back. So the statements that changed something are kept
here with their parameters, and are run again on the copy that the store goes on from. Frames of
the log alone would not do: those of the group under way don't exist yet.

A journal outlives its engine: who opens engines one after the other hands each the same one.

Invariants:
  J1 what a transaction did that was answered is in `steps`, in order, until J2; what one did that
     was undone is not;
  J2 a step goes when a flush has made it durable on the primary and every copy, not before;
  J3 run again on the state it was first run on, a step does the same: no statement and no trigger
     asks for the time, for random numbers or for the order of rows. Each says how many rows it
     changed, and must again;
  J4 it is bounded (STEPS_MAX, FRAMES_MAX). Beyond, later groups are left out until a flush has
     covered them: what is kept is a beginning of what was answered, never one with a hole.
Positions are those of `metadb.flusher`; they go on from engine to engine. Where a copy stands is
told by its log: the header says which generation, the frames how far.
Concurrency: the loop.
"""

from __future__ import annotations

import logging
import marshal
import sqlite3
from dataclasses import dataclass
from typing import Any

from xxhash import xxh3_128_digest

from metadb import wal
from metadb.recovery import boot_id

_log = logging.getLogger(__name__)

Step = tuple[str, tuple[Any, ...], int]
"""SQL, its parameters, and how many rows it changed; -1 where that was not asked."""

STEPS_MAX = 200_000
# 64 MiB of log. A step's parameters take no more room in memory than their rows do in the log.
FRAMES_MAX = 16_384
_FLUSH_AT_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What a copy lacks, by groups. base: the position where the generation of its log begins."""

    base: int
    groups: list[list[Step]]


class Journal:
    """See the module.

    bytes_unsynced: whether its rows may name bytes that aren't durable (E3).
    hung_drives: primaries that did not answer in time, which needn't be asked once more.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.bytes_unsynced = False
        self.hung_drives: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self.steps.clear()
        # Where the transaction under way begins.
        self._mark: int | None = None
        # Of each committed group: the position it ends at, and the steps up to its end, counted
        # from the first there ever was.
        self._ends: list[tuple[int, int]] = []
        self._gone = 0
        self._position = 0
        self._durable = 0
        # Where a generation begins, by what its log's header has of it.
        self._bases: dict[bytes, int] = {}
        self._run = 0
        self._left_out = -1

    # -- transactions --------------------------------------------------------------------

    def begin(self) -> None:
        """A transaction begins."""
        self._mark = len(self.steps)

    def keep(self) -> None:
        """It is over; its call is about to be answered."""
        self._mark = None

    def undo(self) -> None:
        """It was taken back."""
        if self._mark is not None:
            del self.steps[self._mark :]
            self._mark = None

    def committed(self, position: int) -> bool:
        """The group under way ends at `position`. Whether it is time for a flush (J4)."""
        self._position = position
        count = self._gone + len(self.steps)
        if self._left_out >= 0 or self._is_too_long(position):
            if self._left_out < 0:
                _log.warning("metadata: more than can be kept waits for a flush that takes long")
            self._left_out = position
            self.drop_group()
        elif count > (self._ends[-1][1] if self._ends else self._gone):
            # One that changed nothing ends nowhere: copies needn't have come so far.
            self._ends.append((position, count))
        return self._is_too_long(position, _FLUSH_AT_SHARE)

    def drop_group(self) -> None:
        """The group under way was rolled back, and will not be done again."""
        del self.steps[self._group_start() :]

    def group_under_way(self) -> list[Step]:
        """What the group under way did."""
        return self.steps[self._group_start() :]

    def _group_start(self) -> int:
        return self._ends[-1][1] - self._gone if self._ends else 0

    def _is_too_long(self, position: int, share: float = 1.0) -> bool:
        too_many = len(self.steps) > share * STEPS_MAX
        return too_many or position - self._durable > share * FRAMES_MAX

    # -- the log and its copies ----------------------------------------------------------

    def generation_began(self, salts: bytes, base: int, ended_salts: bytes) -> None:
        """The log with these salts begins at position `base`, behind the one with the others."""
        # Copies are at most one generation behind.
        before = {key: at for key, at in self._bases.items() if key == ended_salts}
        self._bases = {**before, salts: base, wal.behind(ended_salts): base}

    def flushing(self, position: int) -> None:
        """Copies are about to be given the log up to `position`."""
        self._position = max(self._position, position)

    def flushed(self, position: int) -> None:
        """All copies have the log up to `position` (J2)."""
        self._durable = position
        if self._left_out <= position:
            self._left_out = -1
        passed = 0
        for end, _ in self._ends:
            if end > position:
                break
            passed += 1
        if passed:
            count = self._ends[passed - 1][1]
            del self._ends[:passed]
            del self.steps[: count - self._gone]
            self._gone = count

    # -- over to another process ---------------------------------------------------------

    def pack(self) -> bytes:
        """All of it. From any thread, as long as the loop stands still."""
        steps = self.steps if self._mark is None else self.steps[: self._mark]
        fields = (self._ends, self._gone, self._position, self._bases, self._run, self._left_out)
        packed = marshal.dumps((_PACKED, boot_id(), steps, *fields))
        return xxh3_128_digest(packed) + packed

    def unpack(self, packed: bytes) -> None:
        """Become what another process of this version packed, since the machine was started.

        After another start of the machine the bytes that rows name may never have come to the
        drives. Raises ValueError.
        """
        if not packed:
            return
        digest, packed = packed[:16], packed[16:]
        if xxh3_128_digest(packed) != digest:
            raise ValueError("this is no whole journal")
        kind, boot, steps, *fields = marshal.loads(packed)
        if (kind, boot) != (_PACKED, boot_id()):
            raise ValueError("this journal is of another version, or of before the machine's start")
        self.steps[:] = steps
        self.bytes_unsynced = True
        self._ends, self._gone, self._position, self._bases, self._run, self._left_out = fields

    # -- after the primary was lost --------------------------------------------------------

    def lack_of(self, run: int, header: bytes, frames: int) -> Lack:
        """What a copy of this run lacks; of its log: the header and the frames.

        Before an engine is opened on it. What no copy can be given any more is forgotten.
        """
        if self._mark is not None:
            self.undo()  # It was under way when the loop was left, and nobody was answered.
        base = self._bases.get(wal.generation_of(header))
        if base is None or run not in (self._run, self._run - 1):
            if self.steps:
                _log.error("metadata: the copy is of a time that is not remembered: %s", _LOSS)
            self._clear()
            return Lack(base=0, groups=[])
        position = base + frames
        if self._left_out > position:
            self.drop_group()
        groups: list[list[Step]] = []
        # One that has more than there is: the lost primary itself, whose log has the commit that
        # failed after all.
        if position <= self._position:
            begin = 0
            for end, count in [*self._ends, (position + 1, self._gone + len(self.steps))]:
                stop = count - self._gone
                if end > position and stop > begin:
                    groups.append(self.steps[begin:stop])
                begin = stop
        return Lack(base=base, groups=groups)

    def go_on(self, run: int, salts: bytes, position: int, lack: Lack, done: list[Step]) -> None:
        """An engine was opened on the copy, and `done` was done again; its log is at `position`.

        Other copies may lack more than this one, so what it had is kept as well until a flush.
        """
        had = len(self.steps) - sum(len(group) for group in lack.groups)
        self.steps[had:] = done
        self._ends = [(end, count) for end, count in self._ends if count <= self._gone + had]
        if self.group_under_way():
            self._ends.append((position, self._gone + len(self.steps)))
        self._bases[salts] = lack.base
        self._run = run
        self._position = position
        self._durable = position
        self._left_out = -1


_PACKED = "journal 1"
_LOSS = "what was answered since the last flush can't be done again"


def run_again(connection: sqlite3.Connection, groups: list[list[Step]]) -> list[Step]:
    """Do in one transaction what a copy lacks; what was done, up to the first group that differs.

    Raises sqlite3.Error where the copy's own drive fails.
    """
    done: list[Step] = []
    if not groups:
        return done
    connection.execute("BEGIN IMMEDIATE")
    for number, group in enumerate(groups):
        connection.execute("SAVEPOINT again")
        try:
            for sql, parameters, changed in group:
                cursor = connection.execute(sql, parameters)
                if changed >= 0 and cursor.rowcount != changed:
                    raise sqlite3.IntegrityError(f"{cursor.rowcount} rows, not {changed}: {sql}")
                if changed < 0:
                    cursor.fetchall()
        except sqlite3.IntegrityError as error:
            connection.execute("ROLLBACK TO again")
            left = len(groups) - number
            _log.error("metadata: %s of %s groups: %s: %s", left, len(groups), _LOSS, error)
            break
        finally:
            connection.execute("RELEASE again")
        done += group
    connection.execute("COMMIT")
    _log.warning("metadata: %s changes that only the lost primary had were made again", len(done))
    return done
