"""Which group a test of the suite belongs to: by its markers first, then by its name.

The groups are those that docs/CONFORMANCE.md counts. They are disjoint, and the first rule that
fits decides, so the order matters: what a test is about in the end stands before what it uses on
its way (a policy that speaks of tags is about policies).

Concurrency: constants and pure functions.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Group(NamedTuple):
    """name: as the document has it. tier: 1 the core, 2 protection, 3 access lists, 4 foreign."""

    name: str
    tier: int


class _Rule(NamedTuple):
    group: Group
    markers: frozenset[str]
    pattern: re.Pattern[str]


def _rule(name: str, tier: int, markers: str, pattern: str) -> _Rule:
    return _Rule(Group(name, tier), frozenset(markers.split()), re.compile(pattern))


NEVER = r"(?!)"
_RULES = (
    _rule("headers", 1, "", r"^test_headers::"),
    _rule("bucket logging", 4, "bucket_logging bucket_logging_cleanup", r"_logging"),
    _rule(
        "cloud tiers", 4, "cloud_transition cloud_restore target_by_bucket", r"_cloud_|restore_obj"
    ),
    _rule("lifecycle transitions", 4, "lifecycle_transition", NEVER),
    _rule("tenants and accounts", 4, "iam_account iam_user iam_tenant", r"tenant|account"),
    _rule("object lock", 2, "object_lock", r"object_lock"),
    _rule("encryption", 2, "encryption sse_s3 bucket_encryption", r"_sse|encrypt|_enc\b"),
    _rule("POST forms", 2, "", r"test_post_object"),
    _rule("lifecycle", 2, "lifecycle lifecycle_expiration delete_marker", r"lifecycle"),
    _rule("public access block", 2, "", r"block_public|public_block|publicaccessblock"),
    _rule("bucket policy", 2, "bucket_policy", r"policy|abac"),
    _rule("CORS", 2, "", r"cors"),
    _rule("ownership controls", 3, "object_ownership", r"ownership"),
    _rule("conditional delete", 3, "", r"delete_objects?_(version_|current_)?if"),
    _rule(
        "ACL",
        3,
        "",
        r"acl|_access_|_grants?_|object_raw_get(?!_x_amz|_object)|anon_put|100_continue|not_owned",
    ),
    _rule("versioning", 1, "versioning", r"version"),
    _rule("checksums", 1, "checksum", r"checksum|_cksum"),
    _rule(
        "conditional requests",
        1,
        "conditional_write",
        r"_if(none)?_?match|ifmodified|ifunmodified|ifnonmatch|_ifnonmatch|if_match|if_none_match",
    ),
    _rule("copy", 1, "", r"^test_s3::test_(object_)?copy"),
    _rule("tagging", 1, "tagging", r"_tag(s|ging)?\b|_tags_|tagging"),
    _rule("multipart", 1, "", r"multipart|upload_part"),
    _rule("atomicity", 1, "", r"atomic"),
    _rule("range", 1, "", r"range"),
    _rule("presigned and raw", 1, "", r"object_raw|presigned"),
    _rule("ListObjectsV2", 1, "list_objects_v2", r"listv2"),
    _rule("ListObjects", 1, "", r"bucket_list(?!s)"),
    _rule("basics", 1, "", r""),
)

GROUPS: tuple[Group, ...] = tuple(rule.group for rule in _RULES)


def group_of(test: str, markers: frozenset[str]) -> Group:
    """test: as test_s3::test_bucket_list_many, without parameters."""
    for rule in _RULES:
        if markers & rule.markers or rule.pattern.search(test):
            return rule.group
    raise AssertionError(f"the last rule fits all, but not {test}")
