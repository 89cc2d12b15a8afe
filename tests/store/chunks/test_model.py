"""Random work on small stripes against plain bytes, with drives that come and go."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.chunks.types import Run
from tests.store.chunks.rig import open_rig, pattern, put

EDGES = st.sampled_from([1, 4095, 4096, 4097, 65535, 65536, 65537, 131071, 131072, 131073, 262144])
SIZES = st.one_of(EDGES, st.builds(lambda a, b: a + b, EDGES, EDGES), st.integers(1, 600_000))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.sampled_from([(1, 0), (2, 1), (3, 1), (3, 2), (4, 2), (5, 2)]),
    sizes=st.lists(SIZES, min_size=1, max_size=5),
    piece=st.sampled_from([1000, 4096, 65536, 100_001, 1 << 20]),
    hints=st.booleans(),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=4),
    gone=st.integers(0, 2),
)
def test_bytes_come_back_whatever_their_shape(
    shape: tuple[int, int],
    sizes: list[int],
    piece: int,
    hints: bool,
    cuts: list[tuple[float, float]],
    gone: int,
) -> None:
    drives, parity = shape

    async def scenario(folder: Path) -> None:
        async with open_rig(
            folder, drives, parity, stripe_bytes=128 << 10, segment_bytes=1 << 20
        ) as opened:
            stored: list[tuple[bytes, tuple[Run, ...]]] = []
            for index, size in enumerate(sizes):
                body = pattern(size, index)
                hint = size if hints else None
                stored.append((body, await put(opened.chunks, body, hint=hint, piece=piece)))
            for path in opened.paths[: min(gone, parity)]:
                path.rename(path.with_suffix(".away"))
            await opened.probe()
            for body, runs in stored:
                assert sum(run.size for run in runs) == len(body)
                place = 0
                for run in runs:
                    ranges = [(0, run.size)] + [
                        (int(a * (run.size - 1)), int(b * (run.size - 1)) + 1) for a, b in cuts
                    ]
                    for start, stop in ranges:
                        if start < stop:
                            got = b"".join(await opened.chunks.read(run, start, stop))
                            assert got == body[place + start : place + stop]
                            quick = opened.chunks.read_nowait(run, start, stop)
                            assert quick is None or b"".join(quick) == got
                    place += run.size

    with tempfile.TemporaryDirectory() as folder:
        trio.run(scenario, Path(folder))
