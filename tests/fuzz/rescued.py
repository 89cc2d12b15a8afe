"""What is read where nothing else is left: fragments without metadata, and backups."""

from __future__ import annotations

import functools
import shutil
import struct
import tempfile
from pathlib import Path

from xxhash import xxh3_128_digest

from metadb.archive import Archive, BadArchive, Manifest, pack
from store.chunks import fragment
from store.chunks.codec import codec
from store.chunks.salvage import NothingFound, salvage
from store.chunks.types import DriveId, Owner, Segment, SegmentId, run_id
from tests.fuzz.registry import cut, target

SHARD_BYTES = 4096
SEGMENT = Segment(
    id=SegmentId(7),
    nonce=1,
    k=2,
    m=1,
    stripe_size=2 * SHARD_BYTES,
    members=(DriveId("a"), DriveId("b"), DriveId("c")),
)


@functools.cache
def _base() -> Path:
    base = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for index in range(3):
        (base / str(index) / "twofold" / "segments" / "07").mkdir(parents=True)
    return base


@functools.cache
def _members() -> tuple[bytes, ...]:
    """The member files of a segment of one run with two stripes, of inode 5."""
    run = run_id(SEGMENT.id, 0)
    made = [b"", b"", b""]
    for stripe in range(2):
        payload = [bytes([stripe, index]) * (SHARD_BYTES // 2) for index in range(2)]
        shards = {**dict(enumerate(payload))}
        shards |= codec(2, 1).rebuild(dict(shards), [2])
        for index in range(3):
            known = fragment.identity(
                bytes(16), SEGMENT, run, stripe, index, payload=8000, size=SHARD_BYTES
            )
            owner = Owner(inode=5, offset=stripe * 8000)
            made[index] += fragment.build_header(known, owner, shards[index]) + bytes(shards[index])
    return tuple(made)


@target(NothingFound, size_max_bytes=256, rounds=10)
def salvaged(raw: bytes) -> None:
    """Members with patches: each is which, place, content, ended by a newline.

    The headers' checksums hold, as of a header that somebody made on purpose.
    """
    base, into = _base(), _base() / "into"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    members = [bytearray(member) for member in _members()]
    for patch in raw.split(b"\n"):
        if len(patch) >= 4:
            at = struct.unpack_from(">H", patch, 1)[0] & 0x3FFF
            members[patch[0] % 3][at : at + len(patch) - 3] = patch[3:]
    for index, member in enumerate(members):
        for start in (0, 8192):
            body = member[start : start + 4080]
            member[start + 4080 : start + 4096] = xxh3_128_digest(bytes(body))
        folder = base / str(index) / "twofold" / "segments" / "07"
        (folder / "000000007.seg").write_bytes(member)
    found = salvage([base / str(index) for index in range(3)], into)
    if not raw:
        assert (into / "5").stat().st_size == 16000
    for file in found.files.values():
        assert all(start <= stop for start, stop in file.written + file.lost)


PAGES = bytes(8192)
MANIFEST = Manifest(store="s", sequence=9, taken_s=1.0, revision="0002", database_bytes=len(PAGES))


@target(BadArchive, rounds=20)
def backup(raw: bytes) -> None:
    """A backup as it stands, and with a checksum that holds whatever is in it."""
    at, raw = cut(raw)
    whole = b"".join(pack(MANIFEST, [PAGES]))
    changed = whole[:at] + raw + whole[at + len(raw) : -16]
    path = _base() / "backup"
    for content in (raw, changed + xxh3_128_digest(changed)):
        path.write_bytes(content)
        try:
            archive = Archive(path)
            size = sum(len(piece) for piece in archive.pieces())
        except BadArchive:
            continue
        assert size == archive.manifest.database_bytes
