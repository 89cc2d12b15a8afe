"""How fast background work goes: below a rate, and never in the way of those who wait for answers.

After each piece of work its task rests: as long again as the piece took while clients are served,
so that they keep half of the machine at least, and as long as the rate asks for.
Concurrency: one task uses a pace.
"""

from __future__ import annotations

from collections.abc import Callable

import trio


class Pace:
    """rate_bytes_s: 0 for no limit; may be changed at any time.

    activity: a number that grows whenever somebody is served.
    """

    def __init__(self, activity: Callable[[], int], rate_bytes_s: float = 0) -> None:
        self.rate_bytes_s = rate_bytes_s
        self._activity = activity
        self._seen = activity()

    async def rest(self, size_bytes: int, took_s: float) -> None:
        """Sleep after a piece of work that moved `size_bytes` in `took_s`."""
        seen = self._activity()
        pause_s = took_s if seen != self._seen else 0.0
        self._seen = seen
        if self.rate_bytes_s > 0:
            pause_s = max(pause_s, size_bytes / self.rate_bytes_s - took_s)
        await trio.sleep(pause_s)
