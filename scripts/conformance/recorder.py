"""A pytest plugin for the suite's own process: what each case came to, one JSON line per case.

1. It changes no test. It gives each case names of its own for buckets, users and roles, so that
   what one case leaves behind (because the server refused to delete it, say) can't fail the next
   one's set-up.
2. A line is written, whole, when its case is over: a run that is cut short has told of all that
   came before.
3. A case passes when set-up, test and clean-up pass; what failed first is what is told.

Environment: CONFORMANCE_CASES is the file to append to, CONFORMANCE_GROUPS the groups to run (all
if empty), separated by commas. Runs in the suite's interpreter, so it imports nothing of ours but
`groups`. Source: pytest's documentation, "Writing hook functions".
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from groups import group_of

ERROR_CHARACTERS_MAX = 400
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(
        Recorder(Path(os.environ["CONFORMANCE_CASES"]), os.environ.get("CONFORMANCE_GROUPS", ""))
    )


class Recorder:
    """path: of the lines. groups: names of those to run, with commas."""

    def __init__(self, path: Path, groups: str) -> None:
        self._path = path
        self._groups = {name for name in groups.split(",") if name}
        self._reports: list[pytest.TestReport] = []

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what belongs to other groups."""
        if not self._groups:
            return
        left_out = [item for item in items if _group(item) not in self._groups]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _group(item) in self._groups]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """New names for this case; of buckets at most 30 characters, as the suite wants."""
        self._reports = []
        package: Any = sys.modules.get("s3tests.functional")
        # The suite chooses its prefix once, when its configuration is read.
        if package is not None and package.prefix is not None:
            number = next(_numbers)
            package.prefix = f"cf{os.getpid():x}-{number:04}-"
            package.config.iam_name_prefix = f"cf{number:04}-"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        yield
        line = {
            "case": f"{_module(item)}::{item.name}",
            "test": _function(item),
            "group": _group(item),
            "outcome": _outcome(self._reports),
            "seconds": round(sum(report.duration for report in self._reports), 2),
            "error": next((_error(report) for report in self._reports if not report.passed), ""),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _module(item: pytest.Item) -> str:
    return item.path.stem


def _function(item: pytest.Item) -> str:
    return f"{_module(item)}::{getattr(item, 'originalname', item.name)}"


def _group(item: pytest.Item) -> str:
    return group_of(_function(item), frozenset(mark.name for mark in item.iter_markers())).name


def _outcome(reports: list[pytest.TestReport]) -> str:
    """passed, failed, skipped; unclean: the test passed and its clean-up didn't."""
    by_phase = {report.when: report.outcome for report in reports}
    if "failed" in (by_phase.get("setup"), by_phase.get("call")):
        return "failed"
    if "skipped" in by_phase.values():
        return "skipped"
    return "unclean" if by_phase.get("teardown") == "failed" else "passed"


def _error(report: pytest.TestReport) -> str:
    """The phase, and the last line that says what was wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    line = " ".join(text.split())[:ERROR_CHARACTERS_MAX]
    place = f" (line {crash.lineno})" if crash is not None else ""
    return f"{report.when}: {line}{place}"
