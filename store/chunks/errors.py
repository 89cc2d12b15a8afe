"""What can go wrong with the bytes. `store` translates these; no face sees them.

ChunkError
|- NoSpace            no set of drives has room for a new segment
|- BelowWriteQuorum   too few drives are writable
|- Unrecoverable      fewer than k shards of a stripe verify
|- LabelError         a drive's label is missing, foreign, doubled or unreadable
   |- DriveBusy       another daemon uses the drive
"""

from __future__ import annotations


class ChunkError(Exception):
    """Base of all errors of `store.chunks`."""


class NoSpace(ChunkError):
    """No set of drives has room for a new segment."""


class BelowWriteQuorum(ChunkError):
    """Fewer drives can be written than the configuration asks for."""

    def __init__(self, alive: int, needed: int) -> None:
        super().__init__(f"{alive} drives can be written, {needed} are needed")
        self.alive = alive
        self.needed = needed


class Unrecoverable(ChunkError):
    """Fewer than k shards of a stripe verify, so its bytes can't be given back."""

    def __init__(self, run: int, stripe: int, intact: int, needed: int) -> None:
        super().__init__(f"run {run} stripe {stripe}: {intact} shards intact, {needed} needed")
        self.run = run
        self.stripe = stripe
        self.intact = intact
        self.needed = needed


class LabelError(ChunkError):
    """A drive's label is missing, foreign, doubled or unreadable. The text says which."""


class DriveBusy(LabelError):
    """Another daemon uses the drive."""
