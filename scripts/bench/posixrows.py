"""The rows of `posix`: one class each, which says what is timed and what is not.

`batches` prepares and yields what to work on, untimed; `operate` alone is timed, with `finish`
at the row's end, so that deferred writing is paid for; `check` and `close` look, untimed, at
whether the bytes are right.

Everything is plain system calls of one thread; workers are forked processes in folders of their
own. Source: open(2), posix_fadvise(2), proc_sys_vm(5) for drop_caches.
"""

from __future__ import annotations

import os
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from measure import Tally
from place import (
    BLOCK_BYTES,
    BOTH,
    DENTRIES_AND_INODES,
    FOLDER_FILES,
    PAGE_CACHE,
    SMALL_BYTES,
    WINDOW_COUNT,
    Place,
    WrongContent,
    write_all,
)

CHECK_EVERY = 8
ERRORS_MAX = 100
VERIFIED_WRITES = 1000

Item = TypeVar("Item", str, int)


class Row(ABC, Generic[Item]):
    """One row. `whole`: runs through its items once, whatever the time, and has no warm-up."""

    unit: ClassVar[str] = "/s"
    whole: ClassVar[bool] = False
    note: ClassVar[str] = ""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.amount = 1.0

    @abstractmethod
    def batches(self) -> Iterator[Sequence[Item]]:
        """What to work on; all preparation is done in here."""

    @abstractmethod
    def operate(self, item: Item) -> None:
        """The timed work. Raises OSError or WrongContent."""

    def check(self, item: Item) -> None:
        """After every eighth `operate`. Raises WrongContent."""
        return

    def finish(self) -> None:
        """Timed too: what must be done before the row's work is really done."""
        return

    def close(self) -> None:
        """Last look at what was written. Raises OSError or WrongContent."""
        return

    def run(
        self, wait_others: Callable[[], object], tally: Tally, *, warmup_s: float, seconds: float
    ) -> None:
        """Prepare, wait for the other workers, and operate until the counted time is used up.

        Faults of single operations go into `tally`; those of preparing and closing are raised.
        """
        warm_ns = 0 if self.whole else int(warmup_s * 1e9)
        counted_ns, limit_ns = 0, sys.maxsize if self.whole else int(seconds * 1e9)
        batches = self.batches()
        batch = next(batches)
        # What was dirtied before must not be written back at this row's expense.
        os.sync()
        wait_others()
        while True:
            tally.cpu.start()
            for done, item in enumerate(batch, start=1):
                started_ns = time.perf_counter_ns()
                try:
                    self.operate(item)
                    took_ns = time.perf_counter_ns() - started_ns
                    if done % CHECK_EVERY == 0:
                        self.check(item)
                except (OSError, WrongContent) as fault:
                    tally.fail(f"{type(fault).__name__}: {fault}")
                    continue
                if warm_ns > 0:
                    warm_ns -= took_ns
                    continue
                tally.latencies_ns.append(took_ns)
                tally.amount += self.amount
                counted_ns += took_ns
                if counted_ns >= limit_ns:
                    break
            tally.cpu.stop(done)
            if self.whole or counted_ns >= limit_ns or tally.errors >= ERRORS_MAX:
                break
            batch = next(batches)
        started_ns = time.perf_counter_ns()
        self.finish()
        tally.seconds = (counted_ns + time.perf_counter_ns() - started_ns) / 1e9
        self.close()


class Create(Row[str]):
    sync: ClassVar[bool] = False

    def batches(self) -> Iterator[Sequence[str]]:
        while True:
            folder = self.place.fresh_folder("create")
            yield [f"{folder}/{index:08}" for index in range(FOLDER_FILES)]

    def operate(self, item: str) -> None:
        self.place.write_small(item, sync=self.sync)

    def check(self, item: str) -> None:
        if Path(item).read_bytes() != self.place.window(0, SMALL_BYTES):
            raise WrongContent(item)


class CreateSync(Create):
    sync = True


