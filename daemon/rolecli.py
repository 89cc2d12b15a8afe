"""`twofold role`, done by the running daemon."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from daemon.identityasking import HERE, Many, Switch, Where, ask, document_of

role = App(name="role", help="Roles of an account: what those whom they trust may become.")


@role.command(name="list")
def list_roles(*, where: Where = HERE) -> int:
    """Show the roles with their policies, how long a session may last, and their ARNs."""
    return ask(where, "role", "list")


@role.command(name="show")
def show_role(name: str, /, *, where: Where = HERE) -> int:
    """Print whom a role trusts."""
    return ask(where, "role", "show", name=name)


@role.command(name="add")
def add_role(
    name: str,
    /,
    *,
    trust: Path | None = None,
    user: Many = None,
    provider: Many = None,
    policy: Many = None,
    description: str = "",
    longest: int = 3600,
    where: Where = HERE,
) -> int:
    """Make a role, and print its ARN. It trusts whom a file names, or these users and providers.

    Parameters
    ----------
    name:
        Letters, digits and + = , . @ _ -
    trust:
        A file with a trust policy, in the place of users and providers.
    user:
        A user of the account who may assume it. May be given several times.
    provider:
        An OpenID provider's issuer, whose tokens may. May be given several times.
    policy:
        A policy to have. May be given several times.
    description:
        What it is for.
    longest:
        How many seconds a session may last, 3600 to 43200.
    """
    return ask(
        where,
        "role",
        "add",
        name=name,
        document="" if trust is None else document_of(trust),
        users=tuple(user or ()),
        clients=tuple(provider or ()),
        policies=tuple(policy or ()),
        description=description,
        duration_s=longest,
    )


@role.command(name="trust")
def trust_role(
    name: str,
    trust: Path | None = None,
    /,
    *,
    user: Many = None,
    provider: Many = None,
    where: Where = HERE,
) -> int:
    """Change whom a role trusts, to what a file says, or to these users and providers.

    Parameters
    ----------
    name:
        The role.
    trust:
        A file with a trust policy.
    user:
        A user who may assume it. May be given several times.
    provider:
        An OpenID provider's issuer, whose tokens may. May be given several times.
    """
    return ask(
        where,
        "role",
        "trust",
        name=name,
        document="" if trust is None else document_of(trust),
        users=tuple(user or ()),
        clients=tuple(provider or ()),
    )


@role.command(name="remove")
def remove_role(name: str, /, *, force: Switch = False, where: Where = HERE) -> int:
    """Remove a role. Its sessions stop working at once.

    Parameters
    ----------
    name:
        The role.
    force:
        With its policies.
    """
    return ask(where, "role", "remove", name=name, forced=force)


@role.command(name="attach")
def attach_to_role(name: str, policy: str, /, *, where: Where = HERE) -> int:
    """Give a role a policy, by its name or ARN."""
    return ask(where, "role", "attach", name=name, other=policy)


@role.command(name="detach")
def detach_from_role(name: str, policy: str, /, *, where: Where = HERE) -> int:
    """Take a policy from a role."""
    return ask(where, "role", "detach", name=name, other=policy)
