"""Whether a provider takes this worker's key, and what is done while it does not.

A worker whose key is refused by every provider it asks fetches nothing: other workers, with other keys, do its share.
One that another provider serves goes on, and hands back what it cannot run. It tries a refused key again and again, as
an operator may put it right at the provider. When no worker at all serves one of its lanes with that provider, jobs of
that lane which need it wait for `patience` seconds; after that they end with the provider's words, as dead letters.
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
from genqueue_worker.providers.errors import REFUSED_STATUSES, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import redis.asyncio

    from genqueue.keys import Keys
    from genqueue.lanes import Lane
    from genqueue_worker.providers.seam import Kind, Prover, Route
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

#: Seconds between the moments at which two flights that were put off come again: they come before others of their lane,
#: which would get no turn if thousands came together every few seconds.
SPACING: Final = 0.01

#: How long the mark of a served lane is kept, in ms; its age is told by what is left of it.
MARK_MS: Final = 24 * 3600 * 1000

#: What an operator sets right, by the kind of provider.
_ADVICE: Final[Mapping[Kind, str]] = {
    "gemini": "set GENQUEUE_GEMINI_API_KEY to a key in force",
    "vertex": "set GENQUEUE_VERTEX_CREDENTIALS to an account with a role in the project",
    "openai": "set GENQUEUE_OPENAI_API_KEY to a key in force",
}

Verdict = Literal["taken", "refused", "unknown"]


class Doors:
    """Which lanes this worker fetches jobs of: those that any of its providers lets it fetch."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._open: dict[str, frozenset[Lane]] = {}

    def add(self, route: str) -> None:
        """Take note of a provider, which lets all lanes be fetched until something else is said."""
        self._open[route] = frozenset(LANES)

    def fetch_only(self, route: str, lanes: frozenset[Lane]) -> None:
        """Fetch jobs of these lanes for a provider, and what the others say."""
        self._open[route] = lanes
        opened = frozenset().union(*self._open.values())
        self._slots.closed = frozenset(LANES) - opened
        if opened:
            self._slots.held.discard(REASON)
        else:
            self._slots.held.add(REASON)

    def is_open(self, lane: Lane) -> bool:
        """Whether jobs of a lane are fetched."""
        return any(lane in lanes for lanes in self._open.values())


@dataclass(frozen=True, slots=True)
class Served:
    """Which lanes are served by anybody, with one provider.

    There is one mark for each, set again and again by workers whose key is not refused.

    Attributes:
        route: the provider.
        lanes: returns those this worker consumes now.
    """

    data: redis.asyncio.Redis
    keys: Keys
    route: str
    lanes: Callable[[], Sequence[Lane]]

    async def mark(self) -> None:
        """Tell that this worker serves its lanes; raises what redis raises."""
        for lane in self.lanes():
            await self.data.set(self.keys.served(self.route, lane), "1", px=MARK_MS)

    async def ages(self) -> dict[Lane, float]:
        """Return seconds since each of the lanes was last served, without end for one that never was."""
        left = {lane: await self.data.pttl(self.keys.served(self.route, lane)) for lane in self.lanes()}
        return {lane: (MARK_MS - ms) / 1000 if ms >= 0 else math.inf for lane, ms in left.items()}


class Access:
    """Tries the key for one provider, and holds back the jobs that need it while it is refused.

    Belongs to one event loop.

    Attributes:
        refusal: how the provider refused the key; None while it does not.
    """

    def __init__(self, provider: Prover, route: Route, served: Served, patience: float, doors: Doors) -> None:
        self.refusal: ProviderError | None = None
        self._provider = provider
        self._route = route
        self._served = served
        self._patience = patience
        self._doors = doors
        doors.add(route.name)
        self._since = self._put_off_until = 0.0
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

    def pause(self, lane: Lane) -> float:
        """Return for how many seconds nobody is to take a flight that is handed back.

        Where this worker goes on fetching jobs of the lane, it would be the first to take it again; else for none.
        The more wait, the longer.
        """
        if not self._doors.is_open(lane):
            return 0.0
        now = time.monotonic()
        spaced = max(now + LOOK, self._put_off_until + SPACING)
        self._put_off_until = min(spaced, now + LONGEST_TRIAL)
        return self._put_off_until - now

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
            if error.status not in REFUSED_STATUSES:
                return "unknown"
            self._refused(error)
            return "refused"
        self._taken()
        return "taken"

    def _refused(self, error: ProviderError) -> None:
        if self.refusal is None:
            self._since = time.monotonic()
            log.error(
                "access.refused route=%s code=%s status=%s error=%s; this worker takes no jobs of this provider until "
                "its key is accepted, which it tries again and again: %s and restart it, or put it right at the "
                "provider",
                self._route.name,
                error.code,
                error.status,
                error.message,
                _ADVICE[self._route.kind],
            )
            self._fetch_only(frozenset())
        self.refusal = error

    def _taken(self) -> None:
        if self.refusal is not None:
            log.warning("access.accepted route=%s; this worker takes its jobs again", self._route.name)
            self.refusal = None
        self._fetch_only(frozenset(LANES))

    def _fetch_only(self, lanes: frozenset[Lane]) -> None:
        self._doors.fetch_only(self._route.name, lanes)

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