class Stat(Row[str]):
    cold: ClassVar[bool] = False

    def batches(self) -> Iterator[Sequence[str]]:
        paths = self.place.small_files()
        random.Random("stat").shuffle(paths)
        while True:
            if self.cold:
                self.place.drop_caches(DENTRIES_AND_INODES)
            yield paths

    def operate(self, item: str) -> None:
        self.size_bytes = os.stat(item).st_size

    def check(self, item: str) -> None:
        if self.size_bytes != SMALL_BYTES:
            raise WrongContent(f"{item} has {self.size_bytes} bytes")


class StatCold(Stat):
    cold = True
    note = "dentries and inodes dropped before each pass"


class Read(Row[str]):
    cold: ClassVar[bool] = False

    def batches(self) -> Iterator[Sequence[str]]:
        paths = self.place.small_files()
        random.Random("read").shuffle(paths)
        while True:
            if self.cold:
                self.place.drop_caches(BOTH)
            yield paths

    def operate(self, item: str) -> None:
        descriptor = os.open(item, os.O_RDONLY)
        try:
            self.content = os.read(descriptor, SMALL_BYTES)
        finally:
            os.close(descriptor)

    def check(self, item: str) -> None:
        if self.content != self.place.window(int(item[-8:]), SMALL_BYTES):
            raise WrongContent(f"{item}: other bytes than were written")


class ReadCold(Read):
    cold = True
    note = "dentries, inodes and page cache dropped before each pass"


class Scan(Row[str]):
    unit = "entries/s"
    cold: ClassVar[bool] = False

    def batches(self) -> Iterator[Sequence[str]]:
        folders = self.place.small_folders()
        while True:
            if self.cold:
                self.place.drop_caches(DENTRIES_AND_INODES)
            yield folders

    def operate(self, item: str) -> None:
        with os.scandir(item) as entries:
            sizes = [entry.stat().st_size for entry in entries]
        self.amount = float(len(sizes))
        if self.amount != min(FOLDER_FILES, self.place.files) or sizes[-1] != SMALL_BYTES:
            raise WrongContent(f"{item}: {len(sizes)} entries, the last of {sizes[-1:]} bytes")


class ScanCold(Scan):
    cold = True
    note = "dentries and inodes dropped before each pass"


class Rename(Row[str]):
    def batches(self) -> Iterator[Sequence[str]]:
        folder = self.place.fresh_folder("rename")
        paths = [f"{folder}/{index:08}" for index in range(FOLDER_FILES)]
        for path in paths:
            self.place.write_small(path)
        while True:
            yield paths
            yield [path + "~" for path in paths]

    def operate(self, item: str) -> None:
        os.rename(item, item[:-1] if item.endswith("~") else item + "~")

    def check(self, item: str) -> None:
        if os.path.exists(item):
            raise WrongContent(f"{item} is still there")


class Unlink(Row[str]):
    def batches(self) -> Iterator[Sequence[str]]:
        folder = self.place.fresh_folder("unlink")
        paths = [f"{folder}/{index:08}" for index in range(FOLDER_FILES)]
        while True:
            for path in paths:
                self.place.write_small(path)
            yield paths

    def operate(self, item: str) -> None:
        os.unlink(item)

    def check(self, item: str) -> None:
        if os.path.exists(item):
            raise WrongContent(f"{item} is still there")


class Mkdir(Row[str]):
    def batches(self) -> Iterator[Sequence[str]]:
        while True:
            folder = self.place.fresh_folder("mkdir")
            yield [f"{folder}/{index:08}" for index in range(FOLDER_FILES)]

    def operate(self, item: str) -> None:
        os.mkdir(item)

    def check(self, item: str) -> None:
        if not os.path.isdir(item):
            raise WrongContent(f"{item} is missing")


