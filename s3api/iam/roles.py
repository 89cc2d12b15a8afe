"""IAM's actions on roles, and what an account has of everything.

Concurrency: as `store.identity`. Source: AWS IAM API reference, the actions of these names.
"""

from __future__ import annotations

from s3api.iam.answers import Pairs
from s3api.iam.calls import QueryCall, Result
from s3api.iam.shapes import role_shape
from store.identity.holders import ATTACHED_MAX, COUNTS_MAX, GROUPS_OF_USER_MAX, SESSION_S
from store.identity.keys import KEYS_OF_USER_MAX
from store.identity.policies import POLICIES_MAX, VERSIONS_MAX
from store.identity.records import Group, Role, User


async def create_role(call: QueryCall) -> Result:
    parameters = call.parameters
    role = await call.identity.holders.create_role(
        call.account,
        parameters.text("RoleName"),
        parameters.text("AssumeRolePolicyDocument"),
        path=parameters.text("Path", "/"),
        description=parameters.text("Description", ""),
        session_max_s=parameters.number("MaxSessionDuration", SESSION_S.start),
        tags=parameters.tags(),
        boundary=parameters.text("PermissionsBoundary", ""),
    )
    return {"Role": role_shape(call.account, role)}


async def get_role(call: QueryCall) -> Result:
    role = call.identity.holders.get(call.account, Role, call.parameters.text("RoleName"))
    return {"Role": role_shape(call.account, role)}


async def list_roles(call: QueryCall) -> Result:
    path = call.parameters.text("PathPrefix", "/")
    roles = call.identity.holders.all(call.account, Role, path)
    found, ending = call.page(roles, lambda each: each.name.lower())
    return {"Roles": [role_shape(call.account, each) for each in found], **ending}


async def update_role(call: QueryCall) -> Result:
    parameters = call.parameters
    longest = parameters.optional("MaxSessionDuration")
    await call.identity.holders.change_role(
        call.account,
        parameters.text("RoleName"),
        description=parameters.optional("Description"),
        session_max_s=None if longest is None else parameters.number("MaxSessionDuration", 0),
    )
    return {}


async def update_role_description(call: QueryCall) -> Result:
    parameters = call.parameters
    role = await call.identity.holders.change_role(
        call.account, parameters.text("RoleName"), description=parameters.text("Description")
    )
    return {"Role": role_shape(call.account, role)}


async def update_assume_role_policy(call: QueryCall) -> Result:
    text = call.parameters.text
    await call.identity.holders.change_role(
        call.account, text("RoleName"), trust=text("PolicyDocument")
    )
    return None


async def delete_role(call: QueryCall) -> Result:
    await call.identity.holders.delete(call.account, Role, call.parameters.text("RoleName"))
    return None


async def get_account_summary(call: QueryCall) -> Result:
    identity, account = call.identity, call.account
    holders = identity.holders
    return {
        "SummaryMap": Pairs(
            {
                "Users": len(holders.all(account, User)),
                "UsersQuota": COUNTS_MAX[User],
                "Groups": len(holders.all(account, Group)),
                "GroupsQuota": COUNTS_MAX[Group],
                "Roles": len(holders.all(account, Role)),
                "RolesQuota": COUNTS_MAX[Role],
                "Policies": len(identity.policies.all(account)),
                "PoliciesQuota": POLICIES_MAX,
                "Providers": len(identity.providers.all(account)),
                "AccessKeysPerUserQuota": KEYS_OF_USER_MAX,
                "AttachedPoliciesPerUserQuota": ATTACHED_MAX,
                "AttachedPoliciesPerGroupQuota": ATTACHED_MAX,
                "AttachedPoliciesPerRoleQuota": ATTACHED_MAX,
                "GroupsPerUserQuota": GROUPS_OF_USER_MAX,
                "VersionsPerPolicyQuota": VERSIONS_MAX,
                "MFADevices": 0,
                "AccountMFAEnabled": 0,
                "AccountAccessKeysPresent": 1,
            }
        )
    }
