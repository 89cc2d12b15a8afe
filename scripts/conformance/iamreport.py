"""The part of the document about IAM and STS: counts, and each failure with its reason.

As `report` has it for S3: a failure without a reason in reasons.toml ([[iam-reason]]) is a fault,
and so is a reason that nothing needs.

Concurrency: none; one program at a time.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import report
from report import LINE_CHARACTERS_MAX, Reason, Run

AS_AWS = "in AWS's names"
# The ways of a run, and the names of the files that keep the last one.
RUNS = (("http", "iam-http"), ("https", "iam-https"), (AS_AWS, "iam-aws"))
_FILES = ("test_iam", "test_sts")


def write(runs: Sequence[Run]) -> list[str]:
    """Write the tables of `runs` into the document; what is wrong with the reasons."""
    reasons = report.read_reasons("iam-reason")
    chosen, faults = report.assign(runs, reasons)
    report.replace("iam counts", _counts(runs))
    report.replace("iam failures", "\n".join(_failures(runs, reasons, chosen)))
    return faults


def _counts(runs: Sequence[Run]) -> str:
    told = textwrap.fill(
        f"Run: {', '.join(f'{run.scheme} {run.date} at {run.ours}' for run in runs)}.",
        LINE_CHARACTERS_MAX,
    )
    lines = [
        "| file | cases | " + " | ".join(run.scheme for run in runs) + " |",
        "|---|---:|" + "---:|" * len(runs),
    ]
    for file in _FILES:
        cases = {case.case for run in runs for case in run.cases if case.case.startswith(file)}
        cells = [_passed(run, file) for run in runs]
        lines.append(f"| {file}.py | {len(cases)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", told]) + "\n"


def _passed(run: Run, file: str) -> str:
    outcomes = [case.outcome for case in run.cases if case.case.startswith(file)]
    return str(outcomes.count("passed")) if outcomes else ""


def _failures(
    runs: Sequence[Run], reasons: Sequence[Reason], chosen: dict[str, int]
) -> Iterator[str]:
    """A list item per reason; where a case passes in AWS's names, that is all there is to it."""
    failed = {run.scheme: {case.function for case in run.failures()} for run in runs}
    for index, reason in enumerate(reasons):
        names = sorted(name for name, its in chosen.items() if its == index)
        if not names:
            continue
        told = ", ".join(f"`{name}`" for name in names)
        mended = all(name not in failed.get(AS_AWS, ()) for name in names)
        passed = f"; {AS_AWS} all of them pass" if mended and names[0] in _run(runs, AS_AWS) else ""
        count = f"{len(names)} case{'s' * (len(names) != 1)}{passed}"
        yield (
            textwrap.fill(
                f"- **{reason.why}** ({count}) {told}",
                LINE_CHARACTERS_MAX,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            + "\n"
        )


def _run(runs: Sequence[Run], mode: str) -> set[str]:
    return {case.function for run in runs if run.scheme == mode for case in run.cases}
