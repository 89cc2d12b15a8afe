"""What a range of an open file is made of: buffers in memory, and pieces of runs and holes.

Concurrency: any task; a plan is good for as long as a `readers` token from before it is held.
"""

from __future__ import annotations

from metadb.records import InodeId
from store import reading
from store.chunks.types import Buffer
from store.state import State
from store.translate import translated

Step = Buffer | reading.Piece


def gather_nowait(state: State, plan: list[Step]) -> list[Buffer] | None:
    """All the bytes if they are in memory, else None."""
    found: list[Buffer] = []
    for step in plan:
        if not isinstance(step, reading.Piece):
            found.append(step)
        elif step.run is None:
            found += reading.zeros(step.size)
        else:
            buffers = state.chunks.read_nowait(step.run, step.start, step.start + step.size)
            if buffers is None:
                return None
            found += buffers
    return found


async def gather(state: State, subject: InodeId, plan: list[Step]) -> list[Buffer]:
    """All the bytes. Hold a `readers` token from before the plan was made until this returns."""
    found: list[Buffer] = []
    with translated(subject):
        for step in plan:
            if not isinstance(step, reading.Piece):
                found.append(step)
            elif step.run is None:
                found += reading.zeros(step.size)
            else:
                found += await state.chunks.read(step.run, step.start, step.start + step.size)
    return found
