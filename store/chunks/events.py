"""What the bytes side reports as it happens: to logs, status pages and whoever heals."""

from __future__ import annotations

from dataclasses import dataclass

from store.chunks.types import DriveId, DriveState, RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveChanged:
    """A drive went from one state to another. cause: one sentence, empty when all is well."""

    drive: DriveId
    path: str
    before: DriveState
    after: DriveState
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentDamaged:
    """A fragment didn't verify. Reported once for each while the daemon runs."""

    drive: DriveId
    run: RunId
    stripe: int
    shard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentUnread:
    """A fragment could not be read from a drive that is in use: a bad sector, a file gone."""

    drive: DriveId
    run: RunId
    stripe: int
    shard: int


ChunkEvent = DriveChanged | FragmentDamaged | FragmentUnread
