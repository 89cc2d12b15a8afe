"""What the faces and the store say to each other about objects.

Keys and bucket names are `str` here and UTF-8 bytes below. Times are nanoseconds since 1970.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from metadb.records import InodeId
from store.access.acl import Acl
from store.chunks.buffers import blank_buffer as blank_buffer

Buffer = bytes | bytearray | memoryview


class ObjectMeta(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What an object carries beside its bytes; kept as JSON in `inode.meta`.

    user: x-amz-meta-* names (lower case, without the prefix) and values.
    checksums: algorithm as S3 writes it ("CRC32", "CRC64NVME", ...) to its base64 value.
    checksum_type: "FULL_OBJECT", "COMPOSITE" or "".
    part_sizes: bytes of each part of a multipart object, in order; empty for others. Its parts are
        numbered from 1, whatever numbers they were uploaded under.
    part_checksums: the parts' values of the object's checksum algorithm, in order; may be empty.
    lock_mode: "GOVERNANCE", "COMPLIANCE" or ""; lock_until_ns: when that retention ends.
    owner: canonical id of whose it is, "" for the bucket's owner. acl: None for the owner's alone.
    """

    content_type: str = ""
    content_encoding: str = ""
    content_language: str = ""
    content_disposition: str = ""
    cache_control: str = ""
    expires: str = ""
    website_redirect: str = ""
    storage_class: str = ""
    user: dict[str, str] = {}
    tags: dict[str, str] = {}
    checksums: dict[str, str] = {}
    checksum_type: str = ""
    part_sizes: tuple[int, ...] = ()
    part_checksums: tuple[str, ...] = ()
    lock_mode: str = ""
    lock_until_ns: int = 0
    legal_hold: bool = False
    owner: str = ""
    acl: Acl | None = None


class Maker(NamedTuple):
    """Who owns on the mount what S3 makes (rule R13); None for what the store is configured with.

    umask: what is taken from 0666 of files and 0777 of directories.
    """

    uid: int | None = None
    gid: int | None = None
    umask: int | None = None


STORE = Maker()
DEFAULT_META = ObjectMeta()
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(ObjectMeta)


def encode_meta(meta: ObjectMeta) -> str | None:
    """The JSON for `inode.meta`, None where all is default."""
    if meta == DEFAULT_META:
        return None
    return _ENCODER.encode(meta).decode()


def decode_meta(text: str | None) -> ObjectMeta:
    """The other way."""
    return DEFAULT_META if text is None else _DECODER.decode(text)


def _alone(name: str, digits: int) -> tuple[str, int, ObjectMeta]:
    """How the JSON of an object begins that has this checksum and nothing else, and its length."""
    start = f'{{"checksums":{{"{name}":"'
    return start, len(start) + digits + len('"}}'), ObjectMeta(checksums={name: ""})


# The checksums that clients and we ourselves compute where nobody asked for one.
_ALONE = (_alone("CRC64NVME", 12), _alone("CRC32", 8), _alone("CRC32C", 8))


