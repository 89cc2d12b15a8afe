"""Where backups are kept: a folder, or a bucket of any S3 server.

`file` and folder names are paths; `s3://BUCKET/KEY` is an object, and `s3://BUCKET/PREFIX/` what
begins with the prefix. Keys are found as the AWS tools find them: environment, the shared
credentials file, the profile; `Access.credentials` names another such file. No secret is ever on
a command line. What was sent is read back and compared before it counts.
Blocking; for a command or threads. boto3 is the client, and needed for s3:// only.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from xxhash import xxh3_128

_URL = re.compile(r"s3://([^/]+)/(.*)", re.DOTALL)
_PIECE_BYTES = 1 << 20
_PART_BYTES = 16 << 20
_CONNECT_S = 10.0
_READ_S = 60.0


class TargetError(Exception):
    """The text is one sentence without its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach an S3 server. endpoint: its URL, "" for the one AWS tools would take.

    credentials: a file as the AWS tools' shared credentials, "" for theirs. region: "" for theirs.
    """

    endpoint: str = ""
    credentials: str = ""
    region: str = ""


class Target(Protocol):
    """A place that holds files by name."""

    def put(self, name: str, path: Path) -> None:
        """Keep the file, durably and proven. Raises TargetError."""
        ...

    def get(self, name: str, path: Path) -> None:
        """Write what is kept under a name to a new file. Raises TargetError."""
        ...

    def names(self) -> list[str]:
        """All there are. Raises TargetError."""
        ...

    def remove(self, name: str) -> None:
        """Keep it no longer. Raises TargetError."""
        ...


def is_url(place: str) -> bool:
    """Whether a place is of an S3 server."""
    return place.startswith("s3://")


def place_of(place: str) -> tuple[str, str]:
    """Series and name of a single backup's place. Raises TargetError."""
    series, slash, name = place.rpartition("/")
    if not name or (is_url(place) and series in ("s3:/", "s3:")):
        raise TargetError(f"{place}: names no file; as s3://BUCKET/KEY")
    return (series + slash if is_url(place) else series or "."), name


def target_of(place: str, access: Access) -> Target:
    """What is kept below a folder or `s3://BUCKET/PREFIX/`. Raises TargetError."""
    if not is_url(place):
        return Folder(Path(place))
    match = _URL.fullmatch(place)
    if match is None:
        raise TargetError(f"{place}: is not s3://BUCKET/KEY")
    prefix = match[2]
    return Bucket(match[1], prefix if not prefix or prefix.endswith("/") else f"{prefix}/", access)


class Folder:
    """A folder that is there already: a missing one may be what is not mounted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, path: Path) -> None:
        """See `Target`."""
        beside = self._path / f"{name}.new"
        with _told(str(self._path)):
            with open(path, "rb") as source, open(beside, "wb", opener=_private) as file:
                shutil.copyfileobj(source, file, _PIECE_BYTES)
                file.flush()
                os.fsync(file.fileno())
            if _digest(beside) != _digest(path):
                beside.unlink()
                raise TargetError(f"{beside}: reads otherwise than it was written")
            beside.replace(self._path / name)
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def get(self, name: str, path: Path) -> None:
        """See `Target`."""
        with _told(str(self._path / name)):
            shutil.copyfile(self._path / name, path)

    def names(self) -> list[str]:
        """See `Target`."""
        with _told(str(self._path)):
            return os.listdir(self._path)

    def remove(self, name: str) -> None:
        """See `Target`."""
        with _told(str(self._path / name)):
            (self._path / name).unlink(missing_ok=True)


class Bucket:
    """Objects of a bucket whose keys begin with `prefix`."""

    def __init__(self, bucket: str, prefix: str, access: Access) -> None:
        self._bucket = bucket
        self._prefix = prefix
        with self._asked("the server"):
            self._client = _connect(access)

    def put(self, name: str, path: Path) -> None:
        """See `Target`. Large files go in parts."""
        from boto3.s3.transfer import TransferConfig

        key = self._prefix + name
        with self._asked(key):
            config = TransferConfig(
                multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=2
            )
            self._client.upload_file(str(path), self._bucket, key, Config=config)
            digest = xxh3_128()
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            for piece in body.iter_chunks(_PIECE_BYTES):
                digest.update(piece)
        if digest.digest() != _digest(path):
            raise TargetError(f"s3://{self._bucket}/{key}: reads otherwise than it was sent")

    def get(self, name: str, path: Path) -> None:
        """See `Target`."""
        key = self._prefix + name
        with self._asked(key), open(path, "wb", opener=_private) as file:
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            for piece in body.iter_chunks(_PIECE_BYTES):
                file.write(piece)

    def names(self) -> list[str]:
        """See `Target`."""
        with self._asked(self._prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return [key[len(self._prefix) :] for key in keys]

    def remove(self, name: str) -> None:
        """See `Target`."""
        key = self._prefix + name
        with self._asked(key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    @contextmanager
    def _asked(self, key: str) -> Iterator[None]:
        """What may go wrong, in one sentence. No secret is in what botocore says."""
        try:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise TargetError(
                's3:// needs boto3, which is not installed: pip install "twofold[backup]"'
            ) from None
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            text = " ".join(str(error).split()).rstrip(".")
            raise TargetError(f"s3://{self._bucket}/{key}: {text}") from error
        except OSError as error:
            raise TargetError(f"{error.filename}: {error.strerror or error}") from error


def _connect(access: Access) -> Any:
    import boto3
    import botocore.config
    import botocore.session

    session = botocore.session.Session()
    if access.credentials:
        if not os.access(access.credentials, os.R_OK):
            raise TargetError(f"{access.credentials}: can't be read")
        session.set_config_variable("credentials_file", access.credentials)
    settings: dict[str, Any] = {"retries": {"max_attempts": 3, "mode": "standard"}}
    if access.endpoint:
        settings["s3"] = {"addressing_style": "path"}
    config = botocore.config.Config(connect_timeout=_CONNECT_S, read_timeout=_READ_S, **settings)
    region = access.region or session.get_config_variable("region") or "us-east-1"
    return boto3.session.Session(botocore_session=session).client(
        "s3", endpoint_url=access.endpoint or None, region_name=region, config=config
    )


def _digest(path: Path) -> bytes:
    digest = xxh3_128()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.digest()


def _private(path: str, flags: int) -> int:
    """For `open`: nobody else may read it."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


@contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetError(f"{error.filename or place}: {error.strerror or error}") from error
