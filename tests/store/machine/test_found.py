"""Sequences that once ended badly, as short as they could be made."""

from __future__ import annotations

from tests.store.machine.rig import Geometry
from tests.store.machine.test_machine import Trace, replay

FOUR = Geometry(4, 2)


def test_a_copy_on_a_drive_that_was_replaced_already_is_given_up() -> None:
    trace: Trace = [
        ("drive_is_emptied", {"which": 1, "noticed": True}),
        ("everything_mends", {}),
        ("put", {"key": "a", "size": 100, "condition": ""}),
    ]
    replay(FOUR, trace)
