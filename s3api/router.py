"""Which operation a request asks for: by method, by what the path names, and by subresource.

A table, since S3 routes on query parameters and one header, which URL routers don't know. What the
table lacks is NotImplemented: a request must never fall through to a plainer operation that
ignores what it asked for (a PUT ?acl is no PUT of an object).

Concurrency: constants. Source: Amazon S3 API reference, "Operations".
"""

from __future__ import annotations

from s3api import (
    accountblocks,
    aclroutes,
    attributes,
    buckets,
    completion,
    cors,
    deletes,
    forms,
    listing,
    locks,
    multipart,
    objects,
    renames,
    tagging,
    uploadlists,
    versions,
    webpages,
    writes,
)
from s3api.errors import InvalidArgument, NotImplementedYet
from s3api.face import NO_ACTION
from s3api.iam.query import answer_query
from s3api.operations import Operation, Target
from s3api.requests import Request
from s3api.settingroutes import SETTINGS

# Every parameter that selects another operation, whether we have that operation or not.
# fmt: off
SUBRESOURCES = frozenset((
    "abac", "accelerate", "acl", "analytics", "annotation", "append", "attributes", "cors",
    "delete", "encryption", "intelligent-tiering", "inventory", "lambdaArn", "legal-hold",
    "lifecycle", "location", "logging", "metadataConfiguration", "metadataInventoryTable",
    "metadataJournalTable", "metadataTable", "metrics", "notification", "object-lock",
    "ownershipControls", "policy", "policyStatus", "publicAccessBlock", "renameObject",
    "replication", "replication-metrics", "replication-reset", "requestPayment", "restore",
    "retention", "select", "select-type", "session", "tagging", "torrent", "uploadId", "uploads",
    "versioning", "versions", "website",
))
# fmt: on
_COPY = "copy"
# What OPTIONS asks for, whatever its target.
PREFLIGHT = Operation("Preflight", NO_ACTION, cors.preflight)
# What every other request to a website domain asks for. Pages are streamed, so it is hot.
PAGE = Operation("GetWebPage", NO_ACTION, webpages.serve_page, hot=True)
# A form to the service itself, whose actions ask for permission themselves.
QUERY = Operation("Query", NO_ACTION, answer_query)

_S, _B, _O, _A = Target.SERVICE, Target.BUCKET, Target.OBJECT, Target.ACCOUNT

