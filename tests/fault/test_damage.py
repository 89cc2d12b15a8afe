"""Bytes that change on a drive while nobody looks: reads mend them, and heal repairs them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import botocore.exceptions
import pytest

from store.chunks.geometry import HEADER_BYTES
from store.chunks.types import ALIGN_BYTES
from tests.crash.content import Piece
from tests.daemon.harness import HAS_FUSE, DaemonHarness
from tests.fault.conftest import StartDaemon
from tests.fault.watching import move_away, wait_drive, wait_until
from tests.faultrows import FaultRow

MiB = 1 << 20
BUCKET = "bucket"
_PROBE_BYTES = 512
_PLACES = ("header", "body", "end")
_SIZES = (20_000, MiB, 3 * MiB + 12_345)


class Fragment(NamedTuple):
    """Where a shard stands. start: of its record, header first; body: of the shard itself."""

    file: Path
    start: int
    body: int


@pytest.mark.slow
def test_a_flipped_byte_is_mended_and_counted(daemon: StartDaemon, fault_row: FaultRow) -> None:
    """In a header, in the middle and at the end of data fragments; read through either door."""
    harness = daemon()
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    doors = ["S3", "mount"] if HAS_FUSE else ["S3"]
    cases = list(itertools.product(_PLACES, _SIZES, doors))
    contents = [bytes(Piece(20 + n, size).view()) for n, (_, size, _) in enumerate(cases)]
    for number, content in enumerate(contents):
        client.put_object(Bucket=BUCKET, Key=f"key-{number}", Body=content)
    # Checksums that were read once are kept in memory: a start forgets them.
    assert harness.stop() == 0
    harness.start()
    for number, (case, content) in enumerate(zip(cases, contents, strict=True)):
        place, size, door = case
        fragment = _find(harness, content[:_PROBE_BYTES])
        shard_bytes = min(-(-size // 2), MiB // 2)
        offset = {
            "header": fragment.start + 20,
            "body": fragment.body + shard_bytes // 2,
            "end": fragment.body + shard_bytes - 1,
        }[place]
        before = _damage(harness)
        _flip(fragment.file, offset)
        assert _read(harness, door, f"key-{number}") == content, case
        (path,) = (path for path in before if fragment.file.is_relative_to(path))
        assert _damage(harness) == {**before, path: before[path] + 1}, case
    _wait_repaired(harness, len(cases))
    pool = harness.status()["pool"]
    assert pool["damaged_fragments"] == len(cases)
    assert {each["state"] for each in pool["drives"]} == {"online"}
    fault_row(
        "a bit flips in a fragment, data or parity, header or shard",
        client="right bytes",
        status="a damaged fragment, and then that it was repaired",
    )


@pytest.mark.slow
def test_damage_on_as_many_drives_as_there_is_parity_is_mended(
    daemon: StartDaemon, fault_row: FaultRow
) -> None:
    """With both data shards damaged all is made from parity; with a third, nothing can be."""
    harness = daemon()
    content = bytes(Piece(12, MiB).view())
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="key", Body=content)
    assert harness.stop() == 0
    first = _find(harness, content[:_PROBE_BYTES])
    second = _find(harness, content[MiB // 2 :][:_PROBE_BYTES])
    parity = [
        drive / first.file.relative_to(first.file.parents[3])
        for drive in harness.drives
        if not first.file.is_relative_to(drive) and not second.file.is_relative_to(drive)
    ]
    for fragment in (first, second):
        _flip(fragment.file, fragment.body + 100)
    harness.start()
    assert _read(harness, "S3") == content
    assert harness.status()["pool"]["damaged_fragments"] == 2
    _wait_repaired(harness, 2)

    assert harness.stop() == 0
    for fragment in (first, second):
        _flip(fragment.file, fragment.body + 100)
    _flip(parity[0], first.body + 100)
    harness.start()
    with pytest.raises((client.exceptions.ClientError, botocore.exceptions.HTTPClientError)):
        _read(harness, "S3")
    # It is told by name, in the log and to who asks.
    wait_until(lambda: bool(_losses(harness)), "the loss is known", harness)
    (text,) = _losses(harness)
    assert text == f"object {BUCKET}/key: bytes 0 to {MiB - 1}"
    assert f"lost: {text}" in harness.run("heal", "--config", str(harness.config_file)).stdout
    assert f"lost: {text}" in harness.log()
    # What can't be mended is refused; it is not the end of anything else.
    client.put_object(Bucket=BUCKET, Key="other", Body=content)
    assert client.get_object(Bucket=BUCKET, Key="other")["Body"].read() == content
    assert harness.stop() == 0
    harness.start()
    assert _losses(harness) == [text], "it outlives a restart"
    _flip(parity[0], first.body + 100)
    assert _read(harness, "S3") == content
    assert harness.run("scrub", "start", "--config", str(harness.config_file)).returncode == 0
    wait_until(lambda: not _losses(harness), "it can be had again", harness)
    assert [each["damaged_fragments"] for each in harness.status()["pool"]["drives"]].count(1) == 2
    fault_row(
        "more than m fragments of a stripe rot",
        client="an error for those bytes, never wrong ones",
        status="stripes lost",
        lost="that stripe",
    )


@pytest.mark.slow
@pytest.mark.parametrize(("drives", "parity"), [(2, 1), (5, 1), (16, 3)])
def test_in_pools_of_every_size_as_many_fragments_as_parity_may_rot(
    daemon: StartDaemon, drives: int, parity: int
) -> None:
    harness = daemon(drives=drives, parity=parity, mount=False)
    content = bytes(Piece(14, MiB).view())
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="key", Body=content)
    assert harness.stop() == 0
    first = _find(harness, content[:_PROBE_BYTES])
    # Fragments of a stripe stand at the same place in all members.
    (drive,) = (drive for drive in harness.drives if first.file.is_relative_to(drive))
    others = [each for each in harness.drives if each != drive][: parity - 1]
    for rotten in (drive, *others):
        _flip(rotten / first.file.relative_to(drive), first.body + 100)
    harness.start()
    assert _read(harness, "S3") == content
    assert harness.run("scrub", "start", "--config", str(harness.config_file)).returncode == 0
    wait_until(lambda: _counted(harness) == parity, "each is found", harness)
    assert harness.stop() == 0
    harness.start()
    assert _read(harness, "S3") == content
    assert _counted(harness) == 0, "each was repaired"


@pytest.mark.slow
def test_damaged_parity_is_passed_over_when_it_is_needed(daemon: StartDaemon) -> None:
    harness = daemon()
    content = bytes(Piece(13, MiB).view())
    client = harness.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="key", Body=content)
    assert harness.stop() == 0
    first = _find(harness, content[:_PROBE_BYTES])
    second = _find(harness, content[MiB // 2 :][:_PROBE_BYTES])
    held = [each.file.is_relative_to for each in (first, second)]
    spare = [drive for drive in harness.drives if not any(at(drive) for at in held)]
    lost = next(n for n, drive in enumerate(harness.drives) if held[0](drive))
    damaged = 0
    member = first.file.relative_to(harness.drives[lost])
    for drive in spare:
        intact = (drive / member).read_bytes()
        _flip(drive / member, first.body + 100)
        harness.start()
        move_away(harness, lost)
        wait_drive(harness, lost, "offline")
        assert _read(harness, "S3") == content
        damaged += harness.status()["pool"]["damaged_fragments"]
        assert harness.stop() == 0
        (drive / member).write_bytes(intact)
        away = harness.drives[lost].with_name(harness.drives[lost].name + ".away")
        away.rename(harness.drives[lost])
    assert damaged == 1, "one of the two is the parity that is read first"


def _losses(harness: DaemonHarness) -> list[str]:
    return [each["text"] for each in harness.status()["pool"]["heal"]["losses"]]


def _wait_repaired(harness: DaemonHarness, count: int) -> None:
    wait_until(
        lambda: harness.status()["pool"]["heal"]["mended_fragments"] == count,
        "what the reads found is repaired",
        harness,
    )


def _read(harness: DaemonHarness, door: str, key: str = "key") -> bytes:
    if door == "mount":
        return (harness.mount / BUCKET / key).read_bytes()
    body: bytes = harness.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return body


def _counted(harness: DaemonHarness) -> int:
    return sum(_damage(harness).values())


def _damage(harness: DaemonHarness) -> dict[str, int]:
    """Damaged fragments so far, by path of the drive."""
    drives = harness.status()["pool"]["drives"]
    return {drive["path"]: drive["damaged_fragments"] for drive in drives}


def _find(harness: DaemonHarness, beginning: bytes) -> Fragment:
    """The data fragment whose shard begins like this."""
    for drive in harness.drives:
        for file in sorted((drive / "twofold" / "segments").rglob("*.seg")):
            content = file.read_bytes()
            body = content.find(beginning)
            while body >= 0:
                start = body - HEADER_BYTES
                if start % ALIGN_BYTES == 0:  # else it is from the middle of another piece
                    return Fragment(file, start, body)
                body = content.find(beginning, body + 1)
    raise AssertionError("these bytes are on no drive")


def _flip(file: Path, offset: int) -> None:
    with file.open("r+b") as member:
        member.seek(offset)
        (byte,) = member.read(1)
        member.seek(offset)
        member.write(bytes([byte ^ 0x10]))
