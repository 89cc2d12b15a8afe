"""Inode numbers: above every number that was ever given out, at the price of few writes."""

from __future__ import annotations

import pytest

from metadb import buckets
from metadb.statements import Tx
from store.state import INODES_RESERVED, InodeNumbers
from tests.store.conftest import Opened


def ceiling(tx: Tx) -> int:
    return int(buckets.setting_of(tx, "inode_ceiling") or 0)


async def test_numbers_are_reserved_by_the_thousands(opened: Opened) -> None:
    numbers = InodeNumbers()
    opened.engine.transact(numbers.load)
    first = opened.engine.transact(numbers.take)
    kept = opened.engine.read(ceiling)
    assert kept == first + INODES_RESERVED
    for _ in range(10):
        assert opened.engine.transact(numbers.take) < kept
    assert opened.engine.read(ceiling) == kept


async def test_a_reservation_that_was_rolled_back_is_made_again(opened: Opened) -> None:
    numbers = InodeNumbers()
    opened.engine.transact(numbers.load)

    def bad(tx: Tx) -> None:
        numbers.take(tx)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened.engine.transact(bad)
    number = opened.engine.transact(numbers.take)
    assert opened.engine.read(ceiling) > number
