"""From the errors below (`ChunkError`, `MetadbError`) to the store's own: one table, one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from metadb.errors import MetadataFull, PrimaryLost
from store import errors
from store.chunks import errors as chunk_errors


@contextmanager
def translated(subject: object = "") -> Iterator[None]:
    """Raise what happens inside as a `StoreError` about `subject`, from the original."""
    try:
        yield
    except (chunk_errors.NoSpace, MetadataFull) as exc:
        raise errors.NoSpace(subject, str(exc)) from exc
    except chunk_errors.Unrecoverable as exc:
        raise errors.Unrecoverable(subject, str(exc)) from exc
    except (chunk_errors.ChunkError, PrimaryLost) as exc:
        raise errors.Unavailable(subject, str(exc)) from exc
