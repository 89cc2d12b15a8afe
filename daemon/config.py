"""From a TOML file, the environment and the command line to one `Settings`; or all faults at once.

Later wins: defaults, the file, `TWOFOLD__SECTION__NAME` in the environment, the command line.
In the environment a list is written with commas, and a blank value is an empty list.
Every fault is found before any is told, each by the setting's full name.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import stat
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import FieldInfo, fields

from daemon.addresses import parse_address
from daemon.ellipses import RangeError, expand
from daemon.settings import Settings
from store.identity.errors import Invalid
from store.identity.names import check_issuer, provider_host

CONFIG_FILE = Path("/etc/twofold/twofold.toml")
ENV_PREFIX = "TWOFOLD__"
SOCKET_PATH_BYTES_MAX = 107
"""sun_path in unix(7), less its closing NUL."""

Overrides = Mapping[str, object]
"""Full names of settings (`s3.listen`) and the values the command line gives them."""


class ConfigError(Exception):
    """What is wrong with the configuration: one line for each fault, by the setting's name."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def load_settings(
    path: Path | None, environment: Mapping[str, str], overrides: Overrides | None = None
) -> Settings:
    """Read, override, check.

    path: None for the file at its usual place, if there is one.
    Raises ConfigError with all faults.
    """
    faults: list[str] = []
    settings = _assemble(_collect(path, environment, overrides or {}, faults))
    faults += _cross_faults(settings)
    faults += _inline_secret_faults(settings, path or CONFIG_FILE)
    if faults:
        raise ConfigError(faults)
    return msgspec.structs.replace(
        settings,
        pool=msgspec.structs.replace(settings.pool, drives=tuple(expand(settings.pool.drives))),
    )


def setting_fields() -> dict[str, FieldInfo]:
    """Every setting by its full name."""
    sections = typing.get_type_hints(Settings)
    return {
        f"{section}.{field.name}": field
        for section, struct in sections.items()
        for field in fields(struct)
    }


def control_socket(settings: Settings) -> Path:
    """Where the daemon can be asked."""
    return Path(settings.state.control_socket or f"{settings.state.folder}/control.sock")


def control_socket_of(path: Path | None, environment: Mapping[str, str]) -> Path:
    """Where the daemon with this configuration can be asked, though it may have other faults.

    A client needs this one path and may not be allowed to read the daemon's secrets.
    """
    faults: list[str] = []
    found = _collect(path, environment, {}, faults)
    if path is not None and faults and not path.exists():
        raise ConfigError(faults)
    return control_socket(_assemble(found))


def root_key_file(settings: Settings) -> Path:
    """Where the root key is kept."""
    return Path(settings.state.root_key_file or f"{settings.state.folder}/root.key")


def master_key_file(settings: Settings) -> Path:
    """Where the master key is kept."""
    return Path(settings.state.master_key_file or f"{settings.state.folder}/master.key")


def secret_file_fault(path: Path) -> str | None:
    """Why `path` is not fit to hold a secret, None when it is."""
    try:
        status = path.stat()
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a file"
    if status.st_mode & 0o077:
        return f"{path} can be read by others: run chmod 600 {path}"
    if not os.access(path, os.R_OK):
        return f"{path} can't be read by this user"
    return None


def _collect(
    path: Path | None, environment: Mapping[str, str], overrides: Overrides, faults: list[str]
) -> dict[str, Any]:
    """The good values of all three sources by full name; what is wrong goes to `faults`."""
    given: dict[str, object] = {}
    for section, table in _read_file(path, faults).items():
        if isinstance(table, dict):
            given |= {f"{section}.{name}": value for name, value in table.items()}
        else:
            faults.append(f"{section}: settings stand in sections, as [s3] and listen = ...")
    found: dict[str, Any] = {}
    _convert_all(given, found, faults, strict=True)
    _convert_all(_from_environment(environment), found, faults, strict=False)
    _convert_all(overrides, found, faults, strict=True)
    return found


