"""Files come out of fragments alone, as far as k of each stripe are left."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.chunks.codec import codec
from store.chunks.fragment import HEADER_BYTES, build_header, read_fragment
from store.chunks.salvage import NothingFound, Salvaged, salvage
from store.chunks.types import Owner, offset_of
from tests.store.chunks.rig import Rig, open_rig, pattern

SIZES = {11: 1_000, 12: 300_000, 13: 2_000_000}


async def fill(rig: Rig) -> dict[int, bytes]:
    """A file of each size; the contents by inode."""
    bodies = {inode: pattern(size, inode) for inode, size in SIZES.items()}
    for inode, body in bodies.items():
        appender = rig.chunks.appender(Owner(inode=inode), len(body))
        await appender.append(body)
        await appender.finish(durable=True)
    return bodies


def run(rig: Rig, into: Path) -> Salvaged:
    into.mkdir()
    return salvage(rig.paths, into)


def contents(into: Path) -> dict[int, bytes]:
    return {int(path.name): path.read_bytes() for path in into.iterdir()}


async def test_every_file_comes_back_under_its_inode(tmp_path: Path) -> None:
    async with open_rig(tmp_path, 4, 2) as rig:
        bodies = await fill(rig)
        salvaged = run(rig, tmp_path / "saved")
        assert contents(tmp_path / "saved") == bodies
        assert salvaged.store == rig.chunks.pool.store
        assert {n: each.written for n, each in salvaged.files.items()} == {
            inode: [(0, size)] for inode, size in SIZES.items()
        }


async def test_any_k_fragments_of_a_stripe_are_enough_and_fewer_are_told(tmp_path: Path) -> None:
    async with open_rig(tmp_path, 4, 2) as rig:
        bodies = await fill(rig)
        members = {path: sorted(path.rglob("*.seg")) for path in rig.paths}
        for path in rig.paths[:2]:
            for member in members[path]:
                member.unlink()
        run(rig, tmp_path / "saved")
        assert contents(tmp_path / "saved") == bodies
        for member in members[rig.paths[2]]:
            with member.open("r+b") as file:
                file.seek(HEADER_BYTES)
                file.write(b"rot")
        salvaged = run(rig, tmp_path / "again")
        lost = {number for number, each in salvaged.files.items() if each.lost}
        assert lost
        whole = {n: c for n, c in contents(tmp_path / "again").items() if n not in lost}
        assert whole == {n: body for n, body in bodies.items() if n not in lost}


async def test_what_was_written_later_wins(tmp_path: Path) -> None:
    async with open_rig(tmp_path, 3, 1) as rig:
        first, second = pattern(200_000, 1), pattern(50_000, 2)
        for body, offset in ((first, 0), (second, 100_000)):
            appender = rig.chunks.appender(Owner(inode=9, offset=offset), len(body))
            await appender.append(body)
            await appender.finish(durable=True)
        run(rig, tmp_path / "saved")
        assert contents(tmp_path / "saved")[9] == first[:100_000] + second + first[150_000:]


async def test_a_fragment_within_a_content_is_not_taken_for_one(tmp_path: Path) -> None:
    async with open_rig(tmp_path, 1, 0) as rig:
        bodies = await fill(rig)
        (member, *_) = sorted(rig.paths[0].rglob("*.seg"))
        inner = member.read_bytes()[: HEADER_BYTES + 8192]
        appender = rig.chunks.appender(Owner(inode=99), None)
        await appender.append(inner)
        (run_of_inner,) = await appender.finish(durable=True)
        # Its own header is gone, so that the inner one is looked at.
        (path,) = rig.members(run_of_inner)
        with path.open("r+b") as file:
            file.seek(offset_of(run_of_inner.id))
            file.write(bytes(64))
        run(rig, tmp_path / "saved")
        assert contents(tmp_path / "saved") == bodies


def test_drives_without_fragments_are_told(tmp_path: Path) -> None:
    with pytest.raises(NothingFound):
        salvage([tmp_path], tmp_path)


def test_a_header_that_contradicts_itself_is_none() -> None:
    shard = codec(1, 0).encode(bytes(4096))[0]
    known = bytearray(64)
    known[:8] = b"2foldfrg"
    known[8] = 1
    assert read_fragment(build_header(bytes(known), Owner(), shard)) is None
