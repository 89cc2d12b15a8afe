"""The mount while drives go and come and S3 clients replace its files, and when its daemon dies.

Every body says in each of its words which version it is, so one read tells whether it is torn.
"""

from __future__ import annotations

import errno
import itertools
import json
import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.daemon.harness import HAS_FUSE, DaemonHarness
from tests.fault.conftest import MakeLoops, StartDaemon
from tests.fault.watching import move_away, move_back, primary_drive, wait_drive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_FUSE, reason="there is no /dev/fuse to mount with"),
]
BUCKET = "bucket"
MiB = 1 << 20
KEYS = 3
WORDS = 25_000
WITHIN_S = 120.0
# The mount is gone, and it says so; never a hang, and never bytes that are not there.
GONE = {errno.ENOTCONN, errno.ECONNABORTED}


def body_of(version: int) -> bytes:
    """From 0.8 KB, which stand in the database, to 0.6 MB, by turns."""
    words = 100 if version % 4 == 0 else WORDS * (1 + version % 3)
    return version.to_bytes(8, "big") * words


def version_of(body: bytes) -> int:
    """Which one it is. Fails for what is no whole body."""
    version = int.from_bytes(body[:8], "big")
    assert body == body_of(version), f"torn: {len(body)} bytes from {version}"
    return version


class Load:
    """Threads that go round until they are told to stop; what failed first is told at the end."""

    def __init__(self, harness: DaemonHarness) -> None:
        self.harness = harness
        self.box = harness.mount / BUCKET
        self.rounds: dict[str, int] = {}
        self.failed: list[str] = []
        # The version of each key that was answered last, which every open has to find.
        self.answered = [0] * KEYS
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Load:
        client = self.harness.client()
        client.create_bucket(Bucket=BUCKET)
        for key in range(KEYS):
            client.put_object(Bucket=BUCKET, Key=f"hot-{key}", Body=body_of(0))
            self._begin(f"replace {key}", self._replacing(key))
            self._begin(f"read {key}", self._reading(key))
        self._begin("come and go", self._coming_and_going())
        self._begin("hold", self._holding())
        for number in range(2):
            self._begin(f"save {number}", self._saving(number))
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        assert not self.failed, f"{self.failed}\n{self.harness.log_tail()}"

    def end(self) -> None:
        """Let everybody finish, or fail."""
        self._stop.set()
        for thread in self._threads:
            thread.join(WITHIN_S)
        assert not any(thread.is_alive() for thread in self._threads), "somebody hangs"

    def go_on(self) -> None:
        """Return when everybody has been round again, wholly since now. Raises what failed."""
        wanted = {name: count + 2 for name, count in self.rounds.items()}
        deadline = time.monotonic() + WITHIN_S
        while late := [name for name, count in wanted.items() if self.rounds[name] < count]:
            assert not self.failed, f"{self.failed}\n{self.harness.log_tail()}"
            assert time.monotonic() < deadline, f"{late} hang\n{self.harness.log_tail()}"
            time.sleep(0.02)

    def _begin(self, name: str, act: Callable[[int], None]) -> None:
        self.rounds[name] = 0

        def run() -> None:
            try:
                for number in itertools.count(1):
                    act(number)
                    self.rounds[name] = number
                    if self._stop.is_set():
                        return
            except BaseException as error:
                self.failed.append(f"{name}: {error!r}")

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _replacing(self, key: int) -> Callable[[int], None]:
        client = self.harness.client()

        def act(number: int) -> None:
            client.put_object(Bucket=BUCKET, Key=f"hot-{key}", Body=body_of(number))
            self.answered[key] = number

        return act

    def _reading(self, key: int) -> Callable[[int], None]:
        """By turns through the page cache and past it, in pieces and by a mapping."""
        path = self.box / f"hot-{key}"

        def act(number: int) -> None:
            least = self.answered[key]
            descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if number % 3 == 1 else 0))
            with open(descriptor, "rb", buffering=0) as file:
                if number % 3 == 2:
                    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                        body = mapped[:]
                else:
                    body = b"".join(iter(lambda: file.read(64 * 1024), b""))
            assert version_of(body) >= least, f"stale: {version_of(body)} < {least}"

        return act

    def _holding(self) -> Callable[[int], None]:
        """Who has a file open reads it as it was, however often it is replaced meanwhile."""

        def act(number: int) -> None:
            key = number % KEYS
            with (self.box / f"hot-{key}").open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                first, least = file.read(8), self.answered[key]
                while self.answered[key] < least + 2 and not self._stop.is_set():
                    time.sleep(0.005)
                body = first + b"".join(iter(lambda: file.read(32 * 1024), b""))
            assert len(body) == size
            version_of(body)

        return act

    def _coming_and_going(self) -> Callable[[int], None]:
        client, path = self.harness.client(), self.box / "folder" / "guest"

        def act(number: int) -> None:
            client.put_object(Bucket=BUCKET, Key="folder/guest", Body=body_of(number))
            assert version_of(path.read_bytes()) == number
            client.delete_object(Bucket=BUCKET, Key="folder/guest")
            assert not path.exists()
            assert not path.parent.exists() or os.listdir(path.parent) == []

        return act

    def _saving(self, who: int) -> Callable[[int], None]:
        """As programs save: write, fsync, rename; both doors have it then."""
        client, path = self.harness.client(), self.box / f"saved-{who}"

        def act(number: int) -> None:
            with path.with_suffix(".new").open("wb") as file:
                file.write(body_of(number))
                file.flush()
                os.fsync(file.fileno())
            path.with_suffix(".new").rename(path)
            answer = client.get_object(Bucket=BUCKET, Key=f"saved-{who}")
            assert version_of(answer["Body"].read()) == number
            assert version_of(path.read_bytes()) == number

        return act


