"""Condition keys: what a request can be asked for, and what an operation puts there.

A face fills a context with those of these that apply to its request; `Compiled.keys_for` says which
of them any policy asks for at all, so that costly ones (tags of the existing object) are only
fetched when they matter. A key that doesn't apply is absent, never "". Values of headers are as
sent; names below are in AWS's spelling, contexts use lower case.

Never from a header that the client may invent: aws:SourceIp is the connection's peer (or what a
trusted proxy says), aws:SecureTransport the connection's own.

Concurrency: constants. Source: AWS IAM user guide, "AWS global condition context keys"; AWS service
authorization reference, "Actions, resources, and condition keys for Amazon S3", "... AWS STS".
"""

from __future__ import annotations

GLOBAL = frozenset(
    {
        # The caller. username: users only; userid: of a session ROLEID:NAME.
        "aws:username",
        "aws:userid",
        "aws:PrincipalArn",
        "aws:PrincipalAccount",
        "aws:PrincipalType",
        "aws:PrincipalIsAWSService",
        "aws:groups",
        # Of sessions: when the token was issued, who vouched, how long it was asked for.
        "aws:TokenIssueTime",
        "aws:FederatedProvider",
        "aws:MultiFactorAuthPresent",
        "aws:SourceIdentity",
        "aws:ViaAWSService",
        # The request: the connection's peer, whether TLS, two headers, the time.
        "aws:SourceIp",
        "aws:SecureTransport",
        "aws:UserAgent",
        "aws:Referer",
        "aws:CurrentTime",
        "aws:EpochTime",
        "aws:RequestedRegion",
        "aws:ResourceAccount",
        # Tags in a request to IAM, several.
        "aws:TagKeys",
    }
)
# These go on: aws:PrincipalTag/TEAM, aws:RequestTag/TEAM, jwt:CLAIM, s3:ExistingObjectTag/COLOUR.
GLOBAL_PREFIXES = ("aws:PrincipalTag/", "aws:RequestTag/", "aws:ResourceTag/", "jwt:")

COMMON = frozenset(
    {
        "s3:authType",  # REST-HEADER, REST-QUERY-STRING or POST
        "s3:signatureversion",  # AWS or AWS4-HMAC-SHA256
        "s3:signatureAge",  # milliseconds since a URL was signed
        "s3:x-amz-content-sha256",
        "s3:ResourceAccount",
        "s3:TlsVersion",
    }
)

GRANTS = frozenset(
    {
        "s3:x-amz-acl",
        "s3:x-amz-grant-read",
        "s3:x-amz-grant-write",
        "s3:x-amz-grant-read-acp",
        "s3:x-amz-grant-write-acp",
        "s3:x-amz-grant-full-control",
    }
)
EXISTING_TAG = frozenset({"s3:ExistingObjectTag/"})
REQUEST_TAGS = frozenset({"s3:RequestObjectTag/", "s3:RequestObjectTagKeys"})
VERSION = frozenset({"s3:VersionId"})
LISTING = frozenset({"s3:prefix", "s3:delimiter", "s3:max-keys"})
CONDITIONAL = frozenset({"s3:if-match", "s3:if-none-match"})
ENCRYPTION = frozenset(
    {
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:x-amz-server-side-encryption-customer-algorithm",
    }
)
LOCK = frozenset(
    {
        "s3:object-lock-mode",
        "s3:object-lock-retain-until-date",
        "s3:object-lock-remaining-retention-days",
        "s3:object-lock-legal-hold",
    }
)
STORED = (
    GRANTS
    | REQUEST_TAGS
    | CONDITIONAL
    | ENCRYPTION
    | LOCK
    | frozenset(
        {
            "s3:ObjectCreationOperation",  # "false" of parts and of the beginning of an upload
            "s3:x-amz-copy-source",  # "/bucket/key", as sent, with or without the slash
            "s3:x-amz-metadata-directive",
            "s3:x-amz-storage-class",
            "s3:x-amz-website-redirect-location",
        }
    )
)
CREATION = GRANTS | frozenset(
    {"s3:LocationConstraint", "s3:x-amz-object-ownership", "s3:x-amz-bucket-object-lock-enabled"}
)
TOKENS = frozenset(
    {"sts:DurationSeconds", "sts:ExternalId", "sts:RoleSessionName", "sts:SourceIdentity"}
)

IDENTITY = frozenset({"iam:PolicyARN", "iam:PermissionsBoundary"})

KNOWN = GLOBAL | COMMON | STORED | CREATION | EXISTING_TAG | VERSION | LISTING | TOKENS | IDENTITY
PREFIXES = (
    *GLOBAL_PREFIXES,
    "iam:ResourceTag/",
    "s3:ExistingObjectTag/",
    "s3:RequestObjectTag/",
)
_KNOWN_LOWER = frozenset(key.lower() for key in KNOWN)
_PREFIXES_LOWER = tuple(prefix.lower() for prefix in PREFIXES)


def is_known(key: str) -> bool:
    """Whether any operation ever fills this key; a policy may ask for others, which are absent."""
    lower = key.lower()
    return lower in _KNOWN_LOWER or lower.startswith(_PREFIXES_LOWER)
