"""A snapshot is of its moment, whatever is committed and checkpointed while it is read."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from metadb.archive import Archive, BadArchive, Manifest, pack
from metadb.errors import NoUsableCopy
from metadb.offline import compare_copies, lay_down, opened_copy
from metadb.snapshot import SnapshotEnded, stopped_snapshot
from tests.metadb.copies import Pool, count, put, sqlite_rows

MANIFEST = Manifest(store="s", sequence=3, taken_s=0.0, revision="0003", database_bytes=0)


def rows_in(database: bytes, folder: Path) -> set[str]:
    folder.mkdir()
    (folder / "meta.db").write_bytes(database)
    return sqlite_rows(folder)


async def test_a_snapshot_holds_its_moment_over_commits_and_checkpoints(tmp_path: Path) -> None:
    async with Pool(tmp_path / "pool", 2).open(create=True, running=True) as engine:
        for number in range(400):
            engine.transact(put, f"old{number}", "x" * 1000)
        await engine.checkpoint()
        engine.transact(put, "last", "x")
        await engine.barrier()
        with engine.snapshot() as snapshot:
            pieces = snapshot.pieces()
            first = next(pieces, b"")
            for number in range(400):
                engine.transact(put, f"old{number}", "y" * 3000)
                engine.transact(put, f"new{number}", "y")
            await engine.barrier()
            assert not await engine.checkpoint(), "the log started again below a snapshot"
            database = first + b"".join(pieces)
        assert await engine.checkpoint()
    names = rows_in(database, tmp_path / "restored")
    assert names >= {"last", *(f"old{number}" for number in range(400))}
    assert not any(name.startswith("new") for name in names)


async def test_a_snapshot_ends_with_its_engine(tmp_path: Path) -> None:
    async with Pool(tmp_path, 1).open(create=True) as engine:
        opened = engine.snapshot()
        snapshot = opened.__enter__()
    with pytest.raises(SnapshotEnded):
        list(snapshot.pieces())
    opened.__exit__(None, None, None)


async def test_a_stopped_copy_with_a_log_reads_as_it_would_be_opened(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool", 2)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
        await engine.barrier()
        crashed = pool.crashed(tmp_path / "crashed")
    with opened_copy(crashed.places) as copy:
        assert copy.read(count) >= 1
        assert compare_copies(crashed.places, copy.place) == []
        with stopped_snapshot(copy.place.path) as snapshot:
            assert "a" in rows_in(b"".join(snapshot.pieces()), tmp_path / "read")


async def test_copies_that_differ_are_told(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)
    async with pool.open(create=True) as engine:
        engine.transact(put, "a")
    connection = sqlite3.connect(pool.path("d1") / "meta.db")
    connection.execute("INSERT INTO setting VALUES ('odd', 'one')")
    connection.commit()
    connection.close()
    with opened_copy(pool.places) as copy:
        (found,) = compare_copies(pool.places, copy.place)
    assert (found.behind, found.cause) == (False, "pages differ")


async def test_what_is_laid_down_is_the_only_copy(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 3)
    async with pool.open(create=True) as engine:
        engine.transact(put, "before")
        await engine.barrier()
        with engine.snapshot() as snapshot:
            size = snapshot.page_count * 4096
            manifest = Manifest(
                store="s", sequence=0, taken_s=0.0, revision="0003", database_bytes=size
            )
            (tmp_path / "file").write_bytes(b"".join(pack(manifest, snapshot.pieces())))
        engine.transact(put, "after")
    lay_down(pool.places, Archive(tmp_path / "file"))
    with pytest.raises(NoUsableCopy):
        async with pool.open(pool.without("d0")):
            pass
    async with pool.open() as engine:
        assert engine.primary_drive == "d0"
        assert len(engine.copy_drives) == 2
    shutil.rmtree(pool.path("d0"))
    assert {"before"} <= sqlite_rows(pool.path("d1"))
    assert "after" not in sqlite_rows(pool.path("d1"))


@pytest.mark.parametrize("cut", [1, 16, 40])
def test_a_backup_that_was_cut_is_none(tmp_path: Path, cut: int) -> None:
    whole = b"".join(pack(MANIFEST, [b"page" * 1024]))
    (tmp_path / "file").write_bytes(whole[:-cut])
    with pytest.raises(BadArchive):
        Archive(tmp_path / "file")


def test_a_backup_with_other_bytes_than_it_says_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"".join(pack(MANIFEST, [b"page" * 1024])))
    with pytest.raises(BadArchive):
        list(Archive(tmp_path / "file").pieces())
