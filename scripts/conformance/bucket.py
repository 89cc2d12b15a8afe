"""What the clients of `libraries` and `tables` share: a bucket on a server, bytes, comparisons.

Runs in the clients' virtual environment, so it imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """url: of the server. authority: "" over http. bucket: empty, the client's own."""

    url: str
    authority: str
    folder: Path
    bucket: str

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def secure(self) -> bool:
        return self.url.startswith("https")

    @property
    def s3(self) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.url)


def noise(size_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def digest(content: bytes | bytearray) -> str:
    """What large contents are compared by."""
    return hashlib.sha256(content).hexdigest()


def same(found: Any, wanted: Any) -> None:
    """An assertion that shows both sides, cut where they are long."""
    if found != wanted:
        raise AssertionError(f"{str(found)[:200]!r} where {str(wanted)[:200]!r} was wanted")


def race(count: int, attempt: Any) -> list[Any]:
    """What `attempt(index)` returned or raised, all begun at once."""
    with ThreadPoolExecutor(count) as pool:
        futures: list[Future[Any]] = [pool.submit(attempt, index) for index in range(count)]
        return [future.exception() or future.result() for future in futures]
