"""The configured users: each an account of its own with one access key.

    [[s3.users]]
    name = "alice"
    access_key = "alice-key"
    secret_key_file = "/etc/twofold/alice.secret"
    uid = 1000
    gid = 1000
    umask = 0o027

An account's id comes from the user's name, so keys can be changed and what it owns stays its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.config import secret_file_fault
from daemon.rootkey import RootKey, RootKeyError, check_key
from daemon.settings import UserSettings
from s3api.credentials import Credential, user_account

_SECRET_BYTES_MAX = 4096


class UserKeyError(Exception):
    """A user's key can't be used. The text says why in one sentence, without the secret."""


def load_users(users: Sequence[UserSettings], root: RootKey) -> list[Credential]:
    """The credentials of the configured users, their secrets read. Raises UserKeyError."""
    return [_load(user, root) for user in users]


def _load(user: UserSettings, root: RootKey) -> Credential:
    whose = f"of the user {user.name} in s3.users"
    secret_key = user.secret_key or _read(Path(user.secret_key_file), whose)
    if user.access_key == root.access_key:
        raise UserKeyError(f"the access_key {whose} is the root key's")
    try:
        check_key(user.access_key, secret_key, f"the access_key {whose}", f"the secret {whose}")
    except RootKeyError as error:
        raise UserKeyError(str(error)) from None
    return Credential(
        access_key=user.access_key,
        secret_key=secret_key,
        account=user_account(user.name),
        uid=user.uid,
        gid=user.gid,
        umask=user.umask,
    )


def _read(path: Path, whose: str) -> str:
    fault = secret_file_fault(path)
    if fault is not None:
        raise UserKeyError(f"the secret_key_file {whose}: {fault}")
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_SECRET_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError):
        raise UserKeyError(f"the secret_key_file {whose}: {path} can't be read as text") from None
