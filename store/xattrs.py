"""Extended attributes, and the S3 metadata that shows among them (rule R11).

    user.s3.meta.<k>   x-amz-meta-<k>        user.s3.tag.<k>   the tag <k>
    user.mime_type     Content-Type
    user.s3.etag, user.s3.key, user.s3.version-id (where versioning was ever on)
The last three are read only, and answered but not listed: a program that copies attributes would
fail at them on the other side, as rsync -X does.
Other `user.` names are rows of their own. Names outside of `user.` are not kept: the mount answers
them with ENOTSUP itself. Only published regular files have S3 metadata; on a draft that was
never published it waits in the row and is published with it.
Invariant: what is set here is what S3 could have set: its limits, its characters.
Concurrency: inside one transaction. Source: xattr(7); S3 user guide, object metadata and tags.
"""

from __future__ import annotations

import os
import re
import stat

from msgspec.structs import replace

from metadb import buckets, dentries, inodes
from metadb.records import InodeId, InodeRow
from metadb.statements import Tx
from store import tree
from store.errors import (
    AttributeExists,
    Denied,
    InvalidArgument,
    MetadataTooLarge,
    NameTooLong,
    NoSuchAttribute,
    NoSuchEntry,
)
from store.publication import note_names
from store.rules import NULL_VERSION, OFF
from store.types import ObjectMeta, decode_meta, encode_meta

NAME_BYTES_MAX = 255
VALUE_BYTES_MAX = 64 << 10
NAMES_BYTES_MAX = 64 << 10
ALL_BYTES_MAX = 256 << 10
META_BYTES_MAX = 2 << 10
TAGS_MAX = 10
TAG_KEY_LENGTH_MAX = 128
TAG_VALUE_LENGTH_MAX = 256

_META = b"user.s3.meta."
_TAG = b"user.s3.tag."
_TYPE = b"user.mime_type"
_ETAG = b"user.s3.etag"
_KEY = b"user.s3.key"
_VERSION = b"user.s3.version-id"
_READ_ONLY = (_ETAG, _KEY, _VERSION)
_S3 = b"user.s3."
_META_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def get(tx: Tx, number: InodeId, name: bytes) -> bytes:
    """Raises NoSuchEntry, NoSuchAttribute."""
    row = _row(tx, number)
    value = _shown(tx, row, name) if _is_s3(row, name) else inodes.xattr_of(tx, number, name)
    if value is None:
        raise NoSuchAttribute(name)
    return value


def names(tx: Tx, number: InodeId) -> list[bytes]:
    """All names that can be set and removed, too. Raises NoSuchEntry."""
    row = _row(tx, number)
    found = [name for name, _ in inodes.xattrs(tx, number)]
    if not stat.S_ISREG(row.mode):
        return found
    meta = decode_meta(row.meta)
    if meta.content_type:
        found.append(_TYPE)
    found += [_META + key.encode() for key in meta.user]
    found += [_TAG + key.encode() for key in meta.tags]
    return found


def put(tx: Tx, number: InodeId, name: bytes, value: bytes, flags: int, now: int) -> None:
    """Raises what `Files.setxattr` raises."""
    if len(name) > NAME_BYTES_MAX:
        raise NameTooLong(name[:64])
    if len(value) > VALUE_BYTES_MAX:
        raise MetadataTooLarge(name, f"{len(value)} bytes")
    if not name.startswith(b"user.") or len(name) == len(b"user."):
        raise Denied(name, "only user attributes are kept")
    if flags not in (0, os.XATTR_CREATE, os.XATTR_REPLACE):
        raise InvalidArgument(flags, "flags")
    row = _row(tx, number)
    special = _is_s3(row, name)
    there = _shown(tx, row, name) if special else inodes.xattr_of(tx, number, name)
    if flags == os.XATTR_CREATE and there is not None:
        raise AttributeExists(name)
    if flags == os.XATTR_REPLACE and there is None:
        raise NoSuchAttribute(name)
    if special:
        _put_meta(tx, row, _with(row, name, _text(name, value)), now)
    else:
        _check_sum(tx, number, name, value)
        inodes.set_xattr(tx, number, name, value)
        inodes.set_ctime(tx, number, now)
        note_names(tx, "attributes", row, now)


def remove(tx: Tx, number: InodeId, name: bytes, now: int) -> None:
    """Raises NoSuchEntry, NoSuchAttribute, Denied."""
    row = _row(tx, number)
    if not _is_s3(row, name):
        if not inodes.remove_xattr(tx, number, name):
            raise NoSuchAttribute(name)
        inodes.set_ctime(tx, number, now)
        note_names(tx, "attributes", row, now)
        return
    if _shown(tx, row, name) is None:
        raise NoSuchAttribute(name)
    _put_meta(tx, row, _with(row, name, None), now)


