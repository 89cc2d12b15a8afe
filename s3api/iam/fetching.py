"""Fetching a provider's documents: a GET with bounds, in a thread.

Invariants: https only, but for a provider on this very machine; certificates are verified by the
system's authorities (SSL_CERT_FILE names others); no redirect is followed; no more than
`DOCUMENT_BYTES_MAX` are read and no longer than `DEADLINE_S` waited; no proxy is asked.
Concurrency: a few threads at once at most; who is cancelled doesn't wait for its thread.
"""

from __future__ import annotations

import ssl
import time
from urllib.parse import urlsplit

import trio
import urllib3

from store.access.providers import DOCUMENT_BYTES_MAX
from store.identity.names import LOOPBACK

DEADLINE_S = 10.0
_CONNECT_S = 4.0
_PIECE_BYTES = 64 * 1024
_THREADS_MAX = 4


class Fetcher:
    """`store.access.providers.Fetch`."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_THREADS_MAX)

    async def fetch(self, url: str) -> bytes:
        """The document behind `url`. Raises OSError."""
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise OSError(f"{parts.hostname} is not asked without TLS")
        with trio.move_on_after(DEADLINE_S + 1):
            return await trio.to_thread.run_sync(
                _get, url, abandon_on_cancel=True, limiter=self._limiter
            )
        raise TimeoutError(f"{parts.hostname} did not answer in time")


def _get(url: str) -> bytes:
    deadline = time.monotonic() + DEADLINE_S
    timeout = urllib3.Timeout(connect=_CONNECT_S, read=_CONNECT_S)
    context = ssl.create_default_context()
    try:
        with (
            urllib3.PoolManager(retries=False, timeout=timeout, ssl_context=context) as pool,
            pool.request(
                "GET",
                url,
                redirect=False,
                preload_content=False,
                headers={"Accept": "application/json", "User-Agent": "twofold"},
            ) as response,
        ):
            if response.status != 200:
                raise OSError(f"{url} answers {response.status}")
            document = b""
            while piece := response.read(_PIECE_BYTES, decode_content=False):
                document += piece
                if len(document) > DOCUMENT_BYTES_MAX:
                    raise OSError(f"{url} sends more than {DOCUMENT_BYTES_MAX} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{url} sends too slowly")
            return document
    except urllib3.exceptions.HTTPError as error:
        raise OSError(f"{url} can't be had: {type(error).__name__}") from error
