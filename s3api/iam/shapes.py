"""Users, groups, roles, policies as answers show them.

Concurrency: pure. Source: AWS IAM API reference, data types.
"""

from __future__ import annotations

from s3api.iam.answers import Structure, Value, moment, quoted
from store.identity import names
from store.identity.managed import PREFIX
from store.identity.records import (
    Group,
    Holder,
    Key,
    Kind,
    ManagedPolicy,
    PolicyVersion,
    Role,
    Tags,
    User,
)


def tag_list(tags: Tags) -> list[Structure]:
    """As a list of Key and Value."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _boundary(holder: Holder) -> Value:
    if not holder.boundary:
        return None
    return {
        "PermissionsBoundaryType": "Policy",
        "PermissionsBoundaryArn": holder.boundary,
    }


def user_shape(account: str, user: User) -> Structure:
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": names.entity_arn(account, Kind.USER, user.name, user.path),
        "CreateDate": moment(user.made_s),
        "PermissionsBoundary": _boundary(user),
        "Tags": tag_list(user.tags) or None,
    }


def root_shape(account: str) -> Structure:
    """The account's root, as GetUser shows it."""
    return {
        "Path": "/",
        "UserName": "root",
        "UserId": names.account_number(account),
        "Arn": names.root_arn(account),
        "CreateDate": moment(0),
    }


def group_shape(account: str, group: Group) -> Structure:
    return {
        "Path": group.path,
        "GroupName": group.name,
        "GroupId": group.id,
        "Arn": names.entity_arn(account, Kind.GROUP, group.name, group.path),
        "CreateDate": moment(group.made_s),
    }


def role_shape(account: str, role: Role) -> Structure:
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": names.entity_arn(account, Kind.ROLE, role.name, role.path),
        "CreateDate": moment(role.made_s),
        "AssumeRolePolicyDocument": quoted(role.trust),
        "Description": role.description or None,
        "MaxSessionDuration": role.session_max_s,
        "PermissionsBoundary": _boundary(role),
        "Tags": tag_list(role.tags) or None,
    }


def key_shape(key: Key, user_name: str) -> Structure:
    """Without its secret."""
    return {
        "UserName": user_name or None,
        "AccessKeyId": key.id,
        "Status": "Active" if key.enabled else "Inactive",
        "CreateDate": moment(key.made_s),
    }


def policy_arn(account: str, policy: ManagedPolicy, *, canned: bool) -> str:
    if canned:
        return PREFIX + policy.name
    return names.entity_arn(account, Kind.POLICY, policy.name, policy.path)


def policy_shape(
    policy: ManagedPolicy, arn: str, *, attachments: int, boundaries: int
) -> Structure:
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.id,
        "Arn": arn,
        "Path": policy.path,
        "DefaultVersionId": f"v{policy.default}",
        "AttachmentCount": attachments,
        "PermissionsBoundaryUsageCount": boundaries,
        "IsAttachable": True,
        "Description": policy.description or None,
        "CreateDate": moment(policy.made_s),
        "UpdateDate": moment(policy.changed_s),
        "Tags": tag_list(policy.tags) or None,
    }


def version_shape(policy: ManagedPolicy, version: PolicyVersion, *, document: bool) -> Structure:
    return {
        "Document": quoted(version.document) if document else None,
        "VersionId": f"v{version.number}",
        "IsDefaultVersion": version.number == policy.default,
        "CreateDate": moment(version.made_s),
    }
