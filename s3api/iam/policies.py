"""IAM's actions on managed policies and on OpenID providers.

Concurrency: as `store.identity`. Source: AWS IAM API reference, the actions of these names.
"""

from __future__ import annotations

from s3api.iam.answers import Structure, moment
from s3api.iam.calls import QueryCall, Result
from s3api.iam.refusals import ValidationError
from s3api.iam.shapes import policy_arn, policy_shape, tag_list, version_shape
from store.identity import names
from store.identity.managed import MANAGED
from store.identity.records import Group, ManagedPolicy, Role, User

_SCOPES = ("All", "AWS", "Local")


def _shape(call: QueryCall, policy: ManagedPolicy, arn: str) -> Structure:
    policies = call.identity.policies
    return policy_shape(
        policy,
        arn,
        attachments=len(policies.holders(call.account, arn)),
        boundaries=len(policies.bounded(call.account, arn)),
    )


async def create_policy(call: QueryCall) -> Result:
    parameters = call.parameters
    policy = await call.identity.policies.create(
        call.account,
        parameters.text("PolicyName"),
        parameters.text("PolicyDocument"),
        path=parameters.text("Path", "/"),
        description=parameters.text("Description", ""),
        tags=parameters.tags(),
    )
    return {"Policy": _shape(call, policy, policy_arn(call.account, policy, canned=False))}


async def get_policy(call: QueryCall) -> Result:
    arn = call.parameters.text("PolicyArn")
    return {"Policy": _shape(call, call.identity.policies.get(call.account, arn), arn)}


async def list_policies(call: QueryCall) -> Result:
    parameters, policies = call.parameters, call.identity.policies
    scope, path = parameters.text("Scope", "All"), parameters.text("PathPrefix", "/")
    if scope not in _SCOPES:
        raise ValidationError(f"Scope is one of {', '.join(_SCOPES)}.")
    listed: list[tuple[str, ManagedPolicy]] = []
    if scope != "Local":
        listed += MANAGED.items()
    if scope != "AWS":
        own = policies.all(call.account)
        listed += [(policy_arn(call.account, each, canned=False), each) for each in own]
    shown = [(arn, each) for arn, each in sorted(listed) if each.path.startswith(path)]
    if parameters.flag("OnlyAttached"):
        shown = [(arn, each) for arn, each in shown if policies.holders(call.account, arn)]
    found, ending = call.page(shown, lambda each: each[0])
    return {"Policies": [_shape(call, each, arn) for arn, each in found], **ending}


async def delete_policy(call: QueryCall) -> Result:
    await call.identity.policies.delete(call.account, call.parameters.text("PolicyArn"))
    return None


async def create_policy_version(call: QueryCall) -> Result:
    parameters, policies = call.parameters, call.identity.policies
    arn = parameters.text("PolicyArn")
    version = await policies.add_version(
        call.account,
        arn,
        parameters.text("PolicyDocument"),
        default=parameters.flag("SetAsDefault"),
    )
    policy = policies.get(call.account, arn)
    return {"PolicyVersion": version_shape(policy, version, document=False)}


async def get_policy_version(call: QueryCall) -> Result:
    arn, version = call.parameters.text("PolicyArn"), call.parameters.text("VersionId")
    policies = call.identity.policies
    found = policies.version(call.account, arn, version)
    policy = policies.get(call.account, arn)
    return {"PolicyVersion": version_shape(policy, found, document=True)}


async def list_policy_versions(call: QueryCall) -> Result:
    policy = call.identity.policies.get(call.account, call.parameters.text("PolicyArn"))
    newest = sorted(policy.versions, key=lambda each: -each.number)
    found, ending = call.page(newest, lambda each: f"{1_000_000 - each.number:07}")
    return {"Versions": [version_shape(policy, each, document=False) for each in found], **ending}


async def set_default_policy_version(call: QueryCall) -> Result:
    text = call.parameters.text
    await call.identity.policies.set_default(call.account, text("PolicyArn"), text("VersionId"))
    return None


async def delete_policy_version(call: QueryCall) -> Result:
    text = call.parameters.text
    await call.identity.policies.delete_version(call.account, text("PolicyArn"), text("VersionId"))
    return None


