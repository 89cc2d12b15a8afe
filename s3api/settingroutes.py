"""The settings of a bucket, each a subresource: which operation reads, writes or removes it.

Concurrency: constants. Source: as `s3api.operations`.
"""

from __future__ import annotations

from s3api import bucketpolicies, cors, documents, websites
from s3api.operations import Operation, Run, Target


def _setting(
    subresource: str,
    name: str,
    *,
    get: Run,
    put: Run | None = None,
    delete: Run | None = None,
    action: str = "",
) -> dict[tuple[Target, str, str], Operation]:
    """The rows of one setting. action: without its verb, where it is not S3's name for it."""
    action = action or name
    rows = {"GET": Operation(f"Get{name}", f"s3:Get{action}", get)}
    if put is not None:
        rows["PUT"] = Operation(f"Put{name}", f"s3:Put{action}", put)
    if delete is not None:
        # But for these, who may write a setting may remove it.
        verb = "Delete" if name in ("BucketPolicy", "BucketWebsite") else "Put"
        rows["DELETE"] = Operation(f"Delete{name}", f"s3:{verb}{action}", delete)
    return {(Target.BUCKET, method, subresource): row for method, row in rows.items()}


SETTINGS: dict[tuple[Target, str, str], Operation] = {
    **_setting(
        "cors",
        "BucketCors",
        action="BucketCORS",
        get=cors.get_bucket_cors,
        put=cors.put_bucket_cors,
        delete=cors.delete_bucket_cors,
    ),
    **_setting(
        "tagging",
        "BucketTagging",
        get=documents.get_bucket_tagging,
        put=documents.put_bucket_tagging,
        delete=documents.delete_bucket_tagging,
    ),
    **_setting(
        "website",
        "BucketWebsite",
        get=websites.get_bucket_website,
        put=websites.put_bucket_website,
        delete=websites.delete_bucket_website,
    ),
    **_setting(
        "requestPayment",
        "BucketRequestPayment",
        get=documents.get_request_payment,
        put=documents.put_request_payment,
    ),
    **_setting(
        "ownershipControls",
        "BucketOwnershipControls",
        get=bucketpolicies.get_ownership_controls,
        put=bucketpolicies.put_ownership_controls,
        delete=bucketpolicies.delete_ownership_controls,
    ),
    **_setting("logging", "BucketLogging", get=documents.get_logging, put=documents.put_logging),
    **_setting(
        "notification",
        "BucketNotificationConfiguration",
        action="BucketNotification",
        get=documents.get_notification,
        put=documents.put_notification,
    ),
    **_setting(
        "accelerate",
        "BucketAccelerateConfiguration",
        action="AccelerateConfiguration",
        get=documents.get_accelerate,
    ),
    **_setting(
        "policy",
        "BucketPolicy",
        get=bucketpolicies.get_bucket_policy,
        put=bucketpolicies.put_bucket_policy,
        delete=bucketpolicies.delete_bucket_policy,
    ),
    **_setting("policyStatus", "BucketPolicyStatus", get=bucketpolicies.get_bucket_policy_status),
    **_setting(
        "encryption",
        "BucketEncryption",
        action="EncryptionConfiguration",
        get=documents.get_encryption,
    ),
    **_setting(
        "lifecycle",
        "BucketLifecycleConfiguration",
        action="LifecycleConfiguration",
        get=documents.get_lifecycle,
    ),
    **_setting(
        "publicAccessBlock",
        "PublicAccessBlock",
        action="BucketPublicAccessBlock",
        get=bucketpolicies.get_public_access_block,
        put=bucketpolicies.put_public_access_block,
        delete=bucketpolicies.delete_public_access_block,
    ),
    **_setting(
        "replication",
        "BucketReplication",
        action="ReplicationConfiguration",
        get=documents.get_replication,
    ),
    **_setting(
        "analytics",
        "BucketAnalyticsConfiguration",
        action="AnalyticsConfiguration",
        get=documents.list_analytics,
    ),
    **_setting(
        "inventory",
        "BucketInventoryConfiguration",
        action="InventoryConfiguration",
        get=documents.list_inventory,
    ),
    **_setting(
        "metrics",
        "BucketMetricsConfiguration",
        action="MetricsConfiguration",
        get=documents.list_metrics,
    ),
    **_setting(
        "intelligent-tiering",
        "BucketIntelligentTieringConfiguration",
        action="IntelligentTieringConfiguration",
        get=documents.list_tiering,
    ),
}
