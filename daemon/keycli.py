"""`twofold key`, `twofold policy` and `twofold provider`, done by the running daemon.

Secrets are printed once, when they are made. Times are given as 30d, 12h or 2026-12-31.
"""

from __future__ import annotations

import calendar
import re
import time
from pathlib import Path

from cyclopts import App

from daemon.cli import EXIT_USAGE, fail
from daemon.identityasking import HERE, Many, Switch, Where, ask, document_of

key = App(name="key", help="Access keys: of users, and of services.")
policy = App(name="policy", help="What users, groups and keys may do; and why not.")
provider = App(name="provider", help="OpenID providers, whose tokens let people in.")

_UNITS_S = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_is_span = re.compile(r"(\d{1,6})([mhdw])", re.ASCII).fullmatch


def parse_expiry(text: str, now_s: float) -> int | None:
    """Seconds since 1970 of 30d, 12h or 2026-12-31; None for what is none of these."""
    span = _is_span(text)
    if span is not None:
        return int(now_s) + int(span[1]) * _UNITS_S[span[2]]
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%d"))
    except ValueError:
        return None


# -- keys -------------------------------------------------------------------------------


@key.command(name="list")
def list_keys(*, user: str = "", where: Where = HERE) -> int:
    """Show the keys, without their secrets.

    Parameters
    ----------
    user:
        Those of this user only.
    """
    return ask(where, "key", "list", name=user)


@key.command(name="add")
def add_key(
    *,
    user: str = "",
    policy: Path | None = None,
    expires: str = "",
    description: str = "",
    uid: int | None = None,
    gid: int | None = None,
    umask: str = "",
    where: Where = HERE,
) -> int:
    """Make an access key and print its secret, which is shown only now.

    Parameters
    ----------
    user:
        Whose it is; if not given, the account's own, which may do everything in it.
    policy:
        A file with a policy that narrows what the key may do.
    expires:
        When it stops working, as 30d, 12h or 2026-12-31.
    description:
        What it is for.
    uid:
        Who owns on the mount what is stored with it.
    gid:
        The group of the same.
    umask:
        Permission bits that files made with it don't have, as 027.
    """
    expires_s = parse_expiry(expires, time.time()) if expires else None
    if expires and expires_s is None:
        fail(EXIT_USAGE, f"{expires} is no time: write it as 30d, 12h or 2026-12-31")
    if umask and not re.fullmatch(r"[0-7]{1,4}", umask):
        fail(EXIT_USAGE, f"{umask} is no umask: write it as 027")
    return ask(
        where,
        "key",
        "add",
        name=user,
        document="" if policy is None else document_of(policy),
        expires_s=expires_s,
        description=description,
        uid=uid,
        gid=gid,
        umask=int(umask, 8) if umask else None,
    )


@key.command(name="narrow")
def narrow_key(access_key: str, policy: Path | None = None, /, *, where: Where = HERE) -> int:
    """Narrow what a key may do by the policy in a file; without one, by none any more."""
    document = "" if policy is None else document_of(policy)
    return ask(where, "key", "narrow", name=access_key, document=document)


@key.command(name="enable")
def enable_key(access_key: str, /, *, where: Where = HERE) -> int:
    """Let a key work again."""
    return ask(where, "key", "enable", name=access_key)


@key.command(name="disable")
def disable_key(access_key: str, /, *, where: Where = HERE) -> int:
    """Stop a key, and the sessions that it asked for, at once."""
    return ask(where, "key", "disable", name=access_key)


@key.command(name="remove")
def remove_key(access_key: str, /, *, where: Where = HERE) -> int:
    """Remove a key. It and the sessions that it asked for stop working at once."""
    return ask(where, "key", "remove", name=access_key)


@key.command(name="rotate")
def rotate_key(
    access_key: str = "",
    /,
    *,
    root: Switch = False,
    master: Switch = False,
    where: Where = HERE,
) -> int:
    """Give a key a new secret, at once; or make a new root key or master key.

    Parameters
    ----------
    access_key:
        The key of a user.
    root:
        Make a new root key, in the file where it is kept.
    master:
        Seal all secrets under a new master key. Sessions end.
    """
    if [bool(access_key), root, master].count(True) != 1:
        fail(EXIT_USAGE, "name one access key, or --root, or --master")
    if root or master:
        return ask(where, "key", "rotate-root" if root else "rotate-master")
    return ask(where, "key", "rotate", name=access_key)


# -- policies ---------------------------------------------------------------------------


@policy.command(name="list")
def list_policies(*, where: Where = HERE) -> int:
    """Show the policies there are, and who has them."""
    return ask(where, "policy", "list")


@policy.command(name="show")
def show_policy(name: str, /, *, where: Where = HERE) -> int:
    """Print a policy."""
    return ask(where, "policy", "show", name=name)


@policy.command(name="set")
def set_policy(name: str, document: Path, /, *, where: Where = HERE) -> int:
    """Make a policy of what is in a file, or change it for all who have it, at once."""
    return ask(where, "policy", "set", name=name, document=document_of(document))


@policy.command(name="remove")
def remove_policy(name: str, /, *, force: Switch = False, where: Where = HERE) -> int:
    """Remove a policy.

    Parameters
    ----------
    name:
        The policy.
    force:
        From all who have it, too.
    """
    return ask(where, "policy", "remove", name=name, forced=force)


@policy.command(name="simulate")
def simulate(
    who: str, action: str, resource: str = "", /, *, context: Many = None, where: Where = HERE
) -> int:
    """Tell whether a user or key may do something, and which statement says so.

    Exits with 0 if it may, with 1 if not.

    Parameters
    ----------
    who:
        A user, or an access key.
    action:
        As s3:GetObject, or GetObject.
    resource:
        As BUCKET/KEY, or an ARN.
    context:
        What the request would tell, as aws:SourceIp=10.0.0.1. May be given several times.
    """
    pairs: list[tuple[str, str]] = []
    for each in context or ():
        name, equals, value = each.partition("=")
        if not equals:
            fail(EXIT_USAGE, f"{each} is no condition key: write it as KEY=VALUE")
        pairs.append((name, value))
    return ask(
        where,
        "policy",
        "simulate",
        name=who,
        other=action,
        resource=resource,
        context=tuple(pairs),
    )


# -- providers --------------------------------------------------------------------------


@provider.command(name="list")
def list_providers(*, where: Where = HERE) -> int:
    """Show the OpenID providers whose tokens are believed."""
    return ask(where, "provider", "list")


@provider.command(name="add")
def add_provider(
    url: str,
    /,
    *,
    client: Many = None,
    policy: Many = None,
    claim: str = "",
    where: Where = HERE,
) -> int:
    """Believe the tokens of an OpenID provider.

    Parameters
    ----------
    url:
        Its issuer, exactly as its tokens name it.
    client:
        A client id that tokens may be meant for. May be given several times.
    policy:
        A policy for all who come with a token and assume no role. May be given several times.
    claim:
        The claim that names policies for who assumes no role.
    """
    return ask(
        where,
        "provider",
        "add",
        name=url,
        clients=tuple(client or ()),
        policies=tuple(policy or ()),
        other=claim,
    )


@provider.command(name="remove")
def remove_provider(url: str, /, *, where: Where = HERE) -> int:
    """Believe the tokens of a provider no more."""
    return ask(where, "provider", "remove", name=url)
