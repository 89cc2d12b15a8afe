"""Hot statements: built with SQLAlchemy once, run on the driver's connection ever after.

SQLAlchemy's cost per execution is several times SQLite's own, so it is paid at import. A
`Statement` is SQL text and the order its parameters are given in; `Tx` runs it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Executable, Table, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler


class _Compiler(SQLiteCompiler):
    def limit_clause(self, select: Any, **kw: Any) -> str:
        # The stock compiler adds "OFFSET 0" as a parameter to every LIMIT.
        limit = select._limit_clause
        return "" if limit is None else f" LIMIT {self.process(limit, **kw)}"


_DIALECT = sqlite.dialect(paramstyle="qmark")
_DIALECT.statement_compiler = _Compiler

Row = tuple[Any, ...]


class Statement:
    """One statement and the names of its parameters, in the order `Tx` takes them."""

    __slots__ = ("names", "sql")

    def __init__(self, construct: Executable, *names: str) -> None:
        """names: the `bindparam` names in order of appearance; checked against the text."""
        compiled = construct.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        order = tuple(compiled.positiontup or ())
        assert order == names, f"{compiled}: parameters are {order}, not {names}"
        self.sql = str(compiled)
        self.names = names


def insert_row(table: Table, *, replace: bool = False, ignore: bool = False) -> Statement:
    """INSERT of a whole row; parameters are all columns in the table's order."""
    construct = insert(table).values({c.name: bindparam(c.name) for c in table.columns})
    if replace:
        construct = construct.prefix_with("OR REPLACE")
    if ignore:
        construct = construct.prefix_with("OR IGNORE")
    return Statement(construct, *(c.name for c in table.columns))


class Tx:
    """A transaction under way on the loop's connection: what row functions run statements on.

    Lives inside `Engine.transact` or `Engine.read` and must not be kept beyond it.
    directories: what `metadb.dentries.directory_of` found, kept from one transaction to the next
    and forgotten when one is rolled back. Only one process writes, so nothing else makes it stale.
    """

    __slots__ = ("_execute", "directories")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self.directories: dict[tuple[int, bytes], int] = {}

    def one(self, statement: Statement, *parameters: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = self._execute(statement.sql, parameters).fetchone()
        return row

    def all(self, statement: Statement, *parameters: Any) -> list[Row]:
        """All rows. The statement must bound their number."""
        return self._execute(statement.sql, parameters).fetchall()

    def run(self, statement: Statement, *parameters: Any) -> int:
        """Execute; the number of rows changed."""
        return self._execute(statement.sql, parameters).rowcount

    def many(self, statement: Statement, rows: Sequence[Row]) -> None:
        """Execute once for each of `rows`."""
        for row in rows:
            self._execute(statement.sql, row)
