"""What IAM does alike for users, groups and roles: policies, boundaries and tags.

Each function makes the action for one of the three types.
Concurrency: as `store.identity.holders`. Source: AWS IAM API reference, the actions of these names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from s3api.iam.answers import quoted
from s3api.iam.calls import QueryCall, Result
from s3api.iam.shapes import tag_list
from store.identity.records import Group, Role, User

Run = Callable[[QueryCall], Awaitable[Result]]
Made = type[User] | type[Group] | type[Role]


def _name(call: QueryCall, made: Made) -> str:
    return call.parameters.text(f"{made.__name__}Name")


def put_policy(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        text = call.parameters.text
        await call.identity.holders.put_inline(
            call.account, made, _name(call, made), text("PolicyName"), text("PolicyDocument")
        )
        return None

    return run


def get_policy(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        name, policy = _name(call, made), call.parameters.text("PolicyName")
        document = call.identity.holders.inline(call.account, made, name, policy)
        holder = call.identity.holders.get(call.account, made, name)
        return {
            f"{made.__name__}Name": holder.name,
            "PolicyName": policy,
            "PolicyDocument": quoted(document),
        }

    return run


def delete_policy(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        name, policy = _name(call, made), call.parameters.text("PolicyName")
        await call.identity.holders.remove_inline(call.account, made, name, policy)
        return None

    return run


def list_policies(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        holder = call.identity.holders.get(call.account, made, _name(call, made))
        found, ending = call.page(sorted(holder.inline), str)
        return {"PolicyNames": found, **ending}

    return run


def attach(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        arn = call.parameters.text("PolicyArn")
        await call.identity.holders.attach(call.account, made, _name(call, made), arn)
        return None

    return run


def detach(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        arn = call.parameters.text("PolicyArn")
        await call.identity.holders.detach(call.account, made, _name(call, made), arn)
        return None

    return run


def list_attached(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        holder = call.identity.holders.get(call.account, made, _name(call, made))
        path = call.parameters.text("PathPrefix", "/")
        policies = call.identity.policies
        attached = sorted((policies.get(call.account, arn).name, arn) for arn in holder.attached)
        below = [
            each for each in attached if policies.get(call.account, each[1]).path.startswith(path)
        ]
        found, ending = call.page(below, lambda each: each[0])
        shown = [{"PolicyName": name, "PolicyArn": arn} for name, arn in found]
        return {"AttachedPolicies": shown, **ending}

    return run


def put_boundary(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        arn = call.parameters.text("PermissionsBoundary")
        await call.identity.holders.set_boundary(call.account, made, _name(call, made), arn)
        return None

    return run


def delete_boundary(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        await call.identity.holders.set_boundary(call.account, made, _name(call, made), "")
        return None

    return run


def tag(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        tags = call.parameters.tags()
        await call.identity.holders.tag(call.account, made, _name(call, made), tags)
        return None

    return run


def untag(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        keys = call.parameters.texts("TagKeys")
        await call.identity.holders.untag(call.account, made, _name(call, made), keys)
        return None

    return run


def list_tags(made: Made) -> Run:
    async def run(call: QueryCall) -> Result:
        holder = call.identity.holders.get(call.account, made, _name(call, made))
        tags = sorted(holder.tags.items())
        found, ending = call.page(tags, lambda each: each[0])
        return {"Tags": tag_list(dict(found)), **ending}

    return run
