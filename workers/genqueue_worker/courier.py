"""Carrying every script call of the process to the data server: one pipeline in flight, the rest in the next.

There is no timer. What finds the courier idle goes out at once; what comes while a pipeline is in flight gathers and
waits for its replies and no longer. So the busier the process, the fewer and larger its writes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from redis.exceptions import MasterDownError, ReadOnlyError, RedisError

from genqueue import ledger, scripts
from genqueue_worker.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis.asyncio

    from genqueue.keys import Keys
    from genqueue.ledger import Entry
    from genqueue.scripts import Call
    from genqueue_worker.attempt import Attempt

log = logging.getLogger("genqueue.courier")

#: Seconds between two tries to write while the server is away.
RETRY = 0.2

#: What a replica answers: its name may lead to the new primary by now, but who is connected stays with it.
_DEMOTED = (ReadOnlyError, MasterDownError)


async def leave_replica(client: redis.asyncio.Redis, replies: Sequence[Any]) -> None:
    """Close a client's connections, listening ones too, and raise what a replica answered, if that is among replies."""
    demoted = next((reply for reply in replies if isinstance(reply, _DEMOTED)), None)
    if demoted is not None:
        await client.connection_pool.disconnect()
        raise demoted


class Courier:
    """Runs script calls and appends the entries of every attempt.

    A stream's entries that wait share one call; whoever adds an entry never waits. While the server is away entries
    are kept and sent again, and calls that were asked for fail: whoever asked knows how long to go on.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._asked: list[tuple[Call, asyncio.Future[Any]]] = []
        self._dirty: dict[Attempt, None] = {}
        self._wake = asyncio.Event()
        self._away = Outage(
            log, "courier.away", "courier.back", "what is asked and written waits: check the data server"
        )
        self._refusing = Outage(log, "courier.refused", "courier.taken", "entries are kept: check the data server")

    async def ask(self, call: Call) -> Any:
        """Run a call and return its raw reply; raises what redis raises."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append((call, reply))
        self._wake.set()
        return await reply

    def write(self, attempt: Attempt, entries: Sequence[Entry]) -> None:
        """Put entries on their way into the attempt's stream."""
        if entries:
            attempt.add(entries)
            self._dirty[attempt] = None
            self._wake.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, []
            dirty, self._dirty = [attempt for attempt in self._dirty if not attempt.settling], {}
            if (asked or dirty) and not await self._carry(asked, dirty):
                await asyncio.sleep(RETRY)

    async def _carry(self, asked: list[tuple[Call, asyncio.Future[Any]]], dirty: list[Attempt]) -> bool:
        """Send one pipeline and hand out its replies; returns whether the server was there."""
        calls = [call for call, _ in asked] + [self._append(attempt) for attempt in dirty]
        try:
            replies = await scripts.arun_many(self._client, calls)
            await leave_replica(self._client, replies)
        except (RedisError, OSError) as error:
            self._away.failed(error, len(calls))
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
            self._again(dirty)
            return False
        self._away.worked()
        for (_, future), reply in zip(asked, replies, strict=False):
            if future.done():
                continue  # whoever asked has given up
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
        ready = True
        for attempt, reply in zip(dirty, replies[len(asked) :], strict=True):
            ready = self._take(attempt, reply) and ready
        return ready

    def _append(self, attempt: Attempt) -> Call:
        unsent = attempt.unsent()
        entries = ledger.first_slice(unsent.entries)
        return ledger.append(self._keys, unsent.flight, unsent.token, unsent.first, entries)

    def _take(self, attempt: Attempt, reply: object) -> bool:
        """Take note of what became of an attempt's entries; returns whether the server was ready for them."""
        if isinstance(reply, Exception):  # read-only, short of replicas, out of disk: it passes, or the lease ends
            self._refusing.failed(reply)
            self._again([attempt])
            return False
        self._refusing.worked()
        appended = ledger.parse_append(reply)
        match appended.status:
            case "ok":
                advanced = appended.written > attempt.written
                attempt.written = appended.written
                if advanced and attempt.behind:  # more than one call carries
                    self._again([attempt])
            case "gap":  # the server came back with less than it had confirmed
                attempt.written = appended.written
                self._again([attempt])
            case _:
                attempt.refuse()
        return True

    def _again(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            if not attempt.refused:
                self._dirty[attempt] = None
        self._wake.set()
