"""Every parser over its seeds, and over what nearly is one of them.

A seed is a file below `corpus/TARGET`: a good input to begin from, or one that was a finding once.
`scripts/fuzz` finds new ones; CONTRIBUTING.md says how.
"""

from __future__ import annotations

import pytest

from tests.fuzz.mutation import mutations
from tests.fuzz.seeds import CORPUS, seeds_of
from tests.fuzz.targets import TARGETS, Target

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


@every_target
def test_a_seed_is_understood_or_refused(target: Target) -> None:
    seeds = seeds_of(target.name)
    assert seeds, f"corpus/{target.name} is empty"
    for seed in (b"", *seeds):
        target.run(seed)


@every_target
def test_what_is_nearly_a_seed_is_understood_or_refused(target: Target) -> None:
    for raw in mutations(seeds_of(target.name), target.rounds, target.name):
        try:
            target.run(raw)
        except Exception as error:
            error.add_note(f"the input: {raw!r}")
            raise


def test_every_folder_of_seeds_has_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()
