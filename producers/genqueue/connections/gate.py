"""Gates: how many connections may be in use at once. Whoever waits at one is told when the server turns out to be away.

A pool with a timeout of its own would either refuse bursts that a healthy server works off in time, or let callers wait
behind each other's timeouts while the server hangs.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from redis.exceptions import ConnectionError as RedisConnectionError

from genqueue.connections.server import AWAY, REFUSALS, mark_unsent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Turned(RedisConnectionError):
    """Somebody's use of the server failed while one waited for a connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        mark_unsent(self)


class Gate:
    """Lets so many threads through at once.

    Args:
        width: how many.
    """

    def __init__(self, width: int) -> None:
        self._free = width
        self._failure = ""
        self._failures = 0
        self._changed = threading.Condition()

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Wait for a turn and take it; raises Turned when a use of the server fails meanwhile."""
        self._enter()
        failure: Exception | None = None
        try:
            yield
        except REFUSALS:
            raise
        except AWAY as error:
            failure = error
            raise
        finally:
            self._leave(failure)

    def _enter(self) -> None:
        with self._changed:
            failures = self._failures
            while not self._free:
                self._changed.wait()
                if self._failures != failures:
                    raise Turned(self._failure)
            self._free -= 1

    def _leave(self, failure: Exception | None) -> None:
        with self._changed:
            self._free += 1
            if failure is None:
                self._changed.notify()
            else:
                self._failure = str(failure)
                self._failures += 1
                self._changed.notify_all()


class AsyncGate:
    """Lets so many tasks of one event loop through at once, in the order they came.

    Args:
        width: how many.
    """

    def __init__(self, width: int) -> None:
        self._free = width
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def passage(self) -> AsyncIterator[None]:
        """Wait for a turn and take it; raises Turned when a use of the server fails meanwhile."""
        await self._enter()
        try:
            yield
        except REFUSALS:
            raise
        except AWAY as error:
            self._turn_away(error)
            raise
        finally:
            self._free += 1
            self._admit()

    async def _enter(self) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free += 1  # its turn came at the same moment
            self._admit()
            raise

    def _admit(self) -> None:
        while self._free and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _turn_away(self, error: Exception) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Turned(str(error)))
