"""How long to go on when the server is away, and going on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from genqueue.errors import ServerUnavailable
from genqueue.steps import Pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from genqueue.steps import Operation

T = TypeVar("T")

#: Seconds between two looks at a server that is away.
RETRY: Final = 0.25


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


def persist(begin: Callable[[], Operation[T]], patience: Patience) -> Operation[T]:
    """Carry out an operation, again and again while the server is away, until the patience is used up.

    Raises:
        ServerUnavailable: it was away for longer than `patience.reconnect`, or than the caller's timeout.
    """
    limit = patience.reconnect if patience.timeout is None else min(patience.reconnect, patience.timeout)
    away_since: float | None = None
    while True:
        try:
            return (yield from begin())
        except ServerUnavailable:
            now = time.monotonic()
            away_since = now if away_since is None else away_since
            if now - away_since >= limit:
                raise
        yield Pause(RETRY)
