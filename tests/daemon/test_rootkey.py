"""The root key: made once, kept private, refused when everybody knows it."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest

from daemon.rootkey import RootKeyError, load_root_key

GOOD = {"TWOFOLD_ROOT_USER": "alice", "TWOFOLD_ROOT_PASSWORD": "long enough".replace(" ", "-")}


def test_a_first_start_makes_a_random_key_in_a_file_of_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    key = load_root_key(path, {})
    assert key.made
    assert len(key.access_key) == 20
    assert len(key.secret_key) == 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.secret_key not in repr(key)
    assert load_root_key(tmp_path / "other.key", {}).secret_key != key.secret_key


def test_a_later_start_finds_the_same_key(tmp_path: Path) -> None:
    made = load_root_key(tmp_path / "root.key", {})
    found = load_root_key(tmp_path / "root.key", {})
    assert (found.access_key, found.secret_key) == (made.access_key, made.secret_key)
    assert not found.made


def test_the_file_is_an_aws_credentials_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = load_root_key(tmp_path / "root.key", {})
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "root.key"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    credentials = botocore.session.get_session().get_credentials()
    assert (credentials.access_key, credentials.secret_key) == (key.access_key, key.secret_key)


def test_the_environment_comes_first_and_leaves_no_file(tmp_path: Path) -> None:
    key = load_root_key(tmp_path / "root.key", GOOD)
    assert (key.access_key, key.file, key.made) == ("alice", None, False)
    assert not (tmp_path / "root.key").exists()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"TWOFOLD_ROOT_USER": "alice"}, "must be set together"),
        ({"TWOFOLD_ROOT_PASSWORD": "long-enough"}, "must be set together"),
        (GOOD | {"TWOFOLD_ROOT_USER": "al"}, "3 to 128"),
        (GOOD | {"TWOFOLD_ROOT_USER": "a/lice"}, "3 to 128"),
        (GOOD | {"TWOFOLD_ROOT_USER": "a,lice"}, "3 to 128"),
        (GOOD | {"TWOFOLD_ROOT_PASSWORD": "short"}, "8 to 128"),
        (GOOD | {"TWOFOLD_ROOT_PASSWORD": "with a space"}, "8 to 128"),
        (GOOD | {"TWOFOLD_ROOT_PASSWORD": "minioadmin"}, "everybody knows"),
        (GOOD | {"TWOFOLD_ROOT_PASSWORD": "MinioAdmin"}, "everybody knows"),
        (
            {"TWOFOLD_ROOT_USER": "minioadmin", "TWOFOLD_ROOT_PASSWORD": "minioadmin"},
            "everybody knows",
        ),
        (
            {"TWOFOLD_ROOT_USER": "same-same", "TWOFOLD_ROOT_PASSWORD": "same-same"},
            "everybody knows",
        ),
    ],
)
def test_an_unfit_key_of_the_environment_is_refused_without_showing_it(
    tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    with pytest.raises(RootKeyError, match=reason) as caught:
        load_root_key(tmp_path / "root.key", environment)
    assert environment.get("TWOFOLD_ROOT_PASSWORD", "-") not in str(caught.value)


def test_a_file_that_others_can_read_or_nobody_understands_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    load_root_key(path, {})
    path.chmod(0o640)
    with pytest.raises(RootKeyError, match="chmod 600"):
        load_root_key(path, {})
    path.write_text("hush = hush")
    path.chmod(0o600)
    with pytest.raises(RootKeyError, match="has no aws_access_key_id") as caught:
        load_root_key(path, {})
    assert "hush = " not in str(caught.value)
