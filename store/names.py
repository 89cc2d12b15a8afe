"""Keys, their components, and the names the mount shows for them: rule R2, both ways.

A key is cut at '/' into components; all but the last are directories. A component may be what
POSIX can't hold ('', '.', '..', over 255 bytes), and a POSIX name may be what a key can't (bytes
that are no UTF-8). The map between component and name is the identity but for these:

    component                       name on the mount
    ''  '.'  '..'                   %tf.empty  %tf.dot  %tf.dotdot
    starts with '%tf.'              %tf.lit.<what follows '%tf.'>
    over 255 bytes as a name        %tf.long.<32 hex digits of its SHA-256>   (kept as an alias)
    %tf.b.<base64url of bytes>      those bytes, where they are not UTF-8

Total and reversible: no two components share a name, and none is unreachable.
`%tf.data` is no component's name: under it a directory shows the object of its own key (R1).
Pure functions, no state. Source: AWS S3 user guide, object key naming; path_resolution(7).
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from store.errors import InvalidKey, InvalidName, KeyTooLong, NameTooLong

KEY_BYTES_MAX = 1024
NAME_BYTES_MAX = 255
BODY = b"%tf.data"
_RESERVED = b"%tf."
_LITERAL = b"%tf.lit."
_LONG = b"%tf.long."
_BYTES = b"%tf.b."
_SPECIAL = {b"": b"%tf.empty", b".": b"%tf.dot", b"..": b"%tf.dotdot"}
_COMPONENTS = {name: component for component, name in _SPECIAL.items()}


def split_key(key: str) -> list[bytes]:
    """The key's components; the last may be '' (a key that ends in '/').

    Of any length: rule R17 lets S3 read what the mount made. Raises InvalidKey (empty, NUL, lone
    surrogates).
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        raise InvalidKey(ascii(key)) from None
    if not raw or b"\0" in raw:
        raise InvalidKey(ascii(key))
    return raw.split(b"/")


def check_length(key: str) -> None:
    """Whether S3 may make this key. Raises KeyTooLong (over 1,024 bytes)."""
    if len(key) > KEY_BYTES_MAX or len(key.encode()) > KEY_BYTES_MAX:
        raise KeyTooLong(ascii(key[:64]) + "...")


def alias_of(component: bytes) -> bytes | None:
    """The made-up name of a component whose plain name would be over 255 bytes; else None."""
    plain = _plain_name(component)
    if len(plain) <= NAME_BYTES_MAX:
        return None
    return _LONG + hashlib.sha256(component).hexdigest()[:32].encode()


def name_of(component: bytes) -> bytes:
    """What the mount shows for a component."""
    if component[:1] not in (b"%", b".", b"") and len(component) <= NAME_BYTES_MAX:
        return component
    return alias_of(component) or _plain_name(component)


def _plain_name(component: bytes) -> bytes:
    special = _SPECIAL.get(component)
    if special is not None:
        return special
    if component.startswith(_BYTES):
        raw = _decode_bytes(component)
        if raw is not None:
            return raw
    if component.startswith(_RESERVED):
        return _LITERAL + component[len(_RESERVED) :]
    return component


def component_of(name: bytes) -> bytes | None:
    """The component a POSIX name stands for; None for an alias, which only the table knows.

    Raises NameTooLong, InvalidName for a reserved name that stands for nothing.
    """
    if len(name) > NAME_BYTES_MAX:
        raise NameTooLong(name[:64])
    if not name.startswith(_RESERVED):
        try:
            name.decode()
        except UnicodeDecodeError:
            return _BYTES + base64.urlsafe_b64encode(name).rstrip(b"=")
        return name
    component = _COMPONENTS.get(name)
    if component is not None:
        return component
    if name.startswith(_LONG):
        return None
    if name.startswith(_LITERAL):
        component = _RESERVED + name[len(_LITERAL) :]
        try:
            component.decode()
        except UnicodeDecodeError:
            raise InvalidName(name) from None
        if _plain_name(component) == name:
            return component
    raise InvalidName(name)


def _decode_bytes(component: bytes) -> bytes | None:
    """The POSIX name inside a `%tf.b.` component, if it is one that `component_of` makes."""
    code = component[len(_BYTES) :]
    try:
        raw = base64.b64decode(code + b"=" * (-len(code) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if b"/" in raw or b"\0" in raw or not raw or raw.startswith(_RESERVED):
        return None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != code:
        return None
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw
    return None
