"""Sends the chunks of an answer when they are due, from the timer itself: thousands of streams share one thread.

A task that wakes up for each chunk costs more than the chunk. So a conveyor goes on by itself for as long as there is
room, and gives the answer back to its task when there is not, or when it is at the end.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue_lab.emulator.stats import RequestRecord
    from genqueue_lab.emulator.timeline import Timeline


@runtime_checkable
class Direct(Protocol):
    """An exchange that can send without waiting."""

    def send_now(self, data: bytes) -> bool:
        """Send a piece of the body whole if there is room for it now; returns whether it was sent."""


class Conveyor:
    """Takes chunks from an iterator to an exchange.

    Args:
        exchange: whose answer has begun.
        record: of its request.
        timeline: when chunks are due.
    """

    def __init__(self, exchange: Direct, record: RequestRecord, timeline: Timeline) -> None:
        self._exchange = exchange
        self._record = record
        self._timeline = timeline

    async def carry(self, chunks: Iterator[tuple[int, bytes]]) -> tuple[int, bytes] | None:
        """Send chunks, each with the number of its first token, and return the one that has to wait though it is due.

        Returns None when there are no more.
        """
        self._chunks = chunks
        self._done: asyncio.Future[tuple[int, bytes] | None] = asyncio.get_running_loop().create_future()
        self._next()
        return await self._done

    def _next(self) -> None:
        self._chunk = next(self._chunks, None)
        if self._chunk is None:
            self._done.set_result(None)
            return
        self._due = self._timeline.due(self._chunk[0])
        self._timeline.wheel.call(self._due, self._send)

    def _send(self) -> None:
        if self._done.done() or self._chunk is None:  # its task was cancelled
            return
        try:
            if not self._exchange.send_now(self._chunk[1]):
                self._done.set_result(self._chunk)
                return
            self._record.sent(max(0.0, time.monotonic() - self._due))
            self._next()
        except Exception as error:  # noqa: BLE001 - for whoever waits
            self._done.set_exception(error)
