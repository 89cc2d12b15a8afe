"""IAM's actions on users, groups and access keys.

Concurrency: as `store.identity`. Source: AWS IAM API reference, the actions of these names.
"""

from __future__ import annotations

from s3api.iam.answers import Structure, moment
from s3api.iam.calls import QueryCall, Result
from s3api.iam.refusals import ValidationError
from s3api.iam.shapes import group_shape, key_shape, root_shape, user_shape
from store.identity import names
from store.identity.errors import NoSuchEntity
from store.identity.records import Group, Key, Kind, User
from store.identity.uses import Use

_STATUSES = {"Active": True, "Inactive": False}


async def create_user(call: QueryCall) -> Result:
    parameters = call.parameters
    user = await call.identity.holders.create_user(
        call.account,
        parameters.text("UserName"),
        path=parameters.text("Path", "/"),
        tags=parameters.tags(),
        boundary=parameters.text("PermissionsBoundary", ""),
    )
    return {"User": user_shape(call.account, user)}


async def get_user(call: QueryCall) -> Result:
    name = call.user_name
    if not name:
        return {"User": root_shape(call.account)}
    return {"User": user_shape(call.account, call.identity.holders.get(call.account, User, name))}


async def list_users(call: QueryCall) -> Result:
    users = call.identity.holders.all(call.account, User, call.parameters.text("PathPrefix", "/"))
    found, ending = call.page(users, lambda each: each.name.lower())
    return {"Users": [user_shape(call.account, each) for each in found], **ending}


async def update_user(call: QueryCall) -> Result:
    parameters, holders = call.parameters, call.identity.holders
    user = holders.get(call.account, User, parameters.text("UserName"))
    name, path = parameters.text("NewUserName", user.name), parameters.text("NewPath", user.path)
    # Who may change a user must not so get at names that are not theirs to change.
    call.authorize(names.entity_arn(call.account, Kind.USER, name, path))
    await holders.rename_user(call.account, user.name, name, path)
    return None


async def delete_user(call: QueryCall) -> Result:
    await call.identity.holders.delete(call.account, User, call.parameters.text("UserName"))
    return None


# -- groups -----------------------------------------------------------------------------


async def create_group(call: QueryCall) -> Result:
    parameters = call.parameters
    group = await call.identity.holders.create_group(
        call.account, parameters.text("GroupName"), path=parameters.text("Path", "/")
    )
    return {"Group": group_shape(call.account, group)}


async def get_group(call: QueryCall) -> Result:
    name = call.parameters.text("GroupName")
    group = call.identity.holders.get(call.account, Group, name)
    members = call.identity.holders.members(call.account, name)
    found, ending = call.page(members, lambda each: each.name.lower())
    return {
        "Group": group_shape(call.account, group),
        "Users": [user_shape(call.account, each) for each in found],
        **ending,
    }


async def list_groups(call: QueryCall) -> Result:
    path = call.parameters.text("PathPrefix", "/")
    return _groups(call, call.identity.holders.all(call.account, Group, path))


async def list_groups_for_user(call: QueryCall) -> Result:
    holders = call.identity.holders
    user = holders.get(call.account, User, call.parameters.text("UserName"))
    return _groups(call, [holders.get(call.account, Group, name) for name in sorted(user.groups)])


def _groups(call: QueryCall, groups: list[Group]) -> Structure:
    found, ending = call.page(groups, lambda each: each.name.lower())
    return {"Groups": [group_shape(call.account, each) for each in found], **ending}


async def update_group(call: QueryCall) -> Result:
    parameters, holders = call.parameters, call.identity.holders
    group = holders.get(call.account, Group, parameters.text("GroupName"))
    name, path = parameters.text("NewGroupName", group.name), parameters.text("NewPath", group.path)
    call.authorize(names.entity_arn(call.account, Kind.GROUP, name, path))
    await holders.rename_group(call.account, group.name, name, path)
    return None


async def delete_group(call: QueryCall) -> Result:
    await call.identity.holders.delete(call.account, Group, call.parameters.text("GroupName"))
    return None


async def add_user_to_group(call: QueryCall) -> Result:
    text = call.parameters.text
    await call.identity.holders.join(call.account, text("UserName"), text("GroupName"))
    return None


async def remove_user_from_group(call: QueryCall) -> Result:
    text = call.parameters.text
    await call.identity.holders.leave(call.account, text("UserName"), text("GroupName"))
    return None


# -- access keys ------------------------------------------------------------------------


async def create_access_key(call: QueryCall) -> Result:
    name = call.user_name
    made = await call.identity.keys.create(call.account, name)
    shape = key_shape(made.key, _spelled(call, made.key))
    return {"AccessKey": {**shape, "SecretAccessKey": made.secret}}


async def list_access_keys(call: QueryCall) -> Result:
    keys = call.identity.keys.of(call.account, call.user_name)
    found, ending = call.page(keys, lambda each: each.id)
    return {
        "UserName": call.user_name or None,
        "AccessKeyMetadata": [key_shape(each, _spelled(call, each)) for each in found],
        **ending,
    }


async def update_access_key(call: QueryCall) -> Result:
    key = _own_key(call)
    status = call.parameters.text("Status")
    if status not in _STATUSES:
        raise ValidationError("Status is Active or Inactive.")
    await call.identity.keys.enable(call.account, key.id, _STATUSES[status])
    return None


async def delete_access_key(call: QueryCall) -> Result:
    await call.identity.keys.delete(call.account, _own_key(call).id)
    return None


async def get_access_key_last_used(call: QueryCall) -> Result:
    key = call.identity.keys.get(call.account, call.parameters.text("AccessKeyId"))
    use = call.identity.keys.uses.last(key)
    return {"UserName": _spelled(call, key) or None, "AccessKeyLastUsed": _use(use)}


def _use(use: Use | None) -> Structure:
    if use is None:
        return {"ServiceName": "N/A", "Region": "N/A"}
    return {
        "LastUsedDate": moment(use.at_s),
        "ServiceName": use.service,
        "Region": use.region,
    }


def _own_key(call: QueryCall) -> Key:
    """The key that is named, which has to be the named user's. Raises NoSuchEntity."""
    key = call.identity.keys.get(call.account, call.parameters.text("AccessKeyId"))
    if key.user != call.user_name.lower():
        raise NoSuchEntity(f"The Access Key with id {key.id} cannot be found.")
    return key


def _spelled(call: QueryCall, key: Key) -> str:
    if not key.user:
        return ""
    return call.identity.holders.get(call.account, User, key.user).name
