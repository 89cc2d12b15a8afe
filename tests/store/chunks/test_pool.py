"""Labels: who is in the pool, who is stale, and what is refused."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from store.chunks.drive_io import DriveIO, Probe
from store.chunks.errors import BelowWriteQuorum, DriveBusy, LabelError
from store.chunks.label import (
    Label,
    decode_label,
    encode_label,
    format_drives,
    peek_label,
    put_label,
)
from store.chunks.pool import Pool, open_drives
from store.chunks.types import DriveState
from tests.faultrows import FaultRow


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [tmp_path / f"drive{i}" for i in range(4)]


def label_at(path: Path) -> Label:
    label = peek_label(path)
    assert label is not None
    return label


def states(pool: Pool) -> list[DriveState]:
    found = [drive.state for drive in pool.drives]
    pool.close()
    return found


ONLINE, OFFLINE, READ_ONLY = DriveState.ONLINE, DriveState.OFFLINE, DriveState.READ_ONLY


# -- init ------------------------------------------------------------------------------


def test_formatted_drives_open_as_one_pool(paths: list[Path]) -> None:
    store = format_drives(paths)
    pool = open_drives(paths)
    assert pool.store == store
    assert pool.parity == 2
    assert pool.epoch == 1
    assert states(pool) == [ONLINE] * 4
    assert all((path / "twofold" / "meta").is_dir() for path in paths)


def test_chosen_parity_is_kept(paths: list[Path]) -> None:
    format_drives(paths, parity=1)
    pool = open_drives(paths)
    assert pool.parity == 1
    pool.close()


@pytest.mark.parametrize("parity", [-1, 4])
def test_parity_that_does_not_fit_is_refused(paths: list[Path], parity: int) -> None:
    with pytest.raises(LabelError, match="parity"):
        format_drives(paths, parity)
    assert not paths[0].exists()


def test_formatting_twice_is_refused_and_says_which_store(paths: list[Path]) -> None:
    store = format_drives(paths)
    with pytest.raises(LabelError, match=f"formatted already, as store {store}"):
        format_drives(paths)
    with pytest.raises(LabelError, match="is a drive of store"):
        format_drives([paths[0], paths[0].with_name("other")])


def test_foreign_files_are_refused_and_nothing_is_written(paths: list[Path]) -> None:
    paths[2].mkdir()
    (paths[2] / "photo.jpg").touch()
    with pytest.raises(LabelError, match=r"photo\.jpg"):
        format_drives(paths)
    assert not paths[0].exists()


def test_lost_and_found_is_not_foreign(paths: list[Path]) -> None:
    (paths[0] / "lost+found").mkdir(parents=True)
    format_drives(paths)


def test_a_folder_named_twice_is_refused(paths: list[Path], tmp_path: Path) -> None:
    paths[0].mkdir()
    (tmp_path / "link").symlink_to(paths[0])
    with pytest.raises(LabelError, match="same folder"):
        format_drives([paths[0], tmp_path / "link"])
    with pytest.raises(LabelError, match="same folder"):
        format_drives([paths[1], tmp_path / "drive0" / ".." / "drive1"])


def test_a_file_or_a_missing_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabelError, match="not a folder"):
        format_drives([tmp_path / "file"])
    with pytest.raises(LabelError, match="parent"):
        format_drives([tmp_path / "no" / "drive"])


# -- labels ----------------------------------------------------------------------------


def test_any_changed_byte_of_a_label_is_found(paths: list[Path]) -> None:
    format_drives(paths)
    text = encode_label(label_at(paths[0]))
    assert decode_label(text) == label_at(paths[0])
    for place in range(len(text) - 1):
        changed = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
        with pytest.raises(LabelError):
            decode_label(changed)
    with pytest.raises(LabelError):
        decode_label(b"")


def test_a_label_of_a_later_format_is_refused(paths: list[Path]) -> None:
    format_drives(paths)
    with pytest.raises(LabelError, match="format 2"):
        decode_label(encode_label(replace(label_at(paths[0]), format=2)))


# -- opening ---------------------------------------------------------------------------


def test_up_to_m_absent_drives_are_offline(paths: list[Path]) -> None:
    format_drives(paths)
    paths[1].rename(paths[1].with_name("away"))
    shutil.rmtree(paths[3] / "twofold")
    pool = open_drives(paths)
    gone = "No such file or directory"
    assert [drive.cause for drive in pool.drives] == ["", gone, "", gone]
    assert states(pool) == [ONLINE, OFFLINE, ONLINE, OFFLINE]
    assert not (paths[3] / "twofold").exists()


def test_more_absent_drives_need_a_word(paths: list[Path]) -> None:
    format_drives(paths)
    for path in paths[:3]:
        path.rename(path.with_suffix(".away"))
    with pytest.raises(LabelError, match="3 of 4 drives are missing"):
        open_drives(paths)
    assert states(open_drives(paths, allow_missing=3)) == [OFFLINE, OFFLINE, OFFLINE, ONLINE]


def test_a_drive_is_known_by_its_label_wherever_it_stands(paths: list[Path]) -> None:
    format_drives(paths)
    ids = [label_at(path).drive for path in paths]
    moved = paths[0].with_name("elsewhere")
    paths[0].rename(moved)
    pool = open_drives([paths[2], moved, paths[1], paths[3]])
    assert [drive.id for drive in pool.drives] == [ids[2], ids[0], ids[1], ids[3]]
    pool.close()


def test_a_drive_whose_path_is_not_given_is_found_where_the_labels_say(paths: list[Path]) -> None:
    format_drives(paths)
    pool = open_drives(paths[:3])
    assert states(pool) == [ONLINE] * 4
    pool.close()
    paths[3].rename(paths[3].with_name("elsewhere"))
    pool = open_drives(paths[:3])
    assert [drive.io.path for drive in pool.drives][3] == paths[3]
    assert states(pool) == [ONLINE, ONLINE, ONLINE, OFFLINE]
    pool.close()


async def test_the_pool_grows_and_shrinks_by_a_drive(paths: list[Path]) -> None:
    format_drives(paths)
    pool = open_drives(paths)
    more = [paths[0].with_name(f"more{number}") for number in range(2)]
    added = [await pool.add(path) for path in more]
    assert ([drive.state for drive in pool.drives], pool.parity) == ([ONLINE] * 6, 3)
    with pytest.raises(LabelError, match="already"):
        await pool.add(more[0])
    await pool.remove(pool.drives[1].id)
    assert (len(pool.drives), pool.parity) == (5, 2)
    pool.close()
    # The configuration knows of none of that.
    pool = open_drives(paths)
    assert {drive.id for drive in added} <= pool.by_id.keys()
    assert (states(pool), pool.parity) == ([ONLINE] * 5, 2)
    assert paths[1] not in [drive.io.path for drive in pool.drives]
    pool.close()


def test_drives_of_two_stores_are_refused(paths: list[Path]) -> None:
    format_drives(paths[:2])
    format_drives(paths[2:])
    with pytest.raises(LabelError, match="several stores"):
        open_drives(paths)
    assert states(open_drives(paths[:2])) == [ONLINE, ONLINE]


def test_a_copied_drive_is_refused(paths: list[Path], fault_row: FaultRow) -> None:
    format_drives(paths)
    shutil.rmtree(paths[1])
    shutil.copytree(paths[0], paths[1])
    with pytest.raises(LabelError, match="same label"):
        open_drives(paths)
    fault_row(
        "a drive and a copy of it are both there at the start",
        client="the daemon does not start, and says why",
        status="both paths have the same label",
    )


def test_an_extra_folder_without_label_is_passed_over(paths: list[Path]) -> None:
    format_drives(paths)
    pool = open_drives([*paths, paths[0].with_name("extra")])
    assert states(pool) == [ONLINE] * 4
    pool.close()


def test_no_label_at_all_says_what_to_do(paths: list[Path]) -> None:
    with pytest.raises(LabelError, match="twofold init"):
        open_drives(paths)


def test_a_damaged_label_counts_as_none(paths: list[Path]) -> None:
    format_drives(paths)
    label = paths[1] / "twofold" / "label"
    label.write_bytes(label.read_bytes().replace(b"epoch", b"apoch"))
    pool = open_drives(paths)
    assert pool.drives[1].cause == "the label is damaged"
    assert states(pool) == [ONLINE, OFFLINE, ONLINE, ONLINE]


def test_two_daemons_never_open_one_drive(paths: list[Path]) -> None:
    format_drives(paths)
    first = open_drives(paths)
    with pytest.raises(DriveBusy, match="in use"):
        open_drives(paths)
    first.close()
    assert states(open_drives(paths)) == [ONLINE] * 4


# -- epochs ----------------------------------------------------------------------------


async def test_a_raised_epoch_makes_those_not_told_stale(paths: list[Path]) -> None:
    format_drives(paths)
    away = paths[1].with_name("away")
    paths[1].rename(away)
    pool = open_drives(paths)
    assert await pool.raise_epoch() == 2
    assert await pool.raise_epoch() == 3
    assert [label_at(path).epoch for path in (paths[0], paths[2], paths[3])] == [3, 3, 3]
    pool.close()
    away.rename(paths[1])
    pool = open_drives(paths)
    assert pool.epoch == 3
    assert [drive.stale for drive in pool.drives] == [False, True, False, False]
    assert pool.drives[1].state is READ_ONLY
    await pool.rejoin(pool.drives[1])
    assert not pool.drives[1].stale
    assert label_at(paths[1]).epoch == 3
    assert states(pool) == [ONLINE] * 4


async def test_drive_left_out_of_an_epoch_stays_behind_until_it_rejoins(paths: list[Path]) -> None:
    format_drives(paths)
    pool = open_drives(paths)
    left_out = pool.drives[1]
    before = left_out.io.probe()
    assert await pool.raise_epoch(leave_out=left_out.id) == 2
    assert [label_at(path).epoch for path in paths] == [2, 1, 2, 2]
    assert [drive.stale for drive in pool.drives] == [False, True, False, False]
    # A probe that began before ends only now, and knows nothing of the new epoch.
    left_out.settle(before, 1)
    assert await pool.raise_epoch() == 3
    assert [label_at(path).epoch for path in paths] == [3, 1, 3, 3]
    assert left_out.stale
    await pool.rejoin(left_out)
    assert label_at(paths[1]).epoch == 3
    assert states(pool) == [ONLINE] * 4


async def test_probe_that_saw_the_old_label_does_not_bring_it_back(paths: list[Path]) -> None:
    looked, told = threading.Event(), threading.Event()

    class SlowProbe(DriveIO):
        slow = False

        def probe(self) -> Probe:
            seen = super().probe()
            if self.slow:
                looked.set()
                assert told.wait(5)
            return seen

    format_drives(paths)
    pool = open_drives(paths, io=SlowProbe)
    drive = pool.drives[0]
    assert isinstance(drive.io, SlowProbe)
    drive.io.slow = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive.check, pool.epoch)
        await trio.to_thread.run_sync(looked.wait, 5)
        await pool.raise_epoch()
        told.set()
    assert (drive.epoch, drive.stale) == (2, False)
    assert await pool.raise_epoch() == 3
    assert [label_at(path).epoch for path in paths] == [3] * 4
    assert states(pool) == [ONLINE] * 4


async def test_epoch_that_no_drive_can_be_told_is_not_raised(paths: list[Path]) -> None:
    format_drives(paths[:1])
    pool = open_drives(paths[:1])
    with pytest.raises(BelowWriteQuorum):
        await pool.raise_epoch(leave_out=pool.drives[0].id)
    assert (pool.epoch, label_at(paths[0]).epoch) == (1, 1)
    pool.close()


async def test_ids_of_segments_are_never_given_out_twice(paths: list[Path]) -> None:
    format_drives(paths)
    seen: list[int] = []
    for lost in (0, 1, 2):
        pool = open_drives(paths)
        seen += [await pool.take_segment_id() for _ in range(3)]
        pool.close()
        shutil.rmtree(paths[lost] / "twofold")
        if lost == 1:
            break
    pool = open_drives(paths)
    seen.append(await pool.take_segment_id(above=5000))
    pool.close()
    assert seen == sorted(set(seen))
    assert seen[-1] > 5000


async def test_a_replacement_takes_the_place_of_a_missing_drive(paths: list[Path]) -> None:
    format_drives(paths)
    missing = label_at(paths[2]).drive
    shutil.rmtree(paths[2])
    pool = open_drives(paths)
    new = await pool.adopt_replacement(missing, paths[2])
    with pytest.raises(LabelError, match="not missing"):
        await pool.adopt_replacement(pool.drives[0].id, paths[2])
    assert pool.drives[2] is new and states(pool) == [ONLINE] * 4
    pool.close()
    pool = open_drives(paths)
    assert new.id != missing
    assert [drive.id for drive in pool.drives][2] == new.id
    assert states(pool) == [ONLINE] * 4


async def test_a_replacement_that_fails_can_be_tried_again(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    format_drives(paths)
    missing = label_at(paths[2]).drive
    shutil.rmtree(paths[2])
    pool = open_drives(paths)

    def gone_again(path: Path, label: Label) -> None:
        raise LabelError(f"{path}: the label can't be written")

    with monkeypatch.context() as patch:
        patch.setattr("store.chunks.pool.put_label", gone_again)
        with pytest.raises(LabelError):
            await pool.adopt_replacement(missing, paths[2])
    new = await pool.adopt_replacement(missing, paths[2])
    assert pool.drives[2] is new and states(pool) == [ONLINE] * 4
    pool.close()


def test_a_drive_that_was_replaced_is_passed_over(paths: list[Path], fault_row: FaultRow) -> None:
    format_drives(paths)
    label = label_at(paths[0])
    old = paths[3].with_name("old")
    shutil.copytree(paths[3], old)
    members = (*label.members[:3], replace(label.members[3], drive=type(label.drive)("f" * 32)))
    for path in paths[:3]:
        put_label(path, replace(label_at(path), epoch=2, members=members))
    before = (paths[3] / "twofold" / "label").read_bytes()
    pool = open_drives(paths)
    assert states(pool) == [ONLINE] * 3 + [DriveState.OFFLINE]
    pool.close()
    assert (paths[3] / "twofold" / "label").read_bytes() == before
    fault_row(
        "a drive that was replaced or drained is named by the configuration still",
        client="nothing",
        status="a warning in the log; it is not used",
    )


def test_the_label_is_replaced_whole(paths: list[Path]) -> None:
    format_drives(paths)
    folder = paths[0] / "twofold"
    before = os.stat(folder / "label").st_ino
    put_label(paths[0], replace(label_at(paths[0]), epoch=9))
    assert os.stat(folder / "label").st_ino != before
    assert sorted(os.listdir(folder)) == ["label", "meta", "segments"]
