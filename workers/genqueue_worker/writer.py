"""Writing all streams of the process: one pipeline in flight, and everything that gathers meanwhile in the next."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from genqueue import ledger, scripts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis.asyncio

    from genqueue.keys import Keys
    from genqueue.ledger import Entry
    from genqueue_worker.attempt import Attempt

log = logging.getLogger("genqueue.writer")

#: Seconds between two tries while the server is away.
RETRY = 0.2


class StreamWriter:
    """Appends entries of every attempt; whoever adds one never waits.

    There is no timer: an entry that finds the writer idle goes out at once, one that comes while a write is in flight
    waits for its reply and no longer. All streams share one pipeline, and a stream's entries share one call.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._dirty: dict[Attempt, None] = {}
        self._wake = asyncio.Event()

    def write(self, attempt: Attempt, entries: Sequence[Entry]) -> None:
        """Put entries on their way into the attempt's stream."""
        if entries:
            attempt.add(entries)
            self._dirty[attempt] = None
            self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._dirty = [attempt for attempt in self._dirty if not attempt.settling], {}
            if batch and not await self._write(batch):
                await asyncio.sleep(RETRY)

    async def _write(self, batch: list[Attempt]) -> bool:
        """Send what a batch of attempts has; returns whether the server was there."""
        calls = []
        for attempt in batch:
            unsent = attempt.unsent()
            calls.append(ledger.append(self._keys, unsent.flight, unsent.token, unsent.first, unsent.entries))
        try:
            replies = await scripts.arun_many(self._client, calls)
        except (RedisError, OSError) as error:
            log.warning("writer.away streams=%d error=%r; trying again: check the data server", len(batch), error)
            self._again(batch)
            return False
        for attempt, reply in zip(batch, replies, strict=True):
            self._take(attempt, reply)
        return True

    def _take(self, attempt: Attempt, reply: object) -> None:
        if isinstance(reply, Exception):
            log.error("writer.failed flight=%s error=%r; the flight is left to its lease", attempt.flight, reply)
            attempt.refuse()
            return
        appended = ledger.parse_append(reply)
        match appended.status:
            case "ok":
                attempt.written = appended.written
            case "gap":  # the server came back with less than it had confirmed
                attempt.written = appended.written
                self._again([attempt])
            case _:
                attempt.refuse()

    def _again(self, batch: Sequence[Attempt]) -> None:
        for attempt in batch:
            if not attempt.refused:
                self._dirty[attempt] = None
        self._wake.set()
