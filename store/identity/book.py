"""Everything there is of identity, in memory, and the one way to change it.

Invariants
  1. A change is one transaction: all of its records are written or none.
  2. Memory follows the transaction with no await between, so a look-up sees what was committed
     last; it may see it a moment before the barrier makes it durable, never after it was undone:
     where the barrier fails, everything is read again.
  3. `changes` goes up with each change; what was compiled before is then of no use. Only what has
     no say in who may do what is amended without it.

Concurrency: one trio loop. Whoever changes something looks first and commits without an await
between, so no check grows old.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from metadb import identity as rows
from metadb.engine import Engine
from metadb.statements import Tx
from store.errors import StoreError
from store.identity.errors import NoSuchEntity, Unmodifiable
from store.identity.names import account_number
from store.identity.records import (
    TYPES,
    Group,
    Key,
    Kind,
    ManagedPolicy,
    Record,
    Role,
    User,
    decode_record,
    encode_record,
)
from store.translate import translated

log = logging.getLogger(__name__)

_PAGE = 500
_R = TypeVar("_R", bound=Record)
_KINDS = {made: kind for kind, made in TYPES.items()}
# Whose names are told apart by upper and lower case.
_EXACT = frozenset({Kind.KEY, Kind.PROVIDER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """record: what stands under this name from now on, None for nothing."""

    kind: Kind
    name: str
    record: Record | None


def index_name(kind: Kind, name: str) -> str:
    """The name of its row."""
    return name if kind in _EXACT else name.lower()


def put(record: User | Group | Role | ManagedPolicy) -> Change:
    """Keep this record under its own name."""
    return Change(kind=_KINDS[type(record)], name=record.name, record=record)


class Book:
    """See the module's header. Accounts are named by their canonical ids."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._records: dict[tuple[str, Kind], dict[str, Record]] = {}
        self._accounts_of_keys: dict[str, str] = {}
        self._fixed: dict[tuple[str, Kind, str], Record] = {}
        self.changes = 0

    def load(self) -> None:
        """Read everything, forgetting what was there."""
        self._records.clear()
        self._accounts_of_keys.clear()
        self._engine.read(self._load)
        for (account, kind, name), record in self._fixed.items():
            self._keep(account, kind, name, record)
        self.changes += 1

    def fix(self, account: str, change: Change) -> None:
        """Have the record stand there from now on, whatever is kept: the configuration's word.

        It is never written, and `commit` refuses to change it.
        """
        assert change.record is not None
        name = index_name(change.kind, change.name)
        self._fixed[account, change.kind, name] = change.record
        self._keep(account, change.kind, name, change.record)
        self.changes += 1

    def _load(self, tx: Tx) -> None:
        after = rows.BEFORE_ALL
        while page := rows.page(tx, after, _PAGE):
            for row in page:
                kind = Kind(row.kind)
                self._keep(row.account, kind, row.name, decode_record(kind, row.document))
            after = page[-1]

    def _keep(self, account: str, kind: Kind, name: str, record: Record | None) -> None:
        records = self._records.setdefault((account, kind), {})
        if record is None:
            records.pop(name, None)
            if kind is Kind.KEY:
                self._accounts_of_keys.pop(name, None)
        else:
            records[name] = record
            if kind is Kind.KEY:
                self._accounts_of_keys[name] = account

    # -- looking ------------------------------------------------------------------------

    def find(self, account: str, made: type[_R], name: str) -> _R | None:
        """The record of this type and name, or None."""
        kind = _KINDS[made]
        found = self._records.get((account, kind), {}).get(index_name(kind, name))
        assert found is None or isinstance(found, made)
        return found

    def get(self, account: str, made: type[_R], name: str) -> _R:
        """The same. Raises NoSuchEntity."""
        found = self.find(account, made, name)
        if found is None:
            kind = _KINDS[made].value
            raise NoSuchEntity(f"The {kind} with name {name} cannot be found.")
        return found

    def all(self, account: str, made: type[_R]) -> list[_R]:
        """All of an account, by their names."""
        records = self._records.get((account, _KINDS[made]), {})
        found = [records[name] for name in sorted(records)]
        return [record for record in found if isinstance(record, made)]

    def count(self, account: str, made: type[_R]) -> int:
        """How many an account has."""
        return len(self._records.get((account, _KINDS[made]), {}))

    def account_of_key(self, access_key: str) -> str | None:
        """Whose an access key is."""
        return self._accounts_of_keys.get(access_key)

    def keys(self) -> Iterator[tuple[str, Key]]:
        """All access keys with their accounts."""
        for (account, kind), records in list(self._records.items()):
            if kind is Kind.KEY:
                for record in list(records.values()):
                    assert isinstance(record, Key)
                    yield account, record

    def accounts_numbered(self, number: str) -> Iterator[str]:
        """The accounts that hold something and are named by these twelve digits in ARNs."""
        seen = {account for account, _ in self._records}
        return (account for account in seen if account_number(account) == number)

    # -- changing -----------------------------------------------------------------------

    async def commit(self, account: str, *changes: Change) -> None:
        """Make these changes together, durably. Raises StoreError, and then nothing is changed."""
        await self.commit_all((account, change) for change in changes)

    async def commit_all(self, changes: Iterable[tuple[str, Change]]) -> None:
        """The same over several accounts. Raises Unmodifiable for what the configuration fixes."""
        listed = list(changes)
        for account, change in listed:
            if (account, change.kind, index_name(change.kind, change.name)) in self._fixed:
                raise Unmodifiable(f"The {change.kind.value} {change.name} is the configuration's.")
        self.amend(listed)
        self.changes += 1
        try:
            with translated("identity"):
                await self._engine.barrier()
        except StoreError:
            self._reload()
            raise

    def amend(self, changes: list[tuple[str, Change]]) -> None:
        """Write what has no say in who may do what; durable with the next barrier.

        Raises StoreError, and then nothing is changed.
        """
        with translated("identity"):
            self._engine.transact(_write, changes)
        for account, change in changes:
            name = index_name(change.kind, change.name)
            self._keep(account, change.kind, name, change.record)

    def _reload(self) -> None:
        try:
            with translated("identity"):
                self.load()
        except StoreError:
            # The store is on its way down, and reads everything when it comes up again.
            log.exception("what may be done by whom could not be read again")


def _write(tx: Tx, changes: list[tuple[str, Change]]) -> None:
    for account, change in changes:
        name = index_name(change.kind, change.name)
        if change.record is None:
            rows.remove(tx, account, change.kind.value, name)
        else:
            document = encode_record(change.record)
            rows.put(tx, rows.IdentityRow(account, change.kind.value, name, document))
