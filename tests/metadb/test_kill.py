"""A real process is killed while it commits; what it acknowledged is there afterwards."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.metadb.copies import CONFIG, Pool, get, put


async def _commit_for_ever(base: Path) -> None:
    """Commit in eight tasks and print what is acknowledged, until killed."""
    pool = Pool(base, 3)
    config = replace(CONFIG, wal_bytes=128 << 10)
    async with pool.open(config=config, running=True) as engine, trio.open_nursery() as nursery:

        async def write(task: int) -> None:
            for number in itertools.count():
                name = f"{random.getrandbits(64)}-{task}-{number}"
                engine.transact(put, name, "x" * random.randrange(500))
                await engine.barrier()
                print(name, flush=True)  # noqa: T201

        for task in range(8):
            nursery.start_soon(write, task)


@pytest.mark.slow
@pytest.mark.parametrize("lose", [None, "d0"])
async def test_process_killed_at_any_moment_loses_nothing_acknowledged(
    tmp_path: Path, lose: str | None
) -> None:
    pool = Pool(tmp_path, 3)
    acknowledged: list[str] = []
    async with pool.open(create=True):
        pass
    for round_number in range(3):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.metadb.test_kill", str(tmp_path)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        printed = b""
        while printed.count(b"\n") < 200 + 77 * round_number:
            printed += await process.stdout.receive_some()
        process.kill()
        async for piece in process.stdout:
            printed += piece
        await process.wait()
        acknowledged += printed.decode().split("\n")[:-1]
        if lose:
            shutil.rmtree(pool.path(lose))
        async with pool.open() as engine:
            lost = [name for name in acknowledged if engine.read(get, name) is None]
            assert lost == []
            assert len(engine.copy_drives) == 2
            lose = engine.primary_drive if lose else None


if __name__ == "__main__":
    trio.run(_commit_for_ever, Path(sys.argv[1]))
