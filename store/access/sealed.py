"""Secrets at rest: sealed under a master key, bound to their owner, and resealed when it rotates.

A sealed secret is

    offset  bytes  what
    0       1      format, 1
    1       8      id of the master key: the first bytes of HKDF(master key, info "twofold key id")
    9       32     salt, random
    41      n      the secret, encrypted with AES-256-GCM
    41 + n  16     its tag

The key of each is its own: HKDF-SHA256 of the master key with the salt. So one key never encrypts
twice, the nonce (zeros) needs no counting, and no number of secrets wears a master key out.
Authenticated along with it are the 41 bytes before, the purpose and the owner.

Invariants
  1. A sealed secret opens only for the purpose and the owner that it was sealed for: moved to
     another row, it is broken.
  2. Sealing uses the keyring's first key; every key of the ring opens. So a rotation is: put a new
     key in front, reseal everything at leisure, then drop the old one. Until then nothing is lost,
     whenever it is interrupted.
  3. A `Secret` shows itself only to `reveal`: no log, traceback or comparison gives it away.

The master key comes from a file, a systemd credential or the environment (`parse_keyring` reads the
text); it is never beside what it seals.

Concurrency: pure but for the random salt. Source: NIST SP 800-38D (GCM), RFC 5869 (HKDF).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from store.access.errors import SealBroken

MASTER_KEY_BYTES = 32
SECRET_BYTES_MAX = 64 * 1024
OVERHEAD_BYTES = 57
_FORMAT = b"\x01"
_ID_BYTES = 8
_SALT_BYTES = 32
_HEAD_BYTES = 41
_NONCE = bytes(12)
# Fewer different bytes than this in 32 random ones has a chance of less than one in 10^20.
_DISTINCT_MIN = 12


class Secret:
    """Bytes that nobody should read by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes themselves, for signing and sealing."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKey:
    """One master key. id: tells it from others and tells nothing of it."""

    id: bytes
    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The master keys there are, the one that seals first. Never empty."""

    keys: tuple[MasterKey, ...]

    @property
    def current(self) -> MasterKey:
        """The one that seals."""
        return self.keys[0]

    def find(self, key_id: bytes) -> MasterKey | None:
        """The key with this id."""
        return next((key for key in self.keys if key.id == key_id), None)


class BadMasterKey(ValueError):
    """A text that holds no master key. The message is a sentence without the text."""


def new_master_key() -> str:
    """The text of a fresh master key, a line for a key file."""
    return base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode()


def master_key(raw: bytes) -> MasterKey:
    """A master key from its bytes. Raises BadMasterKey."""
    if len(raw) != MASTER_KEY_BYTES:
        raise BadMasterKey(f"a master key has {MASTER_KEY_BYTES} bytes, not {len(raw)}")
    if len(set(raw)) < _DISTINCT_MIN:
        raise BadMasterKey("this master key is not random")
    found = _derive(raw, salt=None, info=b"twofold key id", length=_ID_BYTES)
    return MasterKey(id=found, key=Secret(raw))


def parse_keyring(text: str) -> Keyring:
    """Keys in base64 or hex, one a line, the current one first; empty lines and # are passed over.

    Raises BadMasterKey.
    """
    keys: list[MasterKey] = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            key = master_key(_decode(stripped))
        except BadMasterKey as bad:
            raise BadMasterKey(f"line {number}: {bad}") from None
        if any(known.id == key.id for known in keys):
            raise BadMasterKey(f"line {number}: this master key is there twice")
        keys.append(key)
    if not keys:
        raise BadMasterKey("there is no master key in it")
    return Keyring(keys=tuple(keys))


def _decode(text: str) -> bytes:
    try:
        if len(text) == 2 * MASTER_KEY_BYTES:
            return bytes.fromhex(text)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise BadMasterKey("a master key is written in base64 or hex") from None


def seal(keyring: Keyring, secret: Secret, *, purpose: str, owner: str) -> bytes:
    """The sealed secret. purpose: what kind of secret ("access key"). owner: whose, for ever the
    same ("AKIA..."): both have to be given again to open it."""
    value = secret.reveal()
    assert len(value) <= SECRET_BYTES_MAX, len(value)
    current = keyring.current
    salt = secrets.token_bytes(_SALT_BYTES)
    head = _FORMAT + current.id + salt
    cipher = AESGCM(_key_of(current, salt))
    return head + cipher.encrypt(_NONCE, value, _bound(head, purpose, owner))


def unseal(keyring: Keyring, sealed: bytes, *, purpose: str, owner: str) -> Secret:
    """The secret. Raises SealBroken: no such master key, another purpose or owner, changed."""
    head = sealed[:_HEAD_BYTES]
    key = keyring.find(sealed_under(sealed))
    if key is None:
        raise SealBroken("the master key of this secret is not there")
    cipher = AESGCM(_key_of(key, head[1 + _ID_BYTES :]))
    try:
        value = cipher.decrypt(_NONCE, sealed[_HEAD_BYTES:], _bound(head, purpose, owner))
    except InvalidTag:
        raise SealBroken("this secret was changed, or is another owner's") from None
    return Secret(value)


def sealed_under(sealed: bytes) -> bytes:
    """The id of the master key that sealed it. Raises SealBroken where this is no sealed secret."""
    if len(sealed) < OVERHEAD_BYTES or sealed[:1] != _FORMAT:
        raise SealBroken("this is no sealed secret")
    return sealed[1 : 1 + _ID_BYTES]


def reseal(keyring: Keyring, sealed: bytes, *, purpose: str, owner: str) -> bytes | None:
    """The same secret under the current key; None where it is already. Raises SealBroken."""
    if sealed_under(sealed) == keyring.current.id:
        return None
    secret = unseal(keyring, sealed, purpose=purpose, owner=owner)
    return seal(keyring, secret, purpose=purpose, owner=owner)


def _key_of(key: MasterKey, salt: bytes) -> bytes:
    return _derive(key.key.reveal(), salt=salt, info=b"twofold seal", length=32)


def _derive(raw: bytes, *, salt: bytes | None, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(raw)


def _bound(head: bytes, purpose: str, owner: str) -> bytes:
    """What is authenticated along; lengths keep one pair from passing for another."""
    texts = [text.encode() for text in (purpose, owner)]
    return head + b"".join(len(text).to_bytes(4, "big") + text for text in texts)
