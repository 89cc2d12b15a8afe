"""All targets: importing this fills the list. See `registry` for what a target is."""

from __future__ import annotations

from tests.fuzz import asked, connection, documents, rescued, signatures, stored, values, wire
from tests.fuzz.registry import TARGETS, Target

__all__ = [
    "TARGETS",
    "Target",
    "asked",
    "connection",
    "documents",
    "rescued",
    "signatures",
    "stored",
    "values",
    "wire",
]
