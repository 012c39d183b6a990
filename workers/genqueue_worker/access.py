"""Whether the provider takes this worker's key, and what is done while it does not.

A worker whose key is refused fetches nothing: other workers, with other keys, do its share. It tries its key again and
again, as an operator may put it right at the provider. When no worker at all serves one of its lanes, jobs of that lane
wait for `patience` seconds; after that they end with the provider's words, as dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from redis.exceptions import RedisError

from genqueue.lanes import LANES
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.slots import SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis.asyncio

    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue_worker.providers.seam import Prover, Route
    from genqueue_worker.slots import Slots

log = logging.getLogger("genqueue.access")

#: Why nothing is fetched, in `Slots.held`.
REASON: Final = "key"

#: Seconds between two looks at whether anybody serves the lanes, and between two marks that this worker does.
LOOK: Final = 2.0

#: Seconds a trial of the key may take, and for which one that went well is believed.
TRIAL: Final = 10.0
BELIEVED: Final = 1.0

#: Seconds between two trials of a refused key: the first, and the longest of those that follow, each twice as long.
FIRST_TRIAL: Final = 1.0
LONGEST_TRIAL: Final = 60.0

#: How long the mark of a served lane is kept, in ms; its age is told by what is left of it.
MARK_MS: Final = 24 * 3600 * 1000

#: Statuses with which a key is refused where the request is known to be right: 400 is for a key nobody gave out.
_REFUSED: Final = frozenset({400, 401, 403})

Verdict = Literal["taken", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Served:
    """Which lanes are served by anybody: one mark for each, set again and again by workers whose key is not refused.

    Attributes:
        lanes: returns those this worker consumes now.
    """

    data: redis.asyncio.Redis
    keys: Keys
    lanes: Callable[[], Sequence[Lane]]

    async def mark(self) -> None:
        """Tell that this worker serves its lanes; raises what redis raises."""
        for lane in self.lanes():
            await self.data.set(self.keys.served(lane), "1", px=MARK_MS)

    async def ages(self) -> dict[Lane, float]:
        """Return seconds since each of the lanes was last served, without end for one that never was."""
        left = {lane: await self.data.pttl(self.keys.served(lane)) for lane in self.lanes()}
        return {lane: (MARK_MS - ms) / 1000 if ms >= 0 else math.inf for lane, ms in left.items()}


class Access:
    """Tries the key, and holds back the fetching of jobs while it is refused.

    Belongs to one event loop.

    Attributes:
        refusal: how the provider refused the key; None while it does not.
    """

    def __init__(self, provider: Prover, route: Route, served: Served, patience: float, slots: Slots = SLOTS) -> None:
        self.refusal: ProviderError | None = None
        self._provider = provider
        self._route = route
        self._served = served
        self._patience = patience
        self._slots = slots
        self._since = 0.0
        self._tried_at = -BELIEVED
        self._last: Verdict = "unknown"
        self._trying = asyncio.Lock()

    async def try_key(self) -> Verdict:
        """Find out whether the key is accepted."""
        async with self._trying:
            return await self._try()

    async def doubt(self, error: ProviderError) -> Verdict:
        """Find out whether it was the key that was refused with an error, by a request that is surely right."""
        async with self._trying:
            if self.refusal is not None:
                return "refused"
            if not self._stale:
                return self._last
            verdict = await self._try()
        log.info("access.doubted code=%s status=%s verdict=%s", error.code, error.status, verdict)
        return verdict

    async def bar(self, lane: Lane) -> ProviderError | None:
        """Return None when this worker may ask the provider, else with what an attempt on a lane ends.

        The error is retryable while somebody else may run the flight: it is then to be handed back, and is no try.
        """
        if self.refusal is None:
            return None
        forlorn = await self._forlorn()
        if lane in forlorn:
            await self._try_again()
        refusal = self.refusal
        if refusal is None:
            return None
        self._fetch_only(forlorn)
        served = lane not in forlorn
        return ProviderError(refusal.code, refusal.message, refusal.status, retryable=served, doubts_key=True)

    async def run(self) -> None:
        """Tell that the lanes are served, or try a refused key again, until cancelled."""
        pause, due = FIRST_TRIAL, 0.0
        while True:
            if self.refusal is None:
                pause, due = FIRST_TRIAL, time.monotonic() + FIRST_TRIAL
                await self._mark()
            elif time.monotonic() >= due:
                await self.try_key()
                pause = min(2 * pause, LONGEST_TRIAL)
                due = time.monotonic() + pause
            if self.refusal is not None:
                forlorn = await self._forlorn()
                if self.refusal is not None:
                    self._fetch_only(forlorn)
            await asyncio.sleep(min(LOOK, max(due - time.monotonic(), 0.0)) if self.refusal else LOOK)

    async def _try_again(self) -> None:
        """Try a refused key, unless that was done a moment ago: nothing is to fail over what is right by now."""
        async with self._trying:
            if self.refusal is not None and self._stale:
                await self._try()

    @property
    def _stale(self) -> bool:
        return time.monotonic() - self._tried_at >= BELIEVED

    async def _try(self) -> Verdict:
        self._last = await self._ask()
        self._tried_at = time.monotonic()
        return self._last

    async def _ask(self) -> Verdict:
        try:
            async with asyncio.timeout(TRIAL):
                await self._provider.prove(self._route)
        except TimeoutError:
            return "unknown"
        except ProviderError as error:
            if error.status not in _REFUSED:
                return "unknown"
            self._refused(error)
            return "refused"
        self._taken()
        return "taken"

    def _refused(self, error: ProviderError) -> None:
        if self.refusal is None:
            self._since = time.monotonic()
            log.error(
                "access.refused route=%s code=%s status=%s error=%s; this worker takes no jobs until its key is "
                "accepted, which it tries again and again: set GENQUEUE_GEMINI_API_KEY to a key in force and restart "
                "it, or put the key right at the provider",
                self._route.name,
                error.code,
                error.status,
                error.message,
            )
            self._fetch_only(frozenset())
        self.refusal = error

    def _taken(self) -> None:
        if self.refusal is not None:
            log.warning("access.accepted route=%s; this worker takes jobs again", self._route.name)
            self.refusal = None
        self._fetch_only(frozenset(LANES))

    def _fetch_only(self, lanes: frozenset[Lane]) -> None:
        self._slots.closed = frozenset(LANES) - lanes
        if lanes:
            self._slots.held.discard(REASON)
        else:
            self._slots.held.add(REASON)

    async def _mark(self) -> None:
        try:
            await self._served.mark()
        except (RedisError, OSError) as error:
            log.debug("access.unmarked error=%s", error)  # whoever else uses the data server says so

    async def _forlorn(self) -> frozenset[Lane]:
        """Return lanes whose jobs have waited long enough for a worker whose key is accepted, as none is there."""
        if time.monotonic() - self._since < self._patience:
            return frozenset()
        try:
            ages = await self._served.ages()
        except (RedisError, OSError):
            return frozenset()
        return frozenset(lane for lane, age in ages.items() if age > max(self._patience, 3 * LOOK))
