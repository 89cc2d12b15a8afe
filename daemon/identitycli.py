"""`twofold user`, `group`, `key`, `policy` and `provider`, done by the running daemon.

Secrets are printed once, when they are made. Times are given as 30d, 12h or 2026-12-31.
"""

from __future__ import annotations

import calendar
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from daemon.cli import EXIT_FAILED, EXIT_NO_DAEMON, EXIT_USAGE, fail
from daemon.identitytalk import Answer, IdentityRefused, Question, ask_identity
from daemon.welcome import table

user = App(name="user", help="Users of an account: who has keys and policies.")
group = App(name="group", help="Groups of users, which have policies in common.")
key = App(name="key", help="Access keys: of users, and of services.")
policy = App(name="policy", help="What users, groups and keys may do; and why not.")
provider = App(name="provider", help="OpenID providers, whose tokens let people in.")

_UNITS_S = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_is_span = re.compile(r"(\d{1,6})([mhdw])", re.ASCII).fullmatch
_DOCUMENT_BYTES_MAX = 1 << 20
Many = Annotated[list[str] | None, Parameter(negative="", show_default=False)]
Switch = Annotated[bool, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What every command takes.

    Parameters
    ----------
    account:
        The configured user whose account it is about, if not the root's.
    json:
        Print it as JSON, for programs.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """

    account: str = ""
    json: Annotated[bool, Parameter(negative="")] = False
    config: Annotated[Path | None, Parameter(negative="")] = None
    socket: Annotated[Path | None, Parameter(negative="")] = None


_HERE = Where()


def _ask(where: Where, what: str, verb: str, **more: object) -> int:
    """Have it done, show the answer; the exit code."""
    from daemon.config import ConfigError, control_socket_of
    from daemon.control import NoDaemon

    question = Question(what=what, verb=verb, account=where.account, **more)  # type: ignore[arg-type]
    try:
        answer = ask_identity(where.socket or control_socket_of(where.config, os.environ), question)
    except ConfigError as error:
        fail(EXIT_USAGE, *error.faults)
    except NoDaemon as error:
        fail(EXIT_NO_DAEMON, str(error))
    except IdentityRefused as error:
        fail(EXIT_FAILED, str(error))
    _show(answer, json=where.json)
    return EXIT_FAILED if answer.failed else 0


def _show(answer: Answer, *, json: bool) -> None:
    if json:
        import msgspec

        names = [column.lower().replace(" ", "_") for column in answer.columns]
        shown: object = [dict(zip(names, row, strict=True)) for row in answer.rows]
        if not answer.columns:
            shown = list(answer.lines)
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return
    if answer.columns:
        print("\n".join(table(answer.columns, answer.rows)))
    for line in answer.lines:
        print(line)


def _document(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_DOCUMENT_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        fail(EXIT_USAGE, f"{path} can't be read: {reason}")


def parse_expiry(text: str, now_s: float) -> int | None:
    """Seconds since 1970 of 30d, 12h or 2026-12-31; None for what is none of these."""
    span = _is_span(text)
    if span is not None:
        return int(now_s) + int(span[1]) * _UNITS_S[span[2]]
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%d"))
    except ValueError:
        return None


# -- users ------------------------------------------------------------------------------


@user.command(name="list")
def list_users(*, where: Where = _HERE) -> int:
    """Show the users with their groups, policies and number of keys."""
    return _ask(where, "user", "list")


@user.command(name="add")
def add_user(name: str, /, *, group: Many = None, policy: Many = None, where: Where = _HERE) -> int:
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
    return _ask(where, "user", "add", name=name, **more)


@user.command(name="remove")
def remove_user(name: str, /, *, force: Switch = False, where: Where = _HERE) -> int:
    """Remove a user. Its keys and sessions stop working at once.

    Parameters
    ----------
    name:
        The user.
    force:
        With its keys, memberships and policies.
    """
    return _ask(where, "user", "remove", name=name, forced=force)


@user.command(name="attach")
def attach_to_user(name: str, policy: str, /, *, where: Where = _HERE) -> int:
    """Give a user a policy, by its name or ARN."""
    return _ask(where, "user", "attach", name=name, other=policy)


@user.command(name="detach")
def detach_from_user(name: str, policy: str, /, *, where: Where = _HERE) -> int:
    """Take a policy from a user."""
    return _ask(where, "user", "detach", name=name, other=policy)


# -- groups -----------------------------------------------------------------------------


@group.command(name="list")
def list_groups(*, where: Where = _HERE) -> int:
    """Show the groups with their users and policies."""
    return _ask(where, "group", "list")


@group.command(name="add")
def add_group(name: str, /, *, policy: Many = None, where: Where = _HERE) -> int:
    """Make a group.

    Parameters
    ----------
    name:
        Letters, digits and + = , . @ _ -
    policy:
        A policy to have. May be given several times.
    """
    return _ask(where, "group", "add", name=name, policies=tuple(policy or ()))


@group.command(name="remove")
def remove_group(name: str, /, *, force: Switch = False, where: Where = _HERE) -> int:
    """Remove a group.

    Parameters
    ----------
    name:
        The group.
    force:
        With its policies, and its users leave it.
    """
    return _ask(where, "group", "remove", name=name, forced=force)


@group.command(name="join")
def join_group(name: str, user: str, /, *, where: Where = _HERE) -> int:
    """Put a user into a group."""
    return _ask(where, "group", "join", name=name, other=user)


@group.command(name="leave")
def leave_group(name: str, user: str, /, *, where: Where = _HERE) -> int:
    """Take a user out of a group."""
    return _ask(where, "group", "leave", name=name, other=user)


@group.command(name="attach")
def attach_to_group(name: str, policy: str, /, *, where: Where = _HERE) -> int:
    """Give a group a policy, by its name or ARN."""
    return _ask(where, "group", "attach", name=name, other=policy)


@group.command(name="detach")
def detach_from_group(name: str, policy: str, /, *, where: Where = _HERE) -> int:
    """Take a policy from a group."""
    return _ask(where, "group", "detach", name=name, other=policy)


# -- keys -------------------------------------------------------------------------------


@key.command(name="list")
def list_keys(*, user: str = "", where: Where = _HERE) -> int:
    """Show the keys, without their secrets.

    Parameters
    ----------
    user:
        Those of this user only.
    """
    return _ask(where, "key", "list", name=user)


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
    where: Where = _HERE,
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
    return _ask(
        where,
        "key",
        "add",
        name=user,
        document="" if policy is None else _document(policy),
        expires_s=expires_s,
        description=description,
        uid=uid,
        gid=gid,
        umask=int(umask, 8) if umask else None,
    )


@key.command(name="narrow")
def narrow_key(access_key: str, policy: Path | None = None, /, *, where: Where = _HERE) -> int:
    """Narrow what a key may do by the policy in a file; without one, by none any more."""
    document = "" if policy is None else _document(policy)
    return _ask(where, "key", "narrow", name=access_key, document=document)


@key.command(name="enable")
def enable_key(access_key: str, /, *, where: Where = _HERE) -> int:
    """Let a key work again."""
    return _ask(where, "key", "enable", name=access_key)


@key.command(name="disable")
def disable_key(access_key: str, /, *, where: Where = _HERE) -> int:
    """Stop a key, and the sessions that it asked for, at once."""
    return _ask(where, "key", "disable", name=access_key)


@key.command(name="remove")
def remove_key(access_key: str, /, *, where: Where = _HERE) -> int:
    """Remove a key. It and the sessions that it asked for stop working at once."""
    return _ask(where, "key", "remove", name=access_key)


@key.command(name="rotate")
def rotate_key(
    access_key: str = "",
    /,
    *,
    root: Switch = False,
    master: Switch = False,
    where: Where = _HERE,
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
        return _ask(where, "key", "rotate-root" if root else "rotate-master")
    return _ask(where, "key", "rotate", name=access_key)


# -- policies ---------------------------------------------------------------------------


@policy.command(name="list")
def list_policies(*, where: Where = _HERE) -> int:
    """Show the policies there are, and who has them."""
    return _ask(where, "policy", "list")


@policy.command(name="show")
def show_policy(name: str, /, *, where: Where = _HERE) -> int:
    """Print a policy."""
    return _ask(where, "policy", "show", name=name)


@policy.command(name="set")
def set_policy(name: str, document: Path, /, *, where: Where = _HERE) -> int:
    """Make a policy of what is in a file, or change it for all who have it, at once."""
    return _ask(where, "policy", "set", name=name, document=_document(document))


@policy.command(name="remove")
def remove_policy(name: str, /, *, force: Switch = False, where: Where = _HERE) -> int:
    """Remove a policy.

    Parameters
    ----------
    name:
        The policy.
    force:
        From all who have it, too.
    """
    return _ask(where, "policy", "remove", name=name, forced=force)


@policy.command(name="simulate")
def simulate(
    who: str, action: str, resource: str = "", /, *, context: Many = None, where: Where = _HERE
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
    return _ask(
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
def list_providers(*, where: Where = _HERE) -> int:
    """Show the OpenID providers whose tokens are believed."""
    return _ask(where, "provider", "list")


@provider.command(name="add")
def add_provider(url: str, /, *, client: Many = None, claim: str = "", where: Where = _HERE) -> int:
    """Believe the tokens of an OpenID provider.

    Parameters
    ----------
    url:
        Its issuer, exactly as its tokens name it.
    client:
        A client id that tokens may be meant for. May be given several times.
    claim:
        The claim that names policies for who assumes no role.
    """
    return _ask(where, "provider", "add", name=url, clients=tuple(client or ()), other=claim)


@provider.command(name="remove")
def remove_provider(url: str, /, *, where: Where = _HERE) -> int:
    """Believe the tokens of a provider no more."""
    return _ask(where, "provider", "remove", name=url)
