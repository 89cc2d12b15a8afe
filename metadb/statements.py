"""Hot statements: built with SQLAlchemy once, run on the driver's connection ever after.

SQLAlchemy's cost per execution is several times SQLite's own, so it is paid at import. A
`Statement` is SQL text and the order its parameters are given in; `Tx` runs it, and has what it
changed noted (`metadb.journal`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Executable, Table, UpdateBase, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler

from metadb.records import InodeRow


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

    __slots__ = ("names", "sql", "writes")

    def __init__(self, construct: Executable, *names: str) -> None:
        """names: the `bindparam` names in order of appearance; checked against the text."""
        compiled = construct.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        order = tuple(compiled.positiontup or ())
        assert order == names, f"{compiled}: parameters are {order}, not {names}"
        self.sql = str(compiled)
        self.names = names
        self.writes = isinstance(construct, UpdateBase)


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
    Three things it remembers from one transaction to the next, and forgets when one is rolled
    back; only one process writes, so nothing else makes them stale. directories: what
    `metadb.dentries.directory_of` found. inodes: rows that `metadb.inodes` read or wrote.
    inode_ceiling: what the store wrote last of inode numbers that are taken, 0 for not known.
    note: is told of each statement that changed something, with its parameters and the number of
    rows, -1 where it returned some.
    """

    __slots__ = ("_execute", "_note", "directories", "inode_ceiling", "inodes")

    def __init__(
        self,
        connection: sqlite3.Connection,
        note: Callable[[tuple[str, Row, int]], None] = lambda step: None,
    ) -> None:
        self._execute = connection.execute
        self._note = note
        self.directories: dict[tuple[int, bytes], int] = {}
        self.inodes: dict[int, InodeRow] = {}
        self.inode_ceiling = 0

    def forget(self) -> None:
        """Something was rolled back."""
        self.directories.clear()
        self.inodes.clear()
        self.inode_ceiling = 0

    def one(self, statement: Statement, *parameters: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = self._execute(statement.sql, parameters).fetchone()
        if statement.writes and row is not None:
            self._note((statement.sql, parameters, -1))
        return row

    def all(self, statement: Statement, *parameters: Any) -> list[Row]:
        """All rows. The statement must bound their number."""
        rows = self._execute(statement.sql, parameters).fetchall()
        if statement.writes and rows:
            self._note((statement.sql, parameters, -1))
        return rows

    def run(self, statement: Statement, *parameters: Any) -> int:
        """Execute; the number of rows changed."""
        count = self._execute(statement.sql, parameters).rowcount
        if count:
            self._note((statement.sql, parameters, count))
        return count

    def many(self, statement: Statement, rows: Sequence[Row]) -> None:
        """Execute once for each of `rows`."""
        for row in rows:
            self.run(statement, *row)
