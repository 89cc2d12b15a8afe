"""POSIX ACLs through a real mount, by the tools that people use, as several users."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import cast

import pyfuse3
import pytest

from fusefs.idmap import owners_of
from fusefs.owners import owned
from metadb.records import InodeId
from store import posixacl
from store.files import Files
from store.posixacl import GROUP, MASK, OTHERS, OWNER, OWNING_GROUP, USER, Entry, pack
from tests.fusefs.conftest import Mount, needs_fuse

needs_tools = pytest.mark.skipif(
    shutil.which("setfacl") is None or os.geteuid() != 0, reason="it takes root, and acl(1)"
)
pytestmark = [needs_fuse, needs_tools]

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
ANNA, BERT, TEAM, OTHER_TEAM = 3001, 3002, 3100, 3200


def setfacl(*arguments: str | Path) -> None:
    subprocess.run(["setfacl", *arguments], check=True)


def getfacl(path: Path) -> list[str]:
    """Lines of the list without comments, by number."""
    command = ["getfacl", "-ncpE", str(path)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    return shown.stdout.split()


def run_as(user: int, *command: str | Path, groups: tuple[int, ...] = ()) -> bool:
    """Whether a user, of groups of its own only, can do that."""
    done = subprocess.run(
        command, user=user, group=user, extra_groups=groups, capture_output=True, check=False
    )
    return done.returncode == 0


def refusal(path: Path, name: str, packed: bytes) -> int:
    """The errno of setting a list; 0 if it was set."""
    try:
        os.setxattr(path, name, packed, follow_symlinks=False)
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.fixture
def file(folder: Path) -> Path:
    """A file that only its owner, Anna, may read."""
    made = folder / "file"
    made.write_bytes(b"abc")
    made.chmod(0o600)
    os.chown(made, ANNA, ANNA)
    return made


def test_a_named_user_may_what_the_list_says(file: Path) -> None:
    assert not run_as(BERT, "cat", file)
    setfacl("-m", f"u:{BERT}:r", file)
    assert run_as(BERT, "cat", file)
    assert not run_as(BERT, "tee", "-a", file)
    assert not run_as(BERT + 1, "cat", file)
    setfacl("-m", f"u:{BERT}:rw", file)
    assert run_as(BERT, "tee", "-a", file)
    setfacl("-x", f"u:{BERT}", file)
    assert not run_as(BERT, "cat", file)


def test_a_named_group_counts_for_those_who_have_it_beside_their_own(file: Path) -> None:
    setfacl("-m", f"g:{TEAM}:r", file)
    assert run_as(BERT, "cat", file, groups=(TEAM,))
    assert not run_as(BERT, "cat", file, groups=(OTHER_TEAM,))


def test_the_mode_shows_the_mask_and_chmod_sets_it(file: Path) -> None:
    setfacl("-m", f"u:{BERT}:rw", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    file.chmod(0o640)
    assert getfacl(file) == [
        "user::rw-",
        f"user:{BERT}:rw-",
        "group::---",
        "mask::r--",
        "other::---",
    ]
    assert run_as(BERT, "cat", file)
    assert not run_as(BERT, "tee", "-a", file)
    file.chmod(0o600)
    assert not run_as(BERT, "cat", file)
    file.chmod(0o664)
    assert run_as(BERT, "tee", "-a", file)


def test_a_list_that_says_no_more_than_the_mode_is_none(file: Path) -> None:
    setfacl("-m", f"u:{BERT}:rw", file)
    assert ACCESS in os.listxattr(file)
    setfacl("-b", file)
    assert ACCESS not in os.listxattr(file)
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(file, ACCESS)
    setfacl("--set", "u::r,g::w,o::x", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o421
    assert ACCESS not in os.listxattr(file)


def test_only_the_owner_sets_a_list(file: Path) -> None:
    assert not run_as(BERT, "setfacl", "-m", f"u:{BERT}:rw", file)
    assert run_as(ANNA, "setfacl", "-m", f"u:{BERT}:r", file)
    assert run_as(BERT, "cat", file)


def test_what_is_made_in_a_directory_inherits_its_default_list_and_no_umask(folder: Path) -> None:
    setfacl("-d", "-m", f"u:{BERT}:rwx,g:{TEAM}:rx", folder)
    before = os.umask(0o077)
    try:
        (folder / "file").write_bytes(b"")
        (folder / "program").touch(0o755)
        (folder / "below").mkdir()
        os.mkfifo(folder / "fifo")
        (folder / "link").symlink_to("file")
    finally:
        os.umask(before)
    named = [f"user:{BERT}:rwx", "group::r-x", f"group:{TEAM}:r-x"]
    assert getfacl(folder / "file") == ["user::rw-", *named, "mask::rw-", "other::r--"]
    assert getfacl(folder / "fifo") == ["user::rw-", *named, "mask::rw-", "other::r--"]
    assert getfacl(folder / "program") == ["user::rwx", *named, "mask::r-x", "other::r-x"]
    below = ["user::rwx", *named, "mask::rwx", "other::r-x"]
    assert getfacl(folder / "below") == [*below, *(f"default:{each}" for each in below)]
    assert run_as(BERT, "touch", folder / "below" / "by-bert")
    assert "system.posix_acl_access" not in os.listxattr(folder / "link", follow_symlinks=False)


def test_without_a_default_list_the_umask_holds(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        (folder / "file").touch()
        (folder / "below").mkdir()
        os.mknod(folder / "node")
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    assert modes == {"file": 0o640, "below": 0o750, "node": 0o600 & ~0o027}


def test_what_s3_puts_inherits_too(mount: Mount, folder: Path) -> None:
    setfacl("-d", "-m", f"u:{BERT}:rw,o::-", folder)
    mount.put(f"{folder.name}/deep/er/object", b"abc")
    found = folder / "deep" / "er" / "object"
    assert run_as(BERT, "tee", "-a", found) is False  # The directories give it no way in.
    assert getfacl(found) == [
        "user::rw-",
        f"user:{BERT}:rw-",
        "group::r-x",
        "mask::rw-",
        "other::---",
    ]
    assert f"default:user:{BERT}:rw-" in getfacl(folder / "deep" / "er")
    mount.put(f"{folder.name}/deep/er/object", b"abcd")
    assert f"user:{BERT}:rw-" in getfacl(found)


def test_only_a_directory_has_a_default_list_and_a_link_has_none(folder: Path, file: Path) -> None:
    packed = pack((Entry(OWNER, 7), Entry(OWNING_GROUP, 7), Entry(OTHERS, 7)))
    assert refusal(file, DEFAULT, packed) == errno.EACCES
    (folder / "link").symlink_to("file")
    assert refusal(folder / "link", ACCESS, packed) == errno.EOPNOTSUPP
    unknown = b"\1\0\0\0" + packed[4:]
    assert refusal(file, ACCESS, unknown) == errno.EOPNOTSUPP
    for bad in (packed[:-3], packed + packed[4:], packed[:12]):
        assert refusal(file, ACCESS, bad) == errno.EINVAL, bad


def test_the_set_group_id_bit_goes_when_a_stranger_to_the_group_sets_a_list(file: Path) -> None:
    packed = pack((Entry(OWNER, 6), Entry(OWNING_GROUP, 5), Entry(OTHERS, 0)))
    os.chown(file, ANNA, TEAM)
    for groups, kept in (((), False), ((TEAM,), True)):
        file.chmod(0o2650)
        script = f"import os; os.setxattr({str(file)!r}, {ACCESS!r}, {packed!r})"
        assert run_as(ANNA, "python3", "-c", script, groups=groups)
        assert bool(file.stat().st_mode & stat.S_ISGID) == kept, groups


@pytest.mark.parametrize(
    "copy",
    [
        "cp -a source copy",
        "rsync -A -a source/ copy",
        "mkdir copy && tar --acls -C source -cf - . | tar --acls -C copy -xf -",
    ],
)
def test_copies_keep_the_lists(folder: Path, copy: str) -> None:
    if shutil.which(copy.split()[0]) is None:
        pytest.skip(f"there is no {copy.split()[0]}")
    source = folder / "source"
    source.mkdir()
    (source / "file").write_bytes(b"abc")
    (source / "plain").write_bytes(b"")
    setfacl("-m", f"u:{BERT}:r,g:{TEAM}:rw", source / "file")
    setfacl("-m", f"u:{BERT}:rx", "-m", f"d:u:{BERT}:rx", source)
    subprocess.run(copy, shell=True, cwd=folder, check=True)
    for name in (".", "file", "plain"):
        assert getfacl(folder / "copy" / name) == getfacl(source / name)
    assert len(getfacl(folder / "copy" / "plain")) == 3


def test_lists_and_the_need_to_look_for_them_survive_a_restart(own_mount: Mount) -> None:
    file = own_mount.box / "file"
    file.write_bytes(b"")
    setfacl("-m", f"u:{BERT}:rw", file)
    own_mount.stop()
    own_mount.start()
    assert f"user:{BERT}:rw-" in getfacl(file)
    file.chmod(0o600)
    assert "mask::---" in getfacl(file)


def test_ids_in_a_list_are_mapped_as_owners_are() -> None:
    kept: dict[bytes, bytes] = {}

    class OneFile:
        """Just what a list of one file takes of `store.files.Files`."""

        def acl(self, inode: InodeId, name: bytes) -> bytes:
            return kept[name]

        def set_acl(self, inode: InodeId, name: bytes, packed: bytes, **_: bool) -> None:
            kept[name] = packed

    def named(user: int, group: int) -> bytes:
        entries = Entry(OWNER, 7), Entry(USER, 4, user), Entry(OWNING_GROUP, 0)
        return pack((*entries, Entry(GROUP, 4, group), Entry(MASK, 4), Entry(OTHERS, 0)))

    file = InodeId(7)
    mapped = owned(cast(Files, OneFile()), owners_of(["uidmap=100:3000:10", "gidmap=0:50:10"]))
    mapped.set_acl(file, posixacl.ACCESS, named(3002, 51), clear_set_gid=False)
    assert kept[posixacl.ACCESS] == named(102, 1)
    assert mapped.acl(file, posixacl.ACCESS) == named(3002, 51)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        mapped.set_acl(file, posixacl.ACCESS, named(99, 51), clear_set_gid=False)
    assert caught.value.errno == errno.EOVERFLOW
    alone = owned(cast(Files, OneFile()), owners_of(["uid=1000"]))
    with pytest.raises(pyfuse3.FUSEError) as caught:
        alone.set_acl(file, posixacl.ACCESS, named(1000, 51), clear_set_gid=False)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_a_mount_without_lists_refuses_them(tmp_path: Path) -> None:
    mounted = Mount(tmp_path, acls=False)
    try:
        file = mounted.box / "file"
        file.write_bytes(b"")
        packed = pack((Entry(OWNER, 7), Entry(OWNING_GROUP, 7), Entry(OTHERS, 7)))
        assert refusal(file, ACCESS, packed) == errno.EOPNOTSUPP
        with pytest.raises(OSError, match="not supported"):
            os.getxattr(file, ACCESS)
    finally:
        mounted.close()
