"""Saying that a server is away once, and that it is back once, however often it is asked meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, ResponseError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

#: Seconds within which what fails and works by turns is not said again.
QUIET: Final = 10.0


#: How a server refuses what it may take later: its disk or memory is full, replicas or parts of a cluster are missing,
#: a script holds it up, somebody may put its users right.
_PASSING: Final = (ReadOnlyError, OutOfMemoryError, NoPermissionError)
_PASSING_CODES: Final = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY")


def is_passing(error: Exception) -> bool:
    """Return whether the same command may work later: the server is away or in trouble, not the command wrong."""
    if not isinstance(error, ResponseError) or isinstance(error, _PASSING):
        return True
    return str(error).startswith(_PASSING_CODES)


class Outage:
    """Whether something that is tried again and again works; says so when that changes.

    Args:
        log: where it is said.
        failing, working: the events' names, e.g. "courier.away" and "courier.back".
        advice: what it means and what to do, for the first line.
        clock: returns seconds.

    Attributes:
        count: outages so far, said or not.
    """

    def __init__(
        self,
        log: logging.Logger,
        failing: str,
        working: str,
        advice: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._failing = failing
        self._working = working
        self._advice = advice
        self._clock = clock
        self.count = 0
        self._failures = 0
        self._since = 0.0
        self._said: float | None = None
        self._is_said = False

    def failed(self, error: BaseException, count: int = 1) -> None:
        """Count failures; the first is said."""
        now = self._clock()
        if not self._failures:
            self._since = now
            self.count += 1
        self._failures += count
        if not self._is_said and (self._said is None or now - self._said >= QUIET):
            self._is_said, self._said = True, now
            self._log.warning("%s error=%s; %s", self._failing, error, self._advice)

    def worked(self) -> None:
        """End the outage, if there was one."""
        if not self._failures:
            return
        if self._is_said:
            after = self._clock() - self._since
            self._log.warning("%s after=%.1fs failures=%d", self._working, after, self._failures)
        self._failures, self._is_said = 0, False
