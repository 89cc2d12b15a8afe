"""The root key: who may do everything. Made once, at random, and kept in a file of mode 0600.

The file has the format of an AWS shared credentials file, so that a client can be pointed at it:
`AWS_SHARED_CREDENTIALS_FILE=/var/lib/twofold/root.key`. TWOFOLD_ROOT_USER and
TWOFOLD_ROOT_PASSWORD in the environment come before it, and then no file is made.
Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files".
"""

from __future__ import annotations

import configparser
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from daemon.config import secret_file_fault

ACCESS_KEY_LENGTH = 20
SECRET_KEY_LENGTH = 40
_ACCESS_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SECRET_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# No separator of SigV4's credential scope or of its header may stand in the access key.
_ACCESS_KEY = re.compile(r"[A-Za-z0-9._+@-]{3,128}")
_SECRET_KEY = re.compile(r"[\x21-\x7e]{8,128}")
# Tried first by whoever scans the network for open stores.
_WELL_KNOWN = frozenset(
    {
        "minioadmin",
        "minio123",
        "miniosecret",
        "rustfsadmin",
        "admin123",
        "administrator",
        "password",
        "password1",
        "changeme",
        "changeme123",
        "12345678",
        "123456789",
        "letmein123",
        "rootpassword",
        "wjalrxutnfemi/k7mdeng/bpxrficyexamplekey",
    }
)


class RootKeyError(Exception):
    """The root key can't be used. The text says why in one sentence, without the secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootKey:
    """made: by this start, so nobody has seen it yet. file: None for a key of the environment."""

    access_key: str
    secret_key: str = field(repr=False)
    file: Path | None
    made: bool = False


def load_root_key(path: Path, environment: Mapping[str, str]) -> RootKey:
    """The key of the environment, or of the file, or a new one in a new file.

    Raises RootKeyError.
    """
    user = environment.get("TWOFOLD_ROOT_USER", "")
    password = environment.get("TWOFOLD_ROOT_PASSWORD", "")
    if bool(user) != bool(password):
        raise RootKeyError("TWOFOLD_ROOT_USER and TWOFOLD_ROOT_PASSWORD must be set together")
    if user:
        check_key(user, password, "TWOFOLD_ROOT_USER", "TWOFOLD_ROOT_PASSWORD")
        return RootKey(access_key=user, secret_key=password, file=None)
    if path.exists():
        return _read(path)
    return make_root_key(path)


def check_key(access_key: str, secret_key: str, access_name: str, secret_name: str) -> None:
    """Whether somebody may sign with these. Raises RootKeyError, which names what is wrong."""
    if not _ACCESS_KEY.fullmatch(access_key):
        raise RootKeyError(f"{access_name} must be 3 to 128 letters, digits or . _ + @ -")
    if not _SECRET_KEY.fullmatch(secret_key):
        raise RootKeyError(f"{secret_name} must be 8 to 128 printable characters without spaces")
    if secret_key.lower() in _WELL_KNOWN or secret_key == access_key:
        raise RootKeyError(f"{secret_name} is one that everybody knows: choose another")


def _read(path: Path) -> RootKey:
    fault = secret_file_fault(path)
    if fault is not None:
        raise RootKeyError(f"the root key file {fault}")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["default"]
        access_key, secret_key = section["aws_access_key_id"], section["aws_secret_access_key"]
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError):
        # The cause is not shown: a parser's message may quote the line with the secret.
        raise RootKeyError(
            f"the root key file {path} has no aws_access_key_id and aws_secret_access_key "
            "in a section [default]"
        ) from None
    check_key(access_key, secret_key, f"aws_access_key_id in {path}", f"the secret in {path}")
    return RootKey(access_key=access_key, secret_key=secret_key, file=path)


def make_root_key(path: Path) -> RootKey:
    """A new key, in this file in the place of whatever was there. Raises RootKeyError."""
    access_key = "".join(secrets.choice(_ACCESS_LETTERS) for _ in range(ACCESS_KEY_LENGTH))
    secret_key = "".join(secrets.choice(_SECRET_LETTERS) for _ in range(SECRET_KEY_LENGTH))
    text = (
        "# The root key of this twofold store. Whoever has it may do everything.\n"
        "[default]\n"
        f"aws_access_key_id = {access_key}\n"
        f"aws_secret_access_key = {secret_key}\n"
    )
    try:
        write_secret(path, text)
    except OSError as error:
        raise RootKeyError(f"the root key file {path} can't be made: {error.strerror}") from error
    return RootKey(access_key=access_key, secret_key=secret_key, file=path, made=True)


def write_secret(path: Path, text: str) -> None:
    """Put a file with a secret there, durably, in the place of an older one. Raises OSError."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
