"""Looking after the ledger: what is overdue is queued again, and messages the broker lost are published again."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from genqueue import ledger, scripts
from genqueue.lanes import QUEUES, SUBMIT_QUEUE
from genqueue.ledger import QueueReading, Sweep
from genqueue_worker.courier import leave_replica
from genqueue_worker.outage import Outage
from genqueue_worker.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis.asyncio

    from genqueue.dispatch import Dispatcher
    from genqueue.keys import Keys
    from genqueue.ledger import Publication
    from genqueue_worker.courier import Courier
    from genqueue_worker.settings import WorkerSettings

log = logging.getLogger("genqueue.sweeper")

#: Flights one sweep of a partition looks at, per list.
LIMIT = 500

#: A partition is swept at most this often, whoever asks, in ms.
MIN_INTERVAL_MS = 250


@dataclass(frozen=True, slots=True)
class Servers:
    """Where a sweep looks: the data server, also by courier, and the broker."""

    data: redis.asyncio.Redis
    broker: redis.asyncio.Redis
    courier: Courier


class Sweeper:
    """Sweeps every partition again and again; any number of workers may do so at once.

    Attributes:
        depths: messages that waited in each queue at the last look.
        broker_at, data_at: when broker and data server answered last, by the monotonic clock; any thread may look.
        telemetry: counts sweeps and what they find.
    """

    def __init__(
        self,
        servers: Servers,
        keys: Keys,
        dispatcher: Dispatcher,
        settings: WorkerSettings,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.depths: Mapping[str, int] = {}
        self.broker_at = self.data_at = -inf
        self.telemetry = telemetry or Telemetry()
        self._servers = servers
        self._keys = keys
        self._dispatcher = dispatcher
        self._interval = settings.sweep_interval
        self._slack_ms = int(settings.sweep_slack * 1000)
        self._graces_ms = int(settings.lease_high * 1000), int(settings.lease_other * 1000)
        self._high_water = settings.memory_high_water
        self._popped: dict[str, int] = {}
        self._away = Outage(log, "sweeper.away", "sweeper.back", "nothing is recovered meanwhile: check the servers")
        self._deaf = Outage(
            log, "sweeper.broker_away", "sweeper.broker_back", "lost messages are not seen meanwhile: check the broker"
        )

    def saw(self, queue: str, stamp: int) -> None:
        """Note the stamp of a message popped from a queue, whatever becomes of it."""
        self._popped[queue] = max(stamp, self._popped.get(queue, 0))

    async def publish(self, publications: Sequence[Publication]) -> bool:
        """Ring the broker, off the loop; returns whether that worked."""
        return not publications or await asyncio.to_thread(self._dispatcher.publish, publications)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except (RedisError, OSError) as error:
                self._failed(self._away, "data", error)
            await asyncio.sleep(self._interval)

    async def sweep(self) -> None:
        """Look at every partition once, and publish what is due."""
        readings = await self._readings()
        look = Sweep(LIMIT, self._slack_ms, *self._graces_ms, MIN_INTERVAL_MS, readings, self._high_water)
        calls = [ledger.sweep(self._keys, partition, look) for partition in range(self._keys.partitions)]
        replies = await scripts.arun_many(self._servers.data, calls)
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        await leave_replica(self._servers.data, errors)
        if len(errors) == len(calls):  # it loads its file, or cannot write
            raise ResponseError(str(errors[0])) from errors[0]
        if errors:
            log.error("sweeper.failed partitions=%d error=%s", len(errors), errors[0])
        found = [one for reply in replies if not isinstance(reply, Exception) for one in ledger.parse_sweep(reply)]
        self.data_at = time.monotonic()
        self._away.worked()
        self.telemetry.swept(found)
        due = ledger.publications(found)
        if due and await self.publish(due):
            log.info("sweeper.published messages=%d", len(due))

    def _failed(self, outage: Outage, server: Literal["data", "broker"], error: Exception) -> None:
        before = outage.count
        outage.failed(error)
        if outage.count > before:
            self.telemetry.outage(server)

    async def _depths(self) -> dict[str, int]:
        queues, broker = (*QUEUES, SUBMIT_QUEUE), self._servers.broker
        async with broker.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("HELLO")
            for queue in queues:
                pipeline.llen(queue)
            facts, *depths = replies = await pipeline.execute(raise_on_error=False)
        if isinstance(facts, list) and (b"replica" in facts or b"slave" in facts):
            replies = [ReadOnlyError("the broker is a replica")]  # which answers, and is told nothing any more
        await leave_replica(broker, replies)
        for refused in (depth for depth in depths if isinstance(depth, Exception)):
            raise refused
        return dict(zip(queues, depths, strict=True))

    async def _readings(self) -> list[QueueReading]:
        # Depths first: a message that is popped in between then shows in the marks.
        try:
            self.depths = depths = await self._depths()
            self.broker_at = time.monotonic()
            self._deaf.worked()
        except (RedisError, OSError) as error:
            self._failed(self._deaf, "broker", error)
            return []
        if self._popped:
            await self._servers.courier.ask(ledger.mark(self._keys, self._popped))
        marks = ledger.parse_marks(await self._servers.data.execute_command("HGETALL", self._keys.marks()))
        return [QueueReading(queue, marks.get(queue, 0), depths[queue] == 0) for queue in QUEUES]
