"""The master key: where it comes from, and that it is made once and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.masterkey import (
    MasterKeyError,
    add_master_key,
    drop_old_keys,
    load_master_keys,
)
from store.access.sealed import new_master_key


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    first = load_master_keys(path, {})
    assert first.made and path.stat().st_mode & 0o777 == 0o600
    second = load_master_keys(path, {})
    assert not second.made
    assert second.keyring.current.id == first.keyring.current.id


def test_the_environment_and_a_credential_come_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    kept = load_master_keys(path, {}).keyring.current.id
    (tmp_path / "twofold.master-key").write_text(new_master_key())
    credential = load_master_keys(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    given = {"TWOFOLD_MASTER_KEY": new_master_key(), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    variable = load_master_keys(path, given)
    ids = {kept, credential.keyring.current.id, variable.keyring.current.id}
    assert len(ids) == 3 and credential.file is variable.file is None
    with pytest.raises(MasterKeyError, match="comes from outside"):
        add_master_key(variable)


@pytest.mark.parametrize("text", ["", "short", "QUJD", "AAAA" * 11])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.key"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(MasterKeyError) as refused:
        load_master_keys(path, {})
    assert not text or text not in str(refused.value)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    load_master_keys(path, {})
    path.chmod(0o644)
    with pytest.raises(MasterKeyError, match="can be read by others"):
        load_master_keys(path, {})


def test_a_rotation_keeps_the_old_key_until_it_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    first = load_master_keys(path, {})
    added = add_master_key(first)
    assert [key.id for key in added.keyring.keys][1:] == [first.keyring.current.id]
    assert len(load_master_keys(path, {}).keyring.keys) == 2
    dropped = drop_old_keys(added)
    assert [key.id for key in dropped.keyring.keys] == [added.keyring.current.id]
    assert load_master_keys(path, {}).keyring.current.id == added.keyring.current.id
