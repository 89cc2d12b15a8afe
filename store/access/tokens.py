"""Tokens of OpenID providers: whether one is believed, and what it claims.

Order of checks, and nothing is believed before its turn: form and size; the algorithm, by our list
and never by the token's word alone; a key of the provider of that algorithm's kind; the signature;
issuer, audience, times, subject.

Invariants
  1. Only signatures of public keys count: `none` and shared secrets (HS256, ...) are unknown here,
     so that nobody can sign with what a provider publishes.
  2. Keys come from the provider's own key set; what a token's header says of keys (jwk, jku, x5u,
     x5c) is not looked at. The key set is the issuer's, so one provider can't speak for another.
  3. `now` comes from the caller; nothing here has a clock.

Concurrency: pure. Source: RFC 7515 (JWS), RFC 7517 (JWK), RFC 7519 (JWT), RFC 8725 (best
practices); OpenID Connect Core 1.0, section 3.1.3.7. Signatures are joserfc's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, deserialize_compact

from store.access.errors import TokenRefused

Key = RSAKey | ECKey | OKPKey

TOKEN_CHARS_MAX = 20_000
SUBJECT_CHARS_MAX = 255
SKEW_S = 60.0
_KEYS_TRIED_MAX = 4
_VALUES_MAX = 1000
# Some 30,000 years.
_LATEST_S = 1e12

# Which kind of key each algorithm needs; there are no others.
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
KEY_TYPES: Mapping[str, str] = {
    **dict.fromkeys(_RSA, "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
ALGORITHMS = frozenset(KEY_TYPES)


class _Registry(JWSRegistry):
    """The one algorithm that a token was found to have, among those of ours."""

    # Certificates in headers (x5c) are long; we don't use them, but they may be there.
    max_header_length = 12_000

    def get_alg(self, name: str) -> Any:
        """As the base's, without its warning of the older name EdDSA of Ed25519."""
        if not self.allowed or name not in self.allowed:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider that is trusted.

    issuer: exactly as its tokens and its discovery document name it. audiences: the client ids
    that tokens must be meant for, never empty. algorithms: which of `ALGORITHMS` it may use.
    skew_s: by how much its clock may differ from ours.
    """

    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str] = ALGORITHMS
    skew_s: float = SKEW_S

    def __post_init__(self) -> None:
        assert self.audiences and self.algorithms <= ALGORITHMS, self


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a believed token says. values: all claims as JSON has them. expires_s: since 1970."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]
    expires_s: float
    values: Mapping[str, object]

    def texts(self, claim: str) -> tuple[str, ...]:
        """The strings of a claim: one, a list's, or () for none.

        A claim with dots in its name is looked up as such, then as a path: "realm_access.roles".
        """
        found = self.values.get(claim)
        if found is None:
            found = self._inner(claim)
        return _texts(found)

    def _inner(self, path: str) -> object:
        found: object = self.values
        for name in path.split("."):
            if not isinstance(found, Mapping):
                return None
            found = found.get(name)
        return found

    def names(self, claim: str) -> tuple[str, ...]:
        """The names in a claim that lists policies or roles: a list, or one string with commas."""
        parts = (part.strip() for text in self.texts(claim) for part in text.split(","))
        return tuple(dict.fromkeys(part for part in parts if part))

    def context(self) -> dict[str, str | tuple[str, ...]]:
        """Condition keys, lower case: `jwt:CLAIM`, and as AWS has it `op.example/realm:CLAIM`.

        One value where a claim is no list, else several.
        """
        issuer = self.issuer.partition("://")[2].rstrip("/").lower()
        found: dict[str, str | tuple[str, ...]] = {}
        for name, value in self.values.items():
            texts = _texts(value)
            if isinstance(value, list) or texts:
                known = texts if isinstance(value, list) else texts[0]
                found[f"jwt:{name.lower()}"] = found[f"{issuer}:{name.lower()}"] = known
        return found


def _texts(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    found: list[str] = []
    for item in listed[:_VALUES_MAX]:
        if isinstance(item, bool):
            found.append("true" if item else "false")
        elif isinstance(item, str | int | float):
            found.append(str(item))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a token says of its signature, unproven. key_id: "" where it names none."""

    algorithm: str
    key_id: str


