"""What is kept of users, groups, roles, keys, policies and providers: the documents of `identity`.

Each is a JSON object in one row. Names keep the spelling they were given, and are found whatever
the spelling: the row's name is in lower case, but for keys and providers. A secret is sealed
(`store.access.sealed`) with the access key's id as owner before it gets here.

Invariant: records are never changed, only replaced, so whoever holds one may go on reading it.
Concurrency: pure values. Source: AWS IAM API reference, data types (User, Group, Role, AccessKey,
Policy, PolicyVersion, OpenIDConnectProvider) for what there is to keep.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from store.access.ownership import AccessBlock

Tags = dict[str, str]


class Kind(enum.Enum):
    """What a row is about; the values are those of its `kind`."""

    USER = "user"
    GROUP = "group"
    ROLE = "role"
    KEY = "key"
    POLICY = "policy"
    PROVIDER = "provider"
    ACCOUNT = "account"


class Holder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What users, groups and roles have in common: policies.

    inline: documents by their names. attached: ARNs of managed policies. made_s: since 1970.
    """

    name: str
    id: str
    path: str = "/"
    made_s: int
    inline: dict[str, str] = {}
    attached: tuple[str, ...] = ()
    boundary: str = ""
    tags: Tags = {}


class User(Holder, frozen=True, kw_only=True, omit_defaults=True):
    """groups: their names in lower case."""

    groups: tuple[str, ...] = ()


class Group(Holder, frozen=True, kw_only=True, omit_defaults=True):
    """Its members say that they are members."""


class Role(Holder, frozen=True, kw_only=True, omit_defaults=True):
    """trust: the policy of who may assume it."""

    trust: str
    description: str = ""
    session_max_s: int = 3600


class Key(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An access key. user: its name in lower case, "" for the account's root.

    sealed: the secret; rotated_s: when it was changed, 0 for never. policy: narrows what the key
    may do, "" for nothing. expires_s: since 1970, None for never. uid, gid, umask: who owns on the
    mount what is stored with it, None for the default. used_s: when it was used last, 0 for never.
    """

    id: str
    sealed: bytes
    user: str = ""
    enabled: bool = True
    made_s: int
    rotated_s: int = 0
    expires_s: int | None = None
    policy: str = ""
    description: str = ""
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    used_s: int = 0
    used_service: str = ""
    used_region: str = ""


class PolicyVersion(Struct, frozen=True, kw_only=True):
    """number: from 1, shown as "v1"."""

    number: int
    document: str
    made_s: int


class ManagedPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A policy with an ARN of its own. default: the number of the version that counts."""

    name: str
    id: str
    path: str = "/"
    made_s: int
    changed_s: int
    description: str = ""
    versions: tuple[PolicyVersion, ...]
    default: int = 1
    tags: Tags = {}

    @property
    def document(self) -> str:
        """That of the version that counts."""
        return next(each.document for each in self.versions if each.number == self.default)


# A provider with this tag gives its sessions the policies that the claim it names lists.
POLICY_CLAIM_TAG = "policy-claim"
# The same of the policies that it names itself, with commas.
POLICIES_TAG = "policies"


class Provider(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An OpenID provider. url: its issuer, as its tokens name it. clients: who tokens are for."""

    url: str
    made_s: int
    clients: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()
    tags: Tags = {}


class AccountSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is set for an account as a whole. block: of public access, None where nobody set it."""

    block: AccessBlock | None = None


Record = User | Group | Role | Key | ManagedPolicy | Provider | AccountSettings
TYPES: Mapping[Kind, type[Any]] = {
    Kind.USER: User,
    Kind.GROUP: Group,
    Kind.ROLE: Role,
    Kind.KEY: Key,
    Kind.POLICY: ManagedPolicy,
    Kind.PROVIDER: Provider,
    Kind.ACCOUNT: AccountSettings,
}
_DECODERS = {kind: msgspec.json.Decoder(each) for kind, each in TYPES.items()}
_ENCODER = msgspec.json.Encoder()


def encode_record(record: Record) -> str:
    """JSON, for the database."""
    return _ENCODER.encode(record).decode()


def decode_record(kind: Kind, document: str) -> Record:
    """The other way. Raises msgspec.ValidationError where a database holds something else."""
    found: Record = _DECODERS[kind].decode(document)
    return found
