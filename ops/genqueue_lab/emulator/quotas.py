"""Quotas as Google counts them: requests per minute and per day, for each key and model."""

from __future__ import annotations

import datetime as dt
import time
import zoneinfo
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Quotas per day start anew at midnight there.
RESET_ZONE = "America/Los_Angeles"

_DAY = 86_400.0

Limit = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
Window = Annotated[float, msgspec.Meta(ge=0.05, le=3600)]


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of every key on every model; None is none.

    Attributes:
        rpm: requests in a minute.
        rpd: requests in a day.
        window: "fixed" minutes of the wall clock, or "sliding": the last minute at any moment.
        minute: seconds of a minute, shorter in a drill.
    """

    rpm: Limit | None = None
    rpd: Limit | None = None
    window: Literal["fixed", "sliding"] = "fixed"
    minute: Window = 60.0

    def changed(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with some values replaced. ValueError names what does not fit."""
        return msgspec.convert({**msgspec.structs.asdict(self), **values}, type(self), strict=False)


@dataclass(frozen=True, slots=True)
class Excess:
    """A quota that is used up, and the seconds until it is not."""

    per: Literal["Minute", "Day"]
    limit: int
    wait: float


@dataclass(slots=True)
class _Use:
    """What one key has used of one model: the moments of its minute, and its day's count."""

    moments: deque[float] = field(default_factory=deque)
    day: float = 0.0
    of_day: int = 0


class Meters:
    """Counts requests against a quota; a request that is refused does not count."""

    def __init__(self, quota: Quota, clock: Callable[[], float] = time.time) -> None:
        self.quota = quota
        self.refused = 0
        self._clock = clock
        self._uses: dict[tuple[str, str], _Use] = {}

    def admit(self, key: str, model: str) -> Excess | None:
        """Count a request, or return the quota that it would exceed."""
        quota = self.quota
        if quota.rpm is None and quota.rpd is None:
            return None
        now = self._clock()
        use = self._uses.setdefault((key, model), _Use())
        excess = _minute_excess(quota, use, now) or _day_excess(quota, use, now)
        if excess is None:
            use.moments.append(now)
            use.of_day += 1
        else:
            self.refused += 1
        return excess

    def change(self, values: Mapping[str, Any]) -> Quota:
        """Change the quota and return the one before; what was used stays used."""
        before, self.quota = self.quota, self.quota.changed(values)
        return before


def _minute_excess(quota: Quota, use: _Use, now: float) -> Excess | None:
    start = now - now % quota.minute if quota.window == "fixed" else now - quota.minute
    fixed = quota.window == "fixed"
    while use.moments and (use.moments[0] < start if fixed else use.moments[0] <= start):
        use.moments.popleft()
    if quota.rpm is None or len(use.moments) < quota.rpm:
        return None
    free = start + quota.minute if fixed else use.moments[-quota.rpm] + quota.minute
    return Excess("Minute", quota.rpm, free - now)


def _day_excess(quota: Quota, use: _Use, now: float) -> Excess | None:
    today = _midnight(now)
    if use.day != today:
        use.day, use.of_day = today, 0
    if quota.rpd is None or use.of_day < quota.rpd:
        return None
    return Excess("Day", quota.rpd, today + _DAY - now)


def _midnight(now: float) -> float:
    """Return the last midnight in Google's time zone, in Unix seconds."""
    try:
        zone: dt.tzinfo = zoneinfo.ZoneInfo(RESET_ZONE)
    except zoneinfo.ZoneInfoNotFoundError:  # a machine without a time zone database: no summer time
        zone = dt.timezone(dt.timedelta(hours=-8))
    moment = dt.datetime.fromtimestamp(now, zone)
    return moment.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
