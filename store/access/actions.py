"""The actions there are: what each is done on, and which condition keys go with it.

Names and their meanings are AWS's for s3, iam and sts; `twofold:` is the administration of this
server. Policies may name others (they then just never match).

Concurrency: constants. Source: AWS service authorization reference, "Actions, resources, and
condition keys for Amazon S3", "... for AWS Identity and Access Management", "... for AWS Security
Token Service".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache

from store.access import keys
from store.access.patterns import matcher, tokenize


class On(enum.Enum):
    """What an action is done on, and the form of its resource."""

    ACCOUNT = "*"
    BUCKET = "arn:aws:s3:::BUCKET"
    OBJECT = "arn:aws:s3:::BUCKET/KEY"
    USER = "arn:aws:iam::ACCOUNT:user/NAME"
    GROUP = "arn:aws:iam::ACCOUNT:group/NAME"
    ROLE = "arn:aws:iam::ACCOUNT:role/NAME"
    POLICY = "arn:aws:iam::ACCOUNT:policy/NAME"
    PROVIDER = "arn:aws:iam::ACCOUNT:oidc-provider/HOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """name: "s3:GetObject". keys: its own condition keys, besides those of every request."""

    name: str
    on: On
    keys: frozenset[str] = frozenset()


_NO_KEYS: frozenset[str] = frozenset()
_TABLE: tuple[tuple[On, frozenset[str], str, str], ...] = (
    (On.OBJECT, keys.EXISTING_TAG | keys.CONDITIONAL, "s3", "GetObject GetObjectAttributes"),
    (
        On.OBJECT,
        keys.EXISTING_TAG | keys.VERSION,
        "s3",
        """GetObjectVersion GetObjectVersionAttributes GetObjectVersionAcl GetObjectVersionTagging
        DeleteObjectVersionTagging GetObjectVersionTorrent GetObjectVersionForReplication
        """,
    ),
    (On.OBJECT, keys.EXISTING_TAG, "s3", "GetObjectAcl GetObjectTagging DeleteObjectTagging"),
    (On.OBJECT, keys.STORED, "s3", "PutObject"),
    (On.OBJECT, keys.CONDITIONAL, "s3", "DeleteObject"),
    (On.OBJECT, keys.VERSION | keys.CONDITIONAL, "s3", "DeleteObjectVersion"),
    (On.OBJECT, keys.GRANTS | keys.EXISTING_TAG, "s3", "PutObjectAcl"),
    (On.OBJECT, keys.GRANTS | keys.EXISTING_TAG | keys.VERSION, "s3", "PutObjectVersionAcl"),
    (On.OBJECT, keys.REQUEST_TAGS | keys.EXISTING_TAG, "s3", "PutObjectTagging"),
    (
        On.OBJECT,
        keys.REQUEST_TAGS | keys.EXISTING_TAG | keys.VERSION,
        "s3",
        "PutObjectVersionTagging",
    ),
    (On.OBJECT, keys.LOCK, "s3", "PutObjectRetention PutObjectLegalHold"),
    (On.OBJECT, keys.LOCK, "s3", "BypassGovernanceRetention"),
    (
        On.OBJECT,
        _NO_KEYS,
        "s3",
        """GetObjectRetention GetObjectLegalHold GetObjectTorrent AbortMultipartUpload
        ListMultipartUploadParts RestoreObject ReplicateObject ReplicateDelete ReplicateTags
        ObjectOwnerOverrideToBucketOwner
        """,
    ),
    (On.BUCKET, keys.LISTING, "s3", "ListBucket ListBucketVersions"),
    (On.BUCKET, keys.CREATION, "s3", "CreateBucket"),
    (On.BUCKET, keys.GRANTS, "s3", "PutBucketAcl"),
    (
        On.BUCKET,
        _NO_KEYS,
        "s3",
        """DeleteBucket ListBucketMultipartUploads GetBucketLocation GetBucketAcl
        GetBucketPolicy PutBucketPolicy DeleteBucketPolicy GetBucketPolicyStatus
        GetBucketPublicAccessBlock PutBucketPublicAccessBlock
        GetBucketOwnershipControls PutBucketOwnershipControls
        GetBucketVersioning PutBucketVersioning GetBucketTagging PutBucketTagging
        GetBucketCORS PutBucketCORS GetBucketWebsite PutBucketWebsite DeleteBucketWebsite
        GetBucketNotification PutBucketNotification ListenBucketNotification
        GetBucketLogging PutBucketLogging GetBucketRequestPayment PutBucketRequestPayment
        GetBucketObjectLockConfiguration PutBucketObjectLockConfiguration
        GetEncryptionConfiguration PutEncryptionConfiguration
        GetLifecycleConfiguration PutLifecycleConfiguration
        GetReplicationConfiguration PutReplicationConfiguration DeleteReplicationConfiguration
        InitiateReplication ResetBucketReplicationState
        GetAccelerateConfiguration PutAccelerateConfiguration
        GetInventoryConfiguration PutInventoryConfiguration
        GetMetricsConfiguration PutMetricsConfiguration
        GetAnalyticsConfiguration PutAnalyticsConfiguration
        GetIntelligentTieringConfiguration PutIntelligentTieringConfiguration
        TagResource UntagResource ListTagsForResource
        """,
    ),
    (
        On.ACCOUNT,
        _NO_KEYS,
        "s3",
        "ListAllMyBuckets GetAccountPublicAccessBlock PutAccountPublicAccessBlock",
    ),
    (
        On.USER,
        _NO_KEYS,
        "iam",
        """CreateUser GetUser UpdateUser DeleteUser TagUser UntagUser ListUserTags
        CreateAccessKey ListAccessKeys UpdateAccessKey DeleteAccessKey GetAccessKeyLastUsed
        PutUserPolicy GetUserPolicy DeleteUserPolicy ListUserPolicies
        AttachUserPolicy DetachUserPolicy ListAttachedUserPolicies ListGroupsForUser
        PutUserPermissionsBoundary DeleteUserPermissionsBoundary
        """,
    ),
    (
        On.GROUP,
        _NO_KEYS,
        "iam",
        """CreateGroup GetGroup UpdateGroup DeleteGroup AddUserToGroup RemoveUserFromGroup
        PutGroupPolicy GetGroupPolicy DeleteGroupPolicy ListGroupPolicies
        AttachGroupPolicy DetachGroupPolicy ListAttachedGroupPolicies
        """,
    ),
    (
        On.ROLE,
        _NO_KEYS,
        "iam",
        """CreateRole GetRole UpdateRole UpdateRoleDescription DeleteRole UpdateAssumeRolePolicy
        TagRole UntagRole ListRoleTags PassRole
        PutRolePolicy GetRolePolicy DeleteRolePolicy ListRolePolicies
        AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies
        PutRolePermissionsBoundary DeleteRolePermissionsBoundary
        """,
    ),
    (
        On.POLICY,
        _NO_KEYS,
        "iam",
        """CreatePolicy GetPolicy DeletePolicy CreatePolicyVersion GetPolicyVersion
        DeletePolicyVersion ListPolicyVersions SetDefaultPolicyVersion ListEntitiesForPolicy
        TagPolicy UntagPolicy ListPolicyTags
        """,
    ),
    (
        On.PROVIDER,
        _NO_KEYS,
        "iam",
        """CreateOpenIDConnectProvider GetOpenIDConnectProvider DeleteOpenIDConnectProvider
        UpdateOpenIDConnectProviderThumbprint AddClientIDToOpenIDConnectProvider
        RemoveClientIDFromOpenIDConnectProvider TagOpenIDConnectProvider
        UntagOpenIDConnectProvider ListOpenIDConnectProviderTags
        """,
    ),
    (
        On.ACCOUNT,
        _NO_KEYS,
        "iam",
        """ListUsers ListGroups ListRoles ListPolicies ListOpenIDConnectProviders
        GetAccountSummary GetAccountAuthorizationDetails
        SimulatePrincipalPolicy SimulateCustomPolicy
        """,
    ),
    (
        On.ROLE,
        keys.TOKENS,
        "sts",
        "AssumeRole AssumeRoleWithWebIdentity TagSession SetSourceIdentity",
    ),
    (
        On.ACCOUNT,
        keys.TOKENS,
        "sts",
        "GetCallerIdentity GetSessionToken GetFederationToken GetAccessKeyInfo",
    ),
    (
        On.ACCOUNT,
        _NO_KEYS,
        "twofold",
        """ReadStatus ReadMetrics ReadLogs ReadTrace ReadProfile ReadConfiguration
        WriteConfiguration ListDrives AddDrive RemoveDrive Heal Scrub ReadUsage ReadQuota
        WriteQuota ExportIdentity ImportIdentity RotateMasterKey RotateRootKey RevokeSessions
        ReadMountIdentity WriteMountIdentity SimulatePolicy StopServer
        """,
    ),
)

ACTIONS: dict[str, Action] = {
    f"{service}:{name}": Action(name=f"{service}:{name}", on=on, keys=own)
    for on, own, service, names in _TABLE
    for name in names.split()
}
_BY_LOWER = {name.lower(): name for name in ACTIONS}


@lru_cache(maxsize=4096)
def matching(pattern: str) -> frozenset[str]:
    """All known actions that an Action element's pattern stands for; letters' case is ignored."""
    match = matcher(tokenize(pattern.lower(), wildcards=True, variables=False))
    return frozenset(name for lower, name in _BY_LOWER.items() if match(lower))


def condition_keys(action: str) -> frozenset[str]:
    """Every key that a known action can be asked for, in AWS's spelling; prefixes end in '/'."""
    found = ACTIONS[action].keys | keys.GLOBAL
    return found | keys.COMMON if action.startswith("s3:") else found
