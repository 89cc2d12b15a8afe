"""Configuration: sources, their order, and every fault told at once by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from daemon.config import ConfigError, control_socket_of, load_settings, secret_file_fault
from daemon.settings import Settings

MINIMAL = 'pool.drives = ["/data/d{1...4}"]\n'


def load(
    tmp_path: Path, text: str, environment: Mapping[str, str] | None = None, **overrides: object
) -> Settings:
    path = tmp_path / "twofold.toml"
    path.write_text(text)
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_settings(path, environment or {}, named)


def faults(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environment)
    return caught.value.faults


def test_drives_alone_are_enough_and_all_else_has_a_default(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert settings.pool.drives == ("/data/d1", "/data/d2", "/data/d3", "/data/d4")
    assert settings.s3.listen == ("127.0.0.1:9000",)
    assert settings.console.listen == ("127.0.0.1:9001",)
    assert settings.mount.path == ""


def test_the_environment_overrides_the_file_and_the_command_line_both(tmp_path: Path) -> None:
    text = MINIMAL + '[s3]\nlisten = ["127.0.0.1:1"]\nregion = "file-1"\n[log]\nlevel = "error"\n'
    environment = {
        "TWOFOLD__S3__REGION": "env-1",
        "TWOFOLD__S3__LISTEN": "127.0.0.1:2, [::1]:2",
        "TWOFOLD__METADATA__INLINE_MAX_BYTES": "4096",
        "TWOFOLD__MOUNT__ALLOW_OTHER": "false",
        "TWOFOLD__CONSOLE__LISTEN": "",
        "HOME": "/root",
    }
    settings = load(tmp_path, text, environment, s3__listen=["127.0.0.1:3"])
    assert settings.s3.listen == ("127.0.0.1:3",)
    assert settings.s3.region == "env-1"
    assert settings.log.level == "error"
    assert settings.metadata.inline_max_bytes == 4096
    assert settings.mount.allow_other is False
    assert settings.console.listen == ()


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "pool.drives: name at least one drive"),
        ('pool.drives = "/d"', "pool.drives: expected array, got str"),
        ('pool.drives = ["d1"]', "pool.drives: d1 does not start with /"),
        ('pool.drives = ["/d", "/d/"]', "pool.drives: /d/ stands there twice"),
        ('pool.drives = ["/d{4...1}"]', "pool.drives: /d{4...1}: the range 4...1 runs backwards"),
        ('pool.drives = ["/d", 7]', "pool.drives: expected str, got int, at item"),
        (MINIMAL + "pool.drvies = []", "pool.drvies: there is no such setting, did you mean pool."),
        (MINIMAL + "[nonsense]\nx = 1", "nonsense.x: there is no such setting"),
        (MINIMAL + "s3 = 1", "s3: settings stand in sections"),
        (MINIMAL + 'pool.allow_single_copy = "yes"', "pool.allow_single_copy: expected bool"),
        (MINIMAL + "metadata.inline_max_bytes = -1", "metadata.inline_max_bytes: expected int >="),
        (MINIMAL + "metadata.inline_max_bytes = 65537", "metadata.inline_max_bytes: expected int"),
        (MINIMAL + "stop.deadline_s = 0", "stop.deadline_s: expected float > 0"),
        (MINIMAL + 'log.level = "loud"', "log.level: invalid enum value 'loud'"),
        (MINIMAL + 's3.server = "apache"', "s3.server: invalid enum value"),
        (MINIMAL + 's3.region = "Über"', "s3.region: expected str matching regex"),
        (MINIMAL + "s3.listen = []", "s3.listen: name at least one address"),
        (MINIMAL + 's3.listen = ["9000"]', "s3.listen: '9000' is not host:port"),
        (MINIMAL + 's3.listen = ["h:70000"]', "s3.listen: 'h:70000' is not host:port"),
        (MINIMAL + 's3.listen = ["http://h:1"]', "s3.listen: 'http://h:1'"),
        (MINIMAL + 's3.listen = ["::1:9000"]', "s3.listen: '::1:9000': write an IPv6 address in"),
        (
            MINIMAL + 'console.listen = ["127.0.0.1:9000"]',
            "console.listen: 127.0.0.1:9000 is taken",
        ),
        (MINIMAL + 's3.tls_key_file = "/k"', "s3.tls_cert_file: a certificate and s3.tls_key_file"),
        (MINIMAL + 'mount.path = "mnt"', "mount.path: mnt does not start with /"),
        (MINIMAL + 'mount.path = "/data/d3/mnt"', "mount.path: /data/d3/mnt lies within /data/d3"),
        (MINIMAL + 'mount.path = "/data"', "pool.drives: /data/d1 lies within /data"),
        (MINIMAL + 'state.folder = ""', "state.folder: expected str of length >= 1"),
        (MINIMAL + f'state.folder = "/{"x" * 120}"', "state.control_socket: the path is longer"),
        ("pool.drives = [", "TOML"),
    ],
)
def test_a_fault_is_told_by_the_setting_s_name(tmp_path: Path, text: str, start: str) -> None:
    found = faults(tmp_path, text)
    assert any(fault.startswith(start) or start in fault for fault in found), found
    assert all("\n" not in fault for fault in found)


def test_all_faults_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    text = 'pool.drives = ["d"]\nlog.level = "loud"\ns3.listen = ["x"]\n'
    found = faults(tmp_path, text, {"TWOFOLD__STOP__DEADLINE_S": "soon", "TWOFOLD__FOO": "1"})
    names = [fault.partition(":")[0] for fault in found]
    assert sorted(names) == ["foo", "log.level", "pool.drives", "s3.listen", "stop.deadline_s"]


def test_a_named_file_must_exist_while_the_usual_one_need_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_settings(tmp_path / "absent.toml", {})
    assert load_settings(None, {"TWOFOLD__POOL__DRIVES": "/d1,/d2"}).pool.drives == ("/d1", "/d2")


def test_tls_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "cert"
    for path in (key, certificate):
        path.write_text("x")
        path.chmod(0o644)
    text = MINIMAL + f's3.tls_cert_file = "{certificate}"\ns3.tls_key_file = "{key}"\n'
    assert any("chmod 600" in fault for fault in faults(tmp_path, text))
    key.chmod(0o600)
    assert load(tmp_path, text).s3.tls_key_file == str(key)


def test_secret_files_must_be_files_of_mode_0600(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    assert "can't be read" in (secret_file_fault(secret) or "")
    secret.write_text("x")
    for mode, fit in ((0o600, True), (0o400, True), (0o640, False), (0o604, False)):
        secret.chmod(mode)
        assert (secret_file_fault(secret) is None) is fit, oct(mode)
    assert "not a file" in (secret_file_fault(tmp_path) or "")


def test_a_client_finds_the_socket_though_the_configuration_has_faults(tmp_path: Path) -> None:
    path = tmp_path / "twofold.toml"
    path.write_text('state.folder = "/run/tf"\nlog.level = "loud"\n')
    assert control_socket_of(path, {}) == Path("/run/tf/control.sock")
    assert control_socket_of(None, {"TWOFOLD__STATE__CONTROL_SOCKET": "/x"}) == Path("/x")
    with pytest.raises(ConfigError):
        control_socket_of(tmp_path / "absent", {})


def test_openid_providers_are_checked(tmp_path: Path) -> None:
    one = 'url = "https://op.example/realm"\naudiences = ["us"]\n'
    settings = load(tmp_path, f"{MINIMAL}[[s3.oidc]]\n{one}policies = ['readonly']\n")
    assert [each.url for each in settings.s3.oidc] == ["https://op.example/realm"]
    found = "\n".join(
        faults(
            tmp_path,
            f"{MINIMAL}[[s3.oidc]]\n{one}[[s3.oidc]]\n{one}[[s3.oidc]]\n"
            'url = "ftp://op.example"\naudiences = ["us"]\naccount = "bob"\nclaim = "groups"\n',
        )
    )
    for part in (
        "s3.oidc: https://op.example/realm stands there twice",
        "s3.oidc: ftp://op.example: The URL of a provider must be an https URL",
        "s3.oidc: ftp://op.example: no user in s3.users has the name bob",
        "s3.oidc: ftp://op.example: policies without a role are the root account's only",
    ):
        assert part in found
    assert "audiences" in faults(tmp_path, f'{MINIMAL}[[s3.oidc]]\nurl = "https://op.example"\n')[0]
