"""A schema is upgraded on a copy that takes the old one's place: R1 and R2 of `metadb.upgrade`."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from metadb import migrations, upgrade
from metadb.errors import UpgradeFailed
from metadb.files import Folder
from metadb.recovery import Found, boot_id, choose
from tests.faultrows import FaultRow
from tests.metadb.copies import Pool, count, get, put
from tests.store.test_upgrade import take_back

DRIVES = 2
ROWS = 40
FULL = "TWOFOLD_FULL" in os.environ


class Crash(BaseException):
    """The process ends here."""


async def old_pool(base: Path, *, clean: bool = True) -> Pool:
    """A store as the first release left it, stopped or killed."""
    pool = Pool(base, DRIVES)
    async with pool.open(create=True) as engine:
        for number in range(ROWS):
            engine.transact(put, f"k{number}", "x" * 500)
    for place in pool.places:
        take_back(place.path / "meta.db", "0001")
    if clean:
        return pool
    with closing(sqlite3.connect(pool.path("d0") / "meta.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO setting VALUES ('in the log', 'x')")
        crashed = pool.crashed(base.with_name(f"{base.name} killed"))
    state = crashed.path("d0") / "state"
    state.write_text(state.read_text().replace('"clean": true', '"clean": false'))
    assert (crashed.path("d0") / "meta.db-wal").stat().st_size
    return crashed


def is_old(path: Path) -> bool:
    """Whether the older version finds in a folder what it left, log and all."""
    with closing(sqlite3.connect(path / "meta.db", isolation_level=None)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return migrations.revision_of(connection) == "0001"


async def opens(pool: Pool, rows: int = ROWS) -> None:
    """The new version opens it, with all rows, on all drives, and nothing is left lying about."""
    async with pool.open() as engine:
        assert engine.read(count) == rows
        assert engine.read(get, "k7") == "x" * 500
        assert len(engine.copy_drives) == DRIVES - 1
        found = engine._execute("SELECT version_num FROM alembic_version").fetchone()
        assert found == (migrations.NEWEST,)
    assert pool.ejected == []
    for place in pool.places:
        assert not is_old(place.path)
        assert {name for name in os.listdir(place.path) if "upgrade" in name} == set()


@pytest.mark.parametrize("clean", [True, False])
async def test_an_older_store_is_upgraded_with_all_its_rows(tmp_path: Path, clean: bool) -> None:
    pool = await old_pool(tmp_path / "a", clean=clean)
    await opens(pool, ROWS if clean else ROWS + 1)


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Have the process end before step `number` of what `upgrade` does; grows with each step."""
    steps: list[str] = []

    def wrapped(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def step(*arguments: Any, **options: Any) -> Any:
            steps.append(name)
            if len(steps) > number:
                raise Crash
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, step)

    for name in ("remove", "replace", "open", "sync"):
        wrapped(Folder, name)
    for name in ("_copy", "_migrate", "_verify", "_swap", "write_state"):
        wrapped(upgrade, name)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clean", "again"),
    [(False, False), *([(False, True), (True, False), (True, True)] if FULL else [])],
)
async def test_a_crash_at_any_step_leaves_the_old_or_the_new(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault_row: FaultRow,
    clean: bool,
    again: bool,
) -> None:
    origin = await old_pool(tmp_path / "origin", clean=clean)
    old = cut_short = 0
    for number in itertools.count():
        pool = origin.crashed(tmp_path / f"cut{number}")
        with monkeypatch.context() as patched:
            steps = crash_at(patched, number)
            with suppress(Crash):
                upgrade_stopped(pool)
        if len(steps) <= number:
            break
        if (pool.path("d0") / upgrade.INTENT).exists():
            cut_short += 1
        else:
            # In a copy of it, since looking at it with SQLite empties the log.
            assert is_old(pool.crashed(tmp_path / f"looked{number}").path("d0"))
            old += 1
        if again:
            with monkeypatch.context() as patched:
                crash_at(patched, 3)
                with suppress(Crash):
                    upgrade_stopped(pool)
        await opens(pool, ROWS if clean else ROWS + 1)
    assert old > 3
    assert cut_short > 3
    fault_row(
        "the daemon is killed at any step of an upgrade",
        client="refused connections",
        status="nothing",
    )


def upgrade_stopped(pool: Pool) -> None:
    """What a start does of it, in this thread."""
    upgrade.finish(pool.places)
    chosen = chosen_of(pool)
    if upgrade.is_due(chosen):
        upgrade.upgrade(chosen)


def chosen_of(pool: Pool) -> Found:
    """The copy that a start goes on from."""
    return choose(pool.places, boot=boot_id(), check_bytes=1 << 30, wrong=[]).primary


async def test_an_older_version_that_ran_since_has_the_word(tmp_path: Path) -> None:
    pool = await old_pool(tmp_path)
    folder = Folder(chosen_of(pool).place.path)
    (folder.path / upgrade.UPGRADED).write_bytes(b"of before")
    folder.replace(upgrade.INTENT, b'{"run": 0}')
    await opens(pool)


def contents(pool: Pool) -> dict[Path, bytes]:
    """All files of all copies but what SQLite makes when it only looks."""
    files = [file for place in pool.places for file in place.path.iterdir()]
    found = {file: file.read_bytes() for file in files if not file.name.endswith("-shm")}
    return {file: content for file, content in found.items() if content}


def break_rows(database: Path) -> None:
    """A revision that loses a row."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        migrations.upgrade(connection)
        connection.execute("DELETE FROM setting WHERE name = 'k3'")


def break_counts(database: Path) -> None:
    """A revision that counts wrongly."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        migrations.upgrade(connection)
        connection.execute("INSERT INTO usage VALUES (5, 77, 7)")


def fail_in_the_middle(database: Path) -> None:
    """A revision that fails."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("DROP TABLE setting")
        connection.execute("SELECT * FROM setting")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (break_rows, "table setting had 41 rows and has 40"),
        (break_counts, "break the invariant M7"),
        (fail_in_the_middle, "no such table: setting"),
    ],
)
async def test_an_upgrade_that_goes_wrong_leaves_all_as_it_was_and_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault_row: FaultRow,
    broken: Callable[[Path], None],
    said: str,
) -> None:
    pool = await old_pool(tmp_path / "a", clean=False)
    before = contents(pool)
    with monkeypatch.context() as patched:
        patched.setattr(upgrade, "_migrate", broken)
        with pytest.raises(UpgradeFailed, match=said):
            async with pool.open():
                pass
    assert contents(pool) == before
    fault_row(
        "an upgrade of the schema fails, or makes what does not add up",
        client="the daemon does not start, and says why; the older version does",
        status="nothing",
    )
    await opens(pool, ROWS + 1)


async def test_without_room_for_a_copy_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await old_pool(tmp_path)
    monkeypatch.setattr(upgrade, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(UpgradeFailed, match="bytes free and it takes"):
        async with pool.open():
            pass
    monkeypatch.undo()
    await opens(pool)
