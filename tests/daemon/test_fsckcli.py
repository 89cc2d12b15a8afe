"""`twofold fsck`: each invariant is broken on purpose, found, and repaired where that is promised.

One store is filled and stopped; each test breaks a copy of its drives.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.fsckcli import look_while_stopped
from daemon.stoppedstore import stopped_pool
from metadb import check
from store import fsck
from store.chunks.label import FOLDER, open_directory, read_label, write_label
from store.fsck import CHECKS, Verdict
from tests.daemon.harness import DaemonHarness
from tests.faultrows import FaultRow

BUCKET = "bucket"
BODIES = {
    "top": os.urandom(300_000),
    "d/one": os.urandom(200_000),
    "d/two": os.urandom(50_000),
    "d/small": b"a few bytes",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """A stopped store of four drives, 2+2."""
    with DaemonHarness(tmp_path_factory.mktemp("filled"), mount=False) as harness:
        client = harness.client()
        client.create_bucket(Bucket=BUCKET)
        for key, body in BODIES.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        assert harness.stop() == 0
        # A start cuts the files of segments to what is used.
        harness.start()
        assert harness.stop() == 0
        # Labels say where drives were last: these are not to be found there.
        yield [drive.rename(drive.with_name(f"{drive.name}.kept")) for drive in harness.drives]


@pytest.fixture
def drives(filled: list[Path], tmp_path: Path) -> list[Path]:
    """A copy of its drives."""
    return [Path(shutil.copytree(drive, tmp_path / drive.stem)) for drive in filled]


def on_rows(*statements: str) -> Callable[[list[Path]], None]:
    """Change all copies of the metadata alike."""

    def change(drives: list[Path]) -> None:
        for drive in drives:
            if (drive / FOLDER / "meta" / "state").exists():
                change_copy(drive, *statements)

    return change


def change_copy(drive: Path, *statements: str) -> None:
    connection = sqlite3.connect(drive / FOLDER / "meta" / "meta.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    # Of pages that SQLite itself wrote the mirror's sums know nothing.
    (drive / FOLDER / "meta" / "meta.db-sums").unlink(missing_ok=True)


def members(drives: list[Path]) -> list[Path]:
    """A file of one segment on each drive."""
    name = min(path.name for path in drives[0].rglob("*.seg"))
    return [next(drive.rglob(name)) for drive in drives]


def take_away(drives: list[Path]) -> None:
    drives[3].rename(drives[3].with_name("away"))


def change_label(drives: list[Path]) -> None:
    folder = open_directory(drives[1] / FOLDER)
    label = read_label(folder)
    assert label is not None
    write_label(folder, replace(label, parity=1))
    os.close(folder)


def change_one_copy(drives: list[Path]) -> None:
    copies = [drive for drive in drives if (drive / FOLDER / "meta" / "state").exists()]
    (copy,) = (d for d in copies[1:2])
    change_copy(copy, "INSERT INTO setting VALUES ('odd', 'one')")


def spoil(count: int) -> Callable[[list[Path]], None]:
    """Overwrite a header on so many drives."""

    def change(drives: list[Path]) -> None:
        for path in members(drives)[:count]:
            with path.open("r+b") as file:
                file.write(b"something else stands here")

    return change


FILE = "(SELECT inode FROM extent ORDER BY inode LIMIT 1)"
DIRECTORY = "(SELECT inode FROM dentry WHERE name = x'642f')"
RUN = "(SELECT min(run) FROM extent)"
BUCKET_ID = "(SELECT id FROM bucket)"
VERSION = "INSERT INTO version (sequence, bucket, key, version_id, inode, stored_ns) SELECT"
UNNAMED = (
    f"INSERT INTO inode SELECT 900, {BUCKET_ID}, mode, uid, gid, 0, 0, 0, 0, 0, 0, 0, 0, NULL, "
    f"NULL, NULL, NULL, NULL, 0 FROM inode WHERE id = {FILE}"
)

Break = tuple[str, Callable[[list[Path]], None], set[str], bool]

BREAKS: list[Break] = [
    (
        check.NAMES_OF_INODES,
        on_rows(f"INSERT INTO dentry SELECT {BUCKET_ID}, x'7a', 999999, NULL"),
        set(),
        True,
    ),
    (
        check.NAMES_OF_INODES,
        on_rows(f"DELETE FROM inode WHERE id = {DIRECTORY}"),
        {check.COUNTED_SUBDIRECTORIES},
        True,
    ),
    (check.COUNTED_LINKS, on_rows(f"UPDATE inode SET nlink = 5 WHERE id = {FILE}"), set(), True),
    (
        check.COUNTED_SUBDIRECTORIES,
        on_rows(f"UPDATE inode SET nlink = 9 WHERE id = {DIRECTORY}"),
        set(),
        True,
    ),
    (
        check.RUNS_OF_EXTENTS,
        on_rows(
            f"INSERT INTO freed SELECT id, size FROM run WHERE id = {RUN}",
            f"DELETE FROM run WHERE id = {RUN}",
        ),
        set(),
        True,
    ),
    (
        check.RUNS_OF_EXTENTS,
        on_rows(f"DELETE FROM run WHERE id = {RUN}"),
        {fsck.NOTHING_SPARE},
        False,
    ),
    (check.COUNTED_REFERENCES, on_rows("UPDATE run SET refs = refs + 1"), set(), True),
    (
        check.SEGMENTS_OF_RUNS,
        on_rows("DELETE FROM segment"),
        {fsck.NOTHING_SPARE},
        False,
    ),
    (
        check.ONE_CONTENT,
        on_rows(f"INSERT INTO inline SELECT {FILE}, x'00'"),
        set(),
        False,
    ),
    (
        check.APART_EXTENTS,
        on_rows(
            f"INSERT INTO extent SELECT inode, start + 1, 1, run, 0 FROM extent "
            f"WHERE inode = {FILE} AND start = 0",
            "UPDATE run SET refs = (SELECT count(*) FROM extent WHERE run = run.id)",
            "UPDATE run SET refs = (SELECT count(*) FROM extent e WHERE e.run = run.id)",
        ),
        set(),
        False,
    ),
    (
        check.INODES_OF_VERSIONS,
        on_rows(f"{VERSION} 77, {BUCKET_ID}, x'76', '1', 999999, 0"),
        set(),
        False,
    ),
    (
        check.ONE_VERSION,
        on_rows(
            UNNAMED,
            f"{VERSION} 77, {BUCKET_ID}, x'76', '1', 900, 0",
            f"{VERSION} 78, {BUCKET_ID}, x'76', '2', 900, 0",
        ),
        set(),
        False,
    ),
    (
        check.OWN_VERSION_IDS,
        on_rows(
            f"{VERSION} 77, {BUCKET_ID}, x'76', '1', NULL, 0",
            f"{VERSION} 78, {BUCKET_ID}, x'76', '1', NULL, 0",
        ),
        set(),
        False,
    ),
    (check.COUNTED_USAGE, on_rows("UPDATE usage SET size = size + 1"), set(), True),
    (check.NAMED_INODES, on_rows(UNNAMED), set(), True),
    (fsck.DRIVES_THERE, take_away, {fsck.MEMBERS_THERE}, False),
    (fsck.LABELS_AGREE, change_label, set(), False),
    (fsck.COPIES_EQUAL, change_one_copy, set(), True),
    (fsck.MEMBERS_THERE, lambda drives: members(drives)[0].unlink(), set(), False),
    (
        fsck.MEMBERS_PLACED,
        on_rows("UPDATE segment SET members = replace(members, substr(members, 1, 32), 'gone')"),
        {fsck.MEMBERS_THERE},
        True,
    ),
    (fsck.FRAGMENTS_THERE, spoil(2), set(), False),
    (fsck.STRIPES_WHOLE, spoil(3), {fsck.FRAGMENTS_THERE}, False),
    (
        fsck.NOTHING_SPARE,
        lambda drives: members(drives)[0].with_name("0000bee01.seg").write_bytes(b"left"),
        set(),
        False,
    ),
]


def test_every_check_is_tried() -> None:
    assert {name for name, *_ in BREAKS} == {each.name for each in CHECKS}
    assert {name for name, _ in check.QUERIES} <= {each.name for each in CHECKS}


async def _look(drives: list[Path], *, repair: bool = False) -> Verdict:
    with stopped_pool(list(map(str, drives)), allow_missing=len(drives)) as pool:
        return await look_while_stopped(pool, repair=repair)


def _names(findings: list[fsck.Finding]) -> set[str]:
    return {each.check for each in findings}


@pytest.mark.slow
async def test_a_sound_store_is_sound(drives: list[Path]) -> None:
    verdict = await _look(drives)
    assert (verdict.repaired, verdict.left) == ([], [])
    assert verdict.fragments == 3 * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "also", "mended"), BREAKS, ids=[each[0].split()[0] for each in BREAKS]
)
async def test_what_is_broken_is_found_and_repaired_as_promised(
    drives: list[Path],
    name: str,
    change: Callable[[list[Path]], None],
    also: set[str],
    mended: bool,
    fault_row: FaultRow,
) -> None:
    change(drives)
    found = await _look(drives)
    assert _names(found.left) == {name} | also
    assert found.repaired == []
    again = await _look(drives)
    assert again.left == found.left, "a look changed something"
    tried = await _look(drives, repair=True)
    assert _names(tried.left) == (set() if mended else {name} | also)
    assert _names(tried.repaired) == ({name} | also if mended else set())
    fault_row(
        "rows of the metadata are broken",
        client="depends on the row, see `store/fsck.py`",
        status="scrub counts violations, `twofold fsck` names them",
        lost="nothing, where a repair is promised",
    )


@pytest.mark.slow
def test_exit_codes_tell_and_a_repaired_store_gives_all_it_has(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    with DaemonHarness(tmp_path, mount=False) as harness:
        client = harness.client()
        client.create_bucket(Bucket=BUCKET)
        for key, body in BODIES.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        config, paths = str(harness.config_file), list(map(str, harness.drives))
        assert harness.run("fsck", config).returncode == 0
        busy = harness.run("fsck", *paths)
        assert (busy.returncode, "in use" in busy.stderr) == (8, True)
        spoil(1)(harness.drives)
        assert harness.run("fsck", config).returncode == 4
        assert harness.run("fsck", "--repair", config).returncode == 1
        assert harness.run("fsck", config).returncode == 0
        assert harness.stop() == 0
        on_rows(
            f"DELETE FROM inode WHERE id = {DIRECTORY}",
            f"INSERT INTO freed SELECT id, size FROM run WHERE id = {RUN}",
            f"DELETE FROM run WHERE id = {RUN}",
        )(harness.drives)
        assert harness.run("fsck", *paths).returncode == 4
        repaired = harness.run("fsck", "--repair", config)
        assert repaired.returncode == 1
        assert "made again under its number" in repaired.stdout
        assert harness.run("fsck", "--json", config).returncode == 0
        harness.start()
        got = {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in BODIES}
        assert got == BODIES
    fault_row(
        "a fragment's header is overwritten",
        client="right bytes",
        status="`twofold fsck` names it; healed by `--repair`, scrub or a read",
    )


@pytest.mark.slow
async def test_a_repair_while_a_drive_is_away_makes_its_copy_an_old_one(
    drives: list[Path],
) -> None:
    """The primary's: its return must not undo the repair."""
    on_rows("UPDATE usage SET size = size + 1")(drives)
    away = drives[0].rename(drives[0].with_name("away"))
    assert (await _look(drives, repair=True)).repaired
    away.rename(drives[0])
    left = _names((await _look(drives)).left)
    assert left == {fsck.DRIVES_THERE}
