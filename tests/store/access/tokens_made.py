"""Keys and tokens, really made and really signed, for the tests of tokens and providers."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

from store.access.tokens import ALGORITHMS, Key, Provider

ISSUER = "https://op.example/realm"
NOW_S = 1_800_000_000.0
PROVIDER = Provider(issuer=ISSUER, audiences=frozenset({"twofold"}))


@lru_cache(maxsize=64)
def rsa(key_id: str = "r1", bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits, {"kid": key_id})


@lru_cache(maxsize=64)
def ec(key_id: str = "e1", curve: Any = "P-256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": key_id})


@lru_cache(maxsize=64)
def ed(key_id: str = "o1") -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": key_id})


def public(key: Key) -> Key:
    made: Key = type(key).import_key(key.as_dict(private=False))
    return made


def key_set(*keys: Any) -> bytes:
    listed = [key if isinstance(key, dict) else key.as_dict(private=False) for key in keys]
    return json.dumps({"keys": listed}).encode()


def claims(**more: Any) -> dict[str, Any]:
    made = {
        "iss": ISSUER,
        "sub": "ann",
        "aud": "twofold",
        "exp": NOW_S + 600,
        "iat": NOW_S - 1,
        **more,
    }
    return {name: value for name, value in made.items() if value is not None}


def sign(content: dict[str, Any] | bytes, key: Any, algorithm: str = "RS256", **header: Any) -> str:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    known = {"kid": key.kid} if getattr(key, "kid", None) else {}
    registry = JWSRegistry(algorithms=[*ALGORITHMS, "HS256", "none"], strict_check_header=False)
    return serialize_compact({"alg": algorithm, **known, **header}, payload, key, registry=registry)
