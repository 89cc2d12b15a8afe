"""Random sequences of operations on the mount and on a local directory: the same outcome.

Every operation runs on both; its result, or its errno, must agree, and in the end both trees.
What S3 lists must be the files of the tree.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fusefs.conftest import Mount, needs_fuse
from tests.fusefs.test_names import renameat2

pytestmark = [needs_fuse, pytest.mark.slow]

PATHS = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a"]
_numbers = itertools.count()


@dataclass
class Side:
    """One of the two trees, with the files a sequence keeps open in it."""

    root: Path
    handles: dict[int, int] = field(default_factory=dict)

    def do(self, act: Callable[[Side], Any]) -> Any:
        try:
            return act(self)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def close(self) -> None:
        for descriptor in self.handles.values():
            os.close(descriptor)
        self.handles.clear()

    def tree(self) -> dict[str, object]:
        """Path to what stands there: kind, permissions, links, bytes."""
        found: dict[str, object] = {}
        for folder, directories, files in os.walk(self.root):
            for name in directories + files:
                path = Path(folder, name)
                seen = path.lstat()
                content: object = None
                if stat.S_ISREG(seen.st_mode):
                    content = path.read_bytes()
                    assert len(content) == seen.st_size
                elif stat.S_ISLNK(seen.st_mode):
                    content = os.readlink(path)
                found[str(path.relative_to(self.root))] = (seen.st_mode, seen.st_nlink, content)
        return found


def piece_of(size: int, seed: int) -> bytes:
    return bytes((seed + index) % 251 + 1 for index in range(size))


def write(path: str, offset: int, size: int, flags: int) -> Callable[[Side], Any]:
    def act(side: Side) -> Any:
        descriptor = os.open(side.root / path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        try:
            os.pwrite(descriptor, piece_of(size, offset), offset)
            return os.pread(descriptor, 1 << 20, 0)
        finally:
            os.close(descriptor)

    return act


def keep_open(path: str, slot: int) -> Callable[[Side], Any]:
    def act(side: Side) -> Any:
        if slot in side.handles:
            os.close(side.handles.pop(slot))
        side.handles[slot] = os.open(side.root / path, os.O_RDWR | os.O_CREAT, 0o644)

    return act


def use_open(slot: int, offset: int, size: int, sync: bool) -> Callable[[Side], Any]:
    def act(side: Side) -> Any:
        if slot not in side.handles:
            return None
        descriptor = side.handles[slot]
        os.pwrite(descriptor, piece_of(size, offset), offset)
        if sync:
            os.fsync(descriptor)
        found = os.fstat(descriptor)
        return os.pread(descriptor, 1 << 20, 0), found.st_size, found.st_nlink

    return act


def truncate_open(slot: int, size: int) -> Callable[[Side], Any]:
    def act(side: Side) -> Any:
        if slot not in side.handles:
            return None
        os.ftruncate(side.handles[slot], size)
        return os.fstat(side.handles[slot]).st_size

    return act


def on(operation: Callable[..., Any], *paths: str) -> Callable[[Side], Any]:
    def act(side: Side) -> Any:
        result = operation(*(side.root / path for path in paths))
        return sorted(result) if isinstance(result, list) else None

    return act


def truncate(path: str, size: int) -> Callable[[Side], Any]:
    return lambda side: os.truncate(side.root / path, size)


def change_mode(path: str, mode: int) -> Callable[[Side], Any]:
    return lambda side: os.chmod(side.root / path, mode)


def rename(old: str, new: str, flags: int) -> Callable[[Side], Any]:
    return lambda side: renameat2(side.root / old, side.root / new, flags)


def symlink(target: str, path: str) -> Callable[[Side], Any]:
    return lambda side: os.symlink(target, side.root / path)


def operations() -> st.SearchStrategy[Callable[[Side], Any]]:
    path = st.sampled_from(PATHS)
    size = st.sampled_from([0, 1, 100, 4096, 16_384, 16_385, 70_000])
    slot = st.integers(0, 1)
    flags = st.sampled_from([0, 0, os.O_EXCL, os.O_TRUNC, os.O_APPEND])
    return st.one_of(
        st.builds(write, path, size, size, flags),
        st.builds(keep_open, path, slot),
        st.builds(use_open, slot, size, size, st.booleans()),
        st.builds(truncate_open, slot, size),
        st.builds(truncate, path, size),
        st.builds(change_mode, path, st.sampled_from([0o755, 0o700, 0o644])),
        st.builds(on, st.sampled_from([os.unlink, os.mkdir, os.rmdir, os.listdir, os.stat]), path),
        st.builds(on, st.just(os.link), path, path),
        st.builds(rename, path, path, st.sampled_from([0, 0, 0, 1, 2])),
        st.builds(symlink, path, path),
    )


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(operations(), min_size=5, max_size=40))
def test_the_mount_does_what_a_local_directory_does(
    mount: Mount, tmp_path: Path, sequence: list[Callable[[Side], Any]]
) -> None:
    name = f"model-{next(_numbers)}"
    sides = Side(mount.box / name), Side(tmp_path / name)
    for side in sides:
        side.root.mkdir()
    try:
        for act in sequence:
            ours, theirs = (side.do(act) for side in sides)
            assert ours == theirs
    finally:
        for side in sides:
            side.close()
    assert sides[0].tree() == sides[1].tree()
    check_keys(mount, sides[0])
    for side in sides:
        shutil.rmtree(side.root)


def check_keys(mount: Mount, side: Side) -> None:
    """Every regular file is a key with the same bytes; symbolic links may be keys too."""
    keys = set(mount.keys(f"{side.root.name}/"))
    for path, (mode, _, content) in side.tree().items():  # type: ignore[misc]
        key = f"{side.root.name}/{path}"
        if stat.S_ISREG(mode):
            assert key in keys
            assert mount.get(key) == content
        elif stat.S_ISDIR(mode):
            assert key not in keys
