"""What comes back from drives and the database, perhaps not as it was written."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import sqlite3
import struct
import tempfile
from pathlib import Path

import msgspec
from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from metadb import wal
from metadb.errors import NoUsableCopy
from metadb.files import Folder
from metadb.mirror import DATABASE, INDEX, LOG, STATE, SUMS
from metadb.recovery import CopyPlace, State, choose, read_state, write_state
from metadb.sums import PageSums, damaged_pages
from s3api.metadata import meta_headers
from store.chunks import fragment
from store.chunks.drive_io import segment_of_name
from store.chunks.errors import LabelError
from store.chunks.geometry import BLOCK_BYTES, HEADER_BYTES
from store.chunks.label import decode_label, encode_label
from store.chunks.types import DriveId, Owner, Segment, SegmentId, run_id
from store.types import decode_listed_meta, decode_meta, encode_meta
from tests.fuzz.registry import cut, target

_ends_line = re.compile(rb"[\r\n\0]").search

SEGMENT = Segment(
    id=SegmentId(7),
    nonce=1 << 63,
    k=2,
    m=1,
    stripe_size=2 * BLOCK_BYTES,
    members=(DriveId("a"), DriveId("b"), DriveId("c")),
)
SHARD = bytes(range(256)) * (BLOCK_BYTES // 256) + bytes(4096)
KNOWN = fragment.identity(
    bytes(16),
    SEGMENT,
    run_id(SegmentId(7), 8192),
    3,
    1,
    payload=2 * len(SHARD) - 1,
    size=len(SHARD),
)
HEADER = fragment.build_header(KNOWN, Owner(inode=5, offset=1 << 40), SHARD)


def _sealed(header: bytes) -> bytes:
    """With a checksum that says the header is intact."""
    body = header[: HEADER_BYTES - fragment.HASH_BYTES]
    return body + xxh3_128_digest(body)


@target(size_max_bytes=HEADER_BYTES)
def fragment_header(raw: bytes) -> None:
    """No header but the right one is taken for it, whatever is wrong with it."""
    at, raw = cut(raw)
    patched = bytearray(HEADER)
    patched[at : at + len(raw)] = raw
    for header in (raw, bytes(patched[:HEADER_BYTES])):
        table = fragment.verify_header(header, KNOWN)
        assert table is None or header == HEADER
    # A checksum that holds says that somebody wrote just this: it must still lead nowhere else.
    table = fragment.verify_header(_sealed(bytes(patched)), KNOWN)
    if table is not None:
        assert patched[:64] == HEADER[:64]
        fragment.verify_blocks(table, 0, memoryview(SHARD))
    fragment.read_owner(_sealed(bytes(patched)))
    fragment.read_owner(raw)


@target(LabelError)
def label(raw: bytes) -> None:
    """A label as it stands, and one whose checksum holds whatever is in it."""
    sealed = b'{"checksum":"%s","label":%s}' % (xxh3_128_hexdigest(raw).encode(), raw)
    for text in (raw, sealed):
        try:
            found = decode_label(text)
        except LabelError:
            continue
        assert decode_label(encode_label(found)) == found


@target(size_max_bytes=40)
def member_name(raw: bytes) -> None:
    """Names of files in a drive's folders, where foreign ones may stand."""
    found = segment_of_name(raw.decode("utf-8", "surrogateescape"))
    assert found is None or 0 <= found[0] < 1 << 36


@target(msgspec.DecodeError)
def object_meta(raw: bytes) -> None:
    """JSON of an inode, as a row has it; whatever it says, no header is split by it."""
    text = raw.decode("utf-8", "ignore")
    decode_listed_meta(text)
    meta = decode_meta(text)
    assert decode_meta(encode_meta(meta)) == meta
    for name, value in meta_headers(meta):
        assert not _ends_line(name + value), (name, value)


@target()
def wal_header(raw: bytes) -> None:
    """Only what SQLite or we wrote has a checkpoint number."""
    number = wal.checkpoint_number(raw)
    assert -1 <= number < 1 << 32
    assert wal.checkpoint_number(wal.void_header(max(number, 0), bytes(8))) == max(number, 0)


@functools.cache
def _copies() -> Path:
    """A primary and a copy, whole and in one generation, below a folder of our own."""
    base = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    made = base / "made"
    made.mkdir()
    connection = sqlite3.connect(made / DATABASE, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (a)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for value in range(3):
        connection.execute("INSERT INTO t VALUES (?)", (value,))
    for place in ("primary", "copy"):
        (base / place).mkdir()
        for name in (DATABASE, LOG):
            shutil.copy(made / name, base / place / name)
    connection.close()
    sums = PageSums(Folder(base / "copy").open(SUMS))
    sums.write_run(1, (base / "copy" / DATABASE).read_bytes())
    sums.close()
    for place in ("primary", "copy"):
        state = State(run=3, boot="b", is_primary=place == "primary", turning=False)
        write_state(Folder(base / place), state)
    shutil.copytree(base / "primary", base / "kept-primary")
    shutil.copytree(base / "copy", base / "kept-copy")
    return base


@functools.cache
def _kept(place: str) -> dict[str, bytes]:
    folder = _copies() / f"kept-{place}"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@target(NoUsableCopy, size_max_bytes=256, rounds=4)
def metadata_copies(raw: bytes) -> None:
    """Copies with patches: each is file, place, content, ended by a newline.

    Whatever is wrong with them, one is chosen or all are refused.
    """
    base = _copies()
    files = {place: dict(_kept(place)) for place in ("primary", "copy")}
    for patch in raw.split(b"\n"):
        if len(patch) >= 4:
            _patch(files, patch)
    for place, contents in files.items():
        (base / place / INDEX).unlink(missing_ok=True)
        for name, content in contents.items():
            (base / place / name).write_bytes(content)
    places = [CopyPlace(drive=place, path=base / place) for place in files]
    wrong: list[str] = []
    choice = choose(places, boot="b" if len(raw) % 2 else "c", check_bytes=1 << 30, wrong=wrong)
    path = choice.primary.place.path
    damaged_pages(path / DATABASE, base / "copy" / SUMS, path / LOG, frames=choice.primary.frames)


def _patch(files: dict[str, dict[str, bytes]], patch: bytes) -> None:
    """Write over a file's bytes, or cut it where there is nothing to write."""
    which, at = patch[0], struct.unpack_from(">H", patch, 1)[0]
    contents = files["primary" if which & 1 else "copy"]
    name = (DATABASE, LOG, STATE, SUMS)[which >> 1 & 3]
    content = contents.get(name, b"")
    at %= len(content) + 1
    if patch[3:] == b"-":
        contents[name] = content[:at]
    else:
        contents[name] = content[:at] + patch[3:] + content[at + len(patch) - 3 :]


@target(rounds=10)
def copy_state(raw: bytes) -> None:
    """The state file of a copy: understood, or taken for none."""
    base = _copies() / "state"
    base.mkdir(exist_ok=True)
    (base / STATE).write_bytes(raw)
    state = read_state(Folder(base))
    if state is not None:
        write_state(Folder(base), state)
        assert read_state(Folder(base)) == state
