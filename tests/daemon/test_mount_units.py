"""The samples for systemd, and the programs that mount(8) is to find."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from daemon.config import CONFIG_FILE
from daemon.mountoptions import parse_options
from tests.daemon.harness import ROOT

UNITS = ROOT / "systemd"
MOUNT = UNITS / "mnt-twofold.mount"
AUTOMOUNT = UNITS / "mnt-twofold.automount"
GENERATOR = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")


def setting(unit: Path, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    return str(value)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_accepts_the_units() -> None:
    result = subprocess.run(
        ["systemd-analyze", "verify", str(MOUNT), str(AUTOMOUNT)],
        # Ours first, then systemd's own: the mount requires twofold.service.
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{UNITS}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_accepts_the_sandbox(tmp_path: Path) -> None:
    shutil.copy(UNITS / "twofold.service", tmp_path)
    (tmp_path / "twofold.service.d").mkdir()
    shutil.copy(UNITS / "sandbox.conf", tmp_path / "twofold.service.d")
    result = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "twofold.service")],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_units_are_about_the_same_place() -> None:
    assert setting(MOUNT, "Where") == setting(AUTOMOUNT, "Where") == "/mnt/twofold"
    assert setting(MOUNT, "What") == str(CONFIG_FILE)
    parse_options(setting(MOUNT, "Options"))


@pytest.mark.skipif(not GENERATOR.exists(), reason="no systemd here")
def test_systemd_reads_the_line_of_fstab_as_it_is_meant(tmp_path: Path) -> None:
    (line,) = set(
        re.findall(r"^(?:#   )?(/etc/twofold\S+ /mnt.*fuse\.twofold.*)$", MOUNT.read_text(), re.M)
    )
    (tmp_path / "fstab").write_text(f"{line}\n")
    subprocess.run(
        [GENERATOR, tmp_path, tmp_path, tmp_path],
        env={**os.environ, "SYSTEMD_FSTAB": str(tmp_path / "fstab")},
        check=True,
    )
    made = tmp_path / MOUNT.name
    assert setting(made, "Requires") == setting(made, "After") == "twofold.service"
    assert setting(made, "Before") == "remote-fs.target"
    parse_options(setting(made, "Options"))


def test_the_programs_that_mount_looks_for_are_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name in ("mount.twofold", "mount.fuse.twofold", "umount.twofold"):
        module, _, function = scripts[name].partition(":")
        assert callable(getattr(import_module(module), function))
        assert name in (ROOT / "README.md").read_text()
