"""What S3 changes is on the mount when S3 answers (rule R8), whatever the kernel had cached."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.fusefs.conftest import Mount, needs_fuse

pytestmark = needs_fuse


def test_a_name_cached_as_absent_appears(mount: Mount, folder: Path) -> None:
    assert not (folder / "key").exists()
    assert os.listdir(folder) == []
    mount.put(f"{folder.name}/key", b"there")
    assert (folder / "key").read_bytes() == b"there"
    assert os.listdir(folder) == ["key"]


def test_a_directory_cached_as_absent_appears(mount: Mount, folder: Path) -> None:
    assert not (folder / "d").exists()
    mount.put(f"{folder.name}/d/e/key", b"deep")
    assert (folder / "d" / "e" / "key").read_bytes() == b"deep"


def test_a_cached_file_shows_its_new_bytes_and_size(mount: Mount, folder: Path) -> None:
    mount.put(f"{folder.name}/key", b"old")
    assert (folder / "key").read_bytes() == b"old"
    mount.put(f"{folder.name}/key", b"new and longer" * 10_000)
    assert (folder / "key").stat().st_size == 140_000
    assert (folder / "key").read_bytes() == b"new and longer" * 10_000


def test_an_open_handle_reads_the_old_bytes_to_the_end(mount: Mount, folder: Path) -> None:
    old = os.urandom(3_000_000)
    mount.put(f"{folder.name}/key", old)
    with (folder / "key").open("rb") as file:
        first = file.read(1000)
        mount.put(f"{folder.name}/key", b"new")
        assert first + file.read() == old
        assert (folder / "key").read_bytes() == b"new"
    assert (folder / "key").read_bytes() == b"new"


def test_a_deleted_key_is_gone(mount: Mount, folder: Path) -> None:
    mount.put(f"{folder.name}/key", b"x")
    assert (folder / "key").exists()
    mount.do("delete", key=f"{folder.name}/key")
    assert not (folder / "key").exists()
    assert os.listdir(folder) == []


def test_a_pruned_directory_is_gone_and_a_made_one_stays(mount: Mount, folder: Path) -> None:
    (folder / "made").mkdir()
    mount.put(f"{folder.name}/made/implied/key", b"x")
    assert (folder / "made" / "implied" / "key").read_bytes() == b"x"
    mount.do("delete", key=f"{folder.name}/made/implied/key")
    assert not (folder / "made" / "implied").exists()
    assert (folder / "made").is_dir()
    assert (folder / "made").stat().st_nlink == 2


def test_a_directory_s_times_and_links_follow(mount: Mount, folder: Path) -> None:
    before = folder.stat()
    mount.put(f"{folder.name}/d/key", b"x")
    after = folder.stat()
    assert after.st_mtime_ns > before.st_mtime_ns
    assert after.st_nlink == before.st_nlink + 1


def test_the_link_count_of_another_name_follows(mount: Mount, folder: Path) -> None:
    (folder / "one").write_bytes(b"x")
    (folder / "two").hardlink_to(folder / "one")
    assert (folder / "two").stat().st_nlink == 2
    mount.do("delete", key=f"{folder.name}/one")
    assert (folder / "two").stat().st_nlink == 1


def test_a_new_bucket_appears(mount: Mount) -> None:
    assert not (mount.path / "from-s3").exists()
    mount.do("make_bucket", name="from-s3")
    assert (mount.path / "from-s3").is_dir()
    (mount.path / "from-s3").rmdir()


def test_changed_metadata_changes_the_ctime_that_stat_shows(mount: Mount, folder: Path) -> None:
    mount.put(f"{folder.name}/key", b"x")
    assert (folder / "key").stat().st_size == 1
    mount.put(f"{folder.name}/key", b"xy", colour="red")
    assert os.getxattr(folder / "key", "user.s3.meta.colour") == b"red"
    assert (folder / "key").stat().st_size == 2


def test_replaced_inodes_do_not_pile_up(mount: Mount, folder: Path) -> None:
    def inode_count() -> int:
        found = os.statvfs(folder)
        return found.f_files - found.f_ffree

    mount.put(f"{folder.name}/key", b"first")
    before = inode_count()
    for number in range(10):
        assert (folder / "key").read_bytes()
        mount.put(f"{folder.name}/key", b"%d" % number)
    deadline = time.monotonic() + 5
    while inode_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert inode_count() == before


@pytest.mark.slow
def test_every_replacement_is_seen_by_the_next_open_under_load(
    mount: Mount, folder: Path, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    told.write_text("-1")
    key = folder / "key"
    stopped = threading.Event()

    def disturb() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            other = folder / f"noise-{number % 20}"
            other.write_bytes(b"noise")
            os.listdir(folder)
            other.unlink(missing_ok=True)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        mount.begin("replace_often", key=f"{folder.name}/key", told=str(told), count=200)
        seen = -1
        deadline = time.monotonic() + 60
        while seen < 199 and time.monotonic() < deadline:
            promised = int(told.read_text() or seen)
            if promised < 0:
                key.exists()
                continue
            seen = int(key.read_bytes())
            assert seen >= promised, "an answered PUT was not seen by the next open"
        mount.finish()
        assert seen == 199
    finally:
        stopped.set()
        disturber.join()
