"""Whether a silent server is still there."""

import asyncio
from collections.abc import Callable

#: Seconds of silence after which a request takes a ping along, and those a ping may be on its way before the
#: connection is in doubt.
_QUIET = 1.0

#: Seconds by which a late timer shows that it was the loop that stood still, not the server.
_STANDSTILL = 1.0


class Pulse:
    """Send a ping after `interval` seconds of silence; when not a byte comes for `timeout` seconds more, say so.

    Whatever the server sends counts as an answer.
    """

    def __init__(self, interval: float, timeout: float, ping: Callable[[], None], gone: Callable[[], None]) -> None:
        self._interval, self._timeout = interval, timeout
        self._ping, self._gone = ping, gone
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._pinged = 0.0
        self._watch(interval)

    def heard(self) -> None:
        """Note that bytes came."""
        self._heard = self._loop.time()

    @property
    def doubtful(self) -> bool:
        """Whether a ping has been on its way for long."""
        return self._waiting and self._loop.time() - self._pinged > _QUIET

    def ask(self) -> None:
        """Send a ping unless the server was heard a moment ago: a request is about to rely on it."""
        if not self._waiting and self._loop.time() - self._heard > _QUIET:
            self._send()

    def stop(self) -> None:
        """Ask no more."""
        self._timer.cancel()

    @property
    def _waiting(self) -> bool:
        return self._pinged > self._heard

    def _send(self) -> None:
        self._pinged = self._loop.time()
        self._ping()
        self._timer.cancel()
        self._watch(self._timeout)

    def _watch(self, delay: float) -> None:
        self._timer = self._loop.call_later(delay, self._look, self._loop.time() + delay)

    def _look(self, due: float) -> None:
        now = self._loop.time()
        if now - due > _STANDSTILL:
            self._watch(_STANDSTILL)  # what came meanwhile has not been read yet
        elif self._waiting and now - self._pinged >= self._timeout:
            self._gone()
        elif self._waiting:
            self._watch(self._timeout - (now - self._pinged))
        elif now - self._heard >= self._interval:
            self._send()
        else:
            self._watch(self._interval - (now - self._heard))
