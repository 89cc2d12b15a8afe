"""Files through a real mount: bytes, sizes, times, permissions."""

from __future__ import annotations

import errno
import mmap
import os
import random
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fusefs.conftest import Mount, needs_fuse

pytestmark = needs_fuse

MIB = 1024 * 1024


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not repeat, the same each time."""
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 4096, 16 * 1024, 16 * 1024 + 1, 3 * MIB + 17])
def test_what_was_written_is_read_back_and_published(mount: Mount, folder: Path, size: int) -> None:
    content = noise(size)
    (folder / "file").write_bytes(content)
    assert (folder / "file").read_bytes() == content
    assert (folder / "file").stat().st_size == size
    assert mount.get(f"{folder.name}/file") == content


def test_it_is_read_from_the_server_too_once_the_page_cache_is_dropped(folder: Path) -> None:
    content = noise(2 * MIB + 5)
    file = folder / "file"
    file.write_bytes(content)
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert opened.read() == content


def test_an_open_file_reads_its_own_unpublished_writes(mount: Mount, folder: Path) -> None:
    with (folder / "file").open("w+b", buffering=0) as file:
        file.write(b"abc")
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file.fileno(), 10, 0) == b"abc"
        assert os.fstat(file.fileno()).st_size == 3
        assert f"{folder.name}/file" not in mount.keys(folder.name)
    assert f"{folder.name}/file" in mount.keys(folder.name)


def test_appends_of_two_handles_stand_behind_each_other(folder: Path) -> None:
    file = folder / "file"
    with file.open("ab", buffering=0) as one, file.open("ab", buffering=0) as two:
        for number in range(50):
            one.write(b"a%03d" % number)
            two.write(b"b%03d" % number)
    assert file.read_bytes() == b"".join(b"a%03db%03d" % (n, n) for n in range(50))


def test_a_file_shrinks_and_grows_with_zeros(folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"x" * 100_000)
    os.truncate(file, 10)
    assert file.read_bytes() == b"x" * 10
    os.truncate(file, 50_000)
    assert file.read_bytes() == b"x" * 10 + bytes(49_990)
    with file.open("r+b") as opened:
        opened.truncate(5)
        assert os.fstat(opened.fileno()).st_size == 5
    assert file.read_bytes() == b"x" * 5


def test_opening_with_truncation_empties(mount: Mount, folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"old" * 10_000)
    with file.open("wb") as opened:
        assert os.fstat(opened.fileno()).st_size == 0
        opened.write(b"new")
    assert file.read_bytes() == b"new"
    assert mount.get(f"{folder.name}/file") == b"new"


def test_a_hole_reads_as_zeros(folder: Path) -> None:
    file = folder / "file"
    with file.open("wb") as opened:
        opened.seek(5 * MIB)
        opened.write(b"end")
    assert file.stat().st_size == 5 * MIB + 3
    assert file.read_bytes() == bytes(5 * MIB) + b"end"


def test_overlapping_writes_at_random_offsets(folder: Path) -> None:
    chooser = random.Random(7)
    model = bytearray(MIB)
    with (folder / "file").open("w+b", buffering=0) as file:
        file.truncate(MIB)
        for number in range(200):
            start = chooser.randrange(MIB - 20_000)
            piece = chooser.randbytes(chooser.randrange(1, 20_000))
            os.pwrite(file.fileno(), piece, start)
            model[start : start + len(piece)] = piece
            if number % 50 == 49:
                os.fsync(file.fileno())
    assert (folder / "file").read_bytes() == model


def test_an_unlinked_file_lives_while_it_is_open(folder: Path) -> None:
    file = folder / "file"
    with file.open("w+b", buffering=0) as opened:
        opened.write(b"before")
        file.unlink()
        assert not file.exists()
        opened.write(b" and after")
        assert os.pread(opened.fileno(), 100, 0) == b"before and after"
        assert os.fstat(opened.fileno()).st_nlink == 0
        os.fsync(opened.fileno())
    assert list(folder.iterdir()) == []


def test_a_file_replaced_while_it_is_open_keeps_its_bytes(folder: Path) -> None:
    file, other = folder / "file", folder / "other"
    file.write_bytes(b"old" * 50_000)
    other.write_bytes(b"new")
    with file.open("rb") as opened:
        other.rename(file)
        assert opened.read() == b"old" * 50_000
    assert file.read_bytes() == b"new"


def test_fsync_publishes(mount: Mount, folder: Path) -> None:
    with (folder / "file").open("wb", buffering=0) as file:
        file.write(b"synced")
        os.fsync(file.fileno())
        assert mount.get(f"{folder.name}/file") == b"synced"
        file.write(b" more")
        os.fdatasync(file.fileno())
        assert mount.get(f"{folder.name}/file") == b"synced more"


def test_a_directory_can_be_synced(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def test_shared_and_private_mappings(folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(bytes(64 * 1024))
    with file.open("r+b") as opened:
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY) as private:
            private[0:7] = b"private"
            assert os.pread(opened.fileno(), 7, 0) == bytes(7)
        with mmap.mmap(opened.fileno(), 0) as shared:
            shared[100:106] = b"shared"
            shared.flush()
            assert os.pread(opened.fileno(), 6, 100) == b"shared"
    os.sync()
    expected = bytes(100) + b"shared" + bytes(64 * 1024 - 106)
    assert file.read_bytes() == expected
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert opened.read() == expected


def test_a_shared_mapping_is_published_by_msync_and_fsync(mount: Mount, folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(bytes(8192))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as shared:
        shared[4096:4100] = b"page"
        shared.flush()
        os.fsync(opened.fileno())
        assert mount.get(f"{folder.name}/file")[4096:4100] == b"page"


def test_modes_owners_and_times(folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"")
    file.chmod(0o604)
    os.chown(file, 1234, 2345)
    os.utime(file, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    found = file.stat()
    assert stat.S_IMODE(found.st_mode) == 0o604
    assert (found.st_uid, found.st_gid) == (1234, 2345)
    assert found.st_atime_ns == 1_500_000_000_123_456_789
    assert found.st_mtime_ns == 1_400_000_000_987_654_321


def test_a_writer_moves_mtime_and_ctime_but_a_reader_does_not(folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"first")
    os.utime(file, ns=(1_000_000_000, 1_000_000_000))
    before = file.stat()
    file.read_bytes()
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    with file.open("ab") as opened:
        opened.write(b"second")
    after = file.stat()
    assert after.st_mtime_ns > before.st_mtime_ns
    assert after.st_ctime_ns > before.st_ctime_ns


def test_the_times_seen_while_writing_are_those_that_stay(own_mount: Mount) -> None:
    file = own_mount.box / "file"
    with file.open("wb", buffering=0) as opened:
        opened.write(b"content")
        while_open = os.fstat(opened.fileno())
    assert file.stat().st_mtime_ns == while_open.st_mtime_ns
    assert own_mount.stop() == 0
    own_mount.start()
    assert file.stat().st_mtime_ns == while_open.st_mtime_ns
    assert file.stat().st_ctime_ns >= while_open.st_ctime_ns


@pytest.mark.parametrize("bits", [0o4755, 0o2755])
def test_set_id_bits_go_when_another_user_writes_or_truncates(folder: Path, bits: int) -> None:
    for name, act in (("written", "printf x >"), ("truncated", "truncate -s 1")):
        file = folder / name
        file.write_bytes(b"program")
        file.chmod(bits | 0o022)
        assert stat.S_IMODE(file.stat().st_mode) == bits | 0o022
        folder.chmod(0o777)
        run_as(65534, f"{act} {file}")
        assert stat.S_IMODE(file.stat().st_mode) == 0o777


def run_as(user: int, command: str) -> None:
    """Run a shell command as another user, who must be able to."""
    subprocess.run(["/bin/sh", "-c", command], user=user, group=user, extra_groups=[], check=True)


def test_permissions_are_enforced_for_other_users(folder: Path) -> None:
    (folder / "secret").write_bytes(b"x")
    (folder / "secret").chmod(0o600)
    with pytest.raises(subprocess.CalledProcessError):
        run_as(65534, f"cat {folder}/secret 2>/dev/null")
    with pytest.raises(subprocess.CalledProcessError):
        run_as(65534, f"touch {folder}/new 2>/dev/null")


def test_a_new_file_belongs_to_who_made_it(folder: Path) -> None:
    folder.chmod(0o777)
    run_as(65534, f"umask 027; mkdir {folder}/d; touch {folder}/f; ln -s x {folder}/l")
    for name, mode in (("d", 0o750), ("f", 0o640), ("l", 0o777)):
        found = (folder / name).lstat()
        assert (found.st_uid, found.st_gid) == (65534, 65534)
        assert stat.S_IMODE(found.st_mode) == mode


def test_a_set_gid_directory_hands_its_group_down(folder: Path) -> None:
    os.chown(folder, 0, 4321)
    folder.chmod(0o2777)
    (folder / "file").touch()
    (folder / "directory").mkdir()
    assert (folder / "file").stat().st_gid == 4321
    found = (folder / "directory").stat()
    assert found.st_gid == 4321
    assert found.st_mode & stat.S_ISGID


def test_figures_of_the_file_system(folder: Path) -> None:
    found = os.statvfs(folder)
    assert found.f_namemax == 255
    assert 0 < found.f_bavail <= found.f_blocks
    assert found.f_frsize * found.f_blocks > MIB
    assert found.f_files > 0


def test_a_directory_is_no_file(folder: Path) -> None:
    with pytest.raises(IsADirectoryError):
        folder.open("wb")
    (folder / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        os.stat(folder / "file" / "below")
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        os.readlink(folder / "file")


def test_many_small_files(mount: Mount, folder: Path) -> None:
    for number in range(200):
        (folder / f"{number:03}").write_bytes(b"%d" % number * 100)
    for number in range(200):
        assert (folder / f"{number:03}").read_bytes() == b"%d" % number * 100
    assert len(mount.keys(f"{folder.name}/")) == 200


def test_many_programs_write_sync_and_read_at_once(mount: Mount, folder: Path) -> None:
    def work(name: str) -> int:
        for number in range(20):
            content = noise(4096 * (number % 7) + 1, seed=number)
            with (folder / f"{name}-{number}").open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            assert (folder / f"{name}-{number}").read_bytes() == content
        return 20

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, [f"worker{number}" for number in range(16)])) == 320
    assert len(mount.keys(f"{folder.name}/")) == 320
