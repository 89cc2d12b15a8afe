"""Names through a real mount: links, renames, special files, xattrs, listings, odd names."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from tests.fusefs.conftest import Mount, needs_fuse

pytestmark = needs_fuse

NOREPLACE = 1
EXCHANGE = 2
AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(old: Path, new: Path, flags: int) -> None:
    if _libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old, None, new)


def refused(number: int) -> pytest.RaisesExc[OSError]:
    return pytest.raises(OSError, check=lambda error: error.errno == number)


# -- links and special files ---------------------------------------------------------------


def test_hard_links_share_bytes_and_count(mount: Mount, folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    one.write_bytes(b"shared")
    two.hardlink_to(one)
    assert one.stat().st_nlink == two.stat().st_nlink == 2
    assert one.stat().st_ino == two.stat().st_ino
    with two.open("ab") as file:
        file.write(b" bytes")
    assert one.read_bytes() == b"shared bytes"
    assert mount.get(f"{folder.name}/one") == mount.get(f"{folder.name}/two") == b"shared bytes"
    one.unlink()
    assert two.stat().st_nlink == 1
    assert two.read_bytes() == b"shared bytes"


def test_a_directory_takes_no_hard_link(folder: Path) -> None:
    (folder / "d").mkdir()
    with refused(errno.EPERM):
        os.link(folder / "d", folder / "e")


def test_symbolic_links_are_kept_and_followed(folder: Path) -> None:
    (folder / "file").write_bytes(b"there")
    (folder / "link").symlink_to("file")
    (folder / "dangling").symlink_to("nowhere/at all")
    assert (folder / "link").readlink() == Path("file")
    assert (folder / "link").read_bytes() == b"there"
    assert (folder / "link").lstat().st_size == 4
    assert os.readlink(folder / "dangling") == "nowhere/at all"
    assert not (folder / "dangling").exists()


def test_special_files_keep_kind_and_device(mount: Mount, folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(folder / "socket", stat.S_IFSOCK | 0o600)
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    assert (folder / "device").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISSOCK((folder / "socket").stat().st_mode)
    assert mount.keys(f"{folder.name}/") == []


# -- renames ----------------------------------------------------------------------------------


def test_a_rename_replaces_and_s3_sees_it_at_once(mount: Mount, folder: Path) -> None:
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    (folder / "a").rename(folder / "b")
    assert (folder / "b").read_bytes() == b"a"
    assert not (folder / "a").exists()
    assert mount.keys(f"{folder.name}/") == [f"{folder.name}/b"]


def test_noreplace_leaves_what_is_there(folder: Path) -> None:
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    with refused(errno.EEXIST):
        renameat2(folder / "a", folder / "b", NOREPLACE)
    assert (folder / "b").read_bytes() == b"b"
    renameat2(folder / "a", folder / "c", NOREPLACE)
    assert (folder / "c").read_bytes() == b"a"


def test_exchange_swaps_a_file_and_a_directory(mount: Mount, folder: Path) -> None:
    (folder / "f").write_bytes(b"file")
    (folder / "d").mkdir()
    (folder / "d" / "below").write_bytes(b"below")
    renameat2(folder / "f", folder / "d", EXCHANGE)
    assert (folder / "d").read_bytes() == b"file"
    assert (folder / "f" / "below").read_bytes() == b"below"
    assert mount.keys(f"{folder.name}/") == [f"{folder.name}/d", f"{folder.name}/f/below"]
    with refused(errno.ENOENT):
        renameat2(folder / "f", folder / "missing", EXCHANGE)


def test_a_directory_moves_with_all_below(mount: Mount, folder: Path) -> None:
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "d" / "e" / "file").write_bytes(b"deep")
    (folder / "target").mkdir()
    (folder / "d").rename(folder / "target" / "moved")
    assert (folder / "target" / "moved" / "e" / "file").read_bytes() == b"deep"
    assert mount.get(f"{folder.name}/target/moved/e/file") == b"deep"
    assert folder.stat().st_nlink == 3
    with refused(errno.EINVAL):
        (folder / "target").rename(folder / "target" / "moved" / "inside")


def test_what_a_rename_must_refuse(folder: Path) -> None:
    (folder / "d" / "full").mkdir(parents=True)
    (folder / "e").mkdir()
    (folder / "f").write_bytes(b"")
    with refused(errno.ENOTEMPTY):
        (folder / "e").rename(folder / "d")
    with refused(errno.ENOTDIR):
        (folder / "e").rename(folder / "f")
    with refused(errno.EISDIR):
        (folder / "f").rename(folder / "e")
    with refused(errno.ENOENT):
        (folder / "missing").rename(folder / "x")
    with refused(errno.ENOTEMPTY):
        (folder / "d").rmdir()


def test_a_rename_while_open_keeps_writing_to_the_same_file(mount: Mount, folder: Path) -> None:
    with (folder / "tmp").open("wb", buffering=0) as file:
        file.write(b"half")
        (folder / "tmp").rename(folder / "final")
        assert mount.get(f"{folder.name}/final") == b"half"
        file.write(b" and half")
    assert (folder / "final").read_bytes() == b"half and half"
    assert mount.get(f"{folder.name}/final") == b"half and half"


# -- buckets ----------------------------------------------------------------------------------


def test_the_first_level_is_buckets(mount: Mount) -> None:
    (mount.path / "made-here").mkdir()
    assert sorted(os.listdir(mount.path)) == ["box", "made-here"]
    (mount.path / "made-here").rmdir()
    with refused(errno.EINVAL):
        (mount.path / "No_Bucket_Name").mkdir()
    with refused(errno.EPERM):
        (mount.path / "file").write_bytes(b"")
    (mount.box / "something").mkdir(exist_ok=True)
    with refused(errno.ENOTEMPTY):
        mount.box.rmdir()


def test_only_a_file_of_one_name_moves_from_bucket_to_bucket(mount: Mount, folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    (folder / "directory").mkdir()
    (mount.path / "other").mkdir()
    with refused(errno.EXDEV):
        os.link(folder / "file", mount.path / "other" / "file")
    with refused(errno.EXDEV):
        (folder / "directory").rename(mount.path / "other" / "directory")
    (folder / "file").rename(mount.path / "other" / "file")
    assert (mount.path / "other" / "file").read_bytes() == b"x"
    (mount.path / "other" / "file").unlink()
    (mount.path / "other").rmdir()


# -- odd names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"plain",
        b"with blank",
        b"\xff\xfe invalid",
        "\N{GRINNING FACE}".encode(),
        b"a\nb",
        b"%41",
        b"~",
    ],
)
def test_any_name_works_and_is_listed_as_it_is(folder: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(folder), name)
    with open(path, "wb") as file:
        file.write(name)
    assert os.listdir(os.fsencode(folder)) == [name]
    with open(path, "rb") as file:
        assert file.read() == name
    os.unlink(path)
    assert os.listdir(os.fsencode(folder)) == []


def test_names_of_255_bytes_work_and_longer_ones_are_refused(folder: Path) -> None:
    (folder / ("n" * 255)).write_bytes(b"long")
    assert os.listdir(folder) == ["n" * 255]
    with refused(errno.ENAMETOOLONG):
        (folder / ("n" * 256)).write_bytes(b"")
    with refused(errno.ENAMETOOLONG):
        os.stat(folder / ("n" * 256))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("x//y", "x/%tf.empty/y"),
        ("./y", "%tf.dot/y"),
        ("../y", "%tf.dotdot/y"),
        ("%tf.x", "%tf.lit.x"),
        ("d/", "d/%tf.empty"),
    ],
)
def test_keys_that_posix_cannot_hold_have_a_name(
    mount: Mount, folder: Path, key: str, name: str
) -> None:
    mount.put(f"{folder.name}/{key}", b"through S3")
    assert (folder / name).read_bytes() == b"through S3"


def test_a_key_and_keys_below_it_are_both_there(mount: Mount, folder: Path) -> None:
    mount.put(f"{folder.name}/a", b"the key")
    mount.put(f"{folder.name}/a/b", b"below")
    assert (folder / "a" / "b").read_bytes() == b"below"
    assert (folder / "a" / "%tf.data").read_bytes() == b"the key"
    (folder / "a" / "b").unlink()
    with refused(errno.ENOTEMPTY):
        (folder / "a").rmdir()


def test_reserved_names_cannot_be_made(folder: Path) -> None:
    with refused(errno.EINVAL):
        (folder / "%tf.nonsense").write_bytes(b"")
    assert not (folder / "%tf.nonsense").exists()


# -- extended attributes -------------------------------------------------------------------------


def test_extended_attributes(folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"")
    os.setxattr(file, "user.colour", b"red")
    assert os.getxattr(file, "user.colour") == b"red"
    assert "user.colour" in os.listxattr(file)
    with refused(errno.EEXIST):
        os.setxattr(file, "user.colour", b"blue", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(file, "user.other", b"blue", os.XATTR_REPLACE)
    os.setxattr(file, "user.colour", b"blue", os.XATTR_REPLACE)
    assert os.getxattr(file, "user.colour") == b"blue"
    os.removexattr(file, "user.colour")
    with refused(errno.ENODATA):
        os.getxattr(file, "user.colour")


def test_user_metadata_is_an_extended_attribute(mount: Mount, folder: Path) -> None:
    mount.put(f"{folder.name}/key", b"x", colour="red")
    assert os.getxattr(folder / "key", "user.s3.meta.colour") == b"red"
    os.setxattr(folder / "key", "user.s3.meta.size", b"large")
    assert mount.do("stat", key=f"{folder.name}/key")["user"] == {"colour": "red", "size": "large"}
    assert os.getxattr(folder / "key", "user.s3.key").decode() == f"{folder.name}/key"


def test_attributes_of_other_kinds_are_not_supported(folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"")
    for name in ("security.x", "trusted.x"):
        with refused(errno.ENODATA):
            os.getxattr(file, name)
        with refused(errno.ENOTSUP):
            os.setxattr(file, name, b"x")
    with refused(errno.ENODATA):
        os.getxattr(file, "system.posix_acl_access")


# -- listings -----------------------------------------------------------------------------------


def test_a_listing_has_dots_and_types(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "f").write_bytes(b"x")
    with os.scandir(folder) as entries:
        found = {entry.name: (entry.is_dir(), entry.stat().st_size) for entry in entries}
    assert found["f"] == (False, 1)
    assert found["d"][0]
    listed = os.popen(f"ls -a {folder}").read().split()
    assert listed == [".", "..", "d", "f"]


@pytest.mark.slow
def test_ten_thousand_entries_are_listed_once_each_while_others_come_and_go(
    folder: Path,
) -> None:
    stay = {f"stay-{number:05}" for number in range(10_000)}
    for name in stay:
        os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))
    stopped = threading.Event()

    def churn() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            path = folder / f"{'az'[number % 2]}-churn-{number}"
            path.touch()
            path.unlink()

    churner = threading.Thread(target=churn)
    churner.start()
    try:
        for _ in range(3):
            listed = [name for name in os.listdir(folder) if name.startswith("stay-")]
            assert len(listed) == len(stay)
            assert set(listed) == stay
    finally:
        stopped.set()
        churner.join()


def test_removing_while_listing_removes_all(folder: Path) -> None:
    for number in range(500):
        (folder / str(number)).touch()
    with os.scandir(folder) as entries:
        for entry in entries:
            os.unlink(entry)
    assert os.listdir(folder) == []


def test_attributes_in_a_listing_are_fresh(folder: Path) -> None:
    """READDIRPLUS hands attributes to a cache for an hour: they must be those of the moment."""
    for number in range(300):
        (folder / f"{number:03}").touch()
    with os.scandir(folder) as entries:
        next(entries)
        for number in range(300):
            (folder / f"{number:03}").write_bytes(b"grown")
        list(entries)
    assert {path.stat().st_size for path in folder.iterdir()} == {5}
