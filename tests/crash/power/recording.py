"""Has a program run under `recorder.c` and gives what it did to the drives, call by call.

Concurrency: blocking. The recorder is compiled once in a process.
Source: the struct `record` in recorder.c.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEAD = struct.Struct("=IIiIqq")
_SOURCE = Path(__file__).with_name("recorder.c")
_REPOSITORY = Path(__file__).parents[3]
_RUN_WITHIN_S = 300.0
CREATED, TRUNCATED, SYNCED = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Call:
    """One record. kind, by letter: Open, Write, Truncate, Allocate, Punch, Sync, Rename, Unlink,
    Make a folder, Drop a folder, Note; End, behind the last one.

    path: relative to the drives' root; of a rename both, with a 0 between. handle: of the open.
    """

    kind: str
    handle: int
    flags: int
    offset: int
    length: int
    content: bytes
    path: str = ""

    @property
    def note(self) -> dict[str, Any]:
        """What the program noted."""
        return json.loads(self.content)  # type: ignore[no-any-return]


@functools.cache
def recorder() -> Path:
    """The compiled recorder. Raises RuntimeError without gcc."""
    if shutil.which("gcc") is None:
        raise RuntimeError("gcc is needed to record what a program does")
    folder = Path(tempfile.mkdtemp(prefix="twofold-recorder-"))
    atexit.register(shutil.rmtree, folder)
    library = folder / "recorder.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-lpthread"], check=True
    )
    return library


def record(root: Path, arguments: Sequence[str], log: Path) -> None:
    """Run `python arguments...` and write down in `log` what it does below `root`.

    Raises AssertionError when it fails.
    """
    environment = {
        **os.environ,
        "LD_PRELOAD": str(recorder()),
        "RECORDER_ROOT": str(root),
        "RECORDER_LOG": str(log),
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=_RUN_WITHIN_S,
    )
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stderr}"


def read_log(log: Path, root: Path) -> list[Call]:
    """The calls in order. Raises AssertionError where one could not be written down."""
    content = log.read_bytes()
    below = len(os.fsencode(root)) + 1
    calls = []
    offset = 0
    while offset < len(content):
        kind, size, handle, flags, position, length = _HEAD.unpack_from(content, offset)
        offset += _HEAD.size
        payload = content[offset : offset + size]
        offset += size
        letter = chr(kind)
        assert letter != "X", f"the program used {payload!r}, which is not recorded"
        path = ""
        if letter in "OUMD":
            path = os.fsdecode(payload[below:])
        elif letter == "R":
            path = "\0".join(os.fsdecode(part[below:]) for part in payload.split(b"\0"))
        calls.append(Call(letter, handle, flags, position, length, payload, path))
    return [*calls, Call("E", 0, 0, 0, 0, b"")]
