"""Every action of IAM and STS that is served, by service and name.

Concurrency: constants.
"""

from __future__ import annotations

from collections.abc import Mapping

from s3api.iam import holders, policies, roles, simulation, tokens, users
from s3api.iam.holders import Run
from store.identity.records import Group, Role, User

_OF_HOLDERS: dict[str, Run] = {}
for _made, _name in ((User, "User"), (Group, "Group"), (Role, "Role")):
    _OF_HOLDERS |= {
        f"Put{_name}Policy": holders.put_policy(_made),
        f"Get{_name}Policy": holders.get_policy(_made),
        f"Delete{_name}Policy": holders.delete_policy(_made),
        f"List{_name}Policies": holders.list_policies(_made),
        f"Attach{_name}Policy": holders.attach(_made),
        f"Detach{_name}Policy": holders.detach(_made),
        f"ListAttached{_name}Policies": holders.list_attached(_made),
    }
for _made, _name in ((User, "User"), (Role, "Role")):
    _OF_HOLDERS |= {
        f"Put{_name}PermissionsBoundary": holders.put_boundary(_made),
        f"Delete{_name}PermissionsBoundary": holders.delete_boundary(_made),
        f"Tag{_name}": holders.tag(_made),
        f"Untag{_name}": holders.untag(_made),
        f"List{_name}Tags": holders.list_tags(_made),
    }

IAM: Mapping[str, Run] = {
    **_OF_HOLDERS,
    "CreateUser": users.create_user,
    "GetUser": users.get_user,
    "ListUsers": users.list_users,
    "UpdateUser": users.update_user,
    "DeleteUser": users.delete_user,
    "CreateGroup": users.create_group,
    "GetGroup": users.get_group,
    "ListGroups": users.list_groups,
    "ListGroupsForUser": users.list_groups_for_user,
    "UpdateGroup": users.update_group,
    "DeleteGroup": users.delete_group,
    "AddUserToGroup": users.add_user_to_group,
    "RemoveUserFromGroup": users.remove_user_from_group,
    "CreateAccessKey": users.create_access_key,
    "ListAccessKeys": users.list_access_keys,
    "UpdateAccessKey": users.update_access_key,
    "DeleteAccessKey": users.delete_access_key,
    "GetAccessKeyLastUsed": users.get_access_key_last_used,
    "CreateRole": roles.create_role,
    "GetRole": roles.get_role,
    "ListRoles": roles.list_roles,
    "UpdateRole": roles.update_role,
    "UpdateRoleDescription": roles.update_role_description,
    "UpdateAssumeRolePolicy": roles.update_assume_role_policy,
    "DeleteRole": roles.delete_role,
    "GetAccountSummary": roles.get_account_summary,
    "CreatePolicy": policies.create_policy,
    "GetPolicy": policies.get_policy,
    "ListPolicies": policies.list_policies,
    "DeletePolicy": policies.delete_policy,
    "CreatePolicyVersion": policies.create_policy_version,
    "GetPolicyVersion": policies.get_policy_version,
    "ListPolicyVersions": policies.list_policy_versions,
    "SetDefaultPolicyVersion": policies.set_default_policy_version,
    "DeletePolicyVersion": policies.delete_policy_version,
    "ListEntitiesForPolicy": policies.list_entities_for_policy,
    "TagPolicy": policies.tag_policy,
    "UntagPolicy": policies.untag_policy,
    "ListPolicyTags": policies.list_policy_tags,
    "CreateOpenIDConnectProvider": policies.create_provider,
    "GetOpenIDConnectProvider": policies.get_provider,
    "ListOpenIDConnectProviders": policies.list_providers,
    "DeleteOpenIDConnectProvider": policies.delete_provider,
    "AddClientIDToOpenIDConnectProvider": policies.add_client,
    "RemoveClientIDFromOpenIDConnectProvider": policies.remove_client,
    "UpdateOpenIDConnectProviderThumbprint": policies.update_thumbprint,
    "TagOpenIDConnectProvider": policies.tag_provider,
    "UntagOpenIDConnectProvider": policies.untag_provider,
    "ListOpenIDConnectProviderTags": policies.list_provider_tags,
    "SimulatePrincipalPolicy": simulation.simulate_principal_policy,
    "SimulateCustomPolicy": simulation.simulate_custom_policy,
}
# Who may do these, they find out themselves.
STS: Mapping[str, Run] = {
    "GetCallerIdentity": tokens.get_caller_identity,
    "GetSessionToken": tokens.get_session_token,
    "AssumeRole": tokens.assume_role,
    "AssumeRoleWithWebIdentity": tokens.assume_role_with_web_identity,
}
ANONYMOUS = frozenset({"AssumeRoleWithWebIdentity"})
