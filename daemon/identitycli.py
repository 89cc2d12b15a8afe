"""`twofold user` and `twofold group`, done by the running daemon."""

from __future__ import annotations

from cyclopts import App

from daemon.identityasking import HERE, Many, Switch, Where, ask

user = App(name="user", help="Users of an account: who has keys and policies.")
group = App(name="group", help="Groups of users, which have policies in common.")


@user.command(name="list")
def list_users(*, where: Where = HERE) -> int:
    """Show the users with their groups, policies and number of keys."""
    return ask(where, "user", "list")


@user.command(name="add")
def add_user(name: str, /, *, group: Many = None, policy: Many = None, where: Where = HERE) -> int:
    """Make a user. It has no key yet: twofold key add --user NAME.

    Parameters
    ----------
    name:
        Letters, digits and + = , . @ _ -
    group:
        A group to join. May be given several times.
    policy:
        A policy to have, as readonly or readwrite. May be given several times.
    """
    more = {"groups": tuple(group or ()), "policies": tuple(policy or ())}
    return ask(where, "user", "add", name=name, **more)


@user.command(name="remove")
def remove_user(name: str, /, *, force: Switch = False, where: Where = HERE) -> int:
    """Remove a user. Its keys and sessions stop working at once.

    Parameters
    ----------
    name:
        The user.
    force:
        With its keys, memberships and policies.
    """
    return ask(where, "user", "remove", name=name, forced=force)


@user.command(name="attach")
def attach_to_user(name: str, policy: str, /, *, where: Where = HERE) -> int:
    """Give a user a policy, by its name or ARN."""
    return ask(where, "user", "attach", name=name, other=policy)


@user.command(name="detach")
def detach_from_user(name: str, policy: str, /, *, where: Where = HERE) -> int:
    """Take a policy from a user."""
    return ask(where, "user", "detach", name=name, other=policy)


# -- groups -----------------------------------------------------------------------------


@group.command(name="list")
def list_groups(*, where: Where = HERE) -> int:
    """Show the groups with their users and policies."""
    return ask(where, "group", "list")


@group.command(name="add")
def add_group(name: str, /, *, policy: Many = None, where: Where = HERE) -> int:
    """Make a group.

    Parameters
    ----------
    name:
        Letters, digits and + = , . @ _ -
    policy:
        A policy to have. May be given several times.
    """
    return ask(where, "group", "add", name=name, policies=tuple(policy or ()))


@group.command(name="remove")
def remove_group(name: str, /, *, force: Switch = False, where: Where = HERE) -> int:
    """Remove a group.

    Parameters
    ----------
    name:
        The group.
    force:
        With its policies, and its users leave it.
    """
    return ask(where, "group", "remove", name=name, forced=force)


@group.command(name="join")
def join_group(name: str, user: str, /, *, where: Where = HERE) -> int:
    """Put a user into a group."""
    return ask(where, "group", "join", name=name, other=user)


@group.command(name="leave")
def leave_group(name: str, user: str, /, *, where: Where = HERE) -> int:
    """Take a user out of a group."""
    return ask(where, "group", "leave", name=name, other=user)


@group.command(name="attach")
def attach_to_group(name: str, policy: str, /, *, where: Where = HERE) -> int:
    """Give a group a policy, by its name or ARN."""
    return ask(where, "group", "attach", name=name, other=policy)


@group.command(name="detach")
def detach_from_group(name: str, policy: str, /, *, where: Where = HERE) -> int:
    """Take a policy from a group."""
    return ask(where, "group", "detach", name=name, other=policy)