class SequentialWrite(Row[int]):
    unit = "MiB/s"
    whole = True
    note = "a new file; with the final fsync"

    def batches(self) -> Iterator[Sequence[int]]:
        path = f"{self.place.root}/large"
        Path(path).unlink(missing_ok=True)
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        yield range(0, self.place.size_bytes, BLOCK_BYTES)

    def operate(self, item: int) -> None:
        write_all(self._descriptor, self.place.block(item, BLOCK_BYTES))

    def finish(self) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)


class LargeFileRead(Row[int]):
    """What reading from front to back and at random have in common."""

    advice: ClassVar[int]
    read_bytes: ClassVar[int]

    def open_uncached(self) -> None:
        path = self.place.large_file()
        self.place.drop_caches(PAGE_CACHE)
        self._descriptor = os.open(path, os.O_RDONLY)
        # This needs no privilege: it empties the page cache of this one file.
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(self._descriptor, 0, 0, self.advice)
        self._buffer = memoryview(bytearray(self.read_bytes))

    def operate(self, item: int) -> None:
        got = os.preadv(self._descriptor, [self._buffer], item)
        while got < self.read_bytes:
            more = os.preadv(self._descriptor, [self._buffer[got:]], item + got)
            if more == 0:
                raise WrongContent(f"the file ends at {item + got}")
            got += more

    def check(self, item: int) -> None:
        expected = self.place.block(item, self.read_bytes)
        # bytes.startswith compares buffers in place; == of two views goes item by item.
        if not bytes(expected).startswith(self._buffer):
            raise WrongContent(f"other bytes than were written, at {item}")

    def close(self) -> None:
        os.close(self._descriptor)


class SequentialRead(LargeFileRead):
    unit = "MiB/s"
    whole = True
    advice = os.POSIX_FADV_NORMAL
    read_bytes = BLOCK_BYTES

    def batches(self) -> Iterator[Sequence[int]]:
        self.open_uncached()
        yield range(0, self.place.size_bytes, BLOCK_BYTES)


class RandomRead(LargeFileRead):
    advice = os.POSIX_FADV_RANDOM
    read_bytes = SMALL_BYTES

    def batches(self) -> Iterator[Sequence[int]]:
        self.open_uncached()
        draw = random.Random("random-read")
        while True:
            yield [SMALL_BYTES * draw.randrange(self.place.size_bytes // SMALL_BYTES)
                   for _ in range(1024)]  # fmt: skip


class RandomWrite(Row[int]):
    note = "with the final fsync"

    def batches(self) -> Iterator[Sequence[int]]:
        self._descriptor = os.open(self.place.large_file("random"), os.O_RDWR)
        self._written: dict[int, int] = {}
        self._serial = random.randrange(WINDOW_COUNT)
        draw = random.Random("random-write")
        while True:
            yield [SMALL_BYTES * draw.randrange(self.place.size_bytes // SMALL_BYTES)
                   for _ in range(1024)]  # fmt: skip

    def operate(self, item: int) -> None:
        self._serial += 1
        self._written[item] = self._serial
        os.pwrite(self._descriptor, self.place.window(self._serial, SMALL_BYTES), item)

    def finish(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for offset, serial in list(self._written.items())[-VERIFIED_WRITES:]:
            content = os.pread(self._descriptor, SMALL_BYTES, offset)
            if content != self.place.window(serial, SMALL_BYTES):
                raise WrongContent(f"other bytes than were written, at {offset}")
        os.close(self._descriptor)


ROWS: dict[str, type[Row[str]] | type[Row[int]]] = {
    "create": Create,
    "create-fsync": CreateSync,
    "stat": Stat,
    "stat-cold": StatCold,
    "read": Read,
    "read-cold": ReadCold,
    "scan": Scan,
    "scan-cold": ScanCold,
    "rename": Rename,
    "unlink": Unlink,
    "mkdir": Mkdir,
    "seq-write": SequentialWrite,
    "seq-read": SequentialRead,
    "rand-read": RandomRead,
    "rand-write": RandomWrite,
}
COLD_ROWS = tuple(name for name in ROWS if name.endswith("-cold"))