def decode_listed_meta(text: str | None) -> ObjectMeta:
    """The same for a listing, which names checksums and does not show them: they may be ""."""
    if text is None:
        return DEFAULT_META
    for start, size, meta in _ALONE:
        if len(text) == size and text.startswith(start):
            return meta
    return _DECODER.decode(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What a body turned out to be, once all of it was received and verified.

    md5: hex. checksums: algorithm to base64 value, those to be stored with the object.
    """

    md5: str
    checksums: dict[str, str]


class Body(Protocol):
    """Bytes on their way in. The face verifies them; the store writes them."""

    size: int | None
    """Payload bytes to come, when the client said so."""

    async def next(self) -> Buffer | None:
        """The next piece, or None at the end. A piece must not change once it was given out.

        Raises the face's own errors (truncated body, bad chunk signature): the store cleans up.
        """
        ...

    async def finish(self) -> Digests:
        """After the end: verify everything that was announced. Raises the face's own errors.

        Nothing is published before this returned.
        """
        ...


class Digester(Protocol):
    """Digests of bytes that the store reads for itself: a copied part's."""

    async def update(self, pieces: Sequence[Buffer]) -> None:
        """The next pieces, in order; the computing is done off the loop."""
        ...

    def finish(self) -> Digests:
        """After the last piece."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """If-Match and If-None-Match of a write, evaluated in its own transaction.

    Each a tuple of ETags without quotes, or ("*",); empty where the header is absent.
    if_match_size: bytes. if_match_modified_ns: compared by the second, as S3 tells times.
    A match that is asked of a missing key raises NoSuchKey; other failures PreconditionFailed.
    """

    if_match: tuple[str, ...] = ()
    if_none_match: tuple[str, ...] = ()
    if_match_size: int | None = None
    if_match_modified_ns: int | None = None


ANY = Precondition()


@dataclass(slots=True)
class ObjectStat:
    """One version of one object, as HEAD and listings tell of it.

    modified_ns: when the store recorded its content (rule R10). etag: without quotes.
    version_id: as S3 tells it: None where versioning was never on, "null" for the null version.
    """

    key: str
    inode: InodeId
    size: int
    etag: str
    modified_ns: int
    version_id: str | None
    meta: ObjectMeta
    owner: str = ""


class ObjectReader(Protocol):
    """An object held open for reading: its bytes are those of the moment it was opened."""

    stat: ObjectStat

    def stream(self, start: int, stop: int) -> AsyncIterator[Sequence[Buffer]]:
        """Bytes [start, stop) in order, in lists of buffers of up to a few MiB each.

        The next list is being read while the caller sends this one. Close it (`aclosing`).
        Raises Unrecoverable.
        """
        ...

    def read_nowait(self, start: int, stop: int) -> list[Buffer] | None:
        """The same bytes at once, if all are in memory; else None. For small answers."""
        ...

    def close(self) -> None:
        """Let the store reclaim what the reader held. Idempotent; use `contextlib.closing`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """One page of a listing, in byte order of keys and common prefixes together.

    entries: ObjectStat for a key (its version_id None for any null version, and its checksums
    named, with values left out), str for a common prefix.
    next: key or prefix to go on behind (`after` of the next call), None at the end.
    """

    entries: list[ObjectStat | str]
    next: str | None


class LockRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bucket's object lock. mode: default retention's, "" for none; days or years: its length."""

    mode: str = ""
    days: int = 0
    years: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket. id: inode number of its directory. versioning: 'off', 'enabled', 'suspended'.

    lock: whether object lock is on. quota_bytes: the most it may hold, None for no bound.
    trash_days: how long what is deleted or replaced can be had back, None where it has no trash.
    """

    id: InodeId
    name: str
    created_ns: int
    owner: str
    versioning: str
    lock: bool = False
    quota_bytes: int | None = None
    trash_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a bucket holds: versions, unpublished files and parts of uploads included."""

    bytes: int
    inodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What a delete did.

    version_id: of the version removed or the delete marker made; None where versioning was never
    on. marker: whether that is a delete marker.
    """

    version_id: str | None
    marker: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """One object of many to delete. version: as in `Objects.delete`."""

    key: str
    version: str | None = None
    precondition: Precondition = ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEntry:
    """One version in a listing. stat: None for a delete marker. latest: it is the current one."""

    key: str
    version_id: str
    latest: bool
    modified_ns: int
    stat: ObjectStat | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPage:
    """One page of versions; common prefixes are str. next: (key marker, version id marker)."""

    entries: list[VersionEntry | str]
    next: tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A multipart upload under way. owner: who began it, an account's owner string or an ARN."""

    id: str
    bucket: str
    key: str
    initiated_ns: int
    owner: str
    meta: ObjectMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One uploaded part. etag: MD5 hex."""

    number: int
    size: int
    etag: str
    checksums: dict[str, str]
    modified_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartClaim:
    """A part as CompleteMultipartUpload names it. etag without quotes."""

    number: int
    etag: str
    checksums: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPage:
    """One page of uploads; common prefixes are str. next: (key marker, upload id marker)."""

    entries: list[Upload | str]
    next: tuple[str, str] | None