OPERATIONS: dict[tuple[Target, str, str], Operation] = {
    (_S, "GET", ""): Operation("ListBuckets", "s3:ListAllMyBuckets", buckets.list_buckets),
    (_B, "PUT", ""): Operation("CreateBucket", "s3:CreateBucket", buckets.create_bucket, late=True),
    (_B, "HEAD", ""): Operation("HeadBucket", "s3:ListBucket", buckets.head_bucket),
    (_B, "DELETE", ""): Operation("DeleteBucket", "s3:DeleteBucket", buckets.delete_bucket),
    (_B, "GET", ""): Operation("ListObjects", "s3:ListBucket", listing.list_objects),
    (_B, "GET", "list-type"): Operation(
        "ListObjectsV2", "s3:ListBucket", listing.list_objects_v2, hot=True
    ),
    (_B, "GET", "versions"): Operation(
        "ListObjectVersions",
        "s3:ListBucketVersions",
        versions.list_object_versions,
        hot=True,
    ),
    (_B, "GET", "uploads"): Operation(
        "ListMultipartUploads", "s3:ListBucketMultipartUploads", uploadlists.list_uploads
    ),
    (_B, "GET", "location"): Operation(
        "GetBucketLocation", "s3:GetBucketLocation", buckets.get_bucket_location
    ),
    (_B, "GET", "versioning"): Operation(
        "GetBucketVersioning", "s3:GetBucketVersioning", versions.get_bucket_versioning
    ),
    (_B, "PUT", "versioning"): Operation(
        "PutBucketVersioning", "s3:PutBucketVersioning", versions.put_bucket_versioning
    ),
    (_B, "GET", "object-lock"): Operation(
        "GetObjectLockConfiguration",
        "s3:GetBucketObjectLockConfiguration",
        locks.get_lock_configuration,
    ),
    (_B, "PUT", "object-lock"): Operation(
        "PutObjectLockConfiguration",
        "s3:PutBucketObjectLockConfiguration",
        locks.put_lock_configuration,
    ),
    (_B, "GET", "acl"): Operation("GetBucketAcl", "s3:GetBucketAcl", aclroutes.get_bucket_acl),
    (_B, "PUT", "acl"): Operation("PutBucketAcl", "s3:PutBucketAcl", aclroutes.put_bucket_acl),
    **SETTINGS,
    # Who asks is known only when the form's fields have been read.
    (_B, "POST", ""): Operation("PostObject", "s3:PutObject", forms.post_object, late=True),
    (_B, "POST", "delete"): Operation(
        "DeleteObjects", "s3:DeleteObject", deletes.delete_objects, late=True
    ),
    (_O, "GET", ""): Operation("GetObject", "s3:GetObject", objects.get_object, hot=True),
    (_O, "HEAD", ""): Operation("HeadObject", "s3:GetObject", objects.head_object, hot=True),
    (_O, "PUT", ""): Operation("PutObject", "s3:PutObject", writes.put_object, hot=True),
    (_O, "PUT", _COPY): Operation("CopyObject", "s3:PutObject", writes.copy_object),
    (_O, "PUT", "renameObject"): Operation("RenameObject", "s3:PutObject", renames.rename_object),
    (_O, "DELETE", ""): Operation(
        "DeleteObject", "s3:DeleteObject", writes.delete_object, hot=True
    ),
    (_O, "GET", "attributes"): Operation(
        "GetObjectAttributes", "s3:GetObjectAttributes", attributes.get_object_attributes
    ),
    (_O, "GET", "acl"): Operation("GetObjectAcl", "s3:GetObjectAcl", aclroutes.get_object_acl),
    (_O, "PUT", "acl"): Operation("PutObjectAcl", "s3:PutObjectAcl", aclroutes.put_object_acl),
    (_O, "GET", "tagging"): Operation(
        "GetObjectTagging", "s3:GetObjectTagging", tagging.get_object_tagging
    ),
    (_O, "PUT", "tagging"): Operation(
        "PutObjectTagging", "s3:PutObjectTagging", tagging.put_object_tagging, late=True
    ),
    (_O, "DELETE", "tagging"): Operation(
        "DeleteObjectTagging", "s3:DeleteObjectTagging", tagging.delete_object_tagging
    ),
    (_O, "GET", "retention"): Operation(
        "GetObjectRetention", "s3:GetObjectRetention", locks.get_retention
    ),
    (_O, "PUT", "retention"): Operation(
        "PutObjectRetention", "s3:PutObjectRetention", locks.put_retention, late=True
    ),
    (_O, "GET", "legal-hold"): Operation(
        "GetObjectLegalHold", "s3:GetObjectLegalHold", locks.get_legal_hold
    ),
    (_O, "PUT", "legal-hold"): Operation(
        "PutObjectLegalHold", "s3:PutObjectLegalHold", locks.put_legal_hold, late=True
    ),
    (_O, "POST", "uploads"): Operation(
        "CreateMultipartUpload", "s3:PutObject", multipart.create_upload
    ),
    (_O, "PUT", "uploadId"): Operation(
        "UploadPart", "s3:PutObject", multipart.upload_part, hot=True
    ),
    (_O, "PUT", "uploadId" + _COPY): Operation(
        "UploadPartCopy", "s3:PutObject", multipart.upload_part_copy
    ),
    (_O, "GET", "uploadId"): Operation(
        "ListParts", "s3:ListMultipartUploadParts", uploadlists.list_parts
    ),
    (_O, "POST", "uploadId"): Operation(
        "CompleteMultipartUpload", "s3:PutObject", completion.complete_upload
    ),
    (_O, "DELETE", "uploadId"): Operation(
        "AbortMultipartUpload", "s3:AbortMultipartUpload", multipart.abort_upload
    ),
    (_A, "GET", "publicAccessBlock"): Operation(
        "GetAccountPublicAccessBlock",
        "s3:GetAccountPublicAccessBlock",
        accountblocks.get_account_block,
    ),
    (_A, "PUT", "publicAccessBlock"): Operation(
        "PutAccountPublicAccessBlock",
        "s3:PutAccountPublicAccessBlock",
        accountblocks.put_account_block,
    ),
    (_A, "DELETE", "publicAccessBlock"): Operation(
        "DeleteAccountPublicAccessBlock",
        "s3:PutAccountPublicAccessBlock",
        accountblocks.delete_account_block,
    ),
}

# Who may read or delete an object may not yet do so with its older versions.
_ACTIONS_OF_VERSIONS = frozenset((
    "s3:DeleteObject", "s3:DeleteObjectTagging", "s3:GetObject", "s3:GetObjectAcl",
    "s3:GetObjectAttributes", "s3:GetObjectTagging", "s3:PutObjectAcl", "s3:PutObjectTagging",
))  # fmt: skip
_ON_VERSIONS = {
    one.name: one._replace(action=one.action.replace("Object", "ObjectVersion", 1))
    for (target, _, _), one in OPERATIONS.items()
    if target is _O and one.action in _ACTIONS_OF_VERSIONS
}


def find_operation(request: Request) -> Operation:
    """What the request asks for. Raises NotImplementedYet, InvalidArgument (two subresources)."""
    subresource = _subresource(request) if request.query else ""
    if accountblocks.ACCOUNT_HEADER in request.headers and accountblocks.is_control(request):
        # Neither bucket nor key: the path only looks like them.
        request.bucket = request.key = ""
        target, subresource = _A, "publicAccessBlock"
    elif request.key:
        target = _O
        if request.method == "PUT" and b"x-amz-copy-source" in request.headers:
            subresource += _COPY
    elif request.bucket:
        target = _B
        if not subresource and request.query.get("list-type") == "2":
            subresource = "list-type"
    else:
        target = _S
    operation = OPERATIONS.get((target, request.method, subresource))
    if operation is None:
        raise NotImplementedYet(
            extras=(("Method", request.method), ("ResourceType", subresource or target.value))
        )
    if request.query and "versionId" in request.query:
        return _ON_VERSIONS.get(operation.name, operation)
    return operation


def _subresource(request: Request) -> str:
    chosen = ""
    for name in request.query:
        if name in SUBRESOURCES:
            if chosen:
                raise InvalidArgument(
                    f"Conflicting query string parameters: {chosen}, {name}",
                    (("ArgumentName", "ResourceType"), ("ArgumentValue", chosen)),
                )
            chosen = name
    return chosen
