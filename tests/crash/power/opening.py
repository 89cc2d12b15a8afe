"""A store opened as the daemon opens it, small: the steps by which files grow are cut down.

Concurrency: `opened` belongs to one trio loop; one store at a time, since a boot id is faked for
the whole process while it is open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import metadb.sqlite
import store.chunks.placement
import store.chunks.segment
import store.uploads
from daemon.events import History
from daemon.services import OpenStore, opened_store
from daemon.settings import MetadataSettings, PoolSettings, Settings, StateSettings
from metadb.sqlite import Journal
from store.access.sealed import parse_keyring

STATE = "state"
SPARE = "spare"
"""Folders beside the drives."""
STRIPE_BYTES = 128 << 10
SEGMENT_BYTES = 256 << 10
INLINE_MAX_BYTES = 512
_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@asynccontextmanager
async def opened(drives: Sequence[Path], boot: str) -> AsyncIterator[OpenStore]:
    """The store on these drives, served by nobody. boot: which start of the machine it is.

    The state folder `state` stands beside the drives.

    Nothing is synced but what somebody waits for: the timed barrier is a minute off.
    """
    settings = Settings(
        pool=PoolSettings(
            drives=tuple(map(str, drives)),
            stripe_bytes=STRIPE_BYTES,
            segment_bytes=SEGMENT_BYTES,
        ),
        metadata=MetadataSettings(
            inline_max_bytes=INLINE_MAX_BYTES, cache_bytes=1 << 20, flush_interval_s=60
        ),
        state=StateSettings(folder=str(drives[0].with_name(STATE))),
    )
    with ExitStack() as stack:
        for module, name, size in (
            (store.chunks.segment, "_MIN_STEP_BYTES", 64 << 10),
            (store.chunks.segment, "_MAX_STEP_BYTES", 64 << 10),
            (store.chunks.placement, "_SMALLEST_SEGMENT_BYTES", SEGMENT_BYTES),
            (store.uploads, "PART_BYTES_MIN", 1),
        ):
            stack.enter_context(patch.object(module, name, size))
        stack.enter_context(patch.object(metadb.sqlite, "boot_id", lambda: boot))
        history = History(Path(settings.state.folder))
        keyring = parse_keyring(_KEY)
        async with opened_store(settings, keyring, history, Journal()) as running:
            yield running
