"""A scan may be cancelled anywhere, also while its connection opens, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import trio
from sqlalchemy import select

from metadb import schema
from tests.metadb.copies import Pool


async def test_a_scan_may_be_cancelled_at_any_moment(tmp_path: Path) -> None:
    statement = select(schema.setting.c.name)
    async with Pool(tmp_path, 1).open(create=True) as engine:
        async for _ in engine.scan(statement, 8):
            pass
        for moment in range(40):
            with trio.move_on_after(moment / 4000):
                async for _ in engine.scan(statement, 8):
                    pass
        seen = [page async for page in engine.scan(statement, 8)]
    assert isinstance(seen, list)
