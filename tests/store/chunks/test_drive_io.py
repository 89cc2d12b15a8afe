"""What the drive's folders hold beside our own files is passed over."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.chunks.drive_io import DriveIO
from store.chunks.label import format_drives
from store.chunks.types import SegmentId
from tests.faultrows import FaultRow


def test_foreign_files_among_the_members_are_passed_over(
    tmp_path: Path, fault_row: FaultRow
) -> None:
    drive = tmp_path / "drive"
    format_drives([drive])
    io = DriveIO(drive)
    assert io.attach() is not None
    io.create_segment(SegmentId(0x107), 0)
    segments = drive / "twofold" / "segments"
    (segments / "lost+found").mkdir()
    (segments / "notes.txt").touch()
    for name in ("something.seg", "-00000001.seg", "0x0000001.new", "000000107.old"):
        (segments / "07" / name).touch()
    assert io.list_folders() == ["07"]
    assert [member.segment for member in io.list_segments("07")] == [0x107]
    io.detach()
    fault_row("foreign files lie among the members", client="nothing", status="nothing")


def test_a_drive_that_was_let_go_is_not_attached_by_a_thread_that_hung(tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    format_drives([drive])
    late, io = DriveIO(drive), DriveIO(drive)
    late.close()
    with pytest.raises(OSError, match="not in use any more"):
        late.attach()
    assert io.attach() is not None, "nobody holds its lock"
    io.detach()


def test_who_lists_the_folders_at_once_gets_all_of_them(tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    format_drives([drive])
    io = DriveIO(drive)
    assert io.attach() is not None
    for number in range(64):
        (drive / "twofold" / "segments" / f"{number:02x}").mkdir()
    with ThreadPoolExecutor(3) as threads:
        counts = threads.map(lambda _: len(io.list_folders()), range(3000))
    assert set(counts) == {64}
    io.detach()


def test_a_draft_never_takes_the_place_of_a_member(tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    format_drives([drive])
    io = DriveIO(drive)
    assert io.attach() is not None
    member = io.create_segment(SegmentId(0x107), 0)
    io.write(member, [b"the only copy"], 0)
    io.create_segment(SegmentId(0x107), 0, draft=True)
    with pytest.raises(FileExistsError):
        io.finish_segment(SegmentId(0x107))
    assert (drive / "twofold" / "segments" / "07" / "000000107.seg").read_bytes()
    io.detach()


def test_a_folder_of_members_is_made_durable_also_where_it_is_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was killed may have made it, and not have come to its sync."""
    drive = tmp_path / "drive"
    format_drives([drive])
    segments = drive / "twofold" / "segments"
    (segments / "07").mkdir()
    synced: set[int] = set()
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.add(os.fstat(fd).st_ino), sync(fd)))
    io = DriveIO(drive)
    assert io.attach() is not None
    io.create_segment(SegmentId(0x107), 0)
    io.detach()
    assert synced >= {path.stat().st_ino for path in (segments, segments / "07")}
