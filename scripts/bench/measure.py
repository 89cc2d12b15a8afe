"""What a bench row measured, and how it is shown: a table for people, JSON for `compare`.

A measurement is one row, on one target, in one round. Its invariants: `seconds` is the time the
counted operations were given, `rate` is amount over `seconds`, and a measurement with even one
error is not valid (its rate is shown, but nobody should quote it).

Everything here runs in the parent process, between the timed stretches, so nothing is in a hurry.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import statistics
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class CpuMeter:
    """CPU time of this process, and of the servers `pids`, between `start` and `stop`.

    operations: how many were done in that time. The servers' peak of resident memory is the one
    since they started, as proc(5) tells it.
    """

    pids: Sequence[int] = ()
    client_s: float = 0.0
    server_s: float = 0.0
    server_rss_max_mib: float = 0.0
    operations: int = 0

    def start(self) -> None:
        self.client_s -= time.process_time()
        self.server_s -= self._server_s()

    def stop(self, operations: int) -> None:
        self.client_s += time.process_time()
        self.server_s += self._server_s()
        self.operations += operations

    def _server_s(self) -> float:
        ticks, rss_kib = 0, 0
        for pid in self.pids:
            # The command, field 2, may hold spaces and brackets: count from its closing bracket.
            after_command = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(after_command[11]) + int(after_command[12])
            status = Path(f"/proc/{pid}/status").read_text()
            rss_kib += int(status.partition("VmHWM:")[2].split()[0])
        self.server_rss_max_mib = rss_kib / 1024
        return ticks / CLOCK_TICKS_PER_S


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one worker process counted in one row.

    latencies_ns: one entry an operation. amount: operations, bytes or entries, as the row says.
    seconds: the length of the counted stretch. The first error's text stands for all of them.
    """

    latencies_ns: array[int] = field(default_factory=lambda: array("Q"))
    amount: float = 0.0
    seconds: float = 0.0
    errors: int = 0
    first_error: str = ""
    cpu: CpuMeter = field(default_factory=CpuMeter)
    note: str = ""

    def fail(self, reason: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One line of the table. Times are milliseconds, rates are `unit`, CPU is microseconds."""

    row: str
    target: str
    round: int
    clients: int
    count: int
    seconds: float
    rate: float
    unit: str
    median_ms: float
    p99_ms: float
    errors: int
    first_error: str
    client_cpu_us_per_op: float
    server_cpu_us_per_op: float | None
    server_rss_max_mib: float | None
    note: str

    @property
    def valid(self) -> bool:
        return self.errors == 0 and self.count > 0

    def brief(self) -> str:
        """One line for the impatient, while the run goes on."""
        return f"{self.target}: {self.row}: {self.rate:,.0f} {self.unit} {self.first_error}".strip()


def labelled(values: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Split each LABEL=VALUE; a value without a label is its own."""
    for value in values:
        label, separator, rest = value.partition("=")
        yield (label, rest) if separator else (value, value)


def pids_by_label(values: Sequence[str], labels: Sequence[str]) -> dict[str, list[int]]:
    """The watched processes of each target; without a label a PID is the only target's.

    Raises ValueError, with a sentence, for an unknown label or what is no number.
    """
    pids: dict[str, list[int]] = {label: [] for label in labels}
    for label, pid in labelled(values):
        owner = labels[0] if label == pid and len(labels) == 1 else label
        if owner not in pids or not pid.isdecimal():
            raise ValueError(f"--server-pid {label}={pid}: not a target's label and a number")
        pids[owner].append(int(pid))
    return pids


def summarise(
    tallies: Sequence[Tally],
    *,
    row: str,
    target: str,
    round_index: int,
    clients: int,
    unit: str,
) -> Measurement:
    """Add up what the workers of one row counted at the same time."""
    latencies = sorted(ns for tally in tallies for ns in tally.latencies_ns)
    count = len(latencies)
    errors = [tally.first_error for tally in tallies if tally.errors]
    metered = max(sum(tally.cpu.operations for tally in tallies), 1)
    watched = any(tally.cpu.pids for tally in tallies)
    server_us = sum(tally.cpu.server_s for tally in tallies) * 1e6 / metered
    return Measurement(
        row=row,
        target=target,
        round=round_index,
        clients=clients,
        count=count,
        seconds=max((tally.seconds for tally in tallies), default=0.0),
        # Workers run side by side, so their rates add up.
        rate=sum(tally.amount / tally.seconds for tally in tallies if tally.seconds > 0),
        unit=unit,
        median_ms=percentile(latencies, 50) / 1e6,
        p99_ms=percentile(latencies, 99) / 1e6,
        errors=sum(tally.errors for tally in tallies),
        first_error=errors[0] if errors else "",
        client_cpu_us_per_op=sum(tally.cpu.client_s for tally in tallies) * 1e6 / metered,
        server_cpu_us_per_op=server_us if watched else None,
        server_rss_max_mib=max(t.cpu.server_rss_max_mib for t in tallies) if watched else None,
        note="; ".join(sorted({tally.note for tally in tallies if tally.note})),
    )


def percentile(ordered: Sequence[int], percent: int) -> float:
    """Nearest-rank percentile of values in ascending order; 0 for none."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * percent // 100)
    return float(ordered[max(rank, 1) - 1])


def turns(labels: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Who is measured when: A B, B A, A B, ... so that a drift of the machine hits both alike."""
    for round_index in range(rounds):
        for label in labels if round_index % 2 == 0 else reversed(labels):
            yield round_index, label


TABLE_HEAD = (
    "row", "target", "clients", "count", "rate", "", "median ms", "p99 ms",
    "client us/op", "server us/op", "RSS MiB", "errors",
)  # fmt: skip


@contextmanager
def only_running(pids: Mapping[str, Sequence[int]], label: str) -> Iterator[None]:
    """Stop the servers of all other labels meanwhile (signal(7), SIGSTOP)."""
    others = [pid for other, each in pids.items() if other != label for pid in each]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def print_table(measurements: Sequence[Measurement], *, rounds: int) -> None:
    """Print one line a row and target; with several rounds, the one with the median rate."""
    lines: list[tuple[str, ...]] = [TABLE_HEAD]
    remarks: list[str] = []
    for shown in median_rounds(measurements):
        lines.append(_cells(shown))
        if shown.note:
            remarks.append(f"{shown.row} on {shown.target}: {shown.note}")
        if not shown.valid:
            remarks.append(
                f"INVALID {shown.row} on {shown.target}: {shown.first_error or 'no operation'}"
            )
    widths = [max(len(line[column]) for line in lines) for column in range(len(TABLE_HEAD))]
    for line in lines:
        named = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        figures = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        print("  ".join(named + figures))
    if rounds > 1:
        print(f"Each line is the median of {rounds} rounds.")
    for remark in dict.fromkeys(remarks):
        print(remark)


def median_rounds(measurements: Sequence[Measurement]) -> list[Measurement]:
    """For every row and target the round with the median rate, an invalid one before all."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault((measurement.row, measurement.target), []).append(measurement)
    chosen = []
    for group in groups.values():
        invalid = [measurement for measurement in group if not measurement.valid]
        middle = statistics.median_low([measurement.rate for measurement in group])
        typical = [measurement for measurement in group if measurement.rate == middle]
        chosen.append((invalid or typical)[0])
    return chosen


def _cells(shown: Measurement) -> tuple[str, ...]:
    server_us = shown.server_cpu_us_per_op
    rss_mib = shown.server_rss_max_mib
    return (
        shown.row,
        shown.target,
        str(shown.clients),
        f"{shown.count:,}",
        f"{shown.rate:,.0f}" if shown.rate >= 100 else f"{shown.rate:.1f}",
        shown.unit,
        f"{shown.median_ms:.3f}",
        f"{shown.p99_ms:.3f}",
        f"{shown.client_cpu_us_per_op:,.0f}",
        "-" if server_us is None else f"{server_us:,.0f}",
        "-" if rss_mib is None else f"{rss_mib:,.0f}",
        str(shown.errors) if shown.valid else f"{shown.errors} INVALID",
    )


def write_json(
    path: Path, *, bench: str, options: dict[str, object], measurements: Iterable[Measurement]
) -> None:
    """Write the run with what is needed to understand it later: machine, time and options."""
    document = {
        "bench": bench,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {
            "cpus": len(os.sched_getaffinity(0)),
            "memory_gib": round(
                os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1
            ),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "options": options,
        "measurements": [dataclasses.asdict(measurement) for measurement in measurements],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_json(path: Path) -> list[Measurement]:
    """The measurements of one file that `write_json` wrote."""
    document = json.loads(path.read_text())
    return [Measurement(**fields) for fields in document["measurements"]]
