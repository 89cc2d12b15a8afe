"""The kill loop for as long as you like: `scripts/soak`.

Every round puts both doors under load for a moment, ends the daemon (mostly by SIGKILL, now and
then in order), maybe takes a drive away or puts it back, starts again and checks every promise.
Exit status 0 when all were kept, 1 when not: the store is left where it is then, to look at.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.checker import Checker
from tests.crash.inspection import database_faults
from tests.daemon.harness import DaemonHarness

_EVERYTHING_EVERY = 10
_STOP_SHARE = 0.1
_FAULT_SHARE = 0.15
_COPIES_BY_PARITY = {0: 1, 1: 2, 2: 3, 3: 4, 4: 5}


@dataclass
class Soak:
    """One run. See the module's text."""

    harness: DaemonHarness
    checker: Checker
    seed: int
    faults: bool
    kills: int = 0
    stops: int = 0
    restarts_s: list[float] = field(default_factory=list)
    resident_bytes: int = 0
    away: Path | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def round(self, number: int) -> None:
        """Load, end, start, check. Raises AssertionError."""
        self.resident_bytes = max(self.resident_bytes, _resident_bytes(self.harness))
        if self._random.random() < _STOP_SHARE:
            self.checker.load(self._random.uniform(0.2, 2.0), end=self._stop)
            self.stops += 1
        else:
            self.checker.load(self._random.uniform(0.05, 2.0))
            self.kills += 1
        if self.faults and self._random.random() < _FAULT_SHARE:
            self._move_a_drive()
        began_s = time.monotonic()
        self.harness.start()
        self.restarts_s.append(time.monotonic() - began_s)
        self.checker.verify(everything=number % _EVERYTHING_EVERY == 0)

    def finish(self) -> None:
        """The last look: all bytes, a clean stop, a sound database. Raises AssertionError."""
        self.checker.verify(everything=True)
        parity = self.harness.status()["pool"]["parity"]
        self._stop()
        present = [drive for drive in self.harness.drives if drive.exists()]
        copies = min(len(present), max(2, _COPIES_BY_PARITY[parity]))
        faults = database_faults(present, self.harness.folder, copies=copies)
        assert not faults, faults

    def summary(self) -> dict[str, object]:
        """What was done, in figures."""
        return {
            "seed": self.seed,
            "kills": self.kills,
            "stops": self.stops,
            "acknowledged": self.checker.acknowledged_count,
            "restart_s_median": round(statistics.median(self.restarts_s or [0.0]), 3),
            "restart_s_max": round(max(self.restarts_s, default=0.0), 3),
            "resident_bytes_max": self.resident_bytes,
        }

    def _stop(self) -> None:
        code = self.harness.stop()
        assert code == 0, f"exit code {code} after a stop in order\n{self.harness.log_tail()}"

    def _move_a_drive(self) -> None:
        """One drive at a time is away; it comes back as it went, and so it is behind by then."""
        if self.away is not None:
            self.away.with_name(self.away.name + ".away").rename(self.away)
            self.away = None
        elif len(self.harness.drives) > 2:
            self.away = self._random.choice(self.harness.drives)
            self.away.rename(self.away.with_name(self.away.name + ".away"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--rounds", type=int, help="end after so many rounds, too")
    parser.add_argument("--seed", type=int, help="of operations and moments (default: random)")
    parser.add_argument("--drives", type=int, default=4, help="how many (default: 4)")
    parser.add_argument("--workers", type=int, default=6, help="clients at once (default: 6)")
    parser.add_argument("--no-faults", action="store_true", help="leave the drives alone")
    parser.add_argument(
        "--folder", default="/var/tmp", help="where to make drives (default: /var/tmp)"
    )
    chosen = parser.parse_args(arguments)
    seed = random.randrange(1 << 20) if chosen.seed is None else chosen.seed
    folder = Path(tempfile.mkdtemp(prefix="twofold-soak-", dir=chosen.folder))
    _say(f"seed {seed}, in {folder}")
    deadline_s = time.monotonic() + chosen.minutes * 60
    try:
        with DaemonHarness(folder, drives=chosen.drives) as harness:
            checker = Checker(harness, seed=seed, workers=chosen.workers)
            soak = Soak(harness, checker, seed, faults=not chosen.no_faults)
            number = 0
            while time.monotonic() < deadline_s and number != chosen.rounds:
                number += 1
                soak.round(number)
                _say(f"{number}: {json.dumps(soak.summary())}")
            soak.finish()
            _say(json.dumps(soak.summary()))
    except AssertionError as error:
        _say(f"BROKEN: {error}\nThe store is left in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _resident_bytes(harness: DaemonHarness) -> int:
    assert harness.process is not None
    for line in Path(f"/proc/{harness.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(main())
