"""Real, small file systems: they fill up, and they are unmounted under the daemon's feet."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.chunks.errors import NoSpace
from store.chunks.types import DriveState, Owner, Run
from tests.faultrows import FaultRow
from tests.store.chunks.rig import OpenRig, Rig, get, pattern, put

MIB = 1 << 20


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[list[Path]]:
    """Four ext4 file systems of 64 MiB where the rig will format its drives."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4")
    paths = [tmp_path / f"drive{i}" for i in range(4)]
    mounted: list[Path] = []
    try:
        for path in paths:
            image = path.with_suffix(".img")
            with image.open("wb") as file:
                file.truncate(64 * MIB)
            subprocess.run(["mkfs.ext4", "-q", "-m0", image], check=True)
            path.mkdir()
            done = subprocess.run(["mount", "-o", "loop", image, path], capture_output=True)
            if done.returncode:
                pytest.skip(f"loop mounts don't work here: {done.stderr.decode().strip()}")
            mounted.append(path)
        yield paths
    finally:
        for path in mounted:
            subprocess.run(["umount", "-l", path], check=False, capture_output=True)


def mount(*words: str | Path) -> None:
    subprocess.run([*words], check=True)


async def fill(rig: Rig) -> list[tuple[int, tuple[Run, ...]]]:
    """Write streams of 5 MiB until there is no space; (seed, runs) of those that were taken."""
    stored: list[tuple[int, tuple[Run, ...]]] = []
    for seed in range(100):
        appender = rig.chunks.appender(Owner())
        try:
            await appender.append(pattern(5 * MIB, seed))
            stored.append((seed, await appender.finish(durable=True)))
        except NoSpace:
            return stored
        finally:
            await appender.abandon()
    raise AssertionError("the drives were never full")


@pytest.mark.slow
async def test_full_file_systems_are_no_space_and_freeing_helps(
    rig: OpenRig, mounts: list[Path]
) -> None:
    async with rig() as opened:
        stored = await fill(opened)
        assert len(stored) >= 8
        await opened.probe()
        for seed, runs in stored:
            assert await get(opened.chunks, runs) == pattern(5 * MIB, seed)
        assert opened.chunks.usable_bytes()[1] < 20 * MIB
        for _, runs in stored[: len(stored) // 2]:
            await opened.chunks.free(runs)
        await opened.probe()
        assert [drive.state for drive in opened.chunks.pool.drives] == [DriveState.ONLINE] * 4
        body = pattern(3 * MIB)
        assert await get(opened.chunks, await put(opened.chunks, body)) == body


@pytest.mark.slow
async def test_a_bare_mount_point_is_never_written_to(
    rig: OpenRig, mounts: list[Path], fault_row: FaultRow
) -> None:
    body = pattern(3 * MIB)
    async with rig() as opened:
        runs = await put(opened.chunks, body)
        mount("umount", "-l", mounts[1])
        await opened.probe()
        assert opened.chunks.status()[1].state is DriveState.OFFLINE
        more = await put(opened.chunks, body)
        assert await get(opened.chunks, [*runs, *more]) == body + body
        assert os.listdir(mounts[1]) == []
        image = mounts[1].with_suffix(".img")
        mount("mount", "-o", "loop", image, mounts[1])
        await opened.probe()
        # It was left out of an epoch meanwhile.
        assert opened.chunks.status()[1].state is DriveState.READ_ONLY
        await opened.chunks.pool.rejoin(opened.chunks.pool.drives[1])
        assert opened.chunks.status()[1].state is DriveState.ONLINE
        assert await get(opened.chunks, await put(opened.chunks, body)) == body
    fault_row(
        "a drive is not mounted, its bare mount point is there",
        client="nothing",
        status="offline; the mount point is not written to",
    )
