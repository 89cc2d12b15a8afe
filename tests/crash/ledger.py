"""What a worker has been promised: every name it owns, and the operation that is under way.

An operation is noted before it begins, as the steps it may be seen in; each step changes one
name or several, and is seen as a whole or not at all. When it is acknowledged, all its steps
must be seen from then on. When the daemon dies before that, any number of its first steps may
be, and a look at the store (`settle`) tells how many.
Concurrency: one worker owns a ledger; the checker reads it when the worker has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from tests.crash.content import Content


class Nothing(Enum):
    """What a name may stand for that is no object."""

    ABSENT = "absent"
    UNPUBLISHED = "made on the mount, not published yet: empty there, unknown to S3"


ABSENT, UNPUBLISHED = Nothing.ABSENT, Nothing.UNPUBLISHED
State = Content | Nothing
Step = Mapping[str, State]


class Ledger:
    """names: the acknowledged state of every name that ever was.

    touched: names that changed since the checker cleared it.
    uploads: ids of multipart uploads that are, or may be, still open.
    """

    def __init__(self) -> None:
        self.names: dict[str, State] = {}
        self.touched: set[str] = set()
        self.uploads: set[str] = set()
        self.acknowledged_count = 0
        self._steps: tuple[Step, ...] = ()

    def state(self, name: str) -> State:
        """The acknowledged state of a name."""
        return self.names.get(name, ABSENT)

    def intend(self, *steps: Step) -> None:
        """An operation begins that will be seen as these steps, one after the other."""
        assert not self._steps, "one operation at a time"
        self._steps = steps
        self.touched.update(name for step in steps for name in step)

    def acknowledge(self) -> None:
        """It was answered, or fsynced: all of it counts."""
        for step in self._steps:
            self.names.update(step)
        self._steps = ()
        self.acknowledged_count += 1

    def in_doubt(self) -> set[str]:
        """Names of the operation that was never acknowledged."""
        return {name for step in self._steps for name in step}

    def settle(self, fault: Callable[[str, State], str | None]) -> str | None:
        """Find how far the unacknowledged operation came, and take that as promised.

        fault: how what is there differs from a name being in a state, None if it doesn't.
        Returns None, or why no number of first steps explains what is there.
        """
        doubtful = sorted(self.in_doubt())
        reasons = []
        for count in range(len(self._steps) + 1):
            outcome = {name: self.state(name) for name in doubtful}
            for step in self._steps[:count]:
                outcome.update(step)
            found = [(name, fault(name, outcome[name])) for name in doubtful]
            wrong = [f"{name}: {why}" for name, why in found if why is not None]
            if not wrong:
                self.names.update(outcome)
                self._steps = ()
                return None
            reasons.append(f"not {count} of {len(self._steps)} steps ({'; '.join(wrong)})")
        return ", ".join(reasons)
