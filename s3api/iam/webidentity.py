"""Tokens of OpenID providers: whose they are, and what they claim.

`WebIdentities` keeps the keys of every provider that was asked for, by what the account says of the
provider; a change there begins anew.

Concurrency: any number of tasks. Source: AWS STS API reference, AssumeRoleWithWebIdentity; IAM user
guide, "Available keys for AWS OIDC federation".
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import dataclass

from s3api.iam.fetching import Fetcher
from s3api.iam.refusals import InvalidIdentityToken
from store.access.patterns import Values
from store.access.providers import ProviderKeys, Rotation
from store.access.tokens import TOKEN_CHARS_MAX, Claims
from store.access.tokens import Provider as Issuer
from store.identity.names import provider_arn, provider_host
from store.identity.records import Provider, Tags
from store.identity.service import Identity

_KEPT = 200
TAGS_CLAIM = "https://aws.amazon.com/tags"
SOURCE_IDENTITY_CLAIM = "https://aws.amazon.com/source_identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A token that is believed. arn: of the provider that vouches."""

    provider: Provider
    arn: str
    claims: Claims

    def facts(self) -> dict[str, Values]:
        """Its claims as condition keys, in lower case: `jwt:CLAIM` and `HOST:CLAIM`."""
        found: dict[str, Values] = dict(self.claims.context())
        host = provider_host(self.provider.url).lower()
        for claim in ("sub", "aud", "azp", "amr", "email", "oaud"):
            texts = self.claims.texts(claim)
            if texts:
                found[f"{host}:{claim}"] = texts[0] if len(texts) == 1 else texts
        return found

    def tags(self) -> Tags:
        """The session's tags that the token brings. Raises InvalidIdentityToken."""
        values = self.claims.values
        nested = values.get(TAGS_CLAIM, {})
        if not isinstance(nested, dict):
            raise InvalidIdentityToken("The tags of the web identity token are malformed.")
        transitive = f"{TAGS_CLAIM}/transitive_tag_keys"
        if nested.get("transitive_tag_keys") or values.get(transitive):
            raise InvalidIdentityToken("Transitive session tags are not supported.")
        principal = nested.get("principal_tags", {})
        if not isinstance(principal, dict):
            raise InvalidIdentityToken("The tags of the web identity token are malformed.")
        start = f"{TAGS_CLAIM}/principal_tags/"
        flat = {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}
        return {key: _tag(value) for key, value in {**flat, **principal}.items()}

    def source_identity(self) -> str:
        """Who the token says is behind the session; "" where it doesn't."""
        found = self.claims.texts(SOURCE_IDENTITY_CLAIM)
        return found[0] if len(found) == 1 else ""


def _tag(value: object) -> str:
    """A tag has one value; a list of one is how AWS's documents write it."""
    listed = value if isinstance(value, list) else [value]
    if len(listed) != 1 or not isinstance(listed[0], str):
        raise InvalidIdentityToken("A tag of the web identity token has not just one value.")
    return listed[0]


class WebIdentities:
    """See the module's header."""

    def __init__(self, rotation: Rotation | None = None) -> None:
        self._fetcher = Fetcher()
        self._rotation = rotation
        self._keys: dict[Issuer, ProviderKeys] = {}

    async def verify(self, identity: Identity, account: str, token: str) -> Vouched:
        """Raises InvalidIdentityToken (no such provider in the account), TokenRefused."""
        issuer = _issuer(token)
        provider = identity.providers.of_issuer(account, issuer)
        if provider is None or not provider.clients:
            raise InvalidIdentityToken(
                f"No OpenIDConnect provider found in your account for {issuer[:255]}"
            )
        trusted = Issuer(issuer=provider.url, audiences=frozenset(provider.clients))
        keys = self._keys.get(trusted)
        if keys is None:
            if len(self._keys) >= _KEPT:
                self._keys.clear()
            keys = ProviderKeys(trusted, self._fetcher.fetch, time.time, self._rotation)
            self._keys[trusted] = keys
        claims = await keys.verify(token)
        return Vouched(provider=provider, arn=provider_arn(account, provider.url), claims=claims)


def _issuer(token: str) -> str:
    """Who a token says that it is of: not believed, it only tells whose keys to try."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_CHARS_MAX:
        raise InvalidIdentityToken()
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        issuer = found["iss"]
    except (binascii.Error, ValueError, RecursionError, KeyError, TypeError):
        raise InvalidIdentityToken() from None
    if not isinstance(issuer, str):
        raise InvalidIdentityToken()
    return issuer
