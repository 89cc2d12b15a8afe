"""Drives that went on without others: who may, who is refused, and how it is found out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from store.chunks.errors import LabelError
from store.chunks.label import format_drives
from store.chunks.lineage import Standing
from store.chunks.pool import open_drives
from store.chunks.types import DriveState


class Shelf:
    """Drives that are plugged in and out while the pool is stopped, and a witness."""

    def __init__(self, folder: Path, count: int, parity: int | None = None) -> None:
        self.paths = [folder / f"drive{number}" for number in range(count)]
        format_drives(self.paths, parity)
        self.witness: Standing | None = None
        self.start(*range(count))

    def start(self, *here: int, witnessed: bool = True, accepted: bool = False) -> None:
        """A start with these drives that serves for a moment. Raises LabelError."""
        for number, path in enumerate(self.paths):
            away = path.with_name(f"{path.name}.away")
            if number in here and away.exists():
                away.rename(path)
            elif number not in here and path.exists():
                path.rename(away)
        pool = open_drives(self.paths)
        try:
            if not accepted:
                pool.refuse_doubtful(self.witness if witnessed else None)
            if witnessed:
                pool.on_raise = lambda standing: setattr(self, "witness", standing)
                self.witness = pool.standing
            if any(drive.state is DriveState.OFFLINE for drive in pool.drives):
                trio.run(pool.raise_epoch)
        finally:
            pool.close()


@pytest.mark.parametrize(("drives", "parity"), [(2, 1), (4, 2), (3, 2), (6, 3), (8, 4), (5, 4)])
def test_with_a_witness_as_many_drives_as_there_is_parity_may_be_missing_from_a_start(
    tmp_path: Path, drives: int, parity: int
) -> None:
    for lost in itertools.islice(itertools.combinations(range(drives), parity), 3):
        folder = tmp_path / "-".join(map(str, lost))
        folder.mkdir()
        shelf = Shelf(folder, drives, parity)
        here = [number for number in range(drives) if number not in lost]
        shelf.start(*here)
        shelf.start(*here)
        shelf.start(*range(drives))


@pytest.mark.parametrize("halves", [((0, 1), (2, 3)), ((2, 3), (0, 1)), ((0, 3), (1, 2))])
@pytest.mark.parametrize("witnessed", [True, False])
def test_after_a_start_with_one_half_a_start_with_the_other_is_refused(
    tmp_path: Path, halves: tuple[tuple[int, int], tuple[int, int]], witnessed: bool
) -> None:
    shelf = Shelf(tmp_path, 4)
    one, other = halves
    shelf.start(*one, witnessed=witnessed, accepted=not witnessed)
    reason = "went on with other drives" if witnessed else "nothing here says"
    with pytest.raises(LabelError, match=reason) as caught:
        shelf.start(*other, witnessed=witnessed)
    assert all(str(shelf.paths[number]) in str(caught.value) for number in one)
    shelf.start(*one, witnessed=witnessed)  # Those that went on may go on.
    shelf.start(*range(4), witnessed=witnessed)
    shelf.start(one[0], other[0], witnessed=True)


def test_without_a_witness_half_of_a_pool_starts_only_when_told_that_the_rest_is_lost(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tmp_path, 4)
    with pytest.raises(LabelError, match="accept-missing"):
        shelf.start(0, 1, witnessed=False)
    shelf.start(0, 1, 2, witnessed=False)  # Three are more than half.
    with pytest.raises(LabelError, match="accept-missing"):
        shelf.start(2, 3, witnessed=False)  # Of the three that went on only one is here.
    shelf.start(0, 1, witnessed=False)


@pytest.mark.parametrize("drives", [2, 4, 8])
def test_drives_that_went_on_without_each_other_are_never_used_together(
    tmp_path: Path, drives: int
) -> None:
    shelf = Shelf(tmp_path, drives)
    one, other = range(drives // 2), range(drives // 2, drives)
    shelf.start(*one, witnessed=False, accepted=True)
    for _ in range(3):  # However often, and whichever epoch is the higher one.
        shelf.start(*other, witnessed=False, accepted=True)
        for accepted in (False, True):
            with pytest.raises(LabelError, match="went on without each other"):
                shelf.start(*range(drives), accepted=accepted)


def test_of_a_mirror_either_half_starts_without_a_witness_and_the_fork_is_found_when_they_meet(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tmp_path, 2)
    shelf.start(0, witnessed=False)
    shelf.start(1, witnessed=False)
    with pytest.raises(LabelError, match="went on without each other"):
        shelf.start(0, 1)


def test_a_witness_of_another_store_or_an_older_epoch_says_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 4)
    shelf.witness = Standing(store="0" * 32, epoch=99, token="x")
    shelf.start(0, 1, 2)
    shelf.witness = Standing(store=open_store(shelf.paths), epoch=1, token="x")
    with pytest.raises(LabelError, match="accept-missing"):
        shelf.start(0, 3)


def open_store(paths: Sequence[Path]) -> str:
    pool = open_drives(paths)
    pool.close()
    return pool.store


async def test_a_drive_that_went_on_alone_and_turns_up_is_left_out(tmp_path: Path) -> None:
    paths = [tmp_path / f"drive{number}" for number in range(3)]
    format_drives(paths, 2)
    for here in ((0,), (1, 2)):
        for number in range(3):
            if number not in here:
                paths[number].rename(tmp_path / f"away{number}")
        pool = open_drives(paths)
        await pool.raise_epoch()
        if 0 not in here:
            break
        pool.close()
        for number in (1, 2):
            (tmp_path / f"away{number}").rename(paths[number])
    (tmp_path / "away0").rename(paths[0])
    for _ in range(3):
        await pool.by_id[pool.drives[0].id].check(pool.epoch)
    assert pool.drives[0].state is DriveState.OFFLINE
    assert "went on without" in pool.drives[0].cause
    pool.close()


async def test_a_drive_that_is_taken_back_counts_again_on_all_labels(tmp_path: Path) -> None:
    paths = [tmp_path / f"drive{number}" for number in range(4)]
    format_drives(paths)
    paths[3].rename(tmp_path / "away")
    pool = open_drives(paths)
    await pool.raise_epoch()
    (tmp_path / "away").rename(paths[3])
    for _ in range(2):
        await pool.drives[3].check(pool.epoch)
    await pool.rejoin(pool.drives[3])
    assert pool.drives[3].state is DriveState.ONLINE
    for drive in pool.drives:
        assert drive.label is not None
        assert {member.epoch for member in drive.label.members} == {pool.epoch}
    pool.close()


@pytest.mark.parametrize("told", [(0,), (3,), (0, 2, 3)])
@pytest.mark.parametrize("left_out", [None, 1])
async def test_a_power_cut_between_labels_leaves_no_drive_behind_but_the_one_that_was_given_up(
    tmp_path: Path, told: tuple[int, ...], left_out: int | None
) -> None:
    paths = [tmp_path / f"drive{number}" for number in range(4)]
    format_drives(paths)
    before = [(path / "twofold" / "label").read_bytes() for path in paths]
    pool = open_drives(paths)
    raised = await pool.raise_epoch(None if left_out is None else pool.drives[left_out].id)
    pool.close()
    for number, path in enumerate(paths):
        if number not in told:
            (path / "twofold" / "label").write_bytes(before[number])
    for _ in range(2):
        pool = open_drives(paths)
        behind = [number for number, drive in enumerate(pool.drives) if drive.stale]
        assert behind == ([] if left_out is None else [left_out])
        assert pool.epoch == raised
        pool.close()


async def test_a_drive_whose_return_a_power_cut_stopped_is_as_far_behind_as_before(
    tmp_path: Path,
) -> None:
    """Some labels say already that it is in the pool again, not all."""
    paths = [tmp_path / f"drive{number}" for number in range(4)]
    format_drives(paths)
    pool = open_drives(paths)
    await pool.raise_epoch(pool.drives[3].id)
    before = [(path / "twofold" / "label").read_bytes() for path in paths]
    await pool.rejoin(pool.drives[3])
    pool.close()
    for number in (1, 3):
        (paths[number] / "twofold" / "label").write_bytes(before[number])
    pool = open_drives(paths)
    assert [drive.stale for drive in pool.drives] == [False, False, False, True]
    pool.close()


@pytest.mark.parametrize(("drives", "parity"), [(1, 0), (1, None), (2, 0), (2, 1), (4, 2)])
async def test_a_drive_that_a_power_cut_kept_from_coming_is_not_missed(
    tmp_path: Path, drives: int, parity: int | None
) -> None:
    paths = [tmp_path / f"drive{number}" for number in range(drives)]
    format_drives(paths, parity)
    pool = open_drives(paths)
    added = await pool.add(tmp_path / "more")
    assert {member.epoch for member in added.label.members} == {pool.epoch}  # type: ignore[union-attr]
    pool.close()
    pool = open_drives(paths)
    assert [drive.state for drive in pool.drives] == [DriveState.ONLINE] * (drives + 1)

    async def cut(*_: object) -> None:
        raise OSError("power cut")

    pool._format = cut  # type: ignore[method-assign, assignment]
    with pytest.raises(OSError, match="power cut"):
        await pool.add(tmp_path / "last")
    pool.close()
    pool = open_drives(paths)
    assert [drive.state for drive in pool.drives][-1] is DriveState.OFFLINE
    pool.refuse_doubtful(None)
    pool.close()
    (tmp_path / "more").rename(tmp_path / "away")  # One that holds something is.
    if parity == 0:
        with pytest.raises(LabelError, match="missing"):
            open_drives(paths)
