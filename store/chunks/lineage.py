"""Which drives may go on without the others, and how those that did are told apart.

Each epoch of a pool has a random token, and each label the tokens of the last epochs. So two
labels tell whether the pool of the one became that of the other, or whether two parts of the pool
went on without each other (a *fork*), each acknowledging what the other never saw.

Rules:
  Q1 drives that went on without each other are never used together: whoever opens them is told;
  Q2 a start without all drives needs to know that no others went on: more than half of those that
     were in the pool at its last known epoch are here, or the witness says that this epoch is the
     last. Where two were left, one of them starts: which one has the newer state can't be known,
     and a mirror that doesn't start without its other half would be of no use; Q1 tells later.
The *witness* is what the machine remembers of the pool beside its drives (`daemon.witness`). It is
told of a new epoch after the labels and before anything is acknowledged under it.
Sources: dynamic voting (Jajodia and Mutchler 1990); a quorum device of two-node clusters.
Concurrency: pure functions on values.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from store.chunks.errors import LabelError
from store.chunks.label import Label
from store.chunks.types import DriveId

_TOKENS_MAX = 32
"""Older epochs are taken to be of the same line."""

Lineage = tuple[int, tuple[str, ...]]
"""An epoch, and the tokens of it and of those before it, its own last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a pool stands. token: of the epoch, "" in a pool of an older version."""

    store: str
    epoch: int
    token: str


def new_token() -> str:
    """A token for an epoch to come."""
    return secrets.token_hex(8)


def lineage_of(label: Label) -> Lineage:
    """What a label knows of its past."""
    return label.epoch, label.lineage


def raised(line: Lineage, token: str) -> Lineage:
    """The lineage of the next epoch."""
    epoch, tokens = line
    return epoch + 1, (*tokens, token)[-_TOKENS_MAX:]


def standing_of(store: str, line: Lineage) -> Standing:
    """What the witness is told."""
    epoch, tokens = line
    return Standing(store=store, epoch=epoch, token=tokens[-1] if tokens else "")


def follows(line: Lineage, older: Label) -> bool:
    """Whether the pool of `older` became that of `line`. True where nobody can tell, or yet."""
    epoch, tokens = line
    back = epoch - older.epoch
    if back < 0 or back >= len(tokens) or not older.lineage:
        return True
    return tokens[-1 - back] == older.lineage[-1]


def refuse_forks(newest: Label, found: Mapping[Path, Label]) -> None:
    """Raise LabelError when some of the drives went on without others (Q1)."""
    line = lineage_of(newest)
    strangers = [str(path) for path, label in found.items() if not follows(line, label)]
    if strangers:
        rest = [str(path) for path in found if str(path) not in strangers]
        raise LabelError(
            f"{', '.join(rest)} and {', '.join(strangers)} went on without each other, and each "
            "holds what the other lacks: keep one side, take the drives of the other away or "
            "empty them, and start again"
        )


def never_told(label: Label) -> set[DriveId]:
    """Drives that were about to come to the pool and, by this label, did not: they hold nothing."""
    # A label of an older version says of none which epoch it was told of.
    says = any(member.epoch for member in label.members)
    return {member.drive for member in label.members if says and not member.epoch}


def in_sync(labels: Iterable[Label]) -> set[DriveId]:
    """Drives that were in the pool at the epoch of these labels, which is the same in all."""
    drives: set[DriveId] = set()
    for label in labels:
        told = {member.drive for member in label.members if member.epoch >= label.epoch}
        # A label of an older version doesn't say.
        drives |= told or {member.drive for member in label.members}
    return drives


def refuse_doubtful(
    here: Mapping[DriveId, Label], missing: Iterable[str], now: Standing, seen: Standing | None
) -> None:
    """Raise LabelError unless no others can have gone on without the drives that are here (Q2).

    here: the labels at the pool's epoch. missing: paths of drives that aren't here. now: where
    those that are here stand; seen: where the witness saw the pool last.
    """
    absent = list(missing)
    if not absent:
        return
    known = seen is not None and seen.store == now.store
    if known and seen == now:
        return
    listed = ", ".join(absent)
    if known and seen is not None and seen.epoch >= now.epoch:
        raise LabelError(
            f"the pool went on with other drives after those that are here: {listed} are missing; "
            "bring them back, or say --accept-missing and lose what was written since"
        )
    voters = in_sync(here.values())
    if 2 * len(voters & here.keys()) > len(voters) or len(voters) <= 2:
        return
    raise LabelError(
        f"{listed} are missing, half of the pool or more, and nothing here says whether they went "
        "on alone: bring them back, or say --accept-missing if they did not"
    )
