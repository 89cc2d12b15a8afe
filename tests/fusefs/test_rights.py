"""Who may do what on the mount: set-id bits, sticky directories, groups, limits of attributes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.fusefs.conftest import Mount, needs_fuse
from tests.fusefs.users import errno_as, needs_root

pytestmark = [needs_fuse, needs_root]

ANNA, BERT, TEAM = 3001, 3002, 3100


@pytest.fixture
def shared(folder: Path) -> Path:
    """A directory that all may write to, and a file of Anna in it."""
    folder.chmod(0o777)
    (folder / "file").write_bytes(b"0123456789")
    os.chown(folder / "file", ANNA, TEAM)
    return folder


@pytest.mark.parametrize(
    "program",
    [
        "os.write(os.open(sys.argv[1], os.O_WRONLY), b'x')",
        "os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), b'x')",
        "os.truncate(sys.argv[1], 3)",
        "os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC))",
        "m = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0); os.write("
        "os.open(sys.argv[1], os.O_WRONLY), b'x'); m.close()",
    ],
)
def test_set_id_bits_go_when_another_writes(shared: Path, program: str) -> None:
    file = shared / "file"
    file.chmod(0o6777)
    assert errno_as(BERT, program, file) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o777


def test_set_id_bits_stay_when_nothing_is_written(shared: Path) -> None:
    file = shared / "file"
    file.chmod(0o6777)
    for program in (
        "os.read(os.open(sys.argv[1], os.O_RDWR), 3)",
        "os.utime(sys.argv[1])",
        "os.stat(sys.argv[1])",
    ):
        assert errno_as(BERT, program, file) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o6777


def test_set_group_id_without_execution_is_no_right_and_stays(shared: Path) -> None:
    file = shared / "file"
    file.chmod(0o2666)
    assert errno_as(ANNA, "os.write(os.open(sys.argv[1], 1), b'x')", file, groups=(TEAM,)) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o2666


def test_a_change_of_owner_clears_set_id_bits_and_of_a_directory_none(shared: Path) -> None:
    file, directory = shared / "file", shared / "directory"
    directory.mkdir()
    for path in (file, directory):
        path.chmod(0o6777)
        os.chown(path, BERT, TEAM)
    assert stat.S_IMODE(file.stat().st_mode) == 0o777
    assert stat.S_IMODE(directory.stat().st_mode) == 0o6777


def test_only_root_gives_files_away_and_owners_change_to_their_groups(shared: Path) -> None:
    file = shared / "file"
    chown = "os.chown(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"
    assert errno_as(ANNA, chown, file, BERT, -1) == errno.EPERM
    assert errno_as(ANNA, chown, file, -1, BERT) == errno.EPERM
    assert errno_as(ANNA, chown, file, -1, ANNA) == 0
    assert errno_as(ANNA, chown, file, -1, TEAM, groups=(TEAM,)) == 0
    assert file.stat().st_gid == TEAM
    assert errno_as(BERT, "os.chmod(sys.argv[1], 0o777)", file) == errno.EPERM


def test_chmod_clears_set_group_id_for_who_is_not_of_the_group(shared: Path) -> None:
    file = shared / "file"
    chmod = "os.chmod(sys.argv[1], 0o2755)"
    assert errno_as(ANNA, chmod, file) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o755
    assert errno_as(ANNA, chmod, file, groups=(TEAM,)) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o2755


def test_in_a_sticky_directory_each_removes_what_is_their_own(shared: Path) -> None:
    shared.chmod(0o1777)
    file = shared / "file"
    file.chmod(0o666)
    assert errno_as(BERT, "os.unlink(sys.argv[1])", file) == errno.EPERM
    assert errno_as(BERT, "os.rename(sys.argv[1], sys.argv[1] + '2')", file) == errno.EPERM
    assert errno_as(BERT, "open(sys.argv[1] + '3', 'w')", file) == 0
    assert errno_as(BERT, "os.rename(sys.argv[1] + '3', sys.argv[1])", file) == errno.EPERM
    assert errno_as(BERT, "os.unlink(sys.argv[1] + '3')", file) == 0
    assert errno_as(ANNA, "os.unlink(sys.argv[1])", file) == 0
    shared.chmod(0o777)
    file.touch()
    assert errno_as(BERT, "os.unlink(sys.argv[1])", file) == 0


def test_supplementary_groups_open_what_their_own_group_does_not(shared: Path) -> None:
    file = shared / "file"
    file.chmod(0o640)
    read = "os.open(sys.argv[1], os.O_RDONLY)"
    assert errno_as(BERT, read, file) == errno.EACCES
    assert errno_as(BERT, read, file, groups=(4000, TEAM, 4001)) == 0
    assert errno_as(BERT, read, file, groups=(4000, 4001)) == errno.EACCES


def test_a_set_group_id_directory_hands_its_group_down(shared: Path) -> None:
    os.chown(shared, 0, TEAM)
    shared.chmod(0o2777)
    for program in ("open(sys.argv[1], 'w')", "os.mkdir(sys.argv[1])", "os.mkfifo(sys.argv[1])"):
        made = shared / "made"
        assert errno_as(BERT, program, made) == 0
        assert (made.stat().st_uid, made.stat().st_gid) == (BERT, TEAM)
        assert bool(made.stat().st_mode & stat.S_ISGID) == made.is_dir()
        made.rmdir() if made.is_dir() else made.unlink()


def test_a_closed_directory_keeps_others_out_of_what_is_below(shared: Path) -> None:
    shared.chmod(0o711)
    (shared / "file").chmod(0o666)
    assert errno_as(BERT, "open(sys.argv[1]).read()", shared / "file") == 0
    assert errno_as(BERT, "os.listdir(sys.argv[1])", shared) == errno.EACCES
    assert errno_as(BERT, "os.unlink(sys.argv[1])", shared / "file") == errno.EACCES
    shared.chmod(0o700)
    assert errno_as(BERT, "open(sys.argv[1]).read()", shared / "file") == errno.EACCES


def test_what_s3_made_is_read_by_all_and_written_by_its_owner(mount: Mount, folder: Path) -> None:
    mount.put(f"{folder.name}/d/key", b"abc")
    key = folder / "d" / "key"
    assert errno_as(BERT, "open(sys.argv[1]).read()", key) == 0
    assert errno_as(BERT, "open(sys.argv[1], 'a')", key) == errno.EACCES
    assert errno_as(BERT, "open(sys.argv[1] + '2', 'w')", key) == errno.EACCES


def test_attributes_have_the_limits_of_s3_and_of_the_mount(mount: Mount, folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"")
    key = f"{folder.name}/file"
    os.setxattr(file, "user.s3.meta.k", b"x" * 2047)
    assert mount.do("stat", key=key)["user"] == {"k": "x" * 2047}
    with pytest.raises(OSError, match=os.strerror(errno.E2BIG)):
        os.setxattr(file, "user.s3.meta.l", b"x")
    for number in range(10):
        os.setxattr(file, f"user.s3.tag.t{number}", b"v")
    with pytest.raises(OSError, match=os.strerror(errno.E2BIG)):
        os.setxattr(file, "user.s3.tag.one-more", b"v")
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        os.setxattr(file, "user.s3.meta.k", b"\n")
    for number in range(3):
        os.setxattr(file, f"user.large{number}", b"x" * 65_536)
    with pytest.raises(OSError, match=os.strerror(errno.E2BIG)):
        os.setxattr(file, "user.large3", b"x" * 65_536)
    for name in ("user.s3.etag", "user.s3.key", "user.s3.version-id"):
        with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
            os.setxattr(file, name, b"mine")


def test_only_who_may_write_a_file_sets_its_attributes(shared: Path) -> None:
    file = shared / "file"
    file.chmod(0o644)
    put = "os.setxattr(sys.argv[1], 'user.s3.meta.k', b'v')"
    assert errno_as(BERT, put, file) == errno.EACCES
    assert errno_as(ANNA, put, file) == 0
    assert errno_as(BERT, "os.getxattr(sys.argv[1], 'user.s3.meta.k')", file) == 0


def test_where_libfuse_leaves_the_bits_to_us_each_write_clears_them(tmp_path: Path) -> None:
    """libfuse 3.17 and later; of root's own writes the kernel thinks that they leave the bits."""
    mounted = Mount(tmp_path, libfuse=317)
    try:
        file = mounted.box / "file"
        for flags, size in ((os.O_WRONLY, None), (os.O_WRONLY | os.O_TRUNC, None), (0, 3)):
            file.write_bytes(b"0123456789")
            file.chmod(0o6755)
            if size is not None:
                os.truncate(file, size)
            else:
                opened = os.open(file, flags)
                if not flags & os.O_TRUNC:
                    os.write(opened, b"x")
                os.close(opened)
            assert stat.S_IMODE(file.stat().st_mode) == 0o755
    finally:
        mounted.close()
