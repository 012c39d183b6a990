"""When the pieces of an answer are due, and how thousands of answers wait for that."""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from genqueue_lab.emulator.options import Pace


#: Part of a millisecond by which a whole one may be missed in floating point.
EPSILON = 0.001


class Wheel:
    """Calls back whoever waits for a moment.

    All that wait for the same millisecond, which is as exact as the loop's timers are, share one timer: a timer for
    each chunk would take as long as everything else that is done with it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, list[Callable[[], object]]] = {}

    def call(self, moment: float, callback: Callable[[], object]) -> None:
        """Call back once a monotonic time has come, never earlier, and never before the loop has turned."""
        slot = math.ceil(moment * 1000 - EPSILON)
        waiting = self._waiting.get(slot)
        if waiting is None:
            waiting = self._waiting[slot] = []
            self._set(slot)
        waiting.append(callback)

    async def until(self, moment: float) -> None:
        """Wait for a monotonic time."""
        future: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not future.done():  # whoever waited may have left
                future.set_result(None)

        self.call(moment, wake)
        await future

    def _set(self, slot: int) -> None:
        left = slot / 1000 - time.monotonic()
        self._loop.call_later(max(0.0, math.ceil(left * 1000) / 1000), self._wake, slot)

    def _wake(self, slot: int) -> None:
        if time.monotonic() * 1000 < slot:  # uvloop's clock may be a millisecond ahead
            self._set(slot)
            return
        for callback in self._waiting.pop(slot):
            callback()


_WHEELS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Wheel] = weakref.WeakKeyDictionary()


def wheel() -> Wheel:
    """Return the running loop's wheel."""
    loop = asyncio.get_running_loop()
    if (there := _WHEELS.get(loop)) is None:
        there = _WHEELS[loop] = Wheel(loop)
    return there


class Timeline:
    """Due times fixed from the start, so that a late chunk does not delay those after it.

    They begin at a whole millisecond, as the loop's timers do: else each chunk would be up to a millisecond late.

    Attributes:
        wheel: the running loop's.
    """

    def __init__(self, start: float, pace: Pace) -> None:
        self._first = math.ceil((start + pace.ttft) * 1000) / 1000
        self._step = pace.tpot
        self.wheel = wheel()

    def due(self, token: int) -> float:
        """Return the monotonic time at which a token is due."""
        return self._first + token * self._step

    async def until(self, token: int) -> float:
        """Wait until a token is due, always yielding once; returns the seconds by which that was missed."""
        due = self.due(token)
        await self.wheel.until(due)
        return max(0.0, time.monotonic() - due)
