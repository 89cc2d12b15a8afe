"""What the documents promise to mention, they mention: settings, commands, packages, rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import NODEFAULT, fields

from daemon.cli import app
from daemon.config import load_settings, setting_fields
from daemon.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "systemd" / "twofold.toml"
UNIT = ROOT / "systemd" / "twofold.service"


def sample() -> dict[str, Any]:
    tables = tomllib.loads(SAMPLE.read_text())
    return {f"{table}.{name}": value for table in tables for name, value in tables[table].items()}


def test_the_sample_configuration_is_accepted() -> None:
    assert load_settings(SAMPLE, {}).pool.drives[0] == "/srv/twofold/d1"


def test_the_sample_has_every_setting_and_no_other() -> None:
    assert list(sample()) == list(setting_fields())


@pytest.mark.parametrize("name", [name for name in setting_fields() if name != "pool.drives"])
def test_the_sample_shows_the_default(name: str) -> None:
    field = setting_fields()[name]
    assert field.default is not NODEFAULT
    assert msgspec.convert(sample()[name], field.type) == field.default


def test_each_setting_of_the_sample_has_a_comment_of_its_own() -> None:
    above = ""
    for line in SAMPLE.read_text().splitlines():
        if re.match(r"\w+ = ", line):
            assert above.startswith("# "), f"{line} has no comment above it"
        above = line


def test_each_section_says_what_its_settings_are() -> None:
    for section, struct in typing.get_type_hints(Settings).items():
        assert struct.__doc__, section
        assert fields(struct), section


def test_the_readme_names_every_command_and_script() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in app:
        if not command.startswith("-"):
            assert f"twofold {command}" in readme, command
    for script in ("scripts/run", "scripts/test", "scripts/check", "scripts/fix"):
        assert script in readme + (ROOT / "CONTRIBUTING.md").read_text(), script


def test_the_readme_tells_the_exit_codes() -> None:
    readme = (ROOT / "README.md").read_text()
    for code in ("0", "1", "2", "3"):
        assert re.search(rf"^\| {code} \|", readme, re.MULTILINE), code


def test_architecture_names_every_package_and_only_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for package in ("daemon", "s3api", "fusefs", "store", "store/chunks", "metadb"):
        assert f"`{package}/`" in text, package
    named = re.findall(
        r"`((?:daemon|s3api|fusefs|store|metadb|scripts|systemd)/[\w./]+\.\w+)`", text
    )
    assert len(named) > 20
    for path in named:
        assert (ROOT / path).exists(), path


def test_semantics_has_every_rule() -> None:
    text = (ROOT / "SEMANTICS.md").read_text()
    assert re.findall(r"^## (R\d+)\b", text, re.MULTILINE) == [f"R{n}" for n in range(18)]


def test_each_rule_is_proved_through_the_doors_themselves() -> None:
    text = (ROOT / "SEMANTICS.md").read_text().partition("\n## Proof\n")[2]
    rows = re.findall(r"^\| (R\d+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    assert [rule for rule, _ in rows] == [f"R{n}" for n in range(18)]
    for rule, proofs in rows:
        # Not the store alone: a real mount, a real server, or both.
        assert re.search(r"`tests/(cases|fusefs|daemon|fault)/", proofs), rule


def test_tests_that_the_documents_name_exist() -> None:
    for document in ("SEMANTICS.md", "ARCHITECTURE.md"):
        for path, _, name in re.findall(
            r"`(tests/[\w/]+\.py)(::(\w+))?`", (ROOT / document).read_text()
        ):
            assert (ROOT / path).exists(), f"{document}: {path}"
            assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{document}: {name}"


def test_links_between_documents_lead_somewhere() -> None:
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (ROOT / target).exists(), f"{document.name}: {target}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_accepts_the_unit() -> None:
    result = subprocess.run(
        ["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_waits_longer_than_a_stop_takes() -> None:
    stop_s = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert float(stop_s[0]) >= Settings().stop.deadline_s + 60
