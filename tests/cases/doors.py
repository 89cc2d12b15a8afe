"""Small words for what cases do at both doors."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

NOREPLACE = 1
EXCHANGE = 2
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def get(s3: Any, bucket: str, key: str, **options: Any) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key, **options)["Body"].read()
    return body


def put(s3: Any, bucket: str, key: str, body: bytes = b"", **options: Any) -> str:
    """PUT; the ETag without its quotes."""
    answer = s3.put_object(Bucket=bucket, Key=key, Body=body, **options)
    return str(answer["ETag"]).strip('"')


def etag(s3: Any, bucket: str, key: str) -> str:
    return str(s3.head_object(Bucket=bucket, Key=key)["ETag"]).strip('"')


def keys(s3: Any, bucket: str, **options: Any) -> list[str]:
    """All keys of a listing, over all of its pages, as they came."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **options)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def prefixes(s3: Any, bucket: str, **options: Any) -> list[str]:
    """All common prefixes below the delimiter '/'."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Delimiter="/", **options)
    return [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]


def refused(code: str) -> pytest.RaisesExc[ClientError]:
    """S3 refuses with this code; for HEAD, which has no document, the status as text."""
    return pytest.raises(
        ClientError, check=lambda error: bool(error.response["Error"]["Code"] == code)
    )


def fails(number: int) -> pytest.RaisesExc[OSError]:
    """The mount refuses with this errno."""
    return pytest.raises(OSError, check=lambda error: error.errno == number)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def noise(size: int, seed: int = 0) -> bytes:
    """`size` bytes that no compression or hole shortens, the same for each seed."""
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(size)


def pieces(size: int, piece: int = 1 << 20) -> Iterator[bytes]:
    """`size` bytes of noise, in pieces that all differ; quicker than `noise` for large sizes."""
    block = bytearray(noise(piece))
    for index, start in enumerate(range(0, size, piece)):
        block[:8] = index.to_bytes(8, "big")
        yield bytes(block[: min(piece, size - start)])


def write_pieces(path: Path, size: int) -> str:
    """A file of `size` bytes of noise, on whatever file system; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces(size):
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def renameat2(old: Path, new: Path, flags: int) -> None:
    """rename(2) with flags, which Python has no name for."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(old), None, str(new))