def not_the_first(harness: DaemonHarness) -> list[int]:
    """The drives but for the primary database's: to lose that one begins the mount anew (R7)."""
    return [number for number in range(4) if number != primary_drive(harness)]


def test_under_load_drives_that_go_and_come_back_are_not_noticed(daemon: StartDaemon) -> None:
    harness = daemon()
    one, two, _ = not_the_first(harness)
    with Load(harness) as load:
        load.go_on()
        move_away(harness, one)
        load.go_on()
        wait_drive(harness, one, "offline")
        load.go_on()
        move_away(harness, two)
        load.go_on()
        wait_drive(harness, two, "offline")
        load.go_on()
        move_back(harness, one)
        move_back(harness, two)
        load.go_on()
        wait_drive(harness, one, "online")
        wait_drive(harness, two, "online")
        load.go_on()
    assert " error " not in harness.log(), harness.log_tail()


def test_under_load_a_drive_that_fails_every_call_is_not_noticed(
    loops: MakeLoops, daemon: StartDaemon
) -> None:
    drives = loops(4, 512 * MiB)
    harness = daemon()
    one, two, _ = not_the_first(harness)
    with Load(harness) as load:
        load.go_on()
        for number in (one, two):
            drives[number].unplug()
            load.go_on()
            wait_drive(harness, number, "fenced", "offline")
            load.go_on()


# -- the daemon is killed ----------------------------------------------------------------------