async def list_entities_for_policy(call: QueryCall) -> Result:
    arn = call.parameters.text("PolicyArn")
    policies = call.identity.policies
    policies.get(call.account, arn)
    as_boundary = call.parameters.text("PolicyUsageFilter", "") == "PermissionsBoundary"
    asked = policies.bounded if as_boundary else policies.holders
    wanted = call.parameters.text("EntityFilter", "")
    holders = sorted(asked(call.account, arn), key=lambda each: each.id)
    found, ending = call.page(holders, lambda each: each.id)
    shown: dict[str, list[Structure]] = {}
    for made, name in ((Group, "Group"), (User, "User"), (Role, "Role")):
        shown[f"Policy{name}s"] = [
            {f"{name}Name": each.name, f"{name}Id": each.id}
            for each in found
            if isinstance(each, made) and wanted in ("", name)
        ]
    return {**shown, **ending}


async def tag_policy(call: QueryCall) -> Result:
    arn = call.parameters.text("PolicyArn")
    await call.identity.policies.set_tags(call.account, arn, call.parameters.tags(), ())
    return None


async def untag_policy(call: QueryCall) -> Result:
    arn, keys = call.parameters.text("PolicyArn"), call.parameters.texts("TagKeys")
    await call.identity.policies.set_tags(call.account, arn, {}, keys)
    return None


async def list_policy_tags(call: QueryCall) -> Result:
    policy = call.identity.policies.get(call.account, call.parameters.text("PolicyArn"))
    found, ending = call.page(sorted(policy.tags.items()), lambda each: each[0])
    return {"Tags": tag_list(dict(found)), **ending}


# -- providers --------------------------------------------------------------------------


async def create_provider(call: QueryCall) -> Result:
    parameters = call.parameters
    provider = await call.identity.providers.create(
        call.account,
        parameters.text("Url"),
        parameters.texts("ClientIDList"),
        thumbprints=parameters.texts("ThumbprintList"),
        tags=parameters.tags(),
    )
    return {
        "OpenIDConnectProviderArn": names.provider_arn(call.account, provider.url),
        "Tags": tag_list(provider.tags) or None,
    }


def _provider(call: QueryCall) -> str:
    return call.parameters.text("OpenIDConnectProviderArn")


async def get_provider(call: QueryCall) -> Result:
    provider = call.identity.providers.get(call.account, _provider(call))
    return {
        "Url": provider.url,
        "ClientIDList": provider.clients,
        "ThumbprintList": provider.thumbprints,
        "CreateDate": moment(provider.made_s),
        "Tags": tag_list(provider.tags),
    }


async def list_providers(call: QueryCall) -> Result:
    providers = call.identity.providers.all(call.account)
    shown = [{"Arn": names.provider_arn(call.account, each.url)} for each in providers]
    return {"OpenIDConnectProviderList": shown}


async def delete_provider(call: QueryCall) -> Result:
    await call.identity.providers.delete(call.account, _provider(call))
    return None


async def add_client(call: QueryCall) -> Result:
    client = call.parameters.text("ClientID")
    await call.identity.providers.add_client(call.account, _provider(call), client)
    return None


async def remove_client(call: QueryCall) -> Result:
    client = call.parameters.text("ClientID")
    await call.identity.providers.remove_client(call.account, _provider(call), client)
    return None


async def update_thumbprint(call: QueryCall) -> Result:
    thumbprints = call.parameters.texts("ThumbprintList")
    await call.identity.providers.set_thumbprints(call.account, _provider(call), thumbprints)
    return None


async def tag_provider(call: QueryCall) -> Result:
    tags = call.parameters.tags()
    await call.identity.providers.set_tags(call.account, _provider(call), tags, ())
    return None


async def untag_provider(call: QueryCall) -> Result:
    keys = call.parameters.texts("TagKeys")
    await call.identity.providers.set_tags(call.account, _provider(call), {}, keys)
    return None


async def list_provider_tags(call: QueryCall) -> Result:
    provider = call.identity.providers.get(call.account, _provider(call))
    found, ending = call.page(sorted(provider.tags.items()), lambda each: each[0])
    return {"Tags": tag_list(dict(found)), **ending}
