"""Fixtures of the tests of the bytes side; what they give is in `rig`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.store.chunks.rig import OpenRig, open_rig


@pytest.fixture
def rig(tmp_path: Path) -> OpenRig:
    """`async with rig(drives=4, parity=None, **config)`: a running store on folders of its own."""
    return partial(open_rig, tmp_path)
