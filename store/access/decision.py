"""What an evaluation answers, and which statement it came from.

Concurrency: immutable values, made once for each statement and shared.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Layer(enum.Enum):
    """Where a statement stands. Identity, resource and ACL grant; the others narrow."""

    IDENTITY = "identity policy"
    RESOURCE = "bucket policy"
    ACL = "ACL"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"
    KEY = "policy of the access key"
    TRUST = "trust policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which statement of which policy. index: from 0."""

    layer: Layer
    policy: str
    index: int
    sid: str

    def __str__(self) -> str:
        sid = f" ({self.sid})" if self.sid else ""
        policy = f" {self.policy}" if self.policy else ""
        return f"statement {self.index}{sid} of {self.layer.value}{policy}"


class Outcome(enum.Enum):
    """How it ended; the values are those of IAM's SimulatePrincipalPolicy."""

    ALLOWED = "allowed"
    DENIED = "explicitDeny"
    NOT_ALLOWED = "implicitDeny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether the request may go on.

    layer: where it was decided; of NOT_ALLOWED the layer that had to allow and didn't; None for
    root, who needs no statement. source: the deciding statement, None where none did.
    """

    allowed: bool
    outcome: Outcome
    layer: Layer | None
    source: Source | None = None

    def __str__(self) -> str:
        match self.outcome:
            case Outcome.DENIED:
                return f"denied by {self.source}"
            case Outcome.NOT_ALLOWED:
                assert self.layer is not None
                return f"no {self.layer.value} allows it"
        if self.source is not None:
            return f"allowed by {self.source}"
        return "allowed to root" if self.layer is None else f"allowed by {self.layer.value}"


ALLOWED_TO_ROOT = Decision(allowed=True, outcome=Outcome.ALLOWED, layer=None)
ALLOWED_BY_ACL = Decision(allowed=True, outcome=Outcome.ALLOWED, layer=Layer.ACL)
NOT_ALLOWED = {
    layer: Decision(allowed=False, outcome=Outcome.NOT_ALLOWED, layer=layer) for layer in Layer
}


def decided_by(source: Source, *, allow: bool) -> Decision:
    """The decision that a statement makes where it applies."""
    outcome = Outcome.ALLOWED if allow else Outcome.DENIED
    return Decision(allowed=allow, outcome=outcome, layer=source.layer, source=source)
