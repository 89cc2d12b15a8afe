"""The label: who a drive is. One small file, `<drive>/twofold/label`, on every drive.

    {"checksum": <xxh3-128 of the compact JSON of "label", hex>,
     "label": {"format": 1, "store": ..., "drive": ..., "epoch": 3, "parity": null,
               "created": "2026-01-31T12:00:00Z", "next_segment": 2049,
               "members": [{"drive": ..., "path": ..., "epoch": 3}, ...],
               "lineage": [<16 hex digits>, ...]}}

store, drive: 32 hex digits. epoch: raised on all drives that remain whenever one is given up,
so the highest tells who is current. parity: m as chosen at `init`, null for the default by
drive count. next_segment: no segment with this id or a higher one was ever made.
members: all drives of the pool in order, each with the path it was last seen at and the epoch that
it was last told of. lineage: a random token for each of the last epochs, this one's last
(`store.chunks.lineage`); labels of older versions have neither.

A label is replaced whole: temporary file, fsync, rename, fsync of the directory.
Blocking; run it before the loop starts or in threads. Safe for distinct directories.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from xxhash import xxh3_128_hexdigest

from store.chunks.errors import LabelError
from store.chunks.geometry import MAX_SHARDS
from store.chunks.types import DriveId

FORMAT_VERSION = 1
FOLDER = "twofold"
LABEL = "label"
SEGMENTS = "segments"
META = "meta"
_COMING = f"{LABEL}.new"
_MAX_LABEL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A drive of the pool: its id, the path it was last seen at, the epoch it was told of."""

    drive: DriveId
    path: str
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """See the module's text."""

    format: int = FORMAT_VERSION
    store: str
    drive: DriveId
    epoch: int
    parity: int | None
    created: str
    next_segment: int
    members: tuple[Member, ...]
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    checksum: str
    label: msgspec.Raw


def encode_label(label: Label) -> bytes:
    """The label's file."""
    body = msgspec.json.encode(label)
    envelope = _Envelope(checksum=xxh3_128_hexdigest(body), label=msgspec.Raw(body))
    return msgspec.json.encode(envelope) + b"\n"


def decode_label(text: bytes) -> Label:
    """The label in a file's bytes. Raises LabelError."""
    try:
        envelope = msgspec.json.decode(text, type=_Envelope)
        if xxh3_128_hexdigest(envelope.label) != envelope.checksum:
            raise LabelError("the label is damaged")
        label = msgspec.json.decode(envelope.label, type=Label)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"the label is unreadable: {error}") from error
    if label.format != FORMAT_VERSION:
        raise LabelError(f"the label has format {label.format}, this is for {FORMAT_VERSION}")
    return label


