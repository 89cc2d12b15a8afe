"""Temporary keys: what a session is, and the token that carries it.

A session is kept nowhere. Its token is the session itself, as JSON, compressed, sealed under the
master key for this one access key id, and written in URL-safe base64. Whoever shows the key brings
the token along, so a session works on every server that has the master key, and after a restart.

Invariants
  1. A token opens only beside the access key id that it was made for, and only unchanged.
  2. It never widens anything: whose session it is, is looked up at each use, by name and unique
     id, and what that user or role may do is what it may do now.

Concurrency: pure but for random bytes. Source: AWS STS API reference, AssumeRole and
GetSessionToken.
"""

from __future__ import annotations

import base64
import binascii
import enum
import zlib

import msgspec
from msgspec import Struct

from store.access.errors import SealBroken
from store.access.sealed import Keyring, Secret, seal, unseal
from store.identity.records import Tags

# It has to fit into a presigned URL, with a long key beside it (s3api.httpconfig).
TOKEN_CHARS_MAX = 6_000
_PLAIN_BYTES_MAX = 64 * 1024
_PURPOSE = "session"


class Source(enum.Enum):
    """Whose rights a session has."""

    ROOT = "root"
    USER = "user"
    ROLE = "role"
    CLAIM = "claim"  # The managed policies that a provider's token named.


class Session(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One session.

    account: the canonical id. owner, owner_id: name and unique id of user or role; of CLAIM the
    provider's URL and the token's subject. name: the session's own. via: the access key that asked
    for it, where the session goes with it. policies, narrowing: documents, and ARNs of managed
    policies, that narrow it. attached: ARNs of those that it has (CLAIM only). claims: of the
    provider's token, as condition keys.
    """

    account: str
    source: Source
    owner: str = ""
    owner_id: str = ""
    name: str = ""
    via: str = ""
    secret: str
    issued_s: int
    expires_s: int
    policies: tuple[str, ...] = ()
    narrowing: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    provider: str = ""
    tags: Tags = {}
    source_identity: str = ""
    claims: dict[str, str | tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"Session({self.source.value} {self.owner} {self.name})"


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Session)


class TokenTooLarge(ValueError):
    """The session's policies and tags don't fit into a token."""


def seal_session(keyring: Keyring, access_key: str, session: Session) -> str:
    """The token. Raises TokenTooLarge."""
    plain = zlib.compress(_ENCODER.encode(session), 6)
    sealed = seal(keyring, Secret(plain), purpose=_PURPOSE, owner=access_key)
    token = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
    if len(token) > TOKEN_CHARS_MAX:
        raise TokenTooLarge(f"the token has {len(token)} letters")
    return token


def open_session(keyring: Keyring, access_key: str, token: str) -> Session | None:
    """The session of a token; None where it is none of ours, or another key's."""
    if len(token) > TOKEN_CHARS_MAX or not token.isascii():
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
        plain = unseal(keyring, sealed, purpose=_PURPOSE, owner=access_key).reveal()
        decompressor = zlib.decompressobj()
        return _DECODER.decode(decompressor.decompress(plain, _PLAIN_BYTES_MAX))
    except (binascii.Error, ValueError, SealBroken, zlib.error, msgspec.MsgspecError):
        return None
