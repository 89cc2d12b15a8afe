"""The seam in front of the metadata: transactions on the loop, durability as a separate step.

One of the two interfaces a cluster plugs in behind (the other is `ChunkStore`). `SqliteEngine`
in `metadb.sqlite` is the implementation; on PostgreSQL the same transaction functions would run
in threads, as retryable closures, which is why they take a `Tx`, touch nothing else of the world
but their arguments, and hold no state between runs.

Invariants:
  E1 `transact` runs its function with no await inside, so nothing interleaves; an exception rolls
     everything back and passes on;
  E2 when `barrier` returns, all that was committed before the call survives the loss of the
     process, of power, and of any drives but one that hold a copy;
  E3 the hook given to `before_flush` has finished before any commit it could see becomes durable
     on a copy, so that rows never outlive the bytes they name;
  E4 what `transact` did that was answered survives the loss of the primary's drive as well, flushed
     or not, as long as somebody opens the store again with the same journal.
Concurrency: one trio loop. `transact` and `read` may be called from any task of it, never from
a thread. They must be short: page what is long, or use the scan lane.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Select

from metadb.statements import Row, Tx

P = ParamSpec("P")
T = TypeVar("T")


class Engine(Protocol):
    """A transactional store of rows. See the module's invariants E1 to E3."""

    def transact(
        self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(tx, ...)` as one transaction.

        It is visible to `read` and `transact` at once, and committed by the next barrier, or soon
        after without one. Raises whatever the function raises (rolled back), MetadataFull,
        PrimaryLost.
        """
        ...

    def read(
        self, function: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(tx, ...)`, which only reads, on the latest committed state."""
        ...

    async def barrier(self) -> None:
        """Make everything committed so far durable (E2). One flush at a time; waiters share it.

        Raises PrimaryLost. Safe to cancel: the flush itself goes on.
        """
        ...

    def before_flush(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Have `hook` awaited at the start of each flush (E3). One hook; set before `run`."""
        ...

    def scan(self, statement: Select[Any], page_rows: int = 500) -> AsyncIterator[list[Row]]:
        """Rows of a long query in pages, on a read-only connection of its own (scan lane).

        One consistent snapshot. The caller closes the iterator (`aclosing`) when it stops early.
        """
        ...