def read_header(token: str, provider: Provider) -> Header:
    """Form, size and algorithm. Raises TokenRefused (malformed, algorithm)."""
    if len(token) > TOKEN_CHARS_MAX or not token.isascii() or token.count(".") != 2:
        raise TokenRefused("malformed", "this is no signed JSON Web Token")
    header = _json(_decoded(token.partition(".")[0]))
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or not isinstance(key_id, str):
        raise TokenRefused("malformed", "the token's header is malformed")
    # No extension is known here, so none can be insisted on (RFC 7515, 4.1.11).
    if "crit" in header or "b64" in header:
        raise TokenRefused("malformed", "the token needs an extension that is not supported")
    if algorithm not in provider.algorithms:
        raise TokenRefused("algorithm", f"tokens signed with '{algorithm[:20]}' are not accepted")
    return Header(algorithm=algorithm, key_id=key_id)


def matching_keys(header: Header, keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """The keys that may have signed: of the algorithm's kind, and of the id that the token names.

    A token that names none is only taken where the provider has a single such key.
    """
    fit = tuple(
        key
        for key in keys
        if key.key_type == KEY_TYPES[header.algorithm]
        and key.get("alg") in (None, header.algorithm)
    )
    if header.key_id:
        return tuple(key for key in fit if key.kid == header.key_id)[:_KEYS_TRIED_MAX]
    return fit if len(fit) == 1 else ()


def verify_token(token: str, provider: Provider, keys: tuple[Key, ...], now_s: float) -> Claims:
    """What the token claims, once it is believed. keys: the provider's. now_s: since 1970.

    Raises TokenRefused: malformed, algorithm, unknown-key, signature, issuer, audience, expired,
    early, subject.
    """
    header = read_header(token, provider)
    candidates = matching_keys(header, keys)
    if not candidates:
        raise TokenRefused("unknown-key", "the token is signed with a key its issuer doesn't have")
    claims = _json(_verified(token, header, candidates))
    return _check(claims, provider, now_s)


def _verified(token: str, header: Header, candidates: tuple[Key, ...]) -> bytes:
    registry = _Registry(algorithms=[header.algorithm], strict_check_header=False)
    for key in candidates:
        try:
            return deserialize_compact(token, key, registry=registry).payload
        except (JoseError, ValueError):
            continue
    raise TokenRefused("signature", "the token's signature does not hold")


def _check(claims: Mapping[str, object], provider: Provider, now_s: float) -> Claims:
    if claims.get("iss") != provider.issuer:
        raise TokenRefused("issuer", "the token is of another issuer")
    audiences = _audiences(claims.get("aud"))
    authorized = claims.get("azp")
    if not provider.audiences.intersection(audiences):
        raise TokenRefused("audience", "the token is meant for somebody else")
    if authorized is not None and (
        not isinstance(authorized, str) or authorized not in provider.audiences
    ):
        raise TokenRefused("audience", "the token was issued to another client")
    expires_s = _seconds(claims, "exp")
    if expires_s is None:
        raise TokenRefused("malformed", "the token has no expiry")
    if now_s - provider.skew_s >= expires_s:
        raise TokenRefused("expired", "the token has expired")
    for claim in ("nbf", "iat"):
        begins_s = _seconds(claims, claim)
        if begins_s is not None and begins_s > now_s + provider.skew_s:
            raise TokenRefused("early", "the token is not valid yet")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARS_MAX:
        raise TokenRefused("subject", "the token names no subject")
    return Claims(
        issuer=provider.issuer,
        subject=subject,
        audiences=audiences,
        expires_s=expires_s,
        values=claims,
    )


def _audiences(value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    return tuple(item for item in listed if isinstance(item, str))


def _seconds(claims: Mapping[str, object], claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    # Neither NaN nor an integer too large for a float is below it.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LATEST_S:
        raise TokenRefused("malformed", f"the token's {claim} is no time")
    return float(value)


def _decoded(segment: str) -> bytes:
    try:
        return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise TokenRefused("malformed", "the token is not base64url") from None


def _json(text: bytes) -> Mapping[str, object]:
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise TokenRefused("malformed", "the token is not made of JSON objects") from None
    if not isinstance(found, dict):
        raise TokenRefused("malformed", "the token is not made of JSON objects")
    return found


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TokenRefused("malformed", "the token says something twice")
    return found


def _constant(text: str) -> NoReturn:
    raise TokenRefused("malformed", f"the token has a number that is {text}")
