"""Rule R14 through the kernel: versions, object lock and quota as programs meet them."""

from __future__ import annotations

import base64
import errno
import itertools
import os
import subprocess
from pathlib import Path

import pytest

from tests.fusefs.conftest import Mount, needs_fuse

pytestmark = needs_fuse

_numbers = itertools.count(1)
LARGE = 300_000


class Versioned:
    """A bucket of its own, on the mount and by remote control."""

    def __init__(self, mount: Mount) -> None:
        self.name = f"versioned-{next(_numbers)}"
        self.path = mount.path / self.name
        self._mount = mount
        self.path.mkdir()

    def set(self, **settings: object) -> int:
        """Change settings; what the bucket holds, in bytes."""
        held: int = self._mount.do("set_bucket", name=self.name, **settings)
        return held

    def hold(self, key: str, on: bool) -> None:
        self._mount.do("hold", bucket=self.name, key=key, on=on)

    def history(self, key: str) -> list[bytes | None]:
        return [
            None if content is None else base64.b64decode(content)
            for found, _, content in self._mount.do("versions", bucket=self.name)
            if found == key
        ]

    def remove_newest(self, key: str) -> None:
        found = [row for row in self._mount.do("versions", bucket=self.name) if row[0] == key]
        self._mount.do("delete_version", bucket=self.name, key=key, version=found[0][1])


@pytest.fixture
def bucket(mount: Mount) -> Versioned:
    made = Versioned(mount)
    made.set(versioning="enabled")
    return made


def refused(number: int) -> pytest.RaisesExc[OSError]:
    return pytest.raises(OSError, check=lambda error: error.errno == number)


@pytest.mark.parametrize("size", [3, LARGE])
def test_each_program_that_writes_a_file_makes_a_version(bucket: Versioned, size: int) -> None:
    file = bucket.path / "f"
    for value in (b"1", b"2"):
        file.write_bytes(value * size)
    with file.open("ab") as appended:
        appended.write(b"+")
    os.truncate(file, 2)
    assert bucket.history("f") == [b"22", b"2" * size + b"+", b"2" * size, b"1" * size]
    file.unlink()
    assert bucket.history("f")[:2] == [None, b"22"]
    assert os.listdir(bucket.path) == []


def test_many_fsyncs_are_one_version(bucket: Versioned) -> None:
    with (bucket.path / "f").open("wb", buffering=0) as file:
        for _ in range(5):
            file.write(b"x")
            os.fsync(file.fileno())
    assert bucket.history("f") == [b"xxxxx"]


def test_an_editor_that_renames_over_keeps_what_was_there(bucket: Versioned) -> None:
    file = bucket.path / "f"
    file.write_bytes(b"old")
    assert file.read_bytes() == b"old"
    (bucket.path / "f.tmp").write_bytes(b"new")
    (bucket.path / "f.tmp").rename(file)
    assert file.read_bytes() == b"new"
    assert bucket.history("f") == [b"new", b"old"]
    assert bucket.history("f.tmp") == [None, b"new"]


def test_a_version_that_comes_back_is_on_the_mount_at_once(bucket: Versioned) -> None:
    directory = bucket.path / "d"
    directory.mkdir()
    file = directory / "f"
    file.write_bytes(b"old" * 100_000)
    file.write_bytes(b"new")
    assert file.read_bytes() == b"new"
    bucket.remove_newest("d/f")
    assert file.read_bytes() == b"old" * 100_000
    file.unlink()
    directory.rmdir()
    assert not file.exists()
    bucket.remove_newest("d/f")
    assert file.read_bytes() == b"old" * 100_000


def test_an_open_reader_is_not_disturbed_by_versions(bucket: Versioned) -> None:
    file = bucket.path / "f"
    file.write_bytes(b"1" * LARGE)
    with file.open("rb") as reader:
        assert reader.read(10) == b"1" * 10
        (bucket.path / "g").write_bytes(b"2" * LARGE)
        (bucket.path / "g").rename(file)
        assert reader.read() == b"1" * (LARGE - 10)
    assert bucket.history("f") == [b"2" * LARGE, b"1" * LARGE]


def test_a_tree_is_moved_with_its_history(bucket: Versioned) -> None:
    (bucket.path / "a" / "b").mkdir(parents=True)
    for value in (b"1", b"2"):
        (bucket.path / "a" / "b" / "f").write_bytes(value)
    subprocess.run(["mv", bucket.path / "a", bucket.path / "c"], check=True)
    assert bucket.history("c/b/f") == [b"2", b"1"]
    assert bucket.history("a/b/f") == []


def test_a_locked_file_says_eperm(bucket: Versioned) -> None:
    bucket.set(lock={})
    file, other = bucket.path / "f", bucket.path / "other"
    file.write_bytes(b"locked")
    other.write_bytes(b"other")
    bucket.hold("f", True)
    for mode in ("wb", "ab", "r+b"):
        with refused(errno.EPERM):
            file.open(mode)
    for change in (
        lambda: os.truncate(file, 0),
        file.unlink,
        lambda: file.rename(bucket.path / "g"),
        lambda: other.rename(file),
    ):
        with refused(errno.EPERM):
            change()
    assert file.read_bytes() == b"locked"
    bucket.hold("f", False)
    file.write_bytes(b"free")
    assert bucket.history("f") == [b"free", b"locked"]


def test_a_full_bucket_says_edquot_when_writing_not_when_closing(bucket: Versioned) -> None:
    bucket.set(quota=LARGE)
    file = os.open(bucket.path / "f", os.O_WRONLY | os.O_CREAT, 0o644)
    assert os.write(file, b"x" * (LARGE - 10)) == LARGE - 10
    with refused(errno.EDQUOT):
        os.write(file, b"y" * 11)
    assert os.write(file, b"y" * 10) == 10
    os.close(file)
    assert bucket.set() == LARGE
    with refused(errno.EDQUOT):
        (bucket.path / "f").write_bytes(b"z")
    assert bucket.history("f")[-1] == b"x" * (LARGE - 10) + b"y" * 10


def test_a_version_id_is_an_attribute(bucket: Versioned) -> None:
    file: Path = bucket.path / "f"
    file.write_bytes(b"1")
    first = os.getxattr(file, "user.s3.version-id")
    file.write_bytes(b"2")
    assert os.getxattr(file, "user.s3.version-id") > first
    with refused(errno.EPERM):
        os.setxattr(file, "user.s3.version-id", b"x")