PROGRAM = """
import errno, json, mmap, os, sys

box = sys.argv[1]
synced = os.open(box + "/synced", os.O_RDWR)
dirty = os.open(box + "/dirty", os.O_RDWR | os.O_CREAT)
os.write(dirty, b"never synced" * 10_000)
mapped_file = os.open(box + "/mapped", os.O_RDWR)
mapped = mmap.mmap(mapped_file, 0)
mapped[:8] = b"synced.."
mapped.flush()
mapped[4096:4104] = b"unsynced"
folder = os.open(box, os.O_RDONLY | os.O_DIRECTORY)
print("ready", flush=True)
sys.stdin.readline()

seen = {}
def attempt(name, act):
    try:
        act()
        seen[name] = 0
    except OSError as error:
        seen[name] = error.errno
attempt("write", lambda: os.pwrite(synced, b"x", 0))
attempt("read", lambda: os.preadv(synced, [bytearray(4096)], 1 << 20))
attempt("stat", lambda: os.stat(box + "/other"))
attempt("open", lambda: os.open(box + "/synced", os.O_RDONLY))
attempt("make", lambda: os.open(box + "/new", os.O_WRONLY | os.O_CREAT))
attempt("truncate", lambda: os.ftruncate(dirty, 0))
attempt("fsync", lambda: os.fsync(dirty))
attempt("list", lambda: os.listdir(folder))
attempt("msync", lambda: mapped.flush())
assert mapped[4096:4104] == b"unsynced"
for descriptor in (synced, dirty, mapped_file, folder):
    attempt("close", lambda: os.close(descriptor))
mapped.close()
print(json.dumps(seen), flush=True)
sys.stdin.readline()
"""


def test_a_kill_gives_programs_clean_errors_and_takes_nothing_that_was_synced(
    daemon: StartDaemon,
) -> None:
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    box = harness.mount / BUCKET
    for name in ("synced", "mapped", "other"):
        with (box / name).open("wb") as file:
            file.write(body_of(7) * 4)
            file.flush()
            os.fsync(file.fileno())
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, box], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == b"ready\n"
        harness.kill()
        program.stdin.write(b"\n")
        program.stdin.flush()
        seen: dict[str, Any] = json.loads(program.stdout.readline())
        # The program still runs, on what is a dead mount to it, while the next is made.
        harness.start()
        assert harness.is_mounted()
        check_what_was_synced(harness, client)
        (box / "after").write_bytes(b"after")
        assert client.get_object(Bucket=BUCKET, Key="after")["Body"].read() == b"after"
        program.communicate(b"\n", timeout=WITHIN_S)
        assert program.returncode == 0
    finally:
        program.kill()
        program.wait()
    check_errors(seen)


def check_errors(seen: dict[str, int]) -> None:
    told = {name: errno.errorcode.get(number, "none") for name, number in seen.items()}
    for name in ("write", "read", "stat", "open", "make", "truncate", "list"):
        assert seen[name] in GONE, told
    # The kernel has nowhere to write back to, and says so with what it says for any such page.
    for name in ("fsync", "msync"):
        assert seen[name] in GONE | {errno.EIO}, told
    assert seen["close"] in GONE | {0}, told


def check_what_was_synced(harness: DaemonHarness, client: Any) -> None:
    wanted = body_of(7) * 4
    box = harness.mount / BUCKET
    for name in ("synced", "other"):
        assert (box / name).read_bytes() == wanted
        assert client.get_object(Bucket=BUCKET, Key=name)["Body"].read() == wanted
    mapped = (box / "mapped").read_bytes()
    assert mapped == client.get_object(Bucket=BUCKET, Key="mapped")["Body"].read()
    assert mapped[:8] == b"synced.."
    assert mapped[4096:4104] in (b"unsynced", wanted[4096:4104])
    assert mapped[8:4096] + mapped[4104:] == wanted[8:4096] + wanted[4104:]
    # What was never closed or synced was never promised, and is no key either (R6).
    assert not (box / "dirty").exists() or (box / "dirty").stat().st_size in (0, 120_000)


def test_after_a_kill_under_load_the_mount_is_there_at_once(daemon: StartDaemon) -> None:
    harness = daemon()
    load = Load(harness).__enter__()
    try:
        load.go_on()
        harness.kill()
    finally:
        load.end()
    # Everybody failed, the programs cleanly.
    assert len(load.failed) == len(load.rounds)
    harness.start()
    box = harness.mount / BUCKET
    for who in range(2):
        done = load.rounds[f"save {who}"]
        assert version_of((box / f"saved-{who}").read_bytes()) in (done, done + 1)
    for key in range(KEYS):
        done = load.answered[key]
        assert version_of((box / f"hot-{key}").read_bytes()) in (done, done + 1)
