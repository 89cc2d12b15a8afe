"""Transactions that commit together: `Group`, and the one that is under way.

Each transaction is a savepoint in a group's SQLite transaction. A group ends with the flush that
makes it durable, or after LINGER_S where nobody waits for one. What many
transactions have in common (the pages at the right edge of every table) then goes to the log once
and not for each: 10.4 frames and 208 us of the loop for a small PUT alone, 2.5 and 80 in
groups of eight.

Invariants:
  G1 a transaction that raises leaves no trace in its group, and the group goes on;
  G2 readers on the loop see a group's transactions at once, everybody else when it is committed;
  G3 a group that can't be committed is rolled back whole, and every barrier for it raises. So
     that a full drive doesn't do that, a group starts only with room in the log
     (`Primary.has_room`). For any other reason the primary is lost with it, and the journal has
     what it did (`metadb.journal`).
Concurrency: the loop. No await inside.
Source: https://sqlite.org/lang_savepoint.html.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

import trio

from metadb.errors import MetadataFull, MetadbError, PrimaryLost
from metadb.journal import Journal
from metadb.primary import Primary

_log = logging.getLogger(__name__)

TRANSACTIONS_MAX = 64
# How long a group stays open that no barrier waits for: what `kill -9` can take back of what the
# mount answered and nobody synced. Calls of one program then share commits, too.
LINGER_S = 0.01
_LOST_CODES = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT}
    | {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY}
)
# Where the driver is called from.
_RUN_STATEMENTS = ("metadb.statements", __name__)


def meaning(error: BaseException) -> MetadbError | None:
    """What an error means for the engine; None when it is the caller's, or a mistake of our own.

    A schema that rots may have SQLite quote a name that is no UTF-8 any more, and the driver then
    fails to tell.
    """
    if isinstance(error, UnicodeDecodeError):
        return PrimaryLost(f"SQLite's own words: {error}") if _is_drivers(error) else None
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return MetadataFull("no room to commit")
    if code in _LOST_CODES:
        return PrimaryLost(str(error))
    return None


def _is_drivers(error: BaseException) -> bool:
    """Whether a statement raised it, not the code that asked for one."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "") in _RUN_STATEMENTS


class Group:
    """Transactions that are committed together.

    position: how far the log was when they were, None before. error: why they never will be.
    waiters: barriers that wait for it; the flush they bring about commits it.
    """

    __slots__ = ("count", "error", "position", "waiters")

    def __init__(self) -> None:
        self.count = 0
        self.waiters = 0
        self.position: int | None = None
        self.error: Exception | None = None


class Groups:
    """The group under way on the loop's connection.

    position: asks how far the log is committed. lose: told that the primary failed.
    rolled_back: called whenever changes that were visible on the loop went away again, for
    whoever remembered what it had read. hurry: called when a flush is due before its time.
    """

    def __init__(
        self,
        primary: Primary,
        position: Callable[[], int],
        lose: Callable[[PrimaryLost], None],
        journal: Journal,
    ) -> None:
        self.pending: Group | None = None
        self.rolled_back: Callable[[], None] = lambda: None
        self.hurry: Callable[[], None] = lambda: None
        self._primary = primary
        self._connection = primary.connection
        self._execute = primary.connection.execute
        self._position = position
        self._lose = lose
        self._journal = journal
        self._opened = trio.Event()

    def begin(self) -> Group:
        """Start a transaction, in the group under way or a new one.

        Raises MetadataFull, PrimaryLost.
        """
        group = self.pending
        if group is not None and group.count >= TRANSACTIONS_MAX:
            self.commit()
            if isinstance(group.error, PrimaryLost):
                raise PrimaryLost(*group.error.args)
            group = None
        if group is None:
            self._need_room()
            if not self._connection.in_transaction:
                self._execute("BEGIN")
            group = self.pending = Group()
            self._opened.set()
        group.count += 1
        self._execute("SAVEPOINT one")
        self._journal.begin()
        return group

    def keep(self) -> None:
        """End the transaction begun last."""
        self._execute("RELEASE one")
        self._journal.keep()

    def undo(self, group: Group, error: BaseException) -> None:
        """Take the transaction begun last, which ended with `error`, back (G1)."""
        self._journal.undo()
        if self._connection.in_transaction:
            self._execute("ROLLBACK TO one")
            self._execute("RELEASE one")
        elif isinstance(meaning(error), MetadataFull):
            self._repeat(group)
        else:
            # SQLite itself has rolled back everything, which it does for I/O errors.
            self._fail(group, PrimaryLost("SQLite rolled back a whole group"))
        self.rolled_back()

    def commit(self) -> None:
        """Commit the group under way, if there is one; where that fails its barriers raise."""
        group, self.pending = self.pending, None
        if group is None:
            return
        try:
            self._execute("COMMIT")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._fail(group, meaning(error) or PrimaryLost(f"a commit failed: {error}"))
            self._roll_back()
        else:
            group.position = position = self._position()
            if self._journal.committed(position):
                self.hurry()

    def _repeat(self, group: Group) -> None:
        """SQLite rolled all back for one transaction too large: do again what went before it."""
        try:
            self._execute("BEGIN")
            for sql, parameters, _ in self._journal.group_under_way():
                self._execute(sql, parameters).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._fail(group, meaning(error) or PrimaryLost(f"a group is gone: {error}"))

    def _need_room(self) -> None:
        """Raise unless a group's frames will have room."""
        try:
            if self._primary.has_room():
                return
        except OSError as error:
            lost = PrimaryLost(f"the log can't be written: {error}")
            self._lose(lost)
            raise lost from error
        raise MetadataFull("no room for the log on the primary's drive")

    def _roll_back(self) -> None:
        """Whatever SQLite has not rolled back by itself."""
        try:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._lose(PrimaryLost(f"a commit failed, and so did taking it back: {error}"))
        self.rolled_back()

    def _fail(self, group: Group, error: Exception) -> None:
        _log.error("metadata: %d transactions were rolled back: %s", group.count, error)
        group.error = error
        self.pending = None
        if isinstance(error, PrimaryLost):
            self._lose(error)
        else:
            self._journal.drop_group()

    async def run(self) -> None:
        """Commit what no flush is about to commit."""
        while True:
            await self._opened.wait()
            self._opened = trio.Event()
            await trio.sleep(LINGER_S)
            if self.pending is not None and not self.pending.waiters:
                self.commit()