def _row(tx: Tx, number: InodeId) -> InodeRow:
    row = inodes.get(tx, number)
    if row is None:
        raise NoSuchEntry(number)
    return row


def _is_s3(row: InodeRow, name: bytes) -> bool:
    """Whether the name is one of S3's here, and no row."""
    return name.startswith(_S3) or (name == _TYPE and stat.S_ISREG(row.mode))


def _shown(tx: Tx, row: InodeRow, name: bytes) -> bytes | None:
    """The value of one of S3's names, or None."""
    if not stat.S_ISREG(row.mode):
        return None
    if name == _ETAG:
        return None if row.etag is None else row.etag.encode()
    if name == _KEY:
        return _key(tx, row)
    if name == _VERSION:
        return _version(tx, row)
    meta = decode_meta(row.meta)
    text = None
    if name == _TYPE:
        text = meta.content_type or None
    elif name.startswith(_META):
        text = meta.user.get(_suffix(name, _META))
    elif name.startswith(_TAG):
        text = meta.tags.get(_suffix(name, _TAG))
    return None if text is None else text.encode()


def _key(tx: Tx, row: InodeRow) -> bytes | None:
    entries = dentries.of_inode(tx, row.id) if row.etag is not None else []
    if not entries:
        return None
    place = tree.Place(entries[0].parent, entries[0].name)
    return tree.key_of(tx, row.bucket, place).encode()


def _version(tx: Tx, row: InodeRow) -> bytes | None:
    bucket = buckets.by_id(tx, row.bucket) if row.etag is not None else None
    if bucket is None or bucket.versioning == OFF:
        return None
    return (row.version_id or NULL_VERSION).encode()


def _suffix(name: bytes, prefix: bytes) -> str:
    return name[len(prefix) :].decode(errors="surrogateescape")


def _text(name: bytes, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(name, "not UTF-8") from None
    if _CONTROL.search(text):
        raise InvalidArgument(name, "a control character")
    return text


def _with(row: InodeRow, name: bytes, text: str | None) -> ObjectMeta:
    """The metadata with one of S3's names set, or removed (None)."""
    if not stat.S_ISREG(row.mode) or name in _READ_ONLY:
        raise Denied(name, "read only")
    meta = decode_meta(row.meta)
    if name == _TYPE:
        return replace(meta, content_type=text or "")
    if name.startswith(_META) and _META_NAME.fullmatch(name, len(_META)):
        user = _changed(meta.user, _suffix(name, _META), text)
        if sum(len(key) + len(value.encode()) for key, value in user.items()) > META_BYTES_MAX:
            raise MetadataTooLarge(name, "over 2 KB of user metadata")
        return replace(meta, user=user)
    if name.startswith(_TAG):
        return replace(meta, tags=_tags(meta, name, text))
    raise InvalidArgument(name, "no such S3 attribute")


def _tags(meta: ObjectMeta, name: bytes, text: str | None) -> dict[str, str]:
    key = _suffix(name, _TAG)
    if not key or not key.isprintable():
        raise InvalidArgument(name, "no name for a tag")
    tags = _changed(meta.tags, key, text)
    if len(tags) > TAGS_MAX or len(key) > TAG_KEY_LENGTH_MAX:
        raise MetadataTooLarge(name, "tags")
    if text is not None and len(text) > TAG_VALUE_LENGTH_MAX:
        raise MetadataTooLarge(name, "over 256 characters")
    return tags


def _changed(pairs: dict[str, str], key: str, text: str | None) -> dict[str, str]:
    kept = {name: value for name, value in pairs.items() if name != key}
    if text is not None:
        kept[key] = text
    return kept


def _put_meta(tx: Tx, row: InodeRow, meta: ObjectMeta, now: int) -> None:
    inodes.set_meta(tx, row.id, encode_meta(meta), now)
    note_names(tx, "attributes", row, now)


def _check_sum(tx: Tx, number: InodeId, name: bytes, value: bytes) -> None:
    kept = [pair for pair in inodes.xattrs(tx, number) if pair[0] != name]
    if sum(len(key) + 1 for key, _ in kept) + len(name) + 1 > NAMES_BYTES_MAX:
        raise MetadataTooLarge(name, "too many names")
    if sum(len(key) + len(held) for key, held in kept) + len(name) + len(value) > ALL_BYTES_MAX:
        raise MetadataTooLarge(name, "over 256 KiB on one inode")
