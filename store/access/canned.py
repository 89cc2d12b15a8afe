"""The policies that are there from the first day.

    readonly      read objects, their tags and attributes, and list
    readwrite     everything of S3
    writeonly     store objects, and nothing else
    diagnostics   look at the server: status, metrics, logs, traces
    consoleAdmin  everything

They have the names that MinIO's users know. Its `readonly` doesn't list; this one does, as its name
suggests.
Concurrency: constants.
"""

from __future__ import annotations

import json

from store.access.parse import parse_policy
from store.access.policy import VERSION_2, Policy


def _document(actions: list[str], resource: str) -> str:
    statement = {"Effect": "Allow", "Action": actions, "Resource": [resource]}
    return json.dumps({"Version": VERSION_2, "Statement": [statement]}, indent=1)


_EVERY_BUCKET = "arn:aws:s3:::*"

DOCUMENTS: dict[str, str] = {
    "readonly": _document(
        [
            "s3:GetObject",
            "s3:GetObjectVersion",
            "s3:GetObjectAttributes",
            "s3:GetObjectVersionAttributes",
            "s3:GetObjectTagging",
            "s3:GetObjectVersionTagging",
            "s3:GetBucketLocation",
            "s3:ListBucket",
            "s3:ListBucketVersions",
            "s3:ListAllMyBuckets",
        ],
        "*",
    ),
    "readwrite": _document(["s3:*"], "*"),
    "writeonly": _document(
        ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"], _EVERY_BUCKET
    ),
    "diagnostics": _document(
        [
            "twofold:ReadStatus",
            "twofold:ReadMetrics",
            "twofold:ReadLogs",
            "twofold:ReadTrace",
            "twofold:ReadProfile",
            "twofold:ReadUsage",
            "twofold:ListDrives",
        ],
        "*",
    ),
    "consoleAdmin": _document(["s3:*", "iam:*", "sts:*", "twofold:*"], "*"),
}

POLICIES: dict[str, Policy] = {
    name: parse_policy(document, name=name) for name, document in DOCUMENTS.items()
}
