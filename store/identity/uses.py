"""When each access key was used last: noted in memory, and written together now and then.

Invariant: a request writes nothing. What was noted is written once in `KEPT_EVERY_S`, a few keys to
a transaction, and at a clean stop; a crash forgets no more than that. Writing it changes nothing
that anybody may do, so nothing that was compiled is forgotten for it.

Concurrency: one trio loop; `keep` belongs to one task. Source: AWS IAM API reference,
GetAccessKeyLastUsed.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import trio
from msgspec.structs import replace

from store.errors import StoreError
from store.identity.book import Book, Change
from store.identity.records import Key, Kind

log = logging.getLogger(__name__)

KEPT_EVERY_S = 60.0
_PER_TRANSACTION = 100


@dataclass(slots=True, kw_only=True)
class Use:
    """When and how a key was used last. at_s: since 1970."""

    at_s: float
    service: str
    region: str


class Uses:
    """See the module's header."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._noted: dict[str, Use] = {}

    def note(self, access_key: str, service: str, region: str) -> None:
        """The key's signature held just now; of keys that are not kept here nothing is noted."""
        use = self._noted.get(access_key)
        if use is not None:
            use.at_s, use.service, use.region = time.time(), service, region
        elif self._book.account_of_key(access_key) is not None:
            self._noted[access_key] = Use(at_s=time.time(), service=service, region=region)

    def last(self, key: Key) -> Use | None:
        """None where it was never used."""
        noted = self._noted.get(key.id)
        if noted is not None or not key.used_s:
            return noted
        return Use(at_s=key.used_s, service=key.used_service, region=key.used_region)

    async def keep(self) -> None:
        """Write what was noted, again and again until cancelled, and then once more."""
        try:
            while True:
                await trio.sleep(KEPT_EVERY_S)
                while self.write():
                    await trio.lowlevel.checkpoint()
        finally:
            while self.write():
                pass

    def write(self) -> bool:
        """Write some of what was noted; whether there is more. A failure is logged."""
        chosen = [self._noted.popitem() for _ in range(min(_PER_TRANSACTION, len(self._noted)))]
        changes: list[tuple[str, Change]] = []
        for access_key, use in chosen:
            account = self._book.account_of_key(access_key)
            if account is not None:
                key = replace(
                    self._book.get(account, Key, access_key),
                    used_s=int(use.at_s),
                    used_service=use.service,
                    used_region=use.region,
                )
                changes.append((account, Change(kind=Kind.KEY, name=access_key, record=key)))
        try:
            if changes:
                self._book.amend(changes)
        except StoreError as error:
            # The next use of these keys is noted again; for a full drive's sake nobody is refused.
            log.warning("when %s access keys were used last is not kept: %s", len(changes), error)
        return bool(self._noted)
