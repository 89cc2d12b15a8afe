"""Rows that heal and scrub ask for and change: where runs stand, and on which drives.

Invariant: `move_members` is the one statement that says of fragments that they are elsewhere now,
so whoever runs it has made them durable there first. Concurrency: inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Integer, bindparam, literal_column, select, update

from metadb.buckets import set_setting, setting_of
from metadb.schema import freed, run, segment
from metadb.statements import Statement, Tx

_RUNS_BETWEEN = Statement(
    select(run.c.id, run.c.size, run.c.missing)
    .where(run.c.id > bindparam("after"), run.c.id < bindparam("past"))
    .order_by(run.c.id)
    .limit(bindparam("limit")),
    "after",
    "past",
    "limit",
)
_FREED_BETWEEN = Statement(
    select(freed.c.run, freed.c.size)
    .where(freed.c.run > bindparam("after"), freed.c.run < bindparam("past"))
    .order_by(freed.c.run)
    .limit(bindparam("limit")),
    "after",
    "past",
    "limit",
)
_RUN = Statement(
    select(run.c.size, run.c.missing).where(run.c.id == bindparam("key")),
    "key",
)
_MISSING_BETWEEN = Statement(
    select(run.c.missing)
    .distinct()
    .where(
        run.c.id > bindparam("after"),
        run.c.id < bindparam("past"),
        run.c.missing != literal_column("0"),
    ),
    "after",
    "past",
)
_MEMBERS = Statement(select(segment.c.members).where(segment.c.id == bindparam("key")), "key")
_MOVE = Statement(
    update(segment).where(segment.c.id == bindparam("key")).values(members=bindparam("members")),
    "members",
    "key",
)
_kept = bindparam("kept", type_=Integer)
_SETTLE = Statement(
    update(run)
    .where(
        run.c.id > bindparam("after"),
        run.c.id < bindparam("past"),
        run.c.missing != literal_column("0"),
    )
    .values(missing=run.c.missing.op("&")(_kept)),
    "kept",
    "after",
    "past",
)


def runs_between(tx: Tx, after: int, past: int, limit: int) -> list[tuple[int, int, int]]:
    """Up to `limit` (id, size, missing) of runs with after < id < past, in order."""
    return [(row[0], row[1], row[2]) for row in tx.all(_RUNS_BETWEEN, after, past, limit)]


def freed_between(tx: Tx, after: int, past: int, limit: int) -> list[tuple[int, int]]:
    """Up to `limit` (id, size) of freed runs with after < id < past, in order."""
    return [(row[0], row[1]) for row in tx.all(_FREED_BETWEEN, after, past, limit)]


def run_of(tx: Tx, number: int) -> tuple[int, int] | None:
    """(size, missing) of a run that is named, else None."""
    row = tx.one(_RUN, number)
    return None if row is None else (row[0], row[1])


def missing_between(tx: Tx, after: int, past: int) -> int:
    """The shards that any run with after < id < past lacks, as a mask."""
    mask = 0
    for (missing,) in tx.all(_MISSING_BETWEEN, after, past):
        mask |= missing
    return mask


def members_of(tx: Tx, number: int) -> str | None:
    """A segment's members in shard order, None when no such segment is remembered."""
    row = tx.one(_MEMBERS, number)
    return None if row is None else row[0]


def move_members(tx: Tx, number: int, members: str) -> bool:
    """Give a segment's members in shard order; False when no such segment is remembered."""
    return tx.run(_MOVE, members, number) == 1


def settle_runs(tx: Tx, after: int, past: int, healed: int) -> None:
    """The shards in the mask `healed` of all runs with after < id < past are on their drives."""
    tx.run(_SETTLE, ~healed, after, past)


def kept_text(tx: Tx, name: str) -> str:
    """What heal or scrub noted under `name`, "" for nothing."""
    return setting_of(tx, name) or ""


def keep_text(tx: Tx, name: str, text: str) -> None:
    """Note `text` under `name`."""
    set_setting(tx, name, text)


def suspects(tx: Tx) -> set[str]:
    """Drives that missed something and haven't been looked through yet."""
    return set(kept_text(tx, "heal_suspects").split())


def note_suspects(tx: Tx, drives: Iterable[str]) -> None:
    """Replace the set of suspects."""
    keep_text(tx, "heal_suspects", " ".join(sorted(drives)))
