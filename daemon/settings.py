"""Every setting there is: its section, name, type, default and limits.

`systemd/twofold.toml` tells each one's reason to the reader who sets it; a test keeps the two in
step. Sizes are in bytes, times in seconds. Frozen: parsed once by `daemon.config`, handed down as
small values, read from nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Name = Annotated[str, Meta(min_length=1, max_length=255)]


class PoolSettings(Struct, frozen=True, kw_only=True):
    """The drives, and how bytes are laid on them.

    drives: folders, one to a drive; ranges like /data/d{1...4} are written out.
    allow_single_copy: go on writing when a single drive of several is left.
    accept_missing: start although drives that are missing may have gone on without the others.
    io_deadline_s: a read or write that takes longer fences its drive; flush_deadline_s: a flush.
    """

    drives: tuple[Name, ...] = ()
    allow_single_copy: bool = False
    accept_missing: bool = False
    stripe_bytes: Annotated[int, Meta(ge=64 << 10, le=16 << 20)] = 1 << 20
    segment_bytes: Annotated[int, Meta(ge=16 << 20, le=64 << 30)] = 1 << 30
    io_deadline_s: Seconds = 30.0
    flush_deadline_s: Seconds = 60.0


class MetadataSettings(Struct, frozen=True, kw_only=True):
    """The database.

    inline_max_bytes: objects up to this size live in it. cache_bytes: its page cache.
    flush_interval_s: unflushed changes are made durable at least this often.
    """

    inline_max_bytes: Annotated[int, Meta(ge=0, le=64 << 10)] = 16 << 10
    cache_bytes: Annotated[int, Meta(ge=1 << 20, le=64 << 30)] = 64 << 20
    flush_interval_s: Annotated[float, Meta(ge=0.01, le=60)] = 1.0


class UserSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user beside the root: an account with buckets of its own. name: what its id is made of.

    secret_key, or secret_key_file: a file of mode 0600 with the secret and nothing else.
    uid, gid, umask: whose on the mount is what the user stores, and its mode; None for the default.
    """

    name: Name
    access_key: Name
    secret_key: str = ""
    secret_key_file: str = ""
    uid: Annotated[int, Meta(ge=0, lt=2**32 - 1)] | None = None
    gid: Annotated[int, Meta(ge=0, lt=2**32 - 1)] | None = None
    umask: Annotated[int, Meta(ge=0, le=0o777)] | None = None


class HealSettings(Struct, frozen=True, kw_only=True):
    """Rebuilding what drives lost.

    wait_s: how long a drive may be away before what it held is built on the others.
    rate_bytes_s: most that is read and written in a second, 0 for no limit.
    adopt_empty: an empty drive at the place of a missing one is taken into the pool.
    """

    wait_s: Annotated[float, Meta(ge=0, le=30 * 86400)] = 300.0
    rate_bytes_s: Annotated[int, Meta(ge=0)] = 0
    adopt_empty: bool = True


class ScrubSettings(Struct, frozen=True, kw_only=True):
    """Reading everything again and again. pass_days: how long a whole pass may take."""

    pass_days: Annotated[float, Meta(ge=0.01, le=3650)] = 30.0


class ProviderSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenID provider whose tokens are believed: for roles, and without one for policies.

    url: its issuer, exactly as its tokens name it. audiences: the client ids that tokens may be
    meant for. policies: what each token gives; claim: the claim that names more of them.
    account: the configured user whose roles they are for, "" for the root's.
    """

    url: Name
    audiences: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=100)]
    policies: tuple[Name, ...] = ()
    claim: str = ""
    account: str = ""


class BackupSettings(Struct, frozen=True, kw_only=True):
    """Backups of the metadata, taken while the store serves.

    target: an existing folder or s3://BUCKET/PREFIX/, "" for none. endpoint: URL of the S3 server,
    "" for AWS's own; credentials_file: as the AWS tools' shared one, "" for where they look.
    interval_s: a point is kept so often, if anything has changed. whole_hours: how often it is
    whole. keep_days: how far back a restore may go.
    """

    target: str = ""
    endpoint: str = ""
    credentials_file: str = ""
    interval_s: Annotated[float, Meta(ge=1, le=30 * 86400)] = 300.0
    whole_hours: Annotated[float, Meta(ge=0.01, le=24 * 365)] = 24.0
    keep_days: Annotated[float, Meta(ge=0, le=3650)] = 7.0


class S3Settings(Struct, frozen=True, kw_only=True):
    """The S3 endpoint.

    domains: names below which the first label is a bucket (virtual-host style); website_domains:
    the same for buckets as websites. users: who has a key beside the root. oidc: providers.
    object_ownership ("": none, as on S3 of old), block_public_access: what S3 gives a new bucket
    whose maker doesn't say. trusted_proxies: addresses and ranges whose X-Forwarded-For counts.
    server: http1 is our own; hypercorn comes later, for HTTP/2.
    """

    listen: tuple[Name, ...] = ("127.0.0.1:9000",)
    region: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,63}$")] = "us-east-1"
    domains: tuple[Name, ...] = ()
    website_domains: tuple[Name, ...] = ()
    users: tuple[UserSettings, ...] = ()
    oidc: tuple[ProviderSettings, ...] = ()
    object_ownership: Literal["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter", ""] = (
        "BucketOwnerEnforced"
    )
    block_public_access: bool = True
    trusted_proxies: tuple[Name, ...] = ()
    tls_cert_file: str = ""
    tls_key_file: str = ""
    server: Literal["http1"] = "http1"


class ConsoleSettings(Struct, frozen=True, kw_only=True):
    """The port for people and probes: status page and health. listen: [] for none."""

    listen: tuple[Name, ...] = ("127.0.0.1:9001",)


class MountSettings(Struct, frozen=True, kw_only=True):
    """The POSIX mount. path: an existing folder, "" for no mount.

    allow_other: users other than the daemon's may use it, by their permissions.
    writeback_cache: the kernel gathers small writes; S3 sees them at close or fsync only.
    xattrs: extended attributes. acls: POSIX ACLs, which are some of them.
    root_squash: root is taken for anonymous_uid, anonymous_gid.
    readahead_bytes: how far the kernel reads ahead.
    background_max: requests that the kernel has under way for nobody waiting.
    """

    path: str = ""
    allow_other: bool = True
    read_only: bool = False
    writeback_cache: bool = False
    xattrs: bool = True
    acls: bool = True
    root_squash: bool = False
    anonymous_uid: Annotated[int, Meta(ge=1, le=2**32 - 2)] = 65534
    anonymous_gid: Annotated[int, Meta(ge=1, le=2**32 - 2)] = 65534
    readahead_bytes: Annotated[int, Meta(ge=0, le=64 << 20)] = 4 << 20
    background_max: Annotated[int, Meta(ge=1, le=65535)] = 64


class StateSettings(Struct, frozen=True, kw_only=True):
    """What the daemon keeps beside the drives.

    root_key_file: "" for root.key in the folder; master_key_file: "" for master.key there.
    control_socket: "" for control.sock there.
    """

    folder: Name = "/var/lib/twofold"
    root_key_file: str = ""
    master_key_file: str = ""
    control_socket: str = ""


class LogSettings(Struct, frozen=True, kw_only=True):
    """One-line records on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class StopSettings(Struct, frozen=True, kw_only=True):
    """deadline_s: how long requests under way may take to finish at SIGTERM."""

    deadline_s: Seconds = 30.0


class Settings(Struct, frozen=True, kw_only=True):
    """All sections. Where a value came from (file, environment, command line) no longer shows."""

    pool: PoolSettings = PoolSettings()
    metadata: MetadataSettings = MetadataSettings()
    heal: HealSettings = HealSettings()
    scrub: ScrubSettings = ScrubSettings()
    backup: BackupSettings = BackupSettings()
    s3: S3Settings = S3Settings()
    console: ConsoleSettings = ConsoleSettings()
    mount: MountSettings = MountSettings()
    state: StateSettings = StateSettings()
    log: LogSettings = LogSettings()
    stop: StopSettings = StopSettings()
