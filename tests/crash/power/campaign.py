"""A workload, recorded once, and every state that a power cut could have left, checked.

    python -m tests.crash.power.campaign run NAME DRIVES [--stride N] [--seeds N] [--lapse X]
    python -m tests.crash.power.campaign list RECORDING
    python -m tests.crash.power.campaign build RECORDING STATE
    python -m tests.crash.power.campaign check RECORDING STATE

RECORDING is the folder that a failed run leaves: `base` (drives and state folder before), `calls`
(the log of the recorder), `run.json`, and `live`, where states are built. STATE is as a failure
names it: number of the call that the cut falls into, and in which way (see `cuts`).
Concurrency: blocking.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from store.chunks.label import format_drives
from tests.crash.power.cuts import Replay, State, images, states
from tests.crash.power.opening import SPARE, STATE
from tests.crash.power.recording import Call, read_log, record
from tests.crash.power.verify import Promises, recover
from tests.crash.power.workloads import FRESH, SEPARATE, drives_in
from tests.crash.power.world import World

PARITY = {1: 0, 2: 1, 4: 2, 16: 4}
_MODULE = "tests.crash.power.workloads"


@dataclass(slots=True)
class Recording:
    """What a workload did. live: where its drives stood, and where states are built again.

    before: what was seen of the store before.
    """

    folder: Path
    live: Path
    name: str
    drives: int
    before: World
    calls: list[Call] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        folder: Path,
        name: str,
        drives: int,
        lapse: Sequence[str] = (),
        base: Path | None = None,
    ) -> Recording:
        """Record `name` in `folder`, on drives as `make_base` left them; None: as init did."""
        live = folder / "live"
        before: World = {}
        if base is None:
            _format(live, drives)
        else:
            shutil.copytree(base / "live", live)
            before = json.loads((base / "seen.json").read_text())
        return cls._record(folder, name, drives, before, lapse)

    @classmethod
    def _record(
        cls, folder: Path, name: str, drives: int, before: World, lapse: Sequence[str] = ()
    ) -> Recording:
        live = folder / "live"
        shutil.copytree(live, folder / "base")
        words = ["-m", _MODULE, name, str(live), str(drives), *lapse]
        record(live, words, folder / "calls")
        kept = {"name": name, "drives": drives, "before": before, "live": str(live)}
        (folder / "run.json").write_text(json.dumps(kept))
        return cls.load(folder)

    def recovery(self, state: State, folder: Path) -> Recording:
        """Record the start, and the stop, behind a cut."""
        build(self, state)
        shutil.copytree(self.live, folder / "live")
        return self._record(folder, "nothing", self.drives, {})

    @classmethod
    def load(cls, folder: Path) -> Recording:
        """One that was made before."""
        kept = json.loads((folder / "run.json").read_text())
        live = Path(kept["live"])
        calls = read_log(folder / "calls", live)
        return cls(folder, live, kept["name"], kept["drives"], kept["before"], calls)

    def promises(self) -> Promises:
        """What had been noted when."""
        return Promises(self.calls, self.before, separate=self.name in SEPARATE)

    def replay(self) -> Replay:
        """The drives before the first call."""
        return Replay.of(self.folder / "base")

    def tell(self, state: State) -> str:
        """Which call a state is cut at, for people."""
        call = self.calls[state.call]
        what = call.path.replace("\0", " -> ") or f"of handle {call.handle}"
        names = {"W": "write", "S": "sync", "R": "rename", "U": "unlink", "P": "punch", "N": "note"}
        where = f" at {call.offset}, {len(call.content)} bytes" if call.kind == "W" else ""
        if call.kind not in "ORUMDNE":
            opens = [c for c in self.calls[: state.call] if c.kind == "O"]
            what = next(c.path for c in reversed(opens) if c.handle == call.handle)
        return (
            f"{state}: {names.get(call.kind, call.kind)} {what}{where}; "
            f"{self.promises().around(state.call)}"
        )


@dataclass(slots=True)
class Outcome:
    """states: checked; possible: how many there are; faults: of each bad state its lines."""

    states: int = 0
    possible: int = 0
    faults: dict[State, list[str]] = field(default_factory=dict)


def _format(live: Path, drives: int) -> None:
    live.mkdir(parents=True)
    paths = drives_in(live, drives)
    for path in (*paths, live / STATE, live / SPARE):
        path.mkdir()
    format_drives(paths, PARITY[drives])


def make_base(folder: Path, drives: int) -> Path:
    """Drives with a bucket and two objects, stopped; for `Recording.make`."""
    live = folder / "live"
    _format(live, drives)
    record(live, ["-m", _MODULE, "base", str(live), str(drives)], folder / "calls")
    (folder / "seen.json").write_text(
        json.dumps(read_log(folder / "calls", live)[-2].note["world"])
    )
    return folder


def run(
    recording: Recording,
    *,
    stride: int = 1,
    seeds: int = 2,
    count: int | None = None,
    faults_max: int = 20,
    after: tuple[Promises, int] | None = None,
) -> Outcome:
    """Check every `stride`th state, or so many; stop at `faults_max` bad ones.

    after: promises, and the call of a cut, that what is recorded here is the recovery of.
    """
    every = states(recording.replay(), recording.calls, seeds)
    outcome = Outcome(possible=len(every))
    if count is not None:
        stride = max(1, len(every) // count)
    chosen = every[(len(every) % stride) // 2 :: stride]
    promises = recording.promises() if after is None else after[0]
    for state in images(recording.replay(), recording.calls, chosen, _emptied(recording.live)):
        call = state.call if after is None else after[1]
        faults = check(recording, call, promises)
        outcome.states += 1
        if faults:
            outcome.faults[state] = faults
            if len(outcome.faults) >= faults_max:
                break
        _emptied(recording.live)
    return outcome


def check(recording: Recording, call: int, promises: Promises) -> list[str]:
    """What is wrong with the state, of a cut at `call`, that is built at `recording.live`."""
    found = recover(drives_in(recording.live, recording.drives))
    return found if isinstance(found, list) else promises.faults(call, found)


def build(recording: Recording, state: State) -> None:
    """Build one state at `recording.live`."""
    for _ in images(recording.replay(), recording.calls, [state], _emptied(recording.live)):
        return


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def text(recording: Recording, outcome: Outcome) -> str:
    """The faults of a run, and how to see them again."""
    lines = [
        f"{len(outcome.faults)} of {outcome.states} states are bad, of {recording.name} "
        f"on {recording.drives} drives"
    ]
    for state, faults in outcome.faults.items():
        lines.append(recording.tell(state))
        lines += [f"    {line}" for line in faults[:12]]
    lines.append(
        "again: python -m tests.crash.power.campaign check "
        f"{recording.folder} '{next(iter(outcome.faults), '')}'"
    )
    return "\n".join(lines)


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("run")
    one.add_argument("name")
    one.add_argument("drives", type=int)
    one.add_argument("--stride", type=int, default=1)
    one.add_argument("--seeds", type=int, default=2)
    one.add_argument("--lapse", action="append", default=[])
    one.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    one.add_argument("--faults", type=int, default=20)
    for verb in ("list", "build", "check"):
        other = verbs.add_parser(verb)
        other.add_argument("recording", type=Path)
        if verb != "list":
            other.add_argument("state", type=State.parse)
    arguments = parser.parse_args()
    if arguments.verb == "run":
        folder = Path(tempfile.mkdtemp(prefix="twofold-power-", dir=arguments.folder))
        base = None if arguments.name in FRESH else make_base(folder / "made", arguments.drives)
        recording = Recording.make(
            folder / "run", arguments.name, arguments.drives, arguments.lapse, base
        )
        began_s = time.monotonic()
        outcome = run(
            recording, stride=arguments.stride, seeds=arguments.seeds, faults_max=arguments.faults
        )
        _say(
            f"{arguments.name} on {arguments.drives}: {len(recording.calls)} calls, "
            f"{outcome.states} of {outcome.possible} states, {len(outcome.faults)} bad, "
            f"{time.monotonic() - began_s:.0f} s"
        )
        if outcome.faults:
            _say(text(recording, outcome))
        else:
            shutil.rmtree(folder)
        return bool(outcome.faults)
    recording = Recording.load(arguments.recording)
    if arguments.verb == "list":
        _say(str(Counter(call.kind for call in recording.calls)))
        for state in states(recording.replay(), recording.calls, 0):
            _say(recording.tell(state))
        return 0
    build(recording, arguments.state)
    _say(f"built at {recording.live}")
    if arguments.verb == "check":
        faults = check(recording, arguments.state.call, recording.promises())
        _say(recording.tell(arguments.state), *faults or ["all is well"])
        return bool(faults)
    return 0


if __name__ == "__main__":
    sys.exit(main())
