"""Whether a provider has answered with the worker's key: asked at the start, and until it has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from genqueue_worker.providers.connections import PoolCounters
    from genqueue_worker.providers.seam import Provider, Route

#: Seconds between two tries, and the most they grow to.
FIRST: Final = 5.0
MOST: Final = 60.0


class Warmth:
    """Opens the provider's first connections, again and again until each has answered well.

    Attributes:
        warm: whether they have.
    """

    def __init__(self, provider: Provider, route: Route) -> None:
        self.warm = False
        self._provider = provider
        self._route = route

    def counters(self) -> PoolCounters:
        """Return how many connections and streams there are."""
        return self._provider.counters(self._route)

    async def warm_up(self) -> bool:
        """Try once; return whether it went well."""
        self.warm = await self._provider.warm(self._route)
        return self.warm

    async def run(self) -> None:
        """Try until it went well."""
        pause = FIRST
        while not self.warm:
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST)
            await self.warm_up()
