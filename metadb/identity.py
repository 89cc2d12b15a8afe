"""Rows of `identity`: who may do what, few enough to be read whole at start.

Concurrency: inside a transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import bindparam, delete, select

from metadb.schema import identity
from metadb.statements import Statement, Tx, insert_row

_PAGE = Statement(
    select(identity)
    .where(
        (identity.c.account > bindparam("account"))
        | (
            (identity.c.account == bindparam("same_account"))
            & (
                (identity.c.kind > bindparam("kind"))
                | (
                    (identity.c.kind == bindparam("same_kind"))
                    & (identity.c.name > bindparam("name"))
                )
            )
        )
    )
    .order_by(identity.c.account, identity.c.kind, identity.c.name)
    .limit(bindparam("limit")),
    "account",
    "same_account",
    "kind",
    "same_kind",
    "name",
    "limit",
)
_PUT = insert_row(identity, replace=True)
_REMOVE = Statement(
    delete(identity).where(
        identity.c.account == bindparam("of_account"),
        identity.c.kind == bindparam("of_kind"),
        identity.c.name == bindparam("of_name"),
    ),
    "of_account",
    "of_kind",
    "of_name",
)


class IdentityRow(NamedTuple):
    """One entity of one account. document: JSON, in the shape of its kind."""

    account: str
    kind: str
    name: str
    document: str


BEFORE_ALL = IdentityRow("", "", "", "")


def page(tx: Tx, after: IdentityRow, limit: int) -> list[IdentityRow]:
    """Up to `limit` rows behind `after`, in the order of the key."""
    account, kind, name, _ = after
    rows = tx.all(_PAGE, account, account, kind, kind, name, limit)
    return [IdentityRow._make(row) for row in rows]


def put(tx: Tx, row: IdentityRow) -> None:
    """Write the row, over an older one of its key."""
    tx.run(_PUT, *row)


def remove(tx: Tx, account: str, kind: str, name: str) -> None:
    """Remove the row, if it is there."""
    tx.run(_REMOVE, account, kind, name)
