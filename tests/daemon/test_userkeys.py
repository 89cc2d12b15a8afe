"""Users of the configuration: their secrets, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.config import ConfigError, load_settings
from daemon.rootkey import RootKey
from daemon.settings import Settings
from daemon.userkeys import UserKeyError, load_users
from s3api.credentials import user_account

ROOT = RootKey(access_key="rootkey", secret_key="a-secret-of-the-root", file=None)
MINIMAL = 'pool.drives = ["/data/d{1...4}"]\n'
ALICE = '[[s3.users]]\nname = "alice"\naccess_key = "alice-key"\n'
BOB = '[[s3.users]]\nname = "bob"\naccess_key = "bob-key"\nsecret_key = "bobs-own-secret"\n'


def load(tmp_path: Path, text: str, mode: int = 0o600) -> Settings:
    path = tmp_path / "twofold.toml"
    path.write_text(MINIMAL + text)
    path.chmod(mode)
    return load_settings(path, {})


def secret_file(tmp_path: Path, text: str = "alices-own-secret\n", mode: int = 0o600) -> Path:
    path = tmp_path / "alice.secret"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_secrets_come_from_the_configuration_or_a_file_of_their_own(tmp_path: Path) -> None:
    file = secret_file(tmp_path)
    settings = load(tmp_path, f'{ALICE}secret_key_file = "{file}"\n{BOB}')
    alice, bob = load_users(settings.s3.users, ROOT)
    assert (alice.access_key, alice.secret_key) == ("alice-key", "alices-own-secret")
    assert (bob.access_key, bob.secret_key) == ("bob-key", "bobs-own-secret")
    assert alice.account == user_account("alice")
    assert len({alice.account.id, bob.account.id}) == 2
    assert not alice.account.root


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (ALICE, "alice needs a secret_key or a secret_key_file"),
        (ALICE + 'secret_key = "x"\nsecret_key_file = "/x"\n', "and not both"),
        (ALICE + 'secret_key_file = "/absent"\n', "/absent can't be read"),
        (BOB + BOB, "two users have the name bob"),
        (BOB + BOB.replace('"bob"', '"rob"'), "two users have the access_key bob-key"),
        (BOB + 'secrets = "x"\n', "s3.users: object contains unknown field"),
        ('[[s3.users]]\nname = "bob"\nsecret_key = "bobs-own-secret"\n', "missing required field"),
        ('[s3]\ndomains = ["a.b"]\nwebsite_domains = ["A.b"]\n', "s3.website_domains: A.b is one"),
        ('[s3]\ntrusted_proxies = ["10.0.0.1/8"]\n', "10.0.0.1/8 is no address"),
        (BOB + "umask = 0o1777\n", "s3.users"),
    ],
)
def test_faults_are_told_without_the_secret(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert any(fault in each for each in caught.value.faults), caught.value.faults
    assert "bobs-own-secret" not in str(caught.value)


def test_who_may_read_the_configuration_may_read_the_secrets_in_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        load(tmp_path, BOB, mode=0o644)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (BOB.replace("bob-key", "rootkey"), "is the root key's"),
        (BOB.replace("bobs-own-secret", "short"), "the secret of the user bob in s3.users must be"),
        (BOB.replace("bob-key", "bob/key"), "the access_key of the user bob in s3.users must be"),
    ],
)
def test_keys_that_nobody_could_sign_with_are_refused(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(UserKeyError, match=fault):
        load_users(load(tmp_path, text).s3.users, ROOT)


def test_a_secret_file_that_changed_after_the_check_is_told_of(tmp_path: Path) -> None:
    file = secret_file(tmp_path)
    settings = load(tmp_path, f'{ALICE}secret_key_file = "{file}"\n')
    file.chmod(0o644)
    with pytest.raises(UserKeyError, match="chmod 600"):
        load_users(settings.s3.users, ROOT)
