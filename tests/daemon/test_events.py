"""Every change of a drive is an event with its cause, and outlives the daemon.

Each fault is met by a pool of four drives (2+2) that is written and read meanwhile, and ends alike:
every byte reads right.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from daemon.events import History
from daemon.report import EventReport
from store.chunks.events import DriveChanged
from store.chunks.types import DriveState
from tests.faultrows import FaultRow
from tests.store.chunks.rig import Rig, get, open_rig, pattern, put

MIB = 1 << 20
Fault = Callable[[Rig], None]


def fail(call: str, code: int) -> Fault:
    return lambda rig: rig.io(1).fail(call, code)


def hang(call: str) -> Fault:
    return lambda rig: rig.io(1).hanging.add(call)


def take_away(rig: Rig) -> None:
    rig.paths[1].rename(away(rig.paths[1]))


def away(path: Path) -> Path:
    return path.with_name(f"{path.name}.away")


def swap(rig: Rig) -> None:
    first, second = rig.paths[1:3]
    first.rename(away(first))
    second.rename(first)
    away(first).rename(second)


def clone(rig: Rig) -> None:
    """A copy of the third drive comes to stand where the second did."""
    rig.paths[1].rename(away(rig.paths[1]))
    shutil.copytree(rig.paths[2], rig.paths[1])


KINDS: list[tuple[str, Fault, str]] = [
    ("a write fails (EIO)", fail("write", errno.EIO), "fenced: write failed: Input/output error"),
    (
        "a drive has no room left (ENOSPC)",
        fail("write", errno.ENOSPC),
        "full: write failed: No space left on device",
    ),
    (
        "a drive is remounted read-only (EROFS)",
        fail("write", errno.EROFS),
        "read-only: write failed: Read-only file system",
    ),
    ("a write hangs", hang("write"), "fenced: write hung"),
    ("fdatasync fails", fail("flush", errno.EIO), "fenced: flush failed: Input/output error"),
    ("fdatasync hangs", hang("flush"), "fenced: flush hung"),
    ("a drive gives no sign of life", hang("probe"), "fenced: probe hung"),
    ("a drive's folder is gone", take_away, "offline: No such file or directory"),
    ("two drives stand at each other's paths", swap, "offline: another drive stands here"),
    ("a copy of a drive stands at another's path", clone, "offline: another drive stands here"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "fault", "said"), KINDS, ids=[kind[0] for kind in KINDS])
async def test_a_fault_of_a_drive_is_told_with_its_cause_and_loses_nothing(
    tmp_path: Path, fault_row: FaultRow, what: str, fault: Fault, said: str
) -> None:
    (tmp_path / "state").mkdir()
    history = History(tmp_path / "state")
    async with open_rig(tmp_path, io_deadline_s=1.0, flush_deadline_s=1.0) as rig:
        rig.chunks.listen(history.hear)
        before = await put(rig.chunks, pattern(2 * MIB, 1))
        fault(rig)
        during = await put(rig.chunks, pattern(2 * MIB, 2))
        await rig.probe()
        assert await get(rig.chunks, before) == pattern(2 * MIB, 1)
        assert await get(rig.chunks, during) == pattern(2 * MIB, 2)
        status = rig.chunks.status()[1]
        told = [event for event in history.recent() if event.path == str(rig.paths[1])]
        assert told[0].before == "online"
        assert f"{told[0].after}: {told[0].cause}" == said
        assert (status.state.value, status.cause) == (told[-1].after, told[-1].cause)
        fault_row(what, client="right bytes", status=said)


async def test_drives_at_each_others_paths_are_known_by_their_labels_at_the_next_start(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    async with open_rig(tmp_path) as rig:
        before = [drive.id for drive in rig.chunks.pool.drives]
    swap(rig)
    async with open_rig(tmp_path, fresh=False) as rig:
        after = [drive.id for drive in rig.chunks.pool.drives]
        assert {status.state for status in rig.chunks.status()} == {DriveState.ONLINE}
    assert after == [before[0], before[2], before[1], before[3]]
    fault_row(
        "two drives have changed places while the daemon was stopped",
        client="nothing",
        status="both are online, at their new paths",
    )


# -- what is kept ----------------------------------------------------------------------


def changed(number: int) -> DriveChanged:
    return DriveChanged(
        drive=f"{number:032x}",  # type: ignore[arg-type]
        path=f"/d{number}",
        before=DriveState.ONLINE,
        after=DriveState.OFFLINE,
        cause="No such device",
    )


async def test_events_outlive_the_daemon_and_are_bounded(tmp_path: Path) -> None:
    history = History(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(history.run)
        for number in range(500):
            history.hear(changed(number))
        nursery.cancel_scope.cancel()
    again = History(tmp_path).recent()
    assert again == history.recent()
    assert [event.path for event in again] == [f"/d{number}" for number in range(300, 500)]
    assert again[0].text() == "drive /d300 online -> offline: No such device"
    assert History(tmp_path).recent(3) == again[-3:]


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"at_s": "x"}]', b"\xff" * 100])
def test_a_damaged_file_of_events_begins_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.json").write_bytes(content)
    assert History(tmp_path).recent() == []


async def test_a_folder_that_takes_no_file_holds_nobody_up(tmp_path: Path) -> None:
    history = History(tmp_path / "absent")
    async with trio.open_nursery() as nursery:
        await nursery.start(history.run)
        history.hear(changed(1))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(history.recent()) == 1
        nursery.cancel_scope.cancel()


async def test_a_start_notes_what_became_of_drives_meanwhile(tmp_path: Path) -> None:
    history = History(tmp_path)
    async with open_rig(tmp_path) as rig:
        history.begin(rig.chunks.pool.drives)
        assert history.recent() == [], "all are as they should be"
        os.rename(rig.paths[3], away(rig.paths[3]))
    async with open_rig(tmp_path, fresh=False) as rig:
        history.begin(rig.chunks.pool.drives)
        assert _lines(history.recent()) == [
            (str(rig.paths[3]), "online", "offline", "No such file or directory")
        ]
        history.begin(rig.chunks.pool.drives)
        assert len(history.recent()) == 1, "that is known by now"
        os.rename(away(rig.paths[3]), rig.paths[3])
    async with open_rig(tmp_path, fresh=False) as rig:
        history.begin(rig.chunks.pool.drives)
        assert _lines(history.recent())[1:] == [
            (str(rig.paths[3]), "offline", "online", "the daemon was started anew")
        ]


def _lines(events: list[EventReport]) -> list[tuple[str, str, str, str]]:
    return [(event.path, event.before, event.after, event.cause) for event in events]
