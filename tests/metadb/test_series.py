"""Series of backups: which points lead to a moment, what may go, and pages put on each other."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from metadb.archive import BadArchive, Manifest, pack
from metadb.series import (
    Composed,
    NoSuchPoint,
    PageSums,
    Point,
    leading_to,
    new_chain,
    outlived,
    points_of,
)
from tests.metadb.copies import Pool, put, sqlite_rows

FIRST, SECOND, THIRD = (f"2026010{day}T000000Z-0000000{day}" for day in (1, 2, 3))


def point(chain: str, number: int, sequence: int, taken_s: int) -> Point:
    return Point(chain=chain, number=number, sequence=sequence, taken_s=taken_s)


POINTS = [
    point(FIRST, 0, 10, 100),
    point(FIRST, 1, 20, 110),
    point(FIRST, 2, 30, 120),
    point(SECOND, 0, 35, 200),
    point(SECOND, 1, 40, 210),
    point(SECOND, 2, 50, 220),
    point(THIRD, 0, 50, 300),
]


def test_names_say_what_a_point_is() -> None:
    names = [each.name for each in POINTS]
    noise = ["", "x.2fmeta", f"{names[0]}.new", "series", "20260101T000000Z-00000001.1.2.3.2fmeta"]
    assert points_of(random.Random(1).sample(names + noise, len(names + noise))) == POINTS
    (made,) = points_of([point(new_chain(0.0), 0, 1, 2).name])
    assert made.chain.startswith("19700101T000000Z-")


@pytest.mark.parametrize(
    ("at_change", "at_s", "wanted"),
    [
        (None, None, POINTS[6:]),
        (50, None, POINTS[6:]),
        (49, None, POINTS[3:5]),
        (39, None, POINTS[3:4]),
        (34, None, POINTS[0:3]),
        (10, None, POINTS[0:1]),
        (None, 299, POINTS[3:6]),
        (None, 110, POINTS[0:2]),
        (25, 500, POINTS[0:2]),
    ],
)
def test_the_newest_state_within_the_limits_is_taken(
    at_change: int | None, at_s: float | None, wanted: list[Point]
) -> None:
    shuffled = random.Random(2).sample(POINTS, len(POINTS))
    assert leading_to(shuffled, at_change=at_change, at_s=at_s) == wanted


def test_a_point_whose_chain_has_a_hole_is_not_taken() -> None:
    without = [each for each in POINTS if each != POINTS[4]]
    assert leading_to(without, at_s=250) == POINTS[3:4]
    for points in ([], POINTS[1:3]):
        with pytest.raises(NoSuchPoint):
            leading_to(points)
    with pytest.raises(NoSuchPoint):
        leading_to(POINTS, at_change=9)


def test_only_what_no_restore_needs_may_go() -> None:
    assert outlived(POINTS, 99) == []
    assert outlived(POINTS, 199) == []
    assert outlived(POINTS, 200) == POINTS[:3]
    assert outlived(POINTS, 10_000) == POINTS[:6]
    for before_s in range(100, 400, 7):
        left = [each for each in POINTS if each not in outlived(POINTS, before_s)]
        for at_s in range(before_s, 400, 7):
            assert leading_to(left, at_s=at_s) == leading_to(POINTS, at_s=at_s)


async def test_points_put_on_each_other_are_the_database_of_their_moment(tmp_path: Path) -> None:
    noise = random.Random(3)
    sums, parts, wanted = PageSums(), [], []
    async with Pool(tmp_path / "pool", 1).open(create=True, running=True) as engine:
        for number in range(12):
            for _ in range(noise.randrange(1, 40)):
                engine.transact(put, f"row{noise.randrange(300)}", "x" * noise.randrange(3000))
            if number % 5 == 4:
                await engine.checkpoint()
            await engine.barrier()
            with engine.snapshot() as snapshot:
                manifest = Manifest(
                    store="s",
                    sequence=number,
                    taken_s=0.0,
                    revision="0003",
                    database_bytes=snapshot.page_count * 4096,
                    since=number - 1 if number else None,
                )
                go_through = sums.changed if number else sums.all
                parts.append(tmp_path / f"part{number}")
                parts[-1].write_bytes(b"".join(pack(manifest, go_through(snapshot.pieces()))))
                sums.keep()
                wanted.append(b"".join(snapshot.pieces()))
    for number in range(12):
        composed = Composed(parts[: number + 1], tmp_path / "database")
        assert b"".join(composed.pieces()) == wanted[number]
        assert composed.manifest.sequence == number
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "meta.db").write_bytes(wanted[-1])
    assert sqlite_rows(tmp_path / "last")
    connection = sqlite3.connect(tmp_path / "last" / "meta.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()

    for wrong in ([parts[1]], [parts[0], parts[2]], [parts[0], parts[0]]):
        with pytest.raises(BadArchive, match="does not follow"):
            Composed(wrong, tmp_path / "database")


def test_a_page_beyond_the_database_is_refused(tmp_path: Path) -> None:
    base = Manifest(store="s", sequence=1, taken_s=0.0, revision="0003", database_bytes=4096)
    (tmp_path / "base").write_bytes(b"".join(pack(base, [bytes(4096)])))
    for number, size in ((0, 4096), (2, 4096), (1, 4095)):
        manifest = Manifest(
            store="s", sequence=2, taken_s=0.0, revision="0003", database_bytes=4096, since=1
        )
        entry = number.to_bytes(4, "little") + bytes(size)
        (tmp_path / "part").write_bytes(b"".join(pack(manifest, [entry])))
        with pytest.raises(BadArchive):
            Composed([tmp_path / "base", tmp_path / "part"], tmp_path / "database")
