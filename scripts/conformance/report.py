"""Counts, tables and the document: what runs of the suite came to, by group and by reason.

1. Each failure in the document has a reason from reasons.toml, which people write and review; one
   without a reason, and a reason without a failure, are faults that the caller is told.
2. Only what stands between the document's markers is written; the rest is people's.

Concurrency: none; one program at a time.
"""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from groups import GROUPS
from place import CACHE

SCHEMES = ("http", "https")
OTHER_THAN = {"http": "tls", "https": "http"}
"""The option that leaves a scheme out."""
TIERS = {1: "core", 2: "protection", 3: "access lists", 4: "other services"}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "CONFORMANCE.md"
LINE_CHARACTERS_MAX = 104
REASONS = Path(__file__).with_name("reasons.toml")
CLIENTS = CACHE / "results" / "clients.json"


@dataclass(frozen=True, slots=True)
class Case:
    """case: with parameters, test: without. outcome: passed, failed, unclean or skipped."""

    case: str
    test: str
    group: str
    outcome: str
    seconds: float
    error: str

    @property
    def function(self) -> str:
        """The test's name alone, which no two files share."""
        return self.test.partition("::")[2]


@dataclass(frozen=True, slots=True)
class Run:
    """suite, ours: commits. date: of its start, UTC. packages: what the suite ran with."""

    scheme: str
    date: str
    suite: str
    ours: str
    packages: tuple[str, ...]
    cases: tuple[Case, ...]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Run:
        table: dict[str, Any] = json.loads(path.read_text())
        cases = tuple(Case(**case) for case in table.pop("cases"))
        return cls(**{**table, "packages": tuple(table["packages"])}, cases=cases)

    def count(self, outcome: str, group: str | None = None) -> int:
        return sum(case.outcome == outcome and group in (None, case.group) for case in self.cases)

    def failures(self) -> Iterator[Case]:
        """All that did not pass whole, skipped ones among them."""
        return (case for case in self.cases if case.outcome != "passed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What a client did over a scheme.

    outcome: passed, failed or absent (error says why), or partly: failures are the names of the
    client's own tests that failed.
    """

    name: str
    scheme: str
    did: str
    outcome: str
    version: str
    error: str
    seconds: float
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """why: a sentence. groups and tests (functions) it stands for; a named test comes first."""

    why: str
    groups: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


def read_reasons(name: str = "reason", path: Path = REASONS) -> list[Reason]:
    """name: "reason", or "iam-reason" for those of IAM and STS."""
    with path.open("rb") as file:
        tables = tomllib.load(file)[name]
    return [
        Reason(
            " ".join(table["why"].split()),
            tuple(table.get("groups", ())),
            tuple(table.get("tests", ())),
        )
        for table in tables
    ]


def read_clients(path: Path = CLIENTS) -> list[Client]:
    """What clients did in earlier runs."""
    if not path.exists():
        return []
    return [
        Client(**{**each, "failures": tuple(each.get("failures", ()))})
        for each in json.loads(path.read_text())
    ]


def keep_clients(clients: Sequence[Client], path: Path = CLIENTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(each) for each in clients], indent=1) + "\n")


def print_run(run: Run) -> None:
    """The counts by group, and every failure with what pytest said of it."""
    for case in run.failures():
        print(f"{case.outcome:8} {case.group:24} {case.case}\n         {case.error}")
    for group in GROUPS:
        total = sum(case.group == group.name for case in run.cases)
        if total:
            print(f"{run.count('passed', group.name):5} of {total:4}  {group.name}")
    print(f"{run.count('passed'):5} of {len(run.cases):4}  over {run.scheme}", flush=True)


def write_suite(runs: Sequence[Run]) -> list[str]:
    """Write the tables of `runs` into the document; what is wrong with the reasons."""
    reasons = read_reasons()
    chosen, faults = assign(runs, reasons)
    replace("versions", _versions(runs))
    replace("counts", _counts(runs))
    replace("failures", _failures(runs, reasons, chosen))
    return faults


def write_clients(clients: Sequence[Client]) -> list[str]:
    """Write the clients' table into the document; what is wrong with the reasons."""
    with REASONS.open("rb") as file:
        reasons: dict[str, str] = tomllib.load(file)["minio-go"]
    by_name: dict[str, dict[str, Client]] = {}
    for client in clients:
        by_name.setdefault(client.name, {})[client.scheme] = client
    lines = ["| client | version | what it did | http | https |", "|---|---|---|---|---|"]
    for name, tried in by_name.items():
        one = next(iter(tried.values()))
        version = next((each.version for each in tried.values() if each.version), "")
        told = (_told(tried.get(scheme)) for scheme in SCHEMES)
        lines.append(f"| {name} | {version} | {one.did} | " + " | ".join(told) + " |")
    failures = sorted({name for client in clients for name in client.failures})
    lines += ["", "What fails of minio-go's own tests:", ""] if failures else []
    lines += [f"- `{name}`: {' '.join(reasons.get(name, '?').split())}" for name in failures]
    replace("clients", "\n".join(lines) + "\n")
    faults = [f"no reason: {name} of minio-go" for name in failures if name not in reasons]
    return faults + [
        f"a reason that nothing needs: {name}" for name in sorted(set(reasons) - set(failures))
    ]


def _told(client: Client | None) -> str:
    """The cell of a result."""
    if client is None:
        return "not run"
    if client.outcome in ("absent", "partly"):
        return client.error
    return client.outcome


def replace(name: str, content: str, path: Path = DOCUMENT) -> None:
    """Write what stands between the markers of `name`."""
    text = path.read_text()
    head, tail = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = text.partition(head)
    _, end, after = rest.partition(tail)
    if not end:
        raise ValueError(f"{path} has no place for {name}")
    path.write_text(f"{before}{head}{content}{tail}{after}")


def assign(runs: Sequence[Run], reasons: Sequence[Reason]) -> tuple[dict[str, int], list[str]]:
    """The index of each failing function's reason, and the faults."""
    by_test = {name: index for index, reason in enumerate(reasons) for name in reason.tests}
    by_group = {name: index for index, reason in enumerate(reasons) for name in reason.groups}
    chosen: dict[str, int] = {}
    faults = []
    needed: set[str] = set()
    for run in runs:
        for case in run.failures():
            name = case.function if case.function in by_test else case.group
            index = by_test.get(name, by_group.get(name))
            if index is None:
                faults.append(f"no reason: {case.case} over {run.scheme}: {case.error}")
                continue
            needed.add(name)
            chosen[case.function] = index
    stale = (set(by_test) | set(by_group)) - needed
    faults += [f"a reason that nothing needs: {name}" for name in sorted(stale)]
    return chosen, faults


def _versions(runs: Sequence[Run]) -> str:
    lines = [f"- {run.scheme}: {run.date}, suite {run.suite}, twofold {run.ours}" for run in runs]
    packages = ", ".join(package.replace("==", " ") for package in runs[0].packages)
    return "\n".join([*lines, f"- with {packages}"]) + "\n"


def _counts(runs: Sequence[Run]) -> str:
    """A table: a line per group, then per tier, then per file."""
    cases = {case.case: case for run in runs for case in run.cases}
    rows: list[tuple[str, str, set[str]]] = []
    for group in sorted(GROUPS, key=lambda group: group.tier):
        names = {name for name, case in cases.items() if case.group == group.name}
        rows.append((group.name, str(group.tier), names))
    for number, what in TIERS.items():
        groups = {group.name for group in GROUPS if group.tier == number}
        names = {name for name, case in cases.items() if case.group in groups}
        rows.append((f"*all of tier {number}: {what}*", "", names))
    for stem in sorted({name.partition("::")[0] for name in cases}):
        names = {name for name in cases if name.startswith(f"{stem}::")}
        rows.append((f"**{stem}.py**", "", names))
    lines = [
        "| group | tier | cases | " + " | ".join(run.scheme for run in runs) + " |",
        "|---|---|---:|" + "---:|" * len(runs),
    ]
    for title, tier, names in rows:
        if names:
            cells = " | ".join(_passed(run, names) for run in runs)
            lines.append(f"| {title} | {tier} | {len(names)} | {cells} |")
    return "\n".join(lines) + "\n"


def _passed(run: Run, names: set[str]) -> str:
    """How many of these cases passed, and of how many if not all were run."""
    outcomes = [case.outcome for case in run.cases if case.case in names]
    passed = outcomes.count("passed")
    return str(passed) if len(outcomes) == len(names) else f"{passed} of {len(outcomes)} run"


def _failures(runs: Sequence[Run], reasons: Sequence[Reason], chosen: dict[str, int]) -> str:
    """A list item per reason with the names of its tests; a scheme where only one fails."""
    cases: dict[str, Counter[str]] = {}
    for run in runs:
        for case in run.failures():
            cases.setdefault(case.function, Counter())[run.scheme] += 1
    ran = {run.scheme: {case.function for case in run.cases} for run in runs}
    lines = []
    for index, reason in enumerate(reasons):
        names = sorted(name for name in cases if chosen.get(name) == index)
        if not names:
            continue
        count = max(sum(cases[name][run.scheme] for name in names) for run in runs)
        told = ", ".join(_named(name, cases[name], ran) for name in names)
        cases_told = f"{count} case{'s' * (count != 1)}"
        lines.append(
            textwrap.fill(
                f"- **{reason.why}** ({cases_told}) {told}",
                LINE_CHARACTERS_MAX,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            + "\n"
        )
    return "\n".join(lines)


def _named(name: str, failed: Counter[str], ran: dict[str, set[str]]) -> str:
    """A failing function, how many cases of it fail, and where if not wherever it was run."""
    notes = []
    if max(failed.values()) > 1:
        notes.append(f"{max(failed.values())} cases")
    if set(failed) != {scheme for scheme, names in ran.items() if name in names}:
        notes.append(f"over {next(iter(failed))} only")
    return f"`{name}`" + (f" ({', '.join(notes)})" if notes else "")
