"""The `twofold` command as a person meets it: help, errors of one sentence, exit codes."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import daemon
from tests.daemon.harness import ROOT


def twofold(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "daemon", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def refused(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The one sentence on stderr of a command that failed as it should."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("twofold: ")
    return line


def test_the_import_name_daemon_is_ours() -> None:
    assert daemon.__file__ == str(ROOT / "daemon" / "__init__.py")
    owners = importlib.metadata.packages_distributions().get("daemon", ["twofold"])
    assert set(owners) == {"twofold"}


def test_version() -> None:
    assert twofold("--version").stdout.strip() == daemon.VERSION


@pytest.mark.parametrize("command", ["", "init", "serve", "status"])
def test_help_says_what_it_does_and_every_option(command: str) -> None:
    result = twofold(*command.split(), "--help")
    assert result.returncode == 0
    assert "Usage: twofold" in result.stdout
    for line in result.stdout.splitlines():
        # An option whose help column is empty is a row of its flag alone.
        words = line.strip("│ ").split()
        assert not (len(words) == 1 and words[0].startswith("--")), line


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["bogus"], 2, 'Unknown command "bogus"'),
        (["init"], 2, "name at least one drive"),
        (["init", "/x", "--parity", "two"], 2, "--parity"),
        (["init", "/x", "--bogus"], 2, "--bogus"),
        (["init", "/d{4...1}"], 2, "runs backwards"),
        (["init", "/nowhere/at/all"], 1, "its parent folder does not exist"),
        (["init", "/proc/x"], 1, "/proc/x"),
        (["serve", "--config", "/nowhere.toml", "/d1"], 2, "there is no such file"),
        (["serve", "/d1", "--s3", "nonsense"], 2, "s3.listen: 'nonsense' is not host:port"),
        (["serve", "/d1", "--log-level", "loud"], 2, "log.level: invalid enum value 'loud'"),
        (["serve", "/d1", "--state", "/proc/x"], 1, "/proc/x can't be used for state"),
        (["status", "--socket", "/nowhere"], 3, "no daemon is running"),
        (["status", "--config", "/nowhere.toml"], 2, "there is no such file"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, reason: str
) -> None:
    assert reason in refused(twofold(*arguments), code)


def test_serve_tells_all_faults_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "twofold.toml"
    config.write_text('pool.drives = ["d"]\nlog.level = "loud"\n')
    result = twofold("serve", "--config", str(config))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 2


def test_init_formats_a_range_of_folders(tmp_path: Path) -> None:
    result = twofold("init", f"{tmp_path}/d{{1...4}}")
    assert result.returncode == 0, result.stderr
    assert "4 drives; any 2 may be lost" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d1", "d2", "d3", "d4"]


def test_init_twice_changes_nothing(tmp_path: Path) -> None:
    twofold("init", str(tmp_path / "d1"))
    before = (tmp_path / "d1" / "twofold" / "label").read_bytes()
    assert "formatted already" in refused(twofold("init", str(tmp_path / "d1")), 1)
    assert (tmp_path / "d1" / "twofold" / "label").read_bytes() == before


def test_init_refuses_impossible_parity_and_foreign_files(tmp_path: Path) -> None:
    drives = [str(tmp_path / name) for name in ("d1", "d2")]
    assert "parity 2" in refused(twofold("init", *drives, "--parity", "2"), 1)
    (tmp_path / "d1").mkdir()
    (tmp_path / "d1" / "photo.jpg").touch()
    assert "photo.jpg" in refused(twofold("init", *drives), 1)
    assert not (tmp_path / "d2").exists()


def test_serve_without_formatted_drives_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "d1").mkdir()
    arguments = ["serve", str(tmp_path / "d1"), "--state", str(tmp_path / "state")]
    environment = {
        "TWOFOLD_ROOT_USER": "someone",
        "TWOFOLD_ROOT_PASSWORD": "something",
        "TWOFOLD__S3__LISTEN": "127.0.0.1:0",
        "TWOFOLD__CONSOLE__LISTEN": "",
    }
    result = twofold(*arguments, environment=environment)
    assert result.returncode == 1
    assert "twofold init" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_serve_refuses_default_credentials(tmp_path: Path) -> None:
    environment = {"TWOFOLD_ROOT_USER": "minioadmin", "TWOFOLD_ROOT_PASSWORD": "minioadmin"}
    result = twofold("serve", "/d1", "--state", str(tmp_path), environment=environment)
    assert "everybody knows" in refused(result, 1)


def test_status_needs_neither_a_loop_nor_a_server() -> None:
    program = (
        "import sys, json\n"
        "from daemon.cli import main\n"
        "try: main(['status', '--socket', '/nowhere'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(result.stdout))
    assert not loaded & {"trio", "quart", "hypercorn", "sqlalchemy", "pyfuse3", "lxml"}
