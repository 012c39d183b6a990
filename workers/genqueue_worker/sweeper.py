"""Looking after the ledger: what is overdue is queued again, and messages the broker lost are published again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from genqueue import ledger, scripts
from genqueue.lanes import QUEUES
from genqueue.ledger import QueueReading, Sweep
from genqueue_worker.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Sweeps every partition again and again; any number of workers may do so at once."""

    def __init__(
        self,
        servers: Servers,
        keys: Keys,
        dispatcher: Dispatcher,
        settings: WorkerSettings,
    ) -> None:
        self._servers = servers
        self._keys = keys
        self._dispatcher = dispatcher
        self._interval = settings.sweep_interval
        self._slack_ms = int(settings.sweep_slack * 1000)
        self._grace_ms = int(settings.lease_other * 1000)
        self._popped: dict[str, int] = {}
        self._away = Outage(log, "sweeper.away", "sweeper.back", "nothing is recovered meanwhile: check the servers")
        self._deaf = Outage(
            log, "sweeper.broker_away", "sweeper.broker_back", "lost messages are not seen meanwhile: check the broker"
        )

    def saw(self, queue: str, stamp: int) -> None:
        """Note the stamp of a message popped from a queue, whatever becomes of it."""
        self._popped[queue] = max(stamp, self._popped.get(queue, 0))

    async def publish(self, publications: Sequence[Publication]) -> None:
        """Ring the broker, off the loop; never fails."""
        if publications:
            await asyncio.to_thread(self._dispatcher.publish, publications)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
                self._away.worked()
            except (RedisError, OSError) as error:
                self._away.failed(error)
            await asyncio.sleep(self._interval)

    async def sweep(self) -> None:
        """Look at every partition once, and publish what is due."""
        look = Sweep(LIMIT, self._slack_ms, self._grace_ms, MIN_INTERVAL_MS, await self._readings())
        calls = [ledger.sweep(self._keys, partition, look) for partition in range(self._keys.partitions)]
        due: list[Publication] = []
        for reply in await scripts.arun_many(self._servers.data, calls):
            if isinstance(reply, Exception):
                log.error("sweeper.failed error=%s", reply)
            else:
                due.extend(ledger.parse_sweep(reply))
        if due:
            log.info("sweeper.published messages=%d", len(due))
            await self.publish(due)

    async def _depths(self) -> list[int]:
        async with self._servers.broker.pipeline(transaction=False) as pipeline:
            for queue in QUEUES:
                pipeline.llen(queue)
            depths: list[int] = await pipeline.execute()
            return depths

    async def _readings(self) -> list[QueueReading]:
        # Depths first: a message that is popped in between then shows in the marks.
        try:
            depths = await self._depths()
            self._deaf.worked()
        except (RedisError, OSError) as error:
            self._deaf.failed(error)
            return []
        if self._popped:
            await self._servers.courier.ask(ledger.mark(self._keys, self._popped))
        marks = ledger.parse_marks(await self._servers.data.execute_command("HGETALL", self._keys.marks()))
        return [
            QueueReading(queue, marks.get(queue, 0), depth == 0) for queue, depth in zip(QUEUES, depths, strict=True)
        ]
