"""The inputs to begin from."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def seeds_of(name: str) -> list[bytes]:
    """A target's seeds, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
