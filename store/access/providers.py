"""A provider's keys: found by discovery, kept, and fetched anew when they rotate.

`ProviderKeys` believes tokens of one provider. It asks `fetch`, which the caller gives, for the
discovery document and the key set, and keeps both.

Invariants
  1. Keys are used for `fresh_s`, then fetched again; if that fails, the old ones serve up to
     `stale_max_s` in all, so that a provider's short absence locks nobody out.
  2. A token with a key that isn't known makes them be fetched again, but not more often than once
     in `pause_s`, however many such tokens come: their sender must not make us flood the provider.
  3. One fetch is under way at a time; who comes meanwhile waits for it, and uses what it brought.
  4. A discovery document counts only if it names the very issuer it was asked for.

`fetch` owns everything about the network: deadline, size, TLS, and which addresses may be asked at
all. It raises OSError (or a subclass) where it fails.

Concurrency: any number of tasks on one trio loop. Source: OpenID Connect Discovery 1.0 (sections 3
and 4); RFC 7517 (section 5); OpenID Connect Core 1.0, section 10.1.1 (rotation).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from store.access.errors import TokenRefused
from store.access.tokens import (
    ALGORITHMS,
    Claims,
    Key,
    Provider,
    matching_keys,
    read_header,
    verify_token,
)

Fetch = Callable[[str], Awaitable[bytes]]
Clock = Callable[[], float]

KEYS_MAX = 64
RSA_BITS = range(2048, 8193)
DOCUMENT_BYTES_MAX = 512 * 1024
_CURVES = frozenset({"P-256", "P-384", "P-521"})
_CLASSES: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {
    "RSA": RSAKey,
    "EC": ECKey,
    "OKP": OKPKey,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How long keys are kept and how often they are asked for; see the header."""

    fresh_s: float = 3600.0
    stale_max_s: float = 24 * 3600.0
    pause_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What we need of a discovery document. keys_url: its `jwks_uri`."""

    issuer: str
    keys_url: str


class Unusable(ValueError):
    """A document of a provider that can't be used. The message is a sentence."""


def discovery_url(issuer: str) -> str:
    """Where the provider's discovery document is."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def parse_discovery(document: bytes, issuer: str) -> Discovery:
    """Raises Unusable: not JSON, another issuer, or keys that aren't fetched by https.

    Plain http is taken only where the issuer itself is named so (a provider on this machine, in
    tests); who may be asked at all is up to whoever fetches.
    """
    found = _object(document)
    if found.get("issuer") != issuer:
        raise Unusable("the discovery document names another issuer")
    url = found.get("jwks_uri")
    if not isinstance(url, str):
        raise Unusable("the discovery document names no jwks_uri")
    parts = urlsplit(url)
    schemes = ("https", urlsplit(issuer).scheme)
    if parts.scheme not in schemes or not parts.hostname or parts.username or parts.fragment:
        raise Unusable(f"'{url[:200]}' is no place to fetch keys from")
    return Discovery(issuer=issuer, keys_url=url)


def parse_keys(document: bytes) -> tuple[Key, ...]:
    """The keys of a key set that can verify signatures; others are passed over.

    Passed over are shared secrets, keys for encryption, curves and sizes we don't take, and what is
    malformed: one odd key must not lock out all who use the others. Raises Unusable.
    """
    listed = _object(document).get("keys")
    if not isinstance(listed, list):
        raise Unusable("the key set has no list of keys")
    keys = [_key(item) for item in listed[:KEYS_MAX]]
    return tuple(key for key in keys if key is not None)


def _object(document: bytes) -> dict[str, object]:
    if len(document) > DOCUMENT_BYTES_MAX:
        raise Unusable(f"the document has {len(document)} bytes")
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        raise Unusable("the document is not JSON") from None
    if not isinstance(found, dict):
        raise Unusable("the document is no JSON object")
    return found


def _key(item: object) -> Key | None:
    if not isinstance(item, dict) or item.get("use", "sig") != "sig":
        return None
    uses, algorithm, kind = item.get("key_ops", ["verify"]), item.get("alg"), item.get("kty")
    if not isinstance(uses, list) or "verify" not in uses:
        return None
    if algorithm is not None and not (isinstance(algorithm, str) and algorithm in ALGORITHMS):
        return None
    made = _CLASSES.get(kind) if isinstance(kind, str) else None
    if made is None:
        return None
    # Whatever else is published there (a private part, by accident) is not ours to have.
    public = {name: item[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in item}
    kept = {name: item[name] for name in ("kid", "alg") if isinstance(item.get(name), str)}
    try:
        key = made.import_key({**public, **kept})
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if _is_strong(key) else None


def _is_strong(key: Key) -> bool:
    if isinstance(key, RSAKey):
        native = key.public_key
        assert isinstance(native, RSAPublicKey)
        return native.key_size in RSA_BITS
    if isinstance(key, ECKey):
        return key.curve_name in _CURVES
    return key.get("crv") == "Ed25519"


class ProviderKeys:
    """Believes or refuses the tokens of one provider."""

    def __init__(
        self, provider: Provider, fetch: Fetch, clock: Clock, rotation: Rotation | None = None
    ) -> None:
        """clock: seconds since 1970; for both the tokens' times and the age of keys."""
        self.provider = provider
        self._fetch = fetch
        self._clock = clock
        self._rotation = rotation or Rotation()
        self._lock = trio.Lock()
        self._keys: tuple[Key, ...] = ()
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """Why the last fetch failed, for status pages; "" where it didn't."""
        return self._trouble

    async def verify(self, token: str) -> Claims:
        """What the token claims. Raises TokenRefused; its reason is "unavailable" where no keys
        could be had."""
        header = read_header(token, self.provider)
        seen = self._fetched_s
        is_fresh = self._is_younger(seen, self._rotation.fresh_s)
        if not is_fresh or not matching_keys(header, self._keys):
            await self._refresh(seen)
        if not self._is_younger(self._fetched_s, self._rotation.stale_max_s):
            raise TokenRefused("unavailable", "the provider's keys can't be had at the moment")
        return verify_token(token, self.provider, self._keys, self._clock())

    def _is_younger(self, then_s: float | None, age_s: float) -> bool:
        # A clock that was set back makes everything old: fetching once too often is harmless.
        return then_s is not None and 0 <= self._clock() - then_s < age_s

    async def _refresh(self, seen_s: float | None) -> None:
        """Fetch the keys, unless somebody did since `seen_s` or tried a moment ago."""
        async with self._lock:
            if self._fetched_s != seen_s or self._is_younger(self._tried_s, self._rotation.pause_s):
                return
            self._tried_s = self._clock()
            try:
                issuer = self.provider.issuer
                discovery = parse_discovery(await self._fetch(discovery_url(issuer)), issuer)
                keys = parse_keys(await self._fetch(discovery.keys_url))
            except (OSError, Unusable) as trouble:
                self._trouble = str(trouble) or type(trouble).__name__
                return
            except trio.Cancelled:
                # Who asked first went away; the next one need not wait for lack of any keys.
                self._tried_s = self._tried_s if self._keys else None
                raise
            self._keys = keys
            self._fetched_s = self._clock()
            self._trouble = ""
