"""How long to go on when the server is away, and going on."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from genqueue.errors import ServerUnavailable
from genqueue.steps import Pause, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genqueue.steps import Operation

T = TypeVar("T")

log = logging.getLogger("genqueue.patience")

#: Seconds between the first looks at a server that is away, and between the last: each pause is twice the one before.
RETRY: Final = 0.25
SLOWEST: Final = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait.

    Attributes:
        timeout: seconds until WaitTimeout; None waits for the job's end.
        reconnect: seconds an outage of the server may last until ServerUnavailable.
    """

    timeout: float | None = None
    reconnect: float = 60.0


#: For what a caller waits on: it gives up, with a clear error, in less than 3 s.
BRIEF: Final = Patience(reconnect=0.5)


def lasting(timeout: float | None) -> Patience:
    """Return the patience of a question that is answered at once: brief, or as long as the caller says."""
    return BRIEF if timeout is None else Patience(reconnect=timeout)


class Limit:
    """The moment at which a caller's timeout passes.

    Args:
        patience: from now on.

    Attributes:
        timeout: the whole of it in seconds, for messages.
        reconnect: seconds an outage may last.
    """

    def __init__(self, patience: Patience) -> None:
        self.timeout = patience.timeout or 0.0
        self.reconnect = patience.reconnect
        self._moment = None if patience.timeout is None else time.monotonic() + patience.timeout

    def left(self, most: float) -> float:
        """Return seconds until then, `most` when it is farther off; 0 when it has passed."""
        return most if self._moment is None else min(most, max(0.0, self._moment - time.monotonic()))

    @property
    def passed(self) -> bool:
        """Whether it has passed."""
        return self._moment is not None and time.monotonic() >= self._moment


class Outage:
    """How long the server has been away, for one who waits for it.

    Args:
        limit: seconds it may last.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: float | None = None
        self._pause = RETRY

    @property
    def left(self) -> float:
        """Seconds it may still last."""
        passed = 0.0 if self._since is None else time.monotonic() - self._since
        return max(0.0, self._limit - passed)

    def note(self, error: Exception) -> float:
        """Note that the server is away; returns how many seconds to wait, raises the error when it lasts too long."""
        if self._since is None:
            self._since = time.monotonic()
            if self._limit > BRIEF.reconnect:  # whoever waits less has the error as soon
                log.info("server.away patience=%g error=%s", self._limit, error)
        if not self.left:
            raise error
        pause, self._pause = self._pause, min(SLOWEST, 2 * self._pause)
        return min(pause, self.left)

    def end(self) -> None:
        """Note that the server is there."""
        if self._since is not None:
            log.info("server.back seconds=%.1f", time.monotonic() - self._since)
        self._since = None
        self._pause = RETRY


def persist(begin: Callable[[], Operation[T]], patience: Patience) -> Operation[T]:
    """Carry out an operation, again and again while the server is away, until the patience is used up.

    Raises:
        ServerUnavailable: it was away for longer than `patience.reconnect`, or than the caller's timeout.
    """
    outage = Outage(patience.reconnect if patience.timeout is None else min(patience.reconnect, patience.timeout))
    while True:
        try:
            reply = yield from begin()
        except ServerUnavailable as error:
            pause = outage.note(error)
        else:
            outage.end()
            return reply
        yield Pause(pause)


def ask(commands: Iterable[tuple[str | int, ...]], patience: Patience) -> Operation[list[Any]]:
    """Send plain commands in one round trip, as persistently as `persist`; returns the list of their replies."""
    asked = Query(tuple(commands))

    def query() -> Operation[list[Any]]:
        replies: list[Any] = yield asked
        return replies

    return (yield from persist(query, patience))