def _read_file(path: Path | None, faults: list[str]) -> dict[str, Any]:
    """The tables of the file; its own faults are added to `faults`."""
    chosen = path or CONFIG_FILE
    try:
        return tomllib.loads(chosen.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path is not None:
            faults.append(f"{chosen}: there is no such file")
    except OSError as error:
        faults.append(f"{chosen}: can't be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(f"{chosen}: is not TOML: {error}")
    return {}


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    known = setting_fields()
    given: dict[str, object] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        value: object = text
        if name in known and typing.get_origin(known[name].type) is tuple:
            value = [piece.strip() for piece in text.split(",") if piece.strip()]
        given[name] = value
    return given


def _convert_all(
    given: Mapping[str, object], found: dict[str, Any], faults: list[str], *, strict: bool
) -> None:
    """Check each given value by its field's type; the good ones go to `found`."""
    known = setting_fields()
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            faults.append(f"{name}: there is no such setting{hint}")
            continue
        try:
            found[name] = msgspec.convert(value, known[name].type, strict=strict)
        except msgspec.ValidationError as error:
            reason = str(error).replace("`", "").replace(" - at $", ", at item ")
            # A user's table may hold a secret.
            shown = "" if name == "s3.users" else f", it is {value!r}"
            faults.append(f"{name}: {reason[:1].lower()}{reason[1:]}{shown}")


def _assemble(found: Mapping[str, Any]) -> Settings:
    sections: dict[str, Any] = {}
    for section, struct in typing.get_type_hints(Settings).items():
        prefix = f"{section}."
        chosen = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        sections[section] = struct(**chosen)
    return Settings(**sections)


# What one field's type can't say. Each check yields faults and looks at nothing else's.


def _cross_faults(settings: Settings) -> list[str]:
    checks: tuple[Callable[[Settings], Iterator[str]], ...] = (
        _drive_faults,
        _address_faults,
        _tls_faults,
        _domain_faults,
        _proxy_faults,
        _user_faults,
        _provider_faults,
        _path_faults,
    )
    return [fault for check in checks for fault in check(settings)]


def _drive_faults(settings: Settings) -> Iterator[str]:
    if not settings.pool.drives:
        yield "pool.drives: name at least one drive, as /data/d{1...4}"
        return
    try:
        drives = expand(settings.pool.drives)
    except RangeError as error:
        yield f"pool.drives: {error}"
        return
    seen: set[str] = set()
    for drive in drives:
        plain = os.path.normpath(drive)
        if not os.path.isabs(drive):
            yield f"pool.drives: {drive} does not start with /"
        elif plain in seen:
            yield f"pool.drives: {drive} stands there twice"
        seen.add(plain)


def _address_faults(settings: Settings) -> Iterator[str]:
    taken: dict[str, str] = {}
    for name, listen in (
        ("s3.listen", settings.s3.listen),
        ("console.listen", settings.console.listen),
    ):
        for text in listen:
            try:
                address = parse_address(text)
            except ValueError as error:
                yield f"{name}: {error}"
                continue
            if address.port and str(address) in taken:
                yield f"{name}: {text} is taken by {taken[str(address)]}"
            taken[str(address)] = name
    if not settings.s3.listen:
        yield "s3.listen: name at least one address, as 127.0.0.1:9000"


def _tls_faults(settings: Settings) -> Iterator[str]:
    s3 = settings.s3
    if bool(s3.tls_cert_file) != bool(s3.tls_key_file):
        yield "s3.tls_cert_file: a certificate and s3.tls_key_file belong together"
        return
    if not s3.tls_cert_file:
        return
    if not os.access(s3.tls_cert_file, os.R_OK):
        yield f"s3.tls_cert_file: {s3.tls_cert_file} can't be read"
    fault = secret_file_fault(Path(s3.tls_key_file))
    if fault is not None:
        yield f"s3.tls_key_file: {fault}"


def _domain_faults(settings: Settings) -> Iterator[str]:
    taken = {domain.lower() for domain in settings.s3.domains}
    for domain in settings.s3.website_domains:
        if domain.lower() in taken:
            yield f"s3.website_domains: {domain} is one of s3.domains, which are not for websites"


def _proxy_faults(settings: Settings) -> Iterator[str]:
    for text in settings.s3.trusted_proxies:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            yield f"s3.trusted_proxies: {text} is no address, and no range like 10.0.0.0/8"


def _user_faults(settings: Settings) -> Iterator[str]:
    users = settings.s3.users
    for what, given in (
        ("name", [user.name for user in users]),
        ("access_key", [user.access_key for user in users]),
    ):
        for twice in sorted({each for each in given if given.count(each) > 1}):
            yield f"s3.users: two users have the {what} {twice}"
    for user in users:
        if bool(user.secret_key) == bool(user.secret_key_file):
            yield f"s3.users: {user.name} needs a secret_key or a secret_key_file, and not both"
        elif user.secret_key_file and (fault := secret_file_fault(Path(user.secret_key_file))):
            yield f"s3.users: the secret of {user.name}: {fault}"


def _provider_faults(settings: Settings) -> Iterator[str]:
    accounts = {"", *(user.name for user in settings.s3.users)}
    seen: set[tuple[str, str]] = set()
    for provider in settings.s3.oidc:
        try:
            check_issuer(provider.url)
        except Invalid as error:
            yield f"s3.oidc: {provider.url}: {error.sentence.removesuffix('.')}"
        if provider.account not in accounts:
            yield f"s3.oidc: {provider.url}: no user in s3.users has the name {provider.account}"
        if provider.account and (provider.policies or provider.claim):
            yield f"s3.oidc: {provider.url}: policies without a role are the root account's only"
        host = (provider.account, provider_host(provider.url))
        if host in seen:
            yield f"s3.oidc: {provider.url} stands there twice"
        seen.add(host)


def _inline_secret_faults(settings: Settings, path: Path) -> Iterator[str]:
    """Secrets that stand in the configuration are as secret as its file."""
    if any(user.secret_key for user in settings.s3.users):
        fault = secret_file_fault(path)
        if fault is not None:
            yield f"s3.users: with a secret_key in the configuration, {fault}"


def _path_faults(settings: Settings) -> Iterator[str]:
    named = {
        "state.folder": settings.state.folder,
        "state.root_key_file": str(root_key_file(settings)),
        "state.master_key_file": str(master_key_file(settings)),
        "state.control_socket": str(control_socket(settings)),
        "mount.path": settings.mount.path,
    }
    for name, path in named.items():
        if path and not os.path.isabs(path):
            yield f"{name}: {path} does not start with /"
    if len(os.fsencode(control_socket(settings))) > SOCKET_PATH_BYTES_MAX:
        yield f"state.control_socket: the path is longer than {SOCKET_PATH_BYTES_MAX} bytes"
    mount = settings.mount.path
    try:
        drives = expand(settings.pool.drives)
    except RangeError:
        drives = []
    for name, inner, outer in (
        *(("mount.path", mount, drive) for drive in drives),
        *(("pool.drives", drive, mount) for drive in drives),
        ("state.folder", settings.state.folder, mount),
    ):
        if inner and outer and Path(os.path.normpath(inner)).is_relative_to(outer):
            yield f"{name}: {inner} lies within {outer}"
