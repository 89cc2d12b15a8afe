"""Every loss of up to m shards is made good, for every geometry that pools come to."""

from __future__ import annotations

import itertools
import logging

import pytest

from store.chunks import isal
from store.chunks.codec import Codec, codec
from store.chunks.types import Buffer
from tests.store.chunks.rig import pattern

GEOMETRIES = [(1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (4, 2), (4, 4)]


@pytest.mark.parametrize(("k", "m"), GEOMETRIES)
@pytest.mark.parametrize("columns", [4096, 64 << 10])
def test_any_loss_of_m_shards_is_made_good(k: int, m: int, columns: int) -> None:
    payload = pattern(k * columns)
    shards = codec(k, m).encode(payload)
    assert b"".join(shards[:k]) == payload
    for lost in itertools.combinations(range(k + m), m):
        intact = {i: shard for i, shard in enumerate(shards) if i not in lost}
        rebuilt = codec(k, m).rebuild(intact, lost) if lost else {}
        assert all(bytes(rebuilt[i]) == bytes(shards[i]) for i in lost), lost


@pytest.mark.parametrize("lost", [(0, 1, 2, 3), (12, 13, 14, 15), (0, 5, 11, 15)])
def test_the_widest_geometry_is_made_good(lost: tuple[int, ...]) -> None:
    shards = codec(12, 4).encode(pattern(12 * 8192))
    intact = {i: shard for i, shard in enumerate(shards) if i not in lost}
    rebuilt = codec(12, 4).rebuild(intact, lost)
    assert all(bytes(rebuilt[i]) == bytes(shards[i]) for i in lost)


def test_columns_can_be_rebuilt_by_themselves() -> None:
    shards = [memoryview(shard) for shard in codec(2, 2).encode(pattern(2 * (192 << 10)))]
    low, high = 64 << 10, 128 << 10
    rebuilt = codec(2, 2).rebuild({i: shards[i][low:high] for i in (1, 3)}, [0, 2])
    assert rebuilt[0] == shards[0][low:high]
    assert rebuilt[2] == shards[2][low:high]


@pytest.mark.parametrize(("k", "m"), [(2, 1), (2, 2), (3, 2), (4, 4), (12, 4)])
def test_parity_is_the_same_by_either_way(k: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isal.parity_maker(k, m) is not None
    monkeypatch.setattr(isal, "parity_maker", lambda k, m: None)
    payload = pattern(k * 4096)
    by_library = list(map(bytes, Codec(k, m).encode(payload)))
    assert list(map(bytes, codec(k, m).encode(payload))) == by_library
    assert list(map(bytes, codec(k, m).encode(memoryview(bytearray(payload))))) == by_library


def test_a_library_that_makes_another_code_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(payload: Buffer) -> list[Buffer]:
        return [bytes(len(payload) // 2)] * 2

    monkeypatch.setattr(isal, "parity_maker", lambda k, m: make)
    payload = pattern(2 * 4096)
    assert list(map(bytes, Codec(2, 2).encode(payload))) == [
        bytes(shard) for shard in codec(2, 2).encode(payload)
    ]


def test_the_library_leaves_logging_alone() -> None:
    assert codec(2, 2)
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    handlers = [type(handler).__name__ for logger in loggers for handler in logger.handlers]
    assert "SysLogHandler" not in handlers
