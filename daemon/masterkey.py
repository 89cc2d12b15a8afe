"""The master key: what seals the secrets of users' keys, and the tokens of sessions.

It comes from the first of these that is there, and is then a line of base64 or hex, with older
keys below it:

    TWOFOLD_MASTER_KEY                                in the environment
    $CREDENTIALS_DIRECTORY/twofold.master-key         a credential of systemd
    state.master_key_file                             a file of mode 0600

If none is there, the file is made. It stays beside the root key and never comes near the drives.
Rotating puts a new key in front, seals everything under it, and drops the old ones when that is
durable; sessions that were sealed under those end then.
Source: systemd.exec(5), "Credentials"; `store.access.sealed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.config import secret_file_fault
from daemon.rootkey import write_secret
from store.access.sealed import BadMasterKey, Keyring, new_master_key, parse_keyring

VARIABLE = "TWOFOLD_MASTER_KEY"
CREDENTIAL = "twofold.master-key"
_TEXT_BYTES_MAX = 64 * 1024
_HEADING = """\
# The master key of this twofold store: secrets in its database are sealed under it.
# Keep a copy in another place. Whoever has it and the drives can use all keys.
"""


class MasterKeyError(Exception):
    """There is no master key to be had. The text is one sentence without the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKeys:
    """The keyring, and where it is kept. file: None where it is not ours to write.

    made: by this start.
    """

    keyring: Keyring
    file: Path | None
    made: bool = False


def load_master_keys(path: Path, environment: Mapping[str, str]) -> MasterKeys:
    """path: the file, which is made where nothing else is there. Raises MasterKeyError."""
    text = environment.get(VARIABLE, "")
    if text:
        return MasterKeys(keyring=_parse(text.replace(",", "\n"), VARIABLE), file=None)
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    credential = Path(folder, CREDENTIAL)
    if folder and credential.exists():
        return MasterKeys(keyring=_parse(_read(credential), str(credential)), file=None)
    if path.exists():
        fault = secret_file_fault(path)
        if fault is not None:
            raise MasterKeyError(f"the master key file {fault}")
        return MasterKeys(keyring=_parse(_read(path), str(path)), file=path)
    return MasterKeys(keyring=_write(path, [new_master_key()]), file=path, made=True)


def add_master_key(keys: MasterKeys) -> MasterKeys:
    """A new key in front of the others, in the file already. Raises MasterKeyError."""
    if keys.file is None:
        raise MasterKeyError(
            f"the master key comes from outside ({VARIABLE} or a credential): put a new line in "
            "front there, and restart"
        )
    lines = [new_master_key(), *_lines(_read(keys.file))]
    return MasterKeys(keyring=_write(keys.file, lines), file=keys.file)


def drop_old_keys(keys: MasterKeys) -> MasterKeys:
    """The current key alone, once nothing is sealed under others. Raises MasterKeyError."""
    assert keys.file is not None
    lines = _lines(_read(keys.file))[:1]
    return MasterKeys(keyring=_write(keys.file, lines), file=keys.file)


def _write(path: Path, lines: list[str]) -> Keyring:
    try:
        write_secret(path, _HEADING + "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise MasterKeyError(
            f"the master key file {path} can't be made: {error.strerror}"
        ) from error
    return _parse("\n".join(lines), str(path))


def _lines(text: str) -> list[str]:
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_TEXT_BYTES_MAX)
        # `twofold` writes text; a credential may also be the 32 bytes themselves.
        return raw.hex() if len(raw) == 32 and not raw.isascii() else raw.decode("ascii")
    except OSError as error:
        raise MasterKeyError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise MasterKeyError(f"{path} holds no master key") from None


def _parse(text: str, place: str) -> Keyring:
    try:
        return parse_keyring(text)
    except BadMasterKey as bad:
        raise MasterKeyError(f"{place}: {bad}") from None
