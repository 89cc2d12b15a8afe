"""Both doors against one model: a local directory, to which the same is done by plain files.

Hypothesis makes sequences of what programs do to files on the mount (several handles at once,
shared mappings, truncation, holes, appending, links, renames over what is open) and of what S3
clients do to the same files. On the reference, a PUT is a temporary file renamed into place, a
DELETE is unlink, a CopyObject a read and a PUT (rule R0). Every outcome, or errno, has to agree,
what S3 reads has to be what was published last (R6), and in the end both trees and all keys.

TWOFOLD_MODEL_EXAMPLES=N runs N fresh sequences of each kind instead of the few that never change.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import mmap
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.cases.doors import get, keys, noise, put, renameat2

EXAMPLES = int(os.environ.get("TWOFOLD_MODEL_EXAMPLES", "0"))
EXAMPLES_AT_EVERY_CHANGE = 40
KiB, MiB = 1 << 10, 1 << 20
NOISE = noise(4 * MiB)
WHOLE = 1 << 25
PATHS = ["a", "b", "c", "d/a", "d/b", "e/a"]
DIRECTORIES = ["d", "e"]
# Around pages, what is kept inline (16 KiB), blocks of checksums (64 KiB), the kernel's requests
# (1 MiB) and what a draft holds in memory (2 MiB).
EDGES = [4 * KiB, 16 * KiB, 64 * KiB, MiB, 2 * MiB]
PLACES = [0, 1, 100, 5000, 200_000, *(edge + more for edge in EDGES for more in (-1, 0, 1))]
SIZES = [0, 1, 100, 4 * KiB, 10_000, 16 * KiB, 16 * KiB + 1, 70_000, 300_000, MiB, 3 * MiB]
MAKE = os.O_RDWR | os.O_CREAT
HOW = [
    *(MAKE, MAKE, MAKE | os.O_EXCL, MAKE | os.O_TRUNC, MAKE | os.O_APPEND, MAKE | os.O_DIRECT),
    *(os.O_RDONLY, os.O_WRONLY),
]
UNSURE = object()
"""S3 may see what was published last, or something newer."""
_numbers = itertools.count()

paths = st.sampled_from(PATHS)
places = st.one_of(st.sampled_from(PLACES), st.integers(0, 200_000))
sizes = st.one_of(st.sampled_from(SIZES), st.integers(0, 50_000))
slots = st.integers(0, 3)
mapping_slots = st.integers(0, 1)


@dataclass
class Side:
    """One of the two trees, with what a sequence keeps open in it, by slot."""

    root: Path
    handles: dict[int, int] = field(default_factory=dict)
    mappings: dict[int, mmap.mmap] = field(default_factory=dict)

    def close(self) -> None:
        for mapping in self.mappings.values():
            mapping.close()
        for descriptor in self.handles.values():
            os.close(descriptor)
        self.mappings.clear()
        self.handles.clear()

    def tree(self) -> dict[str, object]:
        """Path to what stands there: kind, permissions, links, bytes."""
        found: dict[str, object] = {}
        for path in self.root.rglob("*"):
            seen = path.lstat()
            figures = None
            if stat.S_ISREG(seen.st_mode):
                figures = (seen.st_nlink, seen.st_size, path.read_bytes())
            found[str(path.relative_to(self.root))] = (seen.st_mode, figures)
        return found


def figures_of(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_nlink, found.st_mode


def outcome(act: Callable[[Side], Any], side: Side) -> Any:
    """What it returns, or the name of its errno."""
    try:
        return act(side)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Doors(RuleBasedStateMachine):
    """One sequence. s3, bucket, box and local are set by the test that runs it."""

    s3: Any
    bucket: str
    box: Path
    local: Path

    def __init__(self) -> None:
        super().__init__()
        name = f"model-{next(_numbers)}"
        self.prefix = f"{name}/"
        self.mount, self.reference = Side(self.box / name), Side(self.local / name)
        for side in (self.mount, self.reference):
            for directory in DIRECTORIES:
                (side.root / directory).mkdir(parents=True)
        # The reference's inodes by number: a descriptor, so that no number comes twice, and what
        # S3 is to see, None before the first publication.
        self.inodes: dict[int, int] = {}
        self.published: dict[int, object] = {}
        # Inode and whether it may be written, of each mapping; inodes with pages only it has.
        self.mapped: dict[int, tuple[int, bool]] = {}
        self.unwritten: set[int] = set()
        self.count = 0

    def teardown(self) -> None:
        try:
            for side in (self.mount, self.reference):
                side.close()
            found, wanted = self.mount.tree(), self.reference.tree()
            assert sorted(found) == sorted(wanted)
            for path in wanted:
                assert found[path] == wanted[path], path
            files = self.files()
            listed = keys(self.s3, self.bucket, Prefix=self.prefix)
            assert sorted(listed) == sorted(self.prefix + path for path in files)
            for path in files:
                body = get(self.s3, self.bucket, self.prefix + path)
                assert body == (self.reference.root / path).read_bytes(), path
        finally:
            for descriptor in self.inodes.values():
                os.close(descriptor)
            for side in (self.mount, self.reference):
                side.close()
                shutil.rmtree(side.root)

    # -- the two sides, and what S3 is to see ------------------------------------------

    def both(self, act: Callable[[Side], Any]) -> Any:
        """Do it on both sides: the same result, or the name of the same errno."""
        theirs = outcome(act, self.reference)
        assert outcome(act, self.mount) == theirs
        return theirs

    def number_at(self, path: str) -> int | None:
        """The reference's inode number of a file."""
        try:
            return (self.reference.root / path).stat().st_ino
        except FileNotFoundError:
            return None

    def number_of(self, slot: int) -> int:
        return os.fstat(self.reference.handles[slot]).st_ino

    def files(self) -> list[str]:
        root = self.reference.root
        return [str(each.relative_to(root)) for each in root.rglob("*") if each.is_file()]

    def hold(self, path: str) -> int:
        """The inode's number, which is this file's alone from now on."""
        descriptor = os.open(self.reference.root / path, os.O_RDONLY)
        number = os.fstat(descriptor).st_ino
        if number in self.inodes:
            os.close(descriptor)
        else:
            self.inodes[number] = descriptor
            self.published[number] = None
        return number

    def publish(self, number: int, *, pages: bool = True) -> None:
        """S3 is to see what the file holds now. pages: those of mappings were written, too."""
        if pages:
            self.unwritten.discard(number)
        sure = number not in self.unwritten
        self.published[number] = os.pread(self.inodes[number], WHOLE, 0) if sure else UNSURE

    def visible(self, path: str) -> object:
        number = self.number_at(path)
        if number in self.unwritten:
            return UNSURE
        return None if number is None else self.published[number]

    def replace(self, path: str, body: bytes) -> None:
        """As a PUT does it: a new file in the place of the old."""
        fresh = self.local / "temporary"
        fresh.write_bytes(body)
        fresh.chmod(0o644)
        fresh.rename(self.reference.root / path)
        self.publish(self.hold(path))

    def piece(self, size: int) -> bytes:
        """Bytes that differ from those before."""
        self.count += 1
        start = self.count * 4099 % MiB
        return NOISE[start : start + size]

    # -- handles -----------------------------------------------------------------------

    def on_handle(self, slot: int, act: Callable[[int], Any]) -> int | None:
        """Do it with a handle that is open, this one if it is; which one."""
        handles = self.reference.handles
        if not handles:
            return None
        chosen = slot if slot in handles else min(handles)
        self.both(lambda side: act(side.handles[chosen]))
        return chosen

    @rule(path=paths, slot=slots, how=st.sampled_from(HOW))
    def open(self, path: str, slot: int, how: int) -> None:
        self.close(slot)
        known = self.number_at(path)

        def act(side: Side) -> None:
            # O_DIRECT asks for aligned buffers elsewhere; on the mount it goes past the cache.
            flags = how if side is self.mount else how & ~os.O_DIRECT
            side.handles[slot] = os.open(side.root / path, flags, 0o640)

        if self.both(act) is None:
            number = self.hold(path)
            if known is not None and how & os.O_TRUNC:
                self.published[number] = UNSURE

    @rule(slot=slots)
    def close(self, slot: int) -> None:
        if slot in self.reference.handles:
            self.publish(self.number_of(slot))
            self.both(lambda side: os.close(side.handles.pop(slot)))

    @rule(slot=slots, place=places, size=sizes)
    def write(self, slot: int, place: int, size: int) -> None:
        piece = self.piece(size)
        self.on_handle(slot, lambda handle: os.pwrite(handle, piece, place))

    @rule(slot=slots, size=sizes)
    def write_on(self, slot: int, size: int) -> None:
        piece = self.piece(size)
        self.on_handle(slot, lambda handle: os.write(handle, piece))

    @rule(slot=slots, place=places, size=sizes)
    def read(self, slot: int, place: int, size: int) -> None:
        self.on_handle(slot, lambda handle: os.pread(handle, size, place))

    @rule(slot=slots, size=st.one_of(places, sizes))
    def truncate_handle(self, slot: int, size: int) -> None:
        self.on_handle(slot, lambda handle: os.ftruncate(handle, size))

    @rule(slot=slots, first=places, second=places)
    def punch_by_truncating(self, slot: int, first: int, second: int) -> None:
        def act(handle: int) -> None:
            for size in sorted((first, second)):
                os.ftruncate(handle, size)

        self.on_handle(slot, act)

    @rule(slot=slots, place=places, size=st.integers(1, 100_000))
    def allocate(self, slot: int, place: int, size: int) -> None:
        """glibc writes where the file system can't; that takes a handle that may read, too."""
        if slot in self.reference.handles:
            how = fcntl.fcntl(self.reference.handles[slot], fcntl.F_GETFL)
            if how & os.O_ACCMODE == os.O_RDWR and not how & os.O_APPEND:
                self.on_handle(slot, lambda handle: os.posix_fallocate(handle, place, size))

    @rule(slot=slots, other=slots, place=places, to=places, size=sizes)
    def copy_range(self, slot: int, other: int, place: int, to: int, size: int) -> None:
        if not {slot, other} <= self.reference.handles.keys():
            return
        if self.number_of(slot) == self.number_of(other):
            return

        def act(side: Side) -> int:
            one, two = side.handles[slot], side.handles[other]
            done = 0
            while done < size:
                left = size - done
                count = os.copy_file_range(one, two, left, place + done, to + done)
                if not count:
                    break
                done += count
            return done

        self.both(act)

    @rule(slot=slots, act=st.sampled_from([os.fsync, os.fdatasync]))
    def sync(self, slot: int, act: Callable[[int], None]) -> None:
        if (chosen := self.on_handle(slot, act)) is not None:
            self.publish(self.number_of(chosen))

    @rule(slot=slots)
    def look(self, slot: int) -> None:
        self.on_handle(slot, lambda handle: figures_of(os.fstat(handle)))

    # -- shared mappings ---------------------------------------------------------------

    def reach(self, slot: int) -> int:
        """How far a mapping may be touched: behind the file's end there is SIGBUS."""
        if slot not in self.mapped:
            return 0
        number, _ = self.mapped[slot]
        return min(os.fstat(self.inodes[number]).st_size, len(self.reference.mappings[slot]))

    @rule(slot=mapping_slots, handle=slots)
    def map(self, slot: int, handle: int) -> None:
        """Map what the file holds now. A mapping of Python's has a descriptor of its own."""
        self.unmap(slot)
        if handle not in self.reference.handles:
            return
        size = os.fstat(self.reference.handles[handle]).st_size
        how = fcntl.fcntl(self.reference.handles[handle], fcntl.F_GETFL) & os.O_ACCMODE
        if size == 0 or how == os.O_WRONLY:
            return
        access = mmap.ACCESS_READ if how == os.O_RDONLY else mmap.ACCESS_WRITE

        def act(side: Side) -> None:
            side.mappings[slot] = mmap.mmap(side.handles[handle], size, access=access)

        self.both(act)
        self.mapped[slot] = self.number_of(handle), access == mmap.ACCESS_WRITE

    @rule(slot=mapping_slots)
    def unmap(self, slot: int) -> None:
        if slot in self.mapped:
            self.publish(self.mapped.pop(slot)[0])
            self.both(lambda side: side.mappings.pop(slot).close())

    @rule(slot=mapping_slots, place=places, size=sizes)
    def read_mapping(self, slot: int, place: int, size: int) -> None:
        stop = min(place + size, self.reach(slot))
        if place < stop:
            self.both(lambda side: side.mappings[slot][place:stop])

    @rule(slot=mapping_slots, place=places, size=sizes)
    def write_mapping(self, slot: int, place: int, size: int) -> None:
        stop = min(place + size, self.reach(slot))
        if place >= stop or not self.mapped[slot][1]:
            return
        piece = self.piece(stop - place)

        def act(side: Side) -> None:
            side.mappings[slot][place : place + len(piece)] = piece

        self.both(act)
        self.unwritten.add(self.mapped[slot][0])

    @rule(slot=mapping_slots)
    def sync_mapping(self, slot: int) -> None:
        if slot in self.mapped:
            number, _ = self.mapped[slot]
            self.both(lambda side: side.mappings[slot].flush())
            others = [each for each in self.mapped.values() if each[0] == number]
            self.publish(number, pages=len(others) == 1)

    # -- names -------------------------------------------------------------------------

    @rule(path=paths, size=st.one_of(places, sizes))
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda side: os.truncate(side.root / path, size))
        number = self.number_at(path)
        if number is not None:
            self.publish(number, pages=False)

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.both(lambda side: os.unlink(side.root / path))

    @rule(path=paths, new=paths)
    def link(self, path: str, new: str) -> None:
        self.both(lambda side: os.link(side.root / path, side.root / new))

    @rule(path=paths, new=paths, how=st.sampled_from([0, 0, 0, 1, 2]))
    def rename(self, path: str, new: str, how: int) -> None:
        number, there = self.number_at(path), self.number_at(new)
        done = self.both(lambda side: renameat2(side.root / path, side.root / new, how))
        if number is None:
            return
        if done is None and number != there:
            self.publish(number, pages=False)
        else:
            self.published[number] = UNSURE

    @rule()
    def exchange_directories(self) -> None:
        """By three renames: in a bucket with versions two directories can't be exchanged."""

        def act(side: Side) -> None:
            for old, new in (("d", "x"), ("e", "d"), ("x", "e")):
                os.rename(side.root / old, side.root / new)

        self.both(act)

    @rule(path=paths)
    def stat(self, path: str) -> None:
        self.both(lambda side: figures_of((side.root / path).stat()))

    @rule(path=st.sampled_from([".", *DIRECTORIES]))
    def list(self, path: str) -> None:
        self.both(lambda side: sorted(os.listdir(side.root / path)))

    @rule(path=paths)
    def read_whole(self, path: str) -> None:
        self.both(lambda side: (side.root / path).read_bytes())
        number = self.number_at(path)
        if number is not None:
            self.publish(number)  # Any close publishes, whoever wrote.

    # -- S3 ----------------------------------------------------------------------------

    @rule(path=paths, size=sizes)
    def s3_put(self, path: str, size: int) -> None:
        body = self.piece(size)
        put(self.s3, self.bucket, self.prefix + path, body)
        self.replace(path, body)

    @rule(path=paths)
    def s3_delete(self, path: str) -> None:
        body = self.visible(path)
        if body is UNSURE:
            return
        self.s3.delete_object(Bucket=self.bucket, Key=self.prefix + path)
        if body is not None:  # What was never published is no key.
            (self.reference.root / path).unlink()

    @rule(path=paths)
    def s3_get(self, path: str) -> None:
        try:
            found = get(self.s3, self.bucket, self.prefix + path)
        except self.s3.exceptions.NoSuchKey:
            found = None
        wanted = self.visible(path)
        assert wanted is UNSURE or found == wanted

    @rule(path=paths, new=paths)
    def s3_copy(self, path: str, new: str) -> None:
        body = self.visible(path)
        if path == new or body is UNSURE:
            return
        source = {"Bucket": self.bucket, "Key": self.prefix + path}
        try:
            self.s3.copy_object(Bucket=self.bucket, Key=self.prefix + new, CopySource=source)
        except self.s3.exceptions.NoSuchKey:
            copied = False
        else:
            copied = True
        assert copied is isinstance(body, bytes)
        if isinstance(body, bytes):
            self.replace(new, body)

    @rule()
    def s3_list(self) -> None:
        listed = set(keys(self.s3, self.bucket, Prefix=self.prefix))
        for path in self.files():
            if (body := self.visible(path)) is not UNSURE:
                assert (self.prefix + path in listed) is (body is not None), path
        assert listed <= {self.prefix + path for path in self.files()}


@pytest.mark.parametrize("kind", ["plain", "versioned"])
def test_both_doors_do_what_a_local_directory_does(
    s3: Any, bucket: str, box: Path, work: Path, kind: str
) -> None:
    if kind == "versioned":
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    machine = type("Sequence", (Doors,), {"s3": s3, "bucket": bucket, "box": box, "local": work})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or EXAMPLES_AT_EVERY_CHANGE,
            stateful_step_count=60,
            derandomize=not EXAMPLES,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