def read_label(folder: int) -> Label | None:
    """The label in the directory `folder` (a descriptor), None when there is none.

    Raises LabelError for an unreadable one, OSError.
    """
    try:
        descriptor = os.open(LABEL, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        return decode_label(os.read(descriptor, _MAX_LABEL_BYTES))
    finally:
        os.close(descriptor)


def write_label(folder: int, label: Label) -> None:
    """Replace the label in the directory `folder` (a descriptor) atomically and durably."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(_COMING, flags, 0o600, dir_fd=folder)
    try:
        text = encode_label(label)
        if os.write(descriptor, text) != len(text):
            raise OSError("the label was written short")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(_COMING, LABEL, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def open_directory(path: Path | str, *, within: int | None = None) -> int:
    """A descriptor of an existing directory."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=within)


def format_drives(paths: Sequence[str | os.PathLike[str]], parity: int | None = None) -> str:
    """Make a new pool of empty folders and return its store id. For `twofold init`.

    Folders that don't exist are created (their parents must exist). Nothing is written before
    all folders have been looked at. Raises LabelError when one is labelled already, holds
    foreign files, stands twice in the list or can't be written; and for an impossible parity.
    """
    if not paths:
        raise LabelError("no drives were named")
    if parity is not None and not 0 <= parity < min(len(paths), MAX_SHARDS):
        raise LabelError(f"parity {parity} doesn't fit {len(paths)} drives")
    resolved = [Path(os.path.abspath(path)) for path in paths]
    _refuse_unfit(resolved)
    store = secrets.token_hex(16)
    members = tuple(
        Member(drive=DriveId(secrets.token_hex(16)), path=str(path), epoch=1) for path in resolved
    )
    label = Label(
        store=store,
        drive=members[0].drive,
        epoch=1,
        parity=parity,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        next_segment=1,
        members=members,
        lineage=(secrets.token_hex(8),),
    )
    # Labels come last, so a crash half-way leaves folders that can be formatted again.
    for path in resolved:
        make_folders(path)
    for path, member in zip(resolved, members, strict=True):
        put_label(path, replace(label, drive=member.drive))
    return store


def is_emptied(path: Path, others: Sequence[Path]) -> bool:
    """Whether `path` is an empty drive, and surely not the bare mount point of an absent one.

    Empty folders that a label was to come to count as empty, also with half of one.

    others: the pool's drives that are there. A mount point is never bare; and where all the others
    stand on the file system that the folder is on, no drive of the pool is mounted. Blocks.
    """
    try:
        if set(os.listdir(path)) - {"lost+found", FOLDER}:
            return False
        for folder, _, files in os.walk(path / FOLDER):
            if set(files) - {_COMING} or Path(folder).name not in (FOLDER, SEGMENTS, META):
                return False
        if os.path.ismount(path):
            return True
        device = os.stat(path).st_dev
        return bool(others) and all(os.stat(other).st_dev == device for other in others)
    except OSError:
        return False


def prepare_folder(path: Path) -> None:
    """Make one empty folder ready for a label, to replace a drive. Raises LabelError."""
    _refuse_unfit([path])
    make_folders(path)


def make_folders(path: Path) -> None:
    """Create the folders of an unlabelled drive, durably. Raises LabelError."""
    try:
        for folder in (path, path / FOLDER, path / FOLDER / SEGMENTS, path / FOLDER / META):
            if not folder.exists():
                folder.mkdir(mode=0o700)
        for folder in (path / FOLDER, path, path.parent):
            descriptor = open_directory(folder)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise LabelError(f"{path}: can't be prepared: {error.strerror}") from error


def put_label(path: Path, label: Label) -> None:
    """Write the label of the drive at `path`. Raises LabelError."""
    try:
        descriptor = open_directory(path / FOLDER)
        try:
            write_label(descriptor, label)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LabelError(f"{path}: the label can't be written: {error.strerror}") from error


def _refuse_unfit(paths: Sequence[Path]) -> None:
    """Raise LabelError unless each path is absent or an empty folder of its own."""
    labels = {path: peek_label(path) for path in paths}
    present = [label for label in labels.values() if label is not None]
    if len(present) == len(paths) and len({label.store for label in present}) == 1:
        raise LabelError(f"these drives are formatted already, as store {present[0].store}")
    seen: dict[tuple[int, int] | str, Path] = {}
    for path, label in labels.items():
        if label is not None:
            raise LabelError(f"{path}: is a drive of store {label.store} already")
    for path in paths:
        identity: tuple[int, int] | str = str(path)
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
        if identity in seen:
            raise LabelError(f"{path}: is the same folder as {seen[identity]}")
        seen[identity] = path
        _refuse_foreign(path)


def _refuse_foreign(path: Path) -> None:
    """Raise LabelError when `path` is no folder, can't be written or holds foreign files."""
    if not path.exists():
        if not path.parent.is_dir():
            raise LabelError(f"{path}: its parent folder does not exist")
        return
    if not path.is_dir():
        raise LabelError(f"{path}: is not a folder")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise LabelError(f"{path}: can't be written")
    foreign = sorted(entry for entry in os.listdir(path) if entry not in ("lost+found", FOLDER))
    if foreign:
        raise LabelError(f"{path}: is not empty, it holds {foreign[0]!r}")


def peek_label(path: Path) -> Label | None:
    """The label of the drive at `path`, None when the folder or the label is missing."""
    try:
        descriptor = open_directory(path / FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}") from error
    try:
        return read_label(descriptor)
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
