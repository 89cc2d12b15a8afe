"""A clock that jumps: what is newest is told by sequences in rows, never by times."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from metadb import changes
from store.types import ObjectMeta, PartClaim
from tests.faultrows import FaultRow
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.versioned import enable, history, keys, put

HOUR_NS = 3600 * 10**9
YEAR_NS = 365 * 24 * HOUR_NS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the store's clock off by so many nanoseconds."""
    off_ns = 0

    def now_ns() -> int:
        return time.time_ns() + off_ns

    for name, module in list(sys.modules.items()):
        if name.startswith("store.") and getattr(module, "now_ns", None) is time.time_ns:
            monkeypatch.setattr(module, "now_ns", now_ns)

    def set_off(by_ns: int) -> None:
        nonlocal off_ns
        off_ns = by_ns

    return set_off


async def test_what_is_written_after_the_clock_was_set_back_is_the_newest(
    opened: Opened, clock: Callable[[int], None], fault_row: FaultRow
) -> None:
    await enable(opened)
    values = []
    for number, off_ns in enumerate((0, -HOUR_NS, YEAR_NS, -YEAR_NS)):
        clock(off_ns)
        values.append(f"value {number}".encode())
        stat = await put(opened, "key", values[-1])
        assert abs(stat.modified_ns - time.time_ns() - off_ns) < HOUR_NS, "the clock jumped for it"
        assert await history(opened, "key") == values[::-1]
        await put(opened, f"other{number}", b"x")
    assert await keys(opened) == ["key", "other0", "other1", "other2", "other3"]
    await opened.namespace.objects.delete("box", "key")
    assert await history(opened, "key") == [None, *values[::-1]]
    noted = [row[0] for row in opened.engine.read(changes.since, 0, 1000)]
    assert noted == sorted(set(noted)), "the outbox goes on upwards"
    fault_row(
        "the clock is set back or forward, by an hour or a year",
        client="the newest version is the one that was written last; its time is the clock's",
        status="nothing",
    )


async def test_an_upload_over_a_jump_of_the_clock_is_completed(
    opened: Opened, clock: Callable[[int], None]
) -> None:
    uploads = opened.namespace.uploads
    clock(YEAR_NS)
    upload = await uploads.create("box", "key", ObjectMeta())
    clock(-YEAR_NS)
    part = await uploads.put_part("box", "key", upload, 1, BytesBody(b"part"))
    claim = PartClaim(number=1, etag=part.etag, checksums={})
    await uploads.complete("box", "key", upload, [claim])
    assert await history(opened, "key") == [b"part"]
