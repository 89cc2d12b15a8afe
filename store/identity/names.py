"""Names, paths, ids and ARNs of identities, by IAM's rules.

Concurrency: pure but for random ids. Source: AWS IAM user guide, "IAM identifiers" and "IAM and
STS quotas" (length and letters of names).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from functools import lru_cache
from urllib.parse import urlsplit

from store.access.principals import Kind as PrincipalKind
from store.access.principals import Principal
from store.identity.errors import Invalid
from store.identity.records import Kind

_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_ID_RANDOM_LETTERS = 16
_SECRET_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SECRET_LENGTH = 40
ID_PREFIXES = {
    Kind.USER: "AIDA",
    Kind.GROUP: "AGPA",
    Kind.ROLE: "AROA",
    Kind.POLICY: "ANPA",
    Kind.KEY: "AKIA",
}
SESSION_KEY_PREFIX = "ASIA"
_LENGTHS = {Kind.USER: 64, Kind.GROUP: 128, Kind.ROLE: 64, Kind.POLICY: 128}
_is_name = re.compile(r"[\w+=,.@-]+", re.ASCII).fullmatch
_is_path = re.compile(r"/|/[\x21-\x7e]{1,510}/", re.ASCII).fullmatch
_is_session_name = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII).fullmatch
_is_tag = re.compile(r"[\w\s.:/=+\-@]*").fullmatch
TAGS_MAX = 50
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@lru_cache(maxsize=4096)
def account_number(account: str) -> str:
    """The twelve digits by which ARNs name an account. account: its canonical id."""
    digest = hashlib.sha256(b"twofold account " + account.encode()).digest()
    return f"{int.from_bytes(digest[:8], 'big') % 10**12:012}"


def new_id(kind: Kind) -> str:
    """A unique id, as AIDA... of a user."""
    return ID_PREFIXES[kind] + _random_letters()


def new_session_key_id() -> str:
    """An access key id of a session."""
    return SESSION_KEY_PREFIX + _random_letters()


def _random_letters() -> str:
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_RANDOM_LETTERS))


def new_secret() -> str:
    """A secret access key."""
    return "".join(secrets.choice(_SECRET_LETTERS) for _ in range(_SECRET_LENGTH))


def check_name(kind: Kind, name: str) -> None:
    """Raises Invalid unless an entity of this kind may have this name."""
    if not _is_name(name) or len(name) > _LENGTHS[kind]:
        raise Invalid(
            f"The specified value for {kind.value}Name is invalid. It must contain only "
            f"alphanumeric characters and/or the following: +=,.@_- (1 to {_LENGTHS[kind]})"
        )


def check_policy_name(name: str) -> None:
    """Of an inline policy. Raises Invalid."""
    if not _is_name(name) or len(name) > 128:
        raise Invalid(
            "The specified value for policyName is invalid. It must contain only alphanumeric "
            "characters and/or the following: +=,.@_- (1 to 128)"
        )


def check_path(path: str) -> None:
    """Raises Invalid."""
    if not _is_path(path):
        raise Invalid(
            "The specified value for path is invalid. It must begin and end with / and contain "
            "only alphanumeric characters and/or / characters."
        )


def check_session_name(name: str) -> None:
    """Raises Invalid."""
    if not _is_session_name(name):
        raise Invalid(
            "The specified value for roleSessionName is invalid. It must contain 2 to 64 "
            "alphanumeric characters and/or the following: +=,.@_-"
        )


def check_tags(tags: dict[str, str]) -> None:
    """Raises Invalid."""
    if len(tags) > TAGS_MAX:
        raise Invalid(f"An entity has at most {TAGS_MAX} tags.")
    for key, value in tags.items():
        if not 0 < len(key) <= 128 or len(value) > 256 or not _is_tag(key + value):
            raise Invalid(f"The tag {key[:128]!r} has a key or value that is not allowed.")


def check_issuer(url: str) -> None:
    """Of an OpenID provider. Raises Invalid.

    With plain http it can be named, but is only asked where it is on this machine.
    """
    parts = urlsplit(url)
    known = parts.scheme in ("https", "http") and parts.hostname
    if not known or parts.query or parts.fragment or parts.username:
        raise Invalid("The URL of a provider must be an https URL without a query.")
    if len(url) > 255 or not url.isascii() or not url.isprintable():
        raise Invalid("The URL of a provider has at most 255 plain letters.")


def provider_host(url: str) -> str:
    """An issuer as ARNs and condition keys name it: without its scheme."""
    return url.partition("://")[2].rstrip("/")


def entity_arn(account: str, kind: Kind, name: str, path: str = "/") -> str:
    """The ARN of a user, group, role or policy. account: its canonical id."""
    return f"arn:aws:iam::{account_number(account)}:{kind.value}{path}{name}"


def provider_arn(account: str, url: str) -> str:
    """The ARN of a provider."""
    return f"arn:aws:iam::{account_number(account)}:oidc-provider/{provider_host(url)}"


def root_arn(account: str) -> str:
    """The ARN of the account itself."""
    return f"arn:aws:iam::{account_number(account)}:root"


def session_arn(account: str, role: str, session: str) -> str:
    """The ARN of a session of a role."""
    return f"arn:aws:sts::{account_number(account)}:assumed-role/{role}/{session}"


def root_principal(account: str) -> Principal:
    """Who the account's own key stands for. account: its canonical id."""
    return Principal(
        kind=PrincipalKind.ROOT,
        account=account_number(account),
        arn=root_arn(account),
        canonical_id=account,
    )
