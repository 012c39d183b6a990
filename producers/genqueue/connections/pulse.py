"""Whether a pub/sub connection is alive, and how soon to try again when it is not. Clocks are arguments."""

from __future__ import annotations

import random
from typing import Final

from redis.exceptions import TimeoutError as RedisTimeoutError

#: Seconds of silence after which the server is asked for a sign of life, and seconds it then has.
PING_AFTER: Final = 1.5
PONG_WITHIN: Final = 1.5

#: Seconds for which a connection that nobody needs is kept.
IDLE: Final = 30.0

#: Seconds until the first and the slowest retry.
QUICKEST: Final = 0.05
SLOWEST: Final = 2.0


class Pulse:
    """Finds connections that are open on our side only, as after a firewall forgot them.

    Args:
        now: the moment the connection was made, by the monotonic clock.
    """

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._asked_at: float | None = None
        self._needed_at = now

    def hear(self, now: float) -> None:
        """Note that something came."""
        self._heard_at = now
        self._asked_at = None

    def beat(self, now: float) -> bool:
        """Return whether to send a ping now; raises TimeoutError when the last one was not answered."""
        if self._asked_at is not None:
            if now - self._asked_at >= PONG_WITHIN:
                raise RedisTimeoutError(f"no answer to a ping within {PONG_WITHIN:g} s")
            return False
        if now - self._heard_at < PING_AFTER:
            return False
        self._asked_at = now
        return True

    def left(self, now: float) -> float:
        """Return seconds until `beat` has to be called again."""
        due = self._heard_at + PING_AFTER if self._asked_at is None else self._asked_at + PONG_WITHIN
        return max(0.0, due - now)

    def need(self, now: float) -> None:
        """Note that somebody listens."""
        self._needed_at = now

    def idle(self, now: float) -> bool:
        """Return whether nobody has listened for so long that the connection can go."""
        return now - self._needed_at >= IDLE


class BackOff:
    """Pauses between attempts to connect: each about twice the last."""

    def __init__(self) -> None:
        self._next = QUICKEST

    def next(self) -> float:
        """Return how many seconds to wait, spread so that the clients of a fleet do not come all at once."""
        pause, self._next = self._next, min(SLOWEST, 2 * self._next)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def reset(self) -> None:
        """Begin anew."""
        self._next = QUICKEST
